"""Paths through affine nodes: the nodes that a node reads through the sums between them.

A sum that several nodes read stays a node of its own, and the network computes it once. Its bounds
need not: for z = A(Ba + Cb), ‖∂z/∂x‖ ≤ ‖AB‖ρ_a + ‖AC‖ρ_b is at most ‖A‖(‖B‖ρ_a + ‖C‖ρ_b), and |AB|
at most |A||B|. In a residual network that is a factor for each block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..graph import Affine, Graph, Term
from ..maps.monomials import Diagonal, Monomial
from ..maps.operators import Dense, Operator, Product

LIMIT = 8
"""The most paths that lead to one node: it keeps the cost of an analysis linear in the edges."""


@dataclass(frozen=True)
class Path:
    """A product of maps that leads to an affine node.

    Args:
        terms: The terms whose maps are multiplied, that of the node first; at least one.
        start: The node that the last of them reads.
    """

    terms: tuple[Term, ...]
    start: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the maps; paths with equal names are equal products."""
        return tuple(term.name for term in self.terms)


Paths = Mapping[str, tuple[Path, ...]]
"""For each affine node, paths that its value is the sum of, up to offsets."""


def paths(graph: Graph, *, scales: bool) -> Paths:
    """Paths that see through a sum wherever the product with its maps multiplies out.

    The nearest sums come first, as long as there are no more than :data:`LIMIT` paths.
    Paths neither begin at a concatenation nor go through it: its parts are bounded side by side.

    Args:
        graph: The graph.
        scales: Whether a factor for each channel sees through a sum as well: that makes norms
            tighter, but not |A|, which is then a product anyway.
    """
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    affine = [node for node in graph.nodes if isinstance(node, Affine)]
    sums = {node.name: node for node in affine if not node.disjoint}
    found: dict[str, tuple[Path, ...]] = {}
    for node in affine:
        reached = _direct(node)
        while node.name in sums:
            seen = [p for p in reached if p.start in sums and _multiplies(p, scales)]
            if not seen:
                break
            nearest = sums[max((p.start for p in seen), key=position.__getitem__)]
            further: list[Path] = []
            for path in reached:
                through = path in seen and path.start == nearest.name
                further += _through(path, nearest) if through else [path]
            if len(further) > LIMIT:
                break
            reached = further
        found[node.name] = tuple(reached)
    return found


def is_bounded_whole(node: Affine) -> bool:
    """Whether the norm of all maps of a sum, as one, can promise more than the sum of their norms.

    It cannot beside an isometry, an identity say: ‖[I A]‖² = 1 + ‖A‖², and by Cauchy and Schwarz
    (1 + ‖A‖²)^½ (ρ_1² + ρ_2²)^½ ≥ ρ_1 + ‖A‖ ρ_2.
    """
    if len(node.terms) == 1 or node.disjoint:
        return False
    return not any(isinstance(t.map, Monomial) and t.map.is_permutation for t in node.terms)


def _direct(node: Affine) -> list[Path]:
    return [Path((term,), term.parent) for term in node.terms]


def _through(path: Path, node: Affine) -> list[Path]:
    """The path continued through a sum, one for each of its terms."""
    return [
        Path(path.terms if _is_identity(term.map) else (*path.terms, term), term.parent)
        for term in node.terms
    ]


def _multiplies(path: Path, scales: bool) -> bool:
    """Whether the path times the maps before it multiplies out to one matrix, or to one map."""
    kinds = {type(factor) for term in path.terms for factor in _factors(term.map)}
    return Dense in kinds or (scales and kinds == {Diagonal})


def _factors(operator: Operator) -> tuple[Operator, ...]:
    return operator.factors if isinstance(operator, Product) else (operator,)


def _is_identity(operator: Operator) -> bool:
    return isinstance(operator, Monomial) and operator.is_identity
