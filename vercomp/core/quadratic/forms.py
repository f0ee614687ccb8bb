"""Quadratic forms sent backward through a graph, as matrices, proved.

A form lives on the values of several nodes, as differences x_v from those at one point:

    q(x) = Σ_v x_vᵀ (Q_vv + ε_v I) x_v + 2 Σ_{v<w} x_vᵀ Q_vw x_w.

Nodes are replaced by their parents, the last ones first. Behind an affine node z = Σ_k A_k a_k + b
that is a substitution. Behind an activation a = σ(z), with w = x_a − D x_z, T diagonal and
Q_aa + ε_a I ≼ θT for a θ < 1, and p = (Q_aa + ε_a I) D x_z + Σ_v Q_av x_v,

    q(x) ≤ q(x with x_a = D x_z) + pᵀ T⁻¹ p / (1 − θ) + wᵀ T w,

because q is there a quadratic function of w with the gradient 2p at w = 0, and the maximum of
2p·w − wᵀ(T − Q_aa − ε_a I)w is at most pᵀT⁻¹p/(1 − θ). Every form may be replaced by a larger one:
the numbers ε cover all rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from ..domains.rounding import product_loss
from ..graph import Activate, Affine, Graph
from ..maps.operators import Operator
from ..norms.eigenvalues import frobenius_norm, largest_eigenvalue
from ..norms.written import writing_error
from .parameters import Parameters
from .structure import activations

_GUARD = 1.0 + 1e-9
"""Covers the rounding of the few operations that make up an error bound."""

_TINY = 1e-290


@dataclass
class Form:
    """A quadratic form on several nodes.

    Args:
        order: The position of each node in the graph.
        blocks: Q_vw for v before w, and Q_vv, which is symmetric; what is missing is zero.
        diagonals: Diagonal matrices that Q_vv contains besides, as vectors.
        excess: ε_v ≥ 0.
    """

    order: Mapping[str, int]
    blocks: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    diagonals: dict[str, Tensor] = field(default_factory=dict)
    excess: dict[str, float] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        """Whether the form depends on a node."""
        return any(name in pair for pair in self.blocks) or name in self.diagonals

    def add(self, one: str, other: str, matrix: Tensor, error: float) -> None:
        """Add 2 xᵀMy for two nodes, or xᵀ(M + Mᵀ)x/2·2 for one; M is off by so much.

        Args:
            one: The node of x.
            other: The node of y.
            matrix: M, (n_x, n_y).
            error: Bound of what it is off by, in the 2-norm.
        """
        if self.order[one] > self.order[other]:
            one, other, matrix = other, one, matrix.T
        held = self.blocks.get((one, other))
        if held is not None:
            matrix = held + matrix
            error += UNIT_ROUNDOFF * frobenius_norm(matrix)
        if one == other:
            matrix = 0.5 * (matrix + matrix.T)
            error += UNIT_ROUNDOFF * frobenius_norm(matrix)
        self.blocks[one, other] = matrix
        for name in (one, other):
            self.charge(name, error if one != other else 0.5 * error)

    def charge(self, name: str, error: float) -> None:
        """Enlarge ε at a node."""
        self.excess[name] = self.excess.get(name, 0.0) + error * _GUARD + _TINY

    def taken(self, name: str) -> tuple[Tensor | None, dict[str, Tensor], float]:
        """Q_vv (a vector where it is diagonal), all Q_vw and ε_v, which leave the form."""
        own = self.blocks.pop((name, name), None)
        diagonal = self.diagonals.pop(name, None)
        excess = self.excess.pop(name, 0.0)
        if own is not None and diagonal is not None:
            own = own.clone()
            own.diagonal().add_(diagonal)
            largest = float(own.diagonal().abs().max())
            excess = (excess + UNIT_ROUNDOFF * largest) * _GUARD
        elif own is None:
            own = diagonal
        beside = {}
        for pair in [pair for pair in self.blocks if name in pair]:
            matrix = self.blocks.pop(pair)
            beside[pair[1] if pair[0] == name else pair[0]] = (
                matrix if pair[0] == name else matrix.T
            )
        return own, beside, excess


def through_affine(form: Form, node: Affine) -> None:
    """Replace an affine node by its parents."""
    own, beside, excess = form.taken(node.name)
    maps: dict[str, list[Operator]] = {}
    for term in node.terms:
        maps.setdefault(term.parent, []).append(term.map)
    norms = {name: sum(each.absolute_norm for each in ops) * _GUARD for name, ops in maps.items()}
    for name, norm in norms.items():
        form.charge(name, excess * len(maps) * norm * norm)
    for other, matrix in beside.items():
        for name, ops in maps.items():
            product, lost = _times(matrix.T, ops)
            # Both orders of a block count, also where they are of one node.
            twice = 2.0 if other == name else 1.0
            form.add(other, name, twice * product, twice * lost)
    if own is None:
        return
    names = sorted(maps, key=form.order.__getitem__)
    for i, name in enumerate(names):
        half, lost = _times(own, maps[name])
        for other in names[i:]:
            product, more = _times(half.T, maps[other])
            form.add(name, other, product, more + norms[other] * lost)


def _times(rows: Tensor, maps: Sequence[Operator]) -> tuple[Tensor, float]:
    """X Σ_k A_k for a matrix X, or a diagonal one as a vector, and a bound of its error."""
    total: Tensor | None = None
    lost = 0.0
    for operator in maps:
        if rows.ndim == 1:
            part = rows[:, None] * operator.materialise()
            largest = float(rows.abs().max())
            lost += writing_error(operator) * largest + UNIT_ROUNDOFF * frobenius_norm(part)
        else:
            part = operator.adjoint(rows)
            size = torch.tensor(frobenius_norm(rows), dtype=torch.float64)
            lost += float(product_loss(operator, operator.fan_out, size))
            lost += operator.underflow * math.sqrt(len(rows))
        if total is not None:
            part = total + part
            lost += UNIT_ROUNDOFF * frobenius_norm(part)
        total = part
    assert total is not None  # noqa: S101 - an affine node has terms
    return total, lost * _GUARD


def through_activation(
    form: Form, node: Activate, curvature: Tensor, D: Tensor, weights: Tensor, share: float
) -> Tensor | None:
    """Replace an activation by its input; returns T, or None if nothing can be proved.

    Args:
        form: The form, which is changed.
        node: The activation a = σ(z).
        curvature: Λ as a vector: xᵀΛx is added at z.
        D: D as a vector.
        weights: T > 0 as a vector, up to a factor that is found here.
        share: θ in (0, 1), to be met as nearly as the estimate of the eigenvalue allows.
    """
    M, beside, excess = form.taken(node.name)
    z = node.parent
    if M is None or not bool(((weights > 0.0) & weights.isfinite()).all()):
        return None
    if M.ndim == 1:
        M = torch.diag(M)
    found = _weights(M, excess, weights, share)
    if found is None:
        return None
    T, theta = found
    root, inverse = T.rsqrt(), float((1.0 / T).max()) * _GUARD
    steep = float(D.abs().max())
    gain = 1.0 / (1.0 - theta) * _GUARD
    first = {name: D[:, None] * matrix for name, matrix in beside.items()}
    halves = {name: root[:, None] * matrix for name, matrix in beside.items()}
    sizes = {name: frobenius_norm(half) for name, half in halves.items()}
    slanted = root[:, None] * (M * D)
    sizes[z] = sizes.get(z, 0.0) + frobenius_norm(slanted)
    halves[z] = halves[z] + slanted if z in halves else slanted
    square = D[:, None] * M * D
    form.add(z, z, square, 4.0 * UNIT_ROUNDOFF * frobenius_norm(square))
    for name, matrix in first.items():
        twice = 2.0 if name == z else 1.0
        form.add(z, name, twice * matrix, twice * UNIT_ROUNDOFF * frobenius_norm(matrix))
    names = sorted(halves, key=form.order.__getitem__)
    terms = 4.0 * (len(T) + 8) * UNIT_ROUNDOFF
    for i, name in enumerate(names):
        for other in names[i:]:
            product = gain * (halves[name].T @ halves[other])
            form.add(name, other, product, terms * gain * sizes[name] * sizes[other])
    # The part ε of Q_aa itself: in D(ε)D, and in p.
    part = excess * math.sqrt(inverse) * steep
    for name in names:
        form.charge(name, gain * part * sizes[name])
    form.charge(z, excess * steep * steep + gain * part * (part + sum(sizes.values())))
    _bend(form, z, curvature)
    return T


def _bend(form: Form, z: str, curvature: Tensor) -> None:
    """Add a diagonal at a node."""
    held = form.diagonals.get(z)
    form.diagonals[z] = curvature if held is None else held + curvature
    if held is not None:
        form.charge(z, 2.0 * UNIT_ROUNDOFF * float(form.diagonals[z].abs().max()))


def _weights(
    M: Tensor, excess: float, weights: Tensor, share: float
) -> tuple[Tensor, float] | None:
    """T and θ with M + εI ≼ θT, proved; None if θ < 1 cannot be."""
    root = weights.rsqrt()
    scaled = root[:, None] * M * root
    scaled = 0.5 * (scaled + scaled.T)
    # The roots and the products round; the excess is at most ε max 1/T.
    lost = 8.0 * UNIT_ROUNDOFF * frobenius_norm(scaled) + excess * float((1.0 / weights).max())
    top = largest_eigenvalue(scaled) + lost * _GUARD
    if not math.isfinite(top):
        return None
    factor = max(top, 1e-12) / share
    theta = max(top, 0.0) / factor * _GUARD
    return (weights * factor, theta) if theta < 1.0 else None


def all_forms(
    graph: Graph, parameters: Parameters
) -> tuple[Tensor, float, dict[str, Tensor]] | None:
    """The form H + εI of the input, as a matrix and ε, and the weights T; None without proof.

    Args:
        graph: The graph, over float64 operators.
        parameters: Of one problem, as :meth:`Parameters.row` gives them.
    """
    form = Form({node.name: k for k, node in enumerate(graph.nodes)})
    wanted = {node.name for node in activations(graph)}
    found: dict[str, Tensor] = {}
    for node in reversed(graph.nodes):
        if isinstance(node, Affine) and node.name in form:
            through_affine(form, node)
        elif isinstance(node, Activate) and node.name in wanted:
            curvature = parameters.curvatures[node.name]
            if node.name not in parameters.chords:
                if node.name in form:
                    return None
                _bend(form, node.parent, curvature)
                continue
            T = through_activation(
                form,
                node,
                curvature,
                parameters.chords[node.name],
                parameters.weights[node.name],
                float(parameters.shares[node.name]),
            )
            if T is None:
                return None
            found[node.name] = T
    H, _, excess = form.taken(graph.nodes[0].name)
    if form.blocks or form.diagonals:  # a node was left, and nothing bounds it
        return None
    if H is None:
        size = math.prod(graph.nodes[0].shape)
        H = torch.zeros(size, dtype=torch.float64)
    return torch.diag(H) if H.ndim == 1 else H, excess, found
