"""Curvature and Lipschitz bounds on a DAG: Theorem 3 for the matrices, Theorem 4 for the paths.

Lemma 1 gives the Hessian of f = c·z_out as a sum over the activation nodes a = σ(z):

    ∇²f = Σ_a B_zᵀ diag(F_a ⊙ σ″(z)) B_z,     B_z = ∂z/∂x,   F_a = ∂f/∂a.

Each factor is bounded over all x.

* Jacobians, forward: ρ_input = 1, and a = σ(z) has ‖∂a/∂x‖ ≤ ρ_a = g r_z (equation 5). For
  z = Σ_k A_k a_k, r_z = min(Σ_k ‖A_k‖ ρ_k, ‖[A_1 … A_p]‖ (Σ_k ρ_k²)^½): B_z = [A_1 … A_p] times the
  Jacobians one above the other. Where the A_k write to different rows (a concatenation),
  r_z² = Σ_k (‖A_k‖ ρ_k)².
* Coefficients, backward, as intervals: F_out = c exactly; through an activation F ⊙ [g_L, g_U];
  through a map Aᵀ mid ± |A|ᵀ rad; paths that meet are added. So the coefficients of the last hidden
  layer are exact, as in Theorem 3, and all others lie within Theorem 4's S (equation 6).
* How far below zero a coefficient of the sum can fall: q_j = max(0, −min F_j σ″_j).
* One summand then has λ_min ≥ −k_a with k_a the least of max_j q_j · r_z² (Theorem 4) and of the
  bounds of ‖diag(√q) B_z‖² that weigh the maps before their norms are taken (Theorem 3, exact in
  the weights where z reads the input): (Σ_k ‖diag(√q) A_k‖ ρ_k)² and
  ‖diag(√q)[A_1 … A_p]‖² Σ_k ρ_k², or Σ_k ‖diag(√q) A_k‖² ρ_k² for a concatenation.
* Gradients, backward, as norms: ‖∂f/∂z‖ ≤ g ‖∂f/∂a‖, ‖∂f/∂a_k‖ ≤ Σ ‖A_k‖ ‖∂f/∂z‖ over the nodes
  that read a_k, and never more than the norm of the interval F.

a_k may be affine itself, where merging stopped (a residual stream, a concatenation); its ρ is then
its r. Where a product of maps is one matrix, z is also seen as the sum over paths through such
nodes (:mod:`passes.paths`), and r_z is the least of both. For an activation a, ∂f/∂a is the same
whether a sum behind it is a node or seen through.

The program's results are κ = Σ_a k_a, so that ∇²f ≽ −κI (applied to −c it bounds from above), and
the Lipschitz constant of f that the gradients arrive at. κ multiplies norms twice over; in deep
networks it is the Lipschitz constant that holds a certificate up far from the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from passes.activation_constants import CONSTANTS_KNOWN
from passes.merge_affine import AFFINE_CHAINS_MERGED
from passes.paths import Path, paths, side_by_side
from vercomp.facts import CURVATURE
from vercomp.ir.graph import Activate, Affine, Graph, Input, Node
from vercomp.ir.rewrite import concatenated_axis
from vercomp.names import identifiers
from vercomp.pass_manager import Property, State
from vercomp.program import (
    Builder,
    ConstantOf,
    MapOf,
    Number,
    Operand,
    Program,
    Value,
)

CURVATURE_KNOWN = Property(
    "the curvature program is known",
    lambda state: None if state.facts.known(CURVATURE) else "there is none",
)


@dataclass(frozen=True)
class Curvature:
    """Emit the curvature program of a graph of affine nodes and activations."""

    name: ClassVar[str] = "curvature"
    requires: ClassVar[tuple[Property, ...]] = (AFFINE_CHAINS_MERGED, CONSTANTS_KNOWN)
    establishes: ClassVar[tuple[Property, ...]] = (CURVATURE_KNOWN,)

    def run(self, state: State) -> State:
        """The same graph, with the program as a fact."""
        return state.with_facts(state.facts.with_fact(CURVATURE, _Emitter(state.graph).program()))


class _Emitter:
    """The two recursions over a graph, forward for Jacobians and backward for coefficients."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.builder = Builder()
        self.id = identifiers((node.name for node in graph.nodes), "node")
        self.paths = paths(graph, scales=True)
        self.matrices = paths(graph, scales=False)
        self.norms: dict[MapOf, Value] = {}
        self.products: dict[tuple[MapOf, ...], Value] = {}
        self.shares: dict[str, Value] = {}
        self.slope: dict[str, Value] = {}
        self.jacobian: dict[str, Value | None] = {}
        self.squares: dict[str, Value] = {}
        self.totals: dict[str, Value] = {}
        self.coefficients: dict[str, Value] = {}
        self.gradient: dict[str, Value] = {}
        self.adjoints: dict[tuple[Path, Value], Value] = {}
        self.row_norms: dict[Value, Value] = {}

    def program(self) -> Program:
        for node in self.graph.nodes:
            self._forward(node)
        output = self.builder.emit("f_output", "exactly", self.builder.argument)
        self.coefficients[self.graph.output] = output
        self.builder.close_block("The coefficients c = e_y − e_t of the margin, exactly.")
        for node in reversed(self.graph.nodes):
            if isinstance(node, Affine):
                self._back_through_affine(node)
            elif isinstance(node, Activate) and node.name in self.coefficients:
                self._back_through_activation(node)
        kappa = self._sum()
        lipschitz = self.gradient.get(self.graph.input.name)
        if lipschitz is None:
            lipschitz = self.builder.emit("l_input", "zeros", self.builder.argument)
        return self.builder.finish(kappa, lipschitz, self.norms, self.shares)

    # ── Forward ──────────────────────────────────────────────────────────────────────────────

    def _forward(self, node: Node) -> None:
        """Bound ‖∂node/∂x‖; None stands for the input's 1."""
        name = self.id[node.name]
        if isinstance(node, Input):
            self.jacobian[node.name] = None
        elif isinstance(node, Affine):
            for map_of in _maps(node):
                norm = self.builder.emit(f"norm_{name}", "norm2", map_of)
                self.norms[map_of] = self.products[(map_of,)] = norm
            for path in self.paths[node.name]:
                if path.maps not in self.products:
                    norm = self.builder.emit(f"norm_{name}", "norm2", path.product)
                    self.products[path.maps] = norm
            self.builder.close_block(f"‖A‖ of {name}")
            self.jacobian[node.name] = self._affine(node, name)
            self._square(node)
            self.builder.close_block(f"‖∂{name}/∂x‖ ≤ r_{name}{_how(node)} (equation 5)")
        elif isinstance(node, Activate):
            g = self.builder.emit(f"g_{name}", "constant", ConstantOf(node.name, "g"))
            self.slope[node.name] = g
            self.builder.close_block(f"g = sup |σ′| of {name}")
            self.jacobian[node.name] = self._times(f"rho_{name}", g, self.jacobian[node.parent])
            self._square(node)
            self.builder.close_block(
                f"‖∂{name}/∂x‖ ≤ rho_{name} = g · ‖∂{self.id[node.parent]}/∂x‖"
            )

    def _affine(self, node: Affine, name: str) -> Value:
        """r of an affine node."""
        summands = [
            self._times(f"r_{name}", self.norms[map_of], self.jacobian[term.parent])
            for map_of, term in zip(_maps(node), node.terms, strict=True)
        ]
        if concatenated_axis(node) is not None:
            squares = [self.builder.emit(f"r_{name}", "multiply", s, s) for s in summands]
            self.squares[node.name] = self._add(f"r_{name}_squared", squares)
            return self.builder.emit(f"r_{name}", "square_root", self.squares[node.name])
        bound = self._add(f"r_{name}", summands)
        whole = side_by_side(node)
        if whole is not None:
            norm = self.builder.emit(f"norm_{name}", "norm2", whole)
            length = self.builder.emit(f"r_{name}", "square_root", self._total_square(node))
            together = self.builder.emit(f"r_{name}", "multiply", norm, length)
            bound = self.builder.emit(f"r_{name}", "minimum", bound, together)
        if self._sees_through(node):
            summands = [
                self._times(f"r_{name}", self.products[path.maps], self.jacobian[path.start])
                for path in self.paths[node.name]
            ]
            through = self._add(f"r_{name}", summands)
            bound = self.builder.emit(f"r_{name}", "minimum", bound, through)
        return bound

    # ── Backward ─────────────────────────────────────────────────────────────────────────────

    def _back_through_affine(self, node: Affine) -> None:
        """Send coefficients and gradients on to where the paths to the node start.

        A node that the paths see through has none: they go past it.
        """
        name = self.id[node.name]
        coefficients = self.coefficients.get(node.name)
        if coefficients is not None:
            for path in self.matrices[node.name]:
                if path.start != self.graph.input.name:
                    self._join(path.start, self._adjoint(path, coefficients))
        for path in self.paths[node.name]:
            if coefficients is not None and node.name == self.graph.output:
                row = self._adjoint(path, coefficients)
                self._arrive(path.start, self._row_norm(self._slope(path.start), row))
            elif node.name in self.gradient:
                self._descend(path.start, self.products[path.maps], node)
        self.builder.close_block(f"Back through {name}: Aᵀ mid ± |A|ᵀ rad; norms by ‖A‖")

    def _back_through_activation(self, node: Activate) -> None:
        """Count the curvature of an activation, and send its coefficients and gradient on."""
        name, coefficients = self.id[node.name], self.coefficients[node.name]
        second = ConstantOf(node.name, "second_range")
        q = self.builder.emit(f"q_{name}", "concavity", coefficients, second)
        self.shares[node.name] = self._share(node, q)
        self.builder.close_block(
            f"Curvature of {name}: −λ_min ≤ k_{name}, with q = max(0, −min F ⊙ σ″)"
        )
        if node.parent != self.graph.input.name:
            slope = ConstantOf(node.name, "first_range")
            self._join(
                node.parent,
                self.builder.emit(f"f_{self.id[node.parent]}", "through", coefficients, slope),
            )
        within = self._row_norm(f"l_{name}", coefficients)
        arrived = self.gradient.get(node.name, within)
        if arrived != within:
            within = self.builder.emit(f"l_{name}", "minimum", arrived, within)
        self.gradient[node.name] = within
        self._descend(node.parent, self.slope[node.name], node)
        self.builder.close_block(f"Back through {name}: F ⊙ σ′; norms by g")

    def _share(self, node: Activate, q: Value) -> Value:
        """The least of the bounds of ‖diag(√q) B_z‖²."""
        name = self.id[node.name]
        largest = self.builder.emit(f"q_{name}_max", "row_max", q)
        share = self._times(f"k_{name}_norms", largest, self.squares.get(node.parent))
        parent = self.graph.node(node.parent)
        if not isinstance(parent, Affine):
            return share
        squares = []
        for path in self.matrices[parent.name]:
            weighted = self._weighted(name, path.product, q)
            square = self.squares.get(path.start)
            squares.append(self._times(f"k_{name}_matrix", weighted, square))
        bounds = squares[:1]
        if concatenated_axis(parent) is not None:
            bounds = [self._add(f"k_{name}_matrix", squares)]
        elif len(squares) > 1:
            roots = [self.builder.emit(f"b_{name}", "square_root", square) for square in squares]
            root = self._add(f"b_{name}", roots)
            bounds = [self.builder.emit(f"k_{name}_matrix", "multiply", root, root)]
            whole = side_by_side(parent)
            if whole is not None:
                weighted, length = self._weighted(name, whole, q), self._total_square(parent)
                bounds.append(self.builder.emit(f"k_{name}_matrix", "multiply", weighted, length))
        least = bounds[0]
        for bound in bounds[1:]:
            least = self.builder.emit(f"k_{name}_matrix", "minimum", least, bound)
        chosen = "refine" if self._is_direct(parent) else "minimum"
        return self.builder.emit(f"k_{name}", chosen, share, least)

    def _is_direct(self, node: Affine) -> bool:
        """Whether its norms and its weighted norms are taken of the same maps, its own.

        Then ‖diag(√q) A‖² ≤ max q ‖A‖² for each of them, and the bounds that weigh the maps before
        their norms are taken are never above the one that weighs them afterwards.
        """
        both = (*self.paths[node.name], *self.matrices[node.name])
        return all(len(path.maps) == 1 for path in both)

    def _weighted(self, name: str, linear: Operand, q: Value) -> Value:
        return self.builder.emit(f"w_{name}", "weighted_norm2_squared", linear, q)

    def _adjoint(self, path: Path, coefficients: Value) -> Value:
        """Aᵀ F of a path, once."""
        if (path, coefficients) not in self.adjoints:
            name = f"f_{self.id[path.start]}"
            value = self.builder.emit(name, "adjoint", path.product, coefficients)
            self.adjoints[path, coefficients] = value
        return self.adjoints[path, coefficients]

    def _row_norm(self, name: str, interval: Value) -> Value:
        """The largest ‖F‖ of an interval, once."""
        if interval not in self.row_norms:
            self.row_norms[interval] = self.builder.emit(name, "row_norm", interval)
        return self.row_norms[interval]

    def _join(self, parent: str, value: Value) -> None:
        """The coefficients of a node gain a path."""
        other = self.coefficients.get(parent)
        if other is not None:
            value = self.builder.emit(f"f_{self.id[parent]}", "join", other, value)
        self.coefficients[parent] = value

    def _descend(self, start: str, factor: Value, node: Node) -> None:
        """‖∂f/∂start‖ gains factor · ‖∂f/∂node‖."""
        value = self.builder.emit(self._slope(start), "multiply", factor, self.gradient[node.name])
        self._arrive(start, value)

    def _arrive(self, start: str, value: Value) -> None:
        other = self.gradient.get(start)
        if other is not None:
            value = self.builder.emit(self._slope(start), "add", other, value)
        self.gradient[start] = value

    def _slope(self, node: str) -> str:
        """What ‖∂f/∂node‖ is called."""
        return "l_input" if node == self.graph.input.name else f"l_{self.id[node]}"

    # ── Numbers ──────────────────────────────────────────────────────────────────────────────

    def _square(self, node: Node) -> None:
        """The square of ‖∂node/∂x‖, where the bound is not a root already; none where it is 1."""
        jacobian = self.jacobian[node.name]
        if jacobian is not None and node.name not in self.squares:
            letter = "rho" if isinstance(node, Activate) else "r"
            name = f"{letter}_{self.id[node.name]}_squared"
            self.squares[node.name] = self.builder.emit(name, "multiply", jacobian, jacobian)

    def _total_square(self, node: Affine) -> Value:
        """Σ_k ρ_k² over the parents, once."""
        if node.name not in self.totals:
            squares = [
                self.squares.get(parent)
                or self.builder.emit("rho_input_squared", "constant", Number(1.0))
                for parent in node.parents
            ]
            self.totals[node.name] = self._add(f"rho_{self.id[node.name]}_squared", squares)
        return self.totals[node.name]

    def _sees_through(self, node: Affine) -> bool:
        return any(len(path.maps) > 1 for path in self.paths[node.name])

    def _times(self, name: str, factor: Value, other: Value | None) -> Value:
        """factor · other, where None stands for the input's 1."""
        return factor if other is None else self.builder.emit(name, "multiply", factor, other)

    def _add(self, name: str, summands: list[Value]) -> Value:
        total = summands[0]
        for summand in summands[1:]:
            total = self.builder.emit(name, "add", total, summand)
        return total

    def _sum(self) -> Value:
        """κ as the sum of the shares, or as zero rows for a network that is affine."""
        if self.shares:
            total = self._add("kappa", list(self.shares.values()))
            self.builder.close_block("κ: the sum over the activations")
            return total
        total = self.builder.emit("kappa", "zeros", self.builder.argument)
        self.builder.close_block("Affine throughout: κ = 0")
        return total


def _maps(node: Affine) -> tuple[MapOf, ...]:
    return tuple(MapOf(node.name, index) for index in range(len(node.terms)))


def _how(node: Affine) -> str:
    """The formula that r of a node is the value of, where it has several terms."""
    if len(node.terms) == 1:
        return ""
    if concatenated_axis(node) is not None:
        return " = √Σ(‖A‖ρ)²"
    return " = Σ‖A‖ρ" if side_by_side(node) is None else " = min(Σ‖A‖ρ, ‖[A …]‖√Σρ²)"
