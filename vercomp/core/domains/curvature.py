"""Curvature and Lipschitz bounds on a DAG: Theorem 3 for the matrices, Theorem 4 for the paths.

Lemma 1 gives the Hessian of f = c·z_out as a sum over the activation nodes a = σ(z):

    ∇²f = Σ_a B_zᵀ diag(F_a ⊙ σ″(z)) B_z,     B_z = ∂z/∂x,   F_a = ∂f/∂a.

Each factor is bounded over all x, by a domain of its own.

* :class:`JacobianNorms`, forward: ρ_input = 1, and a = σ(z) has ‖∂a/∂x‖ ≤ ρ_a = g r_z (equation 5).
  For z = Σ_k A_k a_k, r_z = min(Σ_k ‖A_k‖ ρ_k, ‖[A_1 … A_p]‖ (Σ_k ρ_k²)^½): B_z = [A_1 … A_p] times
  the Jacobians one above the other. Where the A_k write to different rows (a concatenation),
  r_z² = Σ_k (‖A_k‖ ρ_k)².
* :class:`Coefficients`, backward, as intervals: F_out = c exactly; through an activation
  F ⊙ [g_L, g_U]; through a map Aᵀ mid ± |A|ᵀ rad; paths that meet are added. So the coefficients of
  the last hidden layer are exact, as in Theorem 3, and all others lie within Theorem 4's S
  (equation 6).
* :class:`GradientNorms`, backward: ‖∂f/∂z‖ ≤ g ‖∂f/∂a‖, ‖∂f/∂a_k‖ ≤ Σ ‖A_k‖ ‖∂f/∂z‖ over the nodes
  that read a_k, and never more than the norm of the interval F.

How far below zero a coefficient of the sum can fall is q_j = max(0, −min F_j σ″_j). One summand
then has λ_min ≥ −k_a with k_a the least of max_j q_j · r_z² (Theorem 4) and of the bounds of
‖diag(√q) B_z‖² that weigh the maps before their norms are taken (Theorem 3, exact in the weights
where z reads the input): (Σ_k ‖diag(√q) A_k‖ ρ_k)² and ‖diag(√q)[A_1 … A_p]‖² Σ_k ρ_k², or
Σ_k ‖diag(√q) A_k‖² ρ_k² for a concatenation.

a_k may be affine itself, where merging stopped (a residual stream, a concatenation); its ρ is then
its r. Where a product of maps is one matrix, z is also seen as the sum over paths through such
nodes (:mod:`.paths`), and r_z is the least of both. For an activation a, ∂f/∂a is the same whether
a sum behind it is a node or seen through.

The results are κ = Σ_a k_a, so that ∇²f ≽ −κI (applied to −c it bounds from above), and the
Lipschitz constant of f that the gradients arrive at. κ multiplies norms twice over; in deep
networks it is the Lipschitz constant that holds a certificate up far from the input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from ..arithmetic.operations import Arithmetic, Bound
from ..graph import Activate, Affine, Graph, Input
from ..maps.operators import Operator
from ..walk import Domain, backward, forward, rule
from .paths import Path, Paths, is_bounded_whole, paths

Value = Any
"""A result of the arithmetic: a tensor, an interval, or the step that records it."""


def curvature(ops: Arithmetic, graph: Graph, c: Tensor) -> Bound:
    """κ with ∇²(c·z) ≽ −κI, and L with ‖∇(c·z)‖ ≤ L, for every input and each row of c.

    Args:
        ops: The arithmetic.
        graph: A graph whose activations all have a σ″.
        c: Coefficients, shape (P, outputs).
    """
    seen = _Seen(ops, graph)
    jacobians = forward(JacobianNorms(seen), graph)
    ops.note("The coefficients c = e_y − e_t of the margin, exactly.")
    start = ops.exactly(c, name="f_output")
    coefficients = backward(Coefficients(seen), graph, start)
    shares: dict[str, Value] = {}
    for node in reversed(graph.nodes):
        if isinstance(node, Activate) and node.name in coefficients:
            shares[node.name] = _share(seen, node, coefficients[node.name], jacobians)
    gradients = backward(GradientNorms(seen, coefficients), graph, None)
    lipschitz = gradients[graph.nodes[0].name]
    if lipschitz is None:
        ops.note("The output is the input: L = ‖c‖")
        lipschitz = ops.row_norm(start, name="l_input")
    ops.note("κ: the sum over the activations" if shares else "Affine throughout: κ = 0")
    summands = list(shares.values()) or [ops.zeros(c, name="kappa")]
    norms = {term.name: seen.norm(Path((term,), "")) for term in seen.terms}
    return Bound(seen.total(summands, "kappa"), lipschitz, norms, shares)


class Jacobian(NamedTuple):
    """A bound of ‖∂node/∂x‖ and its square; None stands for the input's 1."""

    norm: Value
    square: Value


ONE = Jacobian(None, None)


@dataclass
class _Seen:
    """The state that the domains share: the paths of a graph, and each operand, made once.

    Args:
        ops: The arithmetic.
        graph: The graph.
    """

    ops: Arithmetic
    graph: Graph
    _operators: dict[tuple[str, ...], Operator] = field(default_factory=dict)
    _norms: dict[tuple[str, ...], Value] = field(default_factory=dict)
    _slopes: dict[str, Value] = field(default_factory=dict)
    _totals: dict[str, Value] = field(default_factory=dict)
    _wholes: dict[str, Operator] = field(default_factory=dict)
    _adjoints: dict[tuple[tuple[str, ...], int], Value] = field(default_factory=dict)
    _row_norms: dict[int, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        #: Paths by which norms are taken, and those by which intervals go back.
        self.paths: Paths = paths(self.graph, scales=True)
        self.matrices: Paths = paths(self.graph, scales=False)
        self.terms = [
            t for node in self.graph.nodes if isinstance(node, Affine) for t in node.terms
        ]

    def operator(self, path: Path) -> Operator:
        """The product of the maps of a path."""
        if path.names not in self._operators:
            maps = [term.map for term in path.terms]
            name = "_".join(path.names)
            self._operators[path.names] = (
                maps[0] if len(maps) == 1 else self.ops.compose(*maps, name=name)
            )
        return self._operators[path.names]

    def whole(self, node: Affine) -> Operator:
        """[A_1 … A_p] of an affine node."""
        if node.name not in self._wholes:
            maps = (term.map for term in node.terms)
            self._wholes[node.name] = self.ops.beside(*maps, name=f"{node.name}_whole")
        return self._wholes[node.name]

    def norm(self, path: Path) -> Value:
        """‖A‖ of the product along a path."""
        if path.names not in self._norms:
            operator, name = self.operator(path), f"norm_{'_'.join(path.names)}"
            self._norms[path.names] = self.ops.norm2(operator, name=name)
        return self._norms[path.names]

    def slope(self, node: Activate) -> Value:
        """g = sup |σ′| of an activation."""
        if node.name not in self._slopes:
            self._slopes[node.name] = self.ops.constant(node.function.g, name=f"g_{node.name}")
        return self._slopes[node.name]

    def adjoint(self, path: Path, coefficients: Value) -> Value:
        """Aᵀ F of a path."""
        key = (path.names, id(coefficients))
        if key not in self._adjoints:
            operator, name = self.operator(path), f"f_{path.start}"
            self._adjoints[key] = self.ops.adjoint(operator, coefficients, name=name)
        return self._adjoints[key]

    def row_norm(self, interval: Value, name: str) -> Value:
        """The largest ‖F‖ of an interval."""
        if id(interval) not in self._row_norms:
            self._row_norms[id(interval)] = self.ops.row_norm(interval, name=name)
        return self._row_norms[id(interval)]

    def total_square(self, node: Affine, jacobians: list[Jacobian]) -> Value:
        """Σ_k ρ_k² over the parents of a node."""
        if node.name not in self._totals:
            squares = [
                self.ops.constant(1.0, name="rho_input_squared") if j.square is None else j.square
                for j in jacobians
            ]
            self._totals[node.name] = self.total(squares, f"rho_{node.name}_squared")
        return self._totals[node.name]

    def times(self, factor: Value, other: Value, name: str) -> Value:
        """factor · other, where None stands for the input's 1."""
        return factor if other is None else self.ops.multiply(factor, other, name=name)

    def total(self, summands: list[Value], name: str) -> Value:
        """The sum of at least one bound."""
        total = summands[0]
        for summand in summands[1:]:
            total = self.ops.add(total, summand, name=name)
        return total


class JacobianNorms(Domain[Jacobian]):
    """‖∂node/∂x‖ over all inputs x."""

    title = "Jacobian norms"

    def __init__(self, seen: _Seen) -> None:
        self.seen, self.ops = seen, seen.ops
        self.found: dict[str, Jacobian] = {}

    @rule(Input)
    def input(self, node: Input) -> Jacobian:
        """‖∂x/∂x‖ = 1."""
        return self._kept(node.name, ONE)

    @rule(Affine)
    def affine(self, node: Affine, *parents: Jacobian) -> Jacobian:
        """r_z, the least of the bounds that the module names, and its square."""
        seen, name = self.seen, f"r_{node.name}"
        self.ops.note(f"‖A‖ of {node.name}")
        norms = [seen.norm(Path((term,), term.parent)) for term in node.terms]
        around = [seen.norm(path) for path in seen.paths[node.name]]
        self.ops.note(f"‖∂{node.name}/∂x‖ ≤ {name}{_how(node)} (equation 5)")
        summands = [
            seen.times(norm, parent.norm, name) for norm, parent in zip(norms, parents, strict=True)
        ]
        if node.disjoint:
            squares = [self.ops.multiply(s, s, name=name) for s in summands]
            square = seen.total(squares, f"{name}_squared")
            return self._kept(node.name, Jacobian(self.ops.square_root(square, name=name), square))
        bound = seen.total(summands, name)
        if is_bounded_whole(node):
            norm = self.ops.norm2(seen.whole(node), name=f"norm_{node.name}_whole")
            length = self.ops.square_root(seen.total_square(node, list(parents)), name=name)
            together = self.ops.multiply(norm, length, name=name)
            bound = self.ops.minimum(bound, together, name=name)
        if any(len(path.terms) > 1 for path in seen.paths[node.name]):
            parts = [
                seen.times(norm, self.found[path.start].norm, name)
                for norm, path in zip(around, seen.paths[node.name], strict=True)
            ]
            bound = self.ops.minimum(bound, seen.total(parts, name), name=name)
        square = self.ops.multiply(bound, bound, name=f"{name}_squared")
        return self._kept(node.name, Jacobian(bound, square))

    @rule(Activate)
    def activation(self, node: Activate, z: Jacobian) -> Jacobian:
        """ρ_a = g r_z."""
        name = f"rho_{node.name}"
        self.ops.note(f"g = sup |σ′| of {node.name}")
        slope = self.seen.slope(node)
        self.ops.note(f"‖∂{node.name}/∂x‖ ≤ {name} = g · ‖∂{node.parent}/∂x‖")
        bound = self.seen.times(slope, z.norm, name)
        square = self.ops.multiply(bound, bound, name=f"{name}_squared")
        return self._kept(node.name, Jacobian(bound, square))

    def _kept(self, name: str, jacobian: Jacobian) -> Jacobian:
        """Kept, since paths begin at nodes that are no parents."""
        self.found[name] = jacobian
        return jacobian


class Coefficients(Domain[Value]):
    """∂f/∂node over all inputs, as an interval for each of its entries."""

    title = "coefficients"

    def __init__(self, seen: _Seen) -> None:
        self.seen, self.ops = seen, seen.ops
        self.first = seen.graph.nodes[0].name

    @rule(Input)
    def input(self, node: Input, arrived: Value) -> Iterator[tuple[str, Value]]:
        """Nothing comes before the input."""
        return iter(())

    @rule(Affine)
    def affine(self, node: Affine, arrived: Value) -> Iterator[tuple[str, Value]]:
        """Aᵀ F to where the paths to the node start; nodes that they see through get none."""
        for path in self.seen.matrices[node.name]:
            if path.start != self.first:
                self.ops.note(f"Back through {node.name}: Aᵀ mid ± |A|ᵀ rad")
                yield path.start, self.seen.adjoint(path, arrived)

    @rule(Activate)
    def activation(self, node: Activate, arrived: Value) -> Iterator[tuple[str, Value]]:
        """F ⊙ [g_L, g_U]."""
        if node.parent != self.first:
            self.ops.note(f"Back through {node.name}: F ⊙ σ′")
            slope, name = node.function.first_range, f"f_{node.parent}"
            yield node.parent, self.ops.through(arrived, slope, name=name)

    def join(self, name: str, one: Value, other: Value) -> Value:
        """The sum of the contributions of two paths to one node."""
        return self.ops.join(one, other, name=f"f_{name}")


class GradientNorms(Domain[Value]):
    """‖∂f/∂node‖ over all inputs; None stands for the output, whose gradient is c itself."""

    title = "gradient norms"

    def __init__(self, seen: _Seen, coefficients: dict[str, Value]) -> None:
        self.seen, self.ops, self.coefficients = seen, seen.ops, coefficients
        self.first = seen.graph.nodes[0].name

    @rule(Input)
    def input(self, node: Input, arrived: Value) -> Iterator[tuple[str, Value]]:
        """Nothing comes before the input."""
        return iter(())

    @rule(Affine)
    def affine(self, node: Affine, arrived: Value) -> Iterator[tuple[str, Value]]:
        """‖A‖ times the arrived norm; at the output, whose coefficients are exact, ‖Aᵀc‖."""
        self.ops.note(f"Back through {node.name}: norms by ‖A‖")
        for path in self.seen.paths[node.name]:
            name = self._name(path.start)
            if arrived is None:
                row = self.seen.adjoint(path, self.coefficients[node.name])
                yield path.start, self.seen.row_norm(row, name)
            else:
                norm = self.seen.norm(path)
                yield path.start, self.ops.multiply(norm, arrived, name=name)

    @rule(Activate)
    def activation(self, node: Activate, arrived: Value) -> Iterator[tuple[str, Value]]:
        """g times the arrived norm, or times the norm of the interval F if that is smaller."""
        self.ops.note(f"Back through {node.name}: norms by g")
        within = self.seen.row_norm(self.coefficients[node.name], f"l_{node.name}")
        if arrived is not None and arrived is not within:
            within = self.ops.minimum(arrived, within, name=f"l_{node.name}")
        slope, name = self.seen.slope(node), self._name(node.parent)
        yield node.parent, self.ops.multiply(slope, within, name=name)

    def join(self, name: str, one: Value, other: Value) -> Value:
        """‖a + b‖ ≤ ‖a‖ + ‖b‖."""
        return self.ops.add(one, other, name=self._name(name))

    def _name(self, node: str) -> str:
        return "l_input" if node == self.first else f"l_{node}"


def _share(
    seen: _Seen, node: Activate, coefficients: Value, jacobians: dict[str, Jacobian]
) -> Value:
    """k_a: the least of the bounds of ‖diag(√q) B_z‖²."""
    ops, name = seen.ops, node.name
    ops.note(f"Curvature of {name}: −λ_min ≤ k_{name}, with q = max(0, −min F ⊙ σ″)")
    second = node.function.second_range
    assert second is not None  # noqa: S101 - the analysis is for functions that have a σ″
    q = ops.concavity(coefficients, second, name=f"q_{name}")
    largest = ops.row_max(q, name=f"q_{name}_max")
    share = seen.times(largest, jacobians[node.parent].square, f"k_{name}_norms")
    parent = seen.graph.node(node.parent)
    if not isinstance(parent, Affine):
        return share
    weighted = [
        ops.weighted_norm2_squared(seen.operator(path), q, name=f"w_{name}")
        for path in seen.matrices[parent.name]
    ]
    squares = [
        seen.times(w, jacobians[path.start].square, f"k_{name}_matrix")
        for w, path in zip(weighted, seen.matrices[parent.name], strict=True)
    ]
    least = squares[0]
    if parent.disjoint:
        least = seen.total(squares, f"k_{name}_matrix")
    elif len(squares) > 1:
        roots = [ops.square_root(square, name=f"b_{name}") for square in squares]
        root = seen.total(roots, f"b_{name}")
        least = ops.multiply(root, root, name=f"k_{name}_matrix")
        if is_bounded_whole(parent):
            whole = ops.weighted_norm2_squared(seen.whole(parent), q, name=f"w_{name}")
            length = seen.total_square(parent, [jacobians[p] for p in parent.parents])
            together = ops.multiply(whole, length, name=f"k_{name}_matrix")
            least = ops.minimum(least, together, name=f"k_{name}_matrix")
    choose = ops.refine if _is_direct(seen, parent) else ops.minimum
    return choose(share, least, name=f"k_{name}")


def _is_direct(seen: _Seen, node: Affine) -> bool:
    """Whether the node's norms and its weighted norms are both of its own maps.

    Then ‖diag(√q) A‖² ≤ max q ‖A‖² for each of them, and the bounds that weigh the maps before
    their norms are taken are never above the one that weighs them afterwards.
    """
    both = (*seen.paths[node.name], *seen.matrices[node.name])
    return all(len(path.terms) == 1 for path in both)


def _how(node: Affine) -> str:
    """The formula that r of a node is the value of, where it has several terms."""
    if len(node.terms) == 1:
        return ""
    if node.disjoint:
        return " = √Σ(‖A‖ρ)²"
    return " = min(Σ‖A‖ρ, ‖[A …]‖√Σρ²)" if is_bounded_whole(node) else " = Σ‖A‖ρ"
