"""Paths through affine nodes: what a node reads, seen through the sums that stand between.

A sum that several nodes read stays a node of its own (:mod:`passes.merge_affine`), and the network
computes it once. Its bounds need not: for z = A(Ba + Cb), ‖∂z/∂x‖ ≤ ‖AB‖ρ_a + ‖AC‖ρ_b is at most
‖A‖(‖B‖ρ_a + ‖C‖ρ_b), and |AB| at most |A||B|. In a residual network that is a factor a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from passes.merge_affine import FACTORS
from vercomp.ir.graph import Affine, Graph
from vercomp.ir.linear_maps import Dense, LinearMap, Permute, Reshape, parts
from vercomp.ir.rewrite import concatenated_axis
from vercomp.program import MapOf, ProductOf, SideBySideOf

LIMIT = 8
"""Paths to a node at most: what keeps the cost of an analysis linear in the edges."""


@dataclass(frozen=True)
class Path:
    """A product of maps that leads to an affine node.

    Args:
        maps: The maps, the one at the node first, without identities; at least one.
        start: The node that the last of them reads.
    """

    maps: tuple[MapOf, ...]
    start: str

    @property
    def product(self) -> MapOf | ProductOf:
        """The maps as an operand."""
        return self.maps[0] if len(self.maps) == 1 else ProductOf(self.maps)


Paths = Mapping[str, tuple[Path, ...]]
"""For each affine node, paths that its value is the sum of, up to offsets."""


def paths(graph: Graph, *, scales: bool) -> Paths:
    """Paths that see through a sum wherever the product with its maps multiplies out.

    The nearest sums come first, as long as there are no more than :data:`LIMIT` paths.
    Concatenations see nothing and are not seen through: their parts are bounded side by side.

    Args:
        graph: The graph.
        scales: Whether a factor for each channel sees through a sum as well: that makes norms
            tighter, but not |A|, which is then a product anyway.
    """
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    sums = {node.name: node for node in graph.affine() if concatenated_axis(node) is None}
    found: dict[str, tuple[Path, ...]] = {}
    for node in graph.affine():
        reached = _direct(node)
        while node.name in sums:
            seen = [p for p in reached if p.start in sums and _multiplies(graph, p, scales)]
            if not seen:
                break
            nearest = sums[max((p.start for p in seen), key=position.__getitem__)]
            further: list[Path] = []
            for path in reached:
                through = path in seen and path.start == nearest.name
                further += _through(graph, path, nearest) if through else [path]
            if len(further) > LIMIT:
                break
            reached = further
        found[node.name] = tuple(reached)
    return found


def side_by_side(node: Affine) -> SideBySideOf | None:
    """All maps of a sum as one, where its norm can promise more than the sum of their norms.

    Not beside an isometry, an identity say: ‖[I A]‖² = 1 + ‖A‖², and by Cauchy and Schwarz
    (1 + ‖A‖²)^½ (ρ_1² + ρ_2²)^½ ≥ ρ_1 + ‖A‖ ρ_2.
    """
    if len(node.terms) == 1 or concatenated_axis(node) is not None:
        return None
    if any(_is_isometry(term.map) for term in node.terms):
        return None
    return SideBySideOf(node.name, len(node.terms))


def _is_isometry(linear: LinearMap) -> bool:
    return all(isinstance(part, Reshape | Permute) for part in parts(linear))


def _direct(node: Affine) -> list[Path]:
    return [Path((MapOf(node.name, k),), term.parent) for k, term in enumerate(node.terms)]


def _through(graph: Graph, path: Path, node: Affine) -> list[Path]:
    """The path continued through a sum, one for each of its terms."""
    return [
        Path(path.maps if _is_identity(graph, further) else path.maps + further.maps, further.start)
        for further in _direct(node)
    ]


def _multiplies(graph: Graph, path: Path, scales: bool) -> bool:
    """Whether the path times what comes before it is one matrix, or one map with other weights."""
    applied = {type(part) for map_of in path.maps for part in parts(_map(graph, map_of))}
    factors = applied & set(FACTORS)
    return Dense in applied or (scales and bool(factors) and applied <= factors | {Reshape})


def _is_identity(graph: Graph, path: Path) -> bool:
    """On flat vectors, where a reshape is nothing."""
    return isinstance(_map(graph, path.maps[0]), Reshape)


def _map(graph: Graph, map_of: MapOf) -> LinearMap:
    node = graph.node(map_of.node)
    assert isinstance(node, Affine)  # noqa: S101 - maps are of affine nodes
    return node.terms[map_of.term].map
