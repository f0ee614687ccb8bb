"""Jacobians between the layers of a network at a point, as matrices in float64.

With slopes s_w ≈ σ′(z_w(x₀)) of every activation w, the network is locally the linear one

    z_v = Σ A a,    a_w = s_w ⊙ z_w

whose Jacobians P_vw = ∂z_v/∂a_w and B_v = ∂z_v/∂x are products of maps and slopes. The slopes are
numbers like any others: nothing rests on how near they are to σ′. What computing the products
loses is bounded in the 2-norm.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from ..arithmetic.rounded import Rounded, exact
from ..domains.rounding import Values, linearize, product_loss
from ..graph import Activate, Affine, Graph, Input
from ..linearization import Linearization
from ..maps.operators import Dense, Operator
from ..norms.written import writing_error
from ..walk import Domain, forward, rule

GUARD = 1.0 + 1e-9
"""Covers the rounding of the few operations that make up an error bound."""

LARGEST_LAYER = 4096
"""Layers up to this size have Jacobians as matrices."""

_TINY = 1e-150


class Matrix(NamedTuple):
    """Matrices that are known up to rounding.

    Args:
        value: (B, n, m), or (1, n, m) where all inputs share it.
        error: Bounds of the 2-norm distance to the true ones, (B,) or (1,).
    """

    value: Tensor
    error: Tensor

    @property
    def size(self) -> Tensor:
        """Upper bounds of the Frobenius norms of the true matrices, (B,) or (1,)."""
        norm: Tensor = torch.linalg.vector_norm(self.value, dim=(1, 2))
        return norm * GUARD + self.error + _TINY

    def spread(self, r: Tensor, *, adjoint: bool = False) -> Tensor:
        """Upper bounds of |M| r, or of |M|ᵀ r, for r ≥ 0 of shape (B, J, ·), entry by entry."""
        absolute = self.value.abs()
        found = r @ (absolute if adjoint else absolute.mT)
        terms = 4.0 * (r.shape[-1] + 8) * UNIT_ROUNDOFF
        lost = self.error[:, None] * torch.linalg.vector_norm(r, dim=-1)
        spread: Tensor = (found * (1.0 + terms) + lost[..., None] + _TINY) * GUARD
        return spread

    def row(self, b: int) -> Matrix:
        """The matrix of one input."""
        value, error = (t if len(t) == 1 else t[b : b + 1] for t in self)
        return Matrix(value, error)

    def rows_scaled(self, weights: Tensor) -> Matrix:
        """diag(w) M for weights (B, n)."""
        return self._rounded(weights[:, :, None] * self.value, weights)

    def columns_scaled(self, weights: Tensor) -> Matrix:
        """M diag(w) for weights (m,)."""
        return self._rounded(self.value * weights, weights[None])

    def _rounded(self, value: Tensor, weights: Tensor) -> Matrix:
        lost = 4.0 * UNIT_ROUNDOFF * torch.linalg.vector_norm(value, dim=(1, 2)) + _TINY
        return Matrix(value, (weights.abs().amax(1) * self.error + lost) * GUARD)


Products = dict[str, Matrix | None]
"""By source: the Jacobian of a node with respect to the source; None stands for the identity."""


class LocalProducts(Domain[Products]):
    """The table.

    Args:
        slopes: s of every activation, (B, n).
    """

    title = "products of maps and slopes"

    def __init__(self, slopes: dict[str, Tensor]) -> None:
        self.slopes = slopes

    @rule(Input)
    def input(self, node: Input) -> Products:
        """The identity."""
        return {node.name: None}

    @rule(Affine)
    def affine(self, node: Affine, *parents: Products) -> Products:
        """Σ A P."""
        found: Products = {}
        for term, products in zip(node.terms, parents, strict=True):
            for source, matrix in products.items():
                part = _applied(term.map, matrix)
                held = found.get(source)
                found[source] = part if held is None else _sum(held, part)
        return found

    @rule(Activate)
    def activation(self, node: Activate, z: Products) -> Products:
        """diag(s) P, and the activation itself as a source."""
        slope = self.slopes[node.name]
        found: Products = {
            source: _diagonal(slope) if matrix is None else matrix.rows_scaled(slope)
            for source, matrix in z.items()
        }
        return {**found, node.name: None}


def _applied(operator: Operator, matrix: Matrix | None) -> Matrix:
    if matrix is None:
        written = operator.error if isinstance(operator, Dense) else writing_error(operator)
        value = operator.materialise()[None]
        return Matrix(value, value.new_tensor([written]))
    lost = product_loss(operator, operator.fan_in, matrix.size)
    error = (operator.absolute_norm * matrix.error + lost) * GUARD
    return Matrix(operator.apply_to_rows(matrix.value), error)


def _sum(one: Matrix, other: Matrix) -> Matrix:
    value = one.value + other.value
    lost = UNIT_ROUNDOFF * torch.linalg.vector_norm(value, dim=(1, 2))
    return Matrix(value, (one.error + other.error + lost) * GUARD)


def _diagonal(slope: Tensor) -> Matrix:
    return Matrix(torch.diag_embed(slope), torch.zeros_like(slope[:, 0]))


def work(graph: Graph) -> int:
    """Multiplications that the Jacobians between the layers of a graph take, about."""
    sizes = [math.prod(node.shape) for node in graph.nodes if not isinstance(node, Affine)]
    return sum(sizes) ** 3


class Expansion:
    """A network around points.

    Args:
        graph: The graph, over float64 operators.
        x: x₀, (B, D) in float64.

    Attributes:
        values: Of every node at the points, with bounds of their rounding.
        activations: The activations on which the output depends, in graph order.
    """

    def __init__(self, graph: Graph, x: Tensor) -> None:
        self.graph, self.x = graph, x
        self._norms = {
            term.name: term.map.absolute_norm
            for node in graph.nodes
            if isinstance(node, Affine)
            for term in node.terms
        }
        self.values: dict[str, Rounded] = forward(Values(self._norms, exact(x)), graph)
        needed = graph.ancestors(graph.output) | {graph.output}
        self.activations = [
            node for node in graph.nodes if isinstance(node, Activate) and node.name in needed
        ]
        self.slopes = {
            node.name: node.function.first(self.values[node.parent].value)
            for node in self.activations
        }
        domain = LocalProducts(self.slopes)
        self._products = forward(domain, graph, only=needed)
        self.first = graph.nodes[0].name

    def before(self, node: str) -> dict[str, Matrix]:
        """The Jacobians of a node's value with respect to the activations before it."""
        found = self._products[node]
        return {
            source: self._identity(source) if matrix is None else matrix
            for source, matrix in found.items()
            if source != self.first
        }

    def jacobian(self, node: str) -> Matrix | None:
        """∂/∂x of a node's value at the points; None where it does not depend on the input."""
        found = self._products[node]
        if self.first not in found:
            return None
        matrix = found[self.first]
        return self._identity(self.first) if matrix is None else matrix

    def linearize(self, c: Tensor) -> Linearization:
        """f = c·z and ∇f of the network itself at the points, for rows c (B or 1, C)."""
        return linearize(self.graph, self._norms, self.x, c)

    def _identity(self, node: str) -> Matrix:
        n = self.values[node].value.shape[1]
        return Matrix(torch.eye(n).to(self.x)[None], self.x.new_zeros(1))

    def coefficients(self, c: Tensor) -> dict[str, Rounded]:
        """∂(c·z)/∂a of every activation that the output depends on, for rows c (B or 1, T, C).

        The error is a bound in the 2-norm for each row. The input has an entry too.
        """
        found: dict[str, Rounded] = {}
        for source, matrix in self._products[self.graph.output].items():
            if matrix is None:
                found[source] = exact(c)
                continue
            size = torch.linalg.vector_norm(c, dim=-1) * GUARD + _TINY
            value = c @ matrix.value
            terms = 2.0 * (c.shape[-1] + 4) * UNIT_ROUNDOFF
            lost = size * (matrix.error + terms * matrix.size)[:, None]
            found[source] = Rounded(value, (lost + _TINY) * GUARD)
        return found
