"""Evaluation in float64 that carries a bound of its rounding error.

Every value is a pair: the float64 numbers (..., n), and for each row (...) a bound of their 2-norm
distance from the real-arithmetic result. Leading axes broadcast: points (B, 1, D) with coefficients
(B, K, C) share one forward evaluation among K margins. float32 weights are exact in float64, so the
bounds are for the function of the given weights.

Rules (u = 2⁻⁵³, n the fan-in, m the fan-out, ‖A‖ proved; |A| holds the absolute values):

    z = A a + b      e_z = ‖A‖ e_a + 2(n + 2)u (‖|A|‖ ‖â‖ + ‖b‖) + ‖A − Â‖ ‖â‖ + ω
    a = σ(z)         e_a = g e_z + 8u (√n + max(1, g)‖ẑ‖ + ‖â‖) + 2δ√n
    t = σ′(z) ⊙ s    e_t = g e_s + h ‖ŝ‖_∞ e_z + 10u max(1, g, h) (1 + ‖ẑ‖_∞) ‖ŝ‖
    s = Aᵀ t         e_s = ‖A‖ e_t + 2(m + 2)u ‖|A|‖ ‖t̂‖ + ‖A − Â‖ ‖t̂‖ + ω

with ω what products that underflow lose (where A is kept as factors, one may amplify it).
The factors 2 (and the 8 and 10 for the elementwise functions, which a test measures for each
activation) leave room for the rounding of the bounds themselves; g and h stand there because steep
functions (100 tanh) and fast ones (sin 100x) lose that much more. δ is the activation's deviation:
σ as computed is within δ of the smooth σ that the curvature bounds speak of. It counts twice: once
for the point at hand, once for whichever point on the boundary the certificate is about.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from ..arithmetic.rounded import Rounded, exact
from ..functions import Elementwise
from ..graph import Activate, Affine, Graph, Input
from ..linearization import Linearization
from ..maps.operators import Operator
from ..walk import Domain, backward, forward, result, rule

_GUARD = 1.0 + 2.0**-40
"""Covers the rounding of the few operations that make up a bound."""

_TINY = 1e-150
"""Added to every norm: entries whose squares underflow are smaller, together."""


def linearize(graph: Graph, norms: Mapping[str, float], x: Tensor, c: Tensor) -> Linearization:
    """f = c·z(x) and ∇f at flat points, with bounds of their rounding errors.

    Args:
        graph: The graph, over float64 operators.
        norms: Proved ‖A‖₂ of every map, by the names of the terms.
        x: Points, shape (..., D).
        c: Coefficients, shape (..., outputs); leading axes broadcast with those of x.
    """
    values = forward(Values(norms, exact(x)), graph)
    f = dot(c, values[graph.output])
    found = backward(Gradients(norms, values), graph, exact(c))
    gradient = found.get(graph.nodes[0].name)
    if gradient is None:  # nothing leads from the input to the output
        gradient = exact(torch.zeros_like(x))
    return Linearization(f.value[..., 0], gradient.value, f.error, gradient.error)


def evaluate(graph: Graph, norms: Mapping[str, float], x: Tensor, c: Tensor) -> Rounded:
    """f = c·z(x) at flat points, shape (..., 1), with a bound of what rounding did, shape (...).

    The arguments are those of :func:`linearize`.
    """
    return dot(c, result(Values(norms, exact(x)), graph))


class Values(Domain[Rounded]):
    """The value of every node on flat vectors, with a bound of its rounding.

    Args:
        norms: Proved ‖A‖₂ of every map, by the names of the terms.
        x: The input.
    """

    title = "values with rounding errors"

    def __init__(self, norms: Mapping[str, float], x: Rounded) -> None:
        self.norms = norms
        self.x = x

    @rule(Input)
    def input(self, node: Input) -> Rounded:
        """The input itself."""
        return self.x

    @rule(Affine)
    def affine(self, node: Affine, *parents: Rounded) -> Rounded:
        """z = Σ A_k a_k + b."""
        parts = [
            _product(term.map, self.norms[term.name], a, adjoint=False)
            for term, a in zip(node.terms, parents, strict=True)
        ]
        return total(parts if node.bias is None else [*parts, node.bias])

    @rule(Activate)
    def activation(self, node: Activate, z: Rounded) -> Rounded:
        """a = σ(z)."""
        return activation(node.function, z)


class Gradients(Domain[Rounded]):
    """The gradient of f with respect to every node, with a bound of its rounding.

    Args:
        norms: Proved ‖A‖₂ of every map, by the names of the terms.
        values: The values of the nodes.
    """

    title = "gradients with rounding errors"

    def __init__(self, norms: Mapping[str, float], values: Mapping[str, Rounded]) -> None:
        self.norms = norms
        self.values = values

    @rule(Input)
    def input(self, node: Input, s: Rounded) -> Iterator[tuple[str, Rounded]]:
        """Nothing comes before the input."""
        return iter(())

    @rule(Affine)
    def affine(self, node: Affine, s: Rounded) -> Iterator[tuple[str, Rounded]]:
        """Aᵀ s to every parent."""
        for term in node.terms:
            yield term.parent, adjoint(term.map, self.norms[term.name], s)

    @rule(Activate)
    def activation(self, node: Activate, s: Rounded) -> Iterator[tuple[str, Rounded]]:
        """σ′(z) ⊙ s."""
        yield node.parent, chain(node.function, self.values[node.parent], s)

    def join(self, name: str, one: Rounded, other: Rounded) -> Rounded:
        """Two paths to the same node are added."""
        return total([one, other])


def offset(vector: Tensor, operator: Operator | None = None, *, negate: bool = False) -> Rounded:
    """One summand ± M p of a bias, as a single row."""
    row = vector.reshape(1, -1)
    row = -row if negate else row
    if operator is None:
        return exact(row)
    return Rounded(operator.apply(row), _lost(operator, operator.fan_in, row) * _GUARD)


def activation(function: Elementwise, z: Rounded) -> Rounded:
    """a = σ(z)."""
    value = function.value(z.value)
    size = math.sqrt(value.shape[-1]) + max(1.0, function.g) * _norm(z.value) + _norm(value)
    error = function.g * z.error + 8.0 * UNIT_ROUNDOFF * size
    if function.deviation > 0.0:
        error = error + 2.0 * function.deviation * math.sqrt(z.value.shape[-1])
    return Rounded(value, error * _GUARD)


def dot(c: Tensor, z: Rounded) -> Rounded:
    """f = c·z, row by row, as a column; c is exact."""
    value = (c * z.value).sum(-1, keepdim=True)
    size = _norm(c)
    slack = 2.0 * (c.shape[-1] + 2) * UNIT_ROUNDOFF * size * _norm(z.value)
    return Rounded(value, (size * z.error + slack) * _GUARD)


def chain(function: Elementwise, z: Rounded, s: Rounded) -> Rounded:
    """t = σ′(z) ⊙ s, the adjoint of an activation."""
    error = function.g * s.error + function.h * _largest(s.value) * z.error
    size = max(1.0, function.g, function.h) * (1.0 + _largest(z.value)) * _norm(s.value)
    error = error + 10.0 * UNIT_ROUNDOFF * size
    return Rounded(function.first(z.value) * s.value, error * _GUARD)


def adjoint(operator: Operator, norm: float, t: Rounded) -> Rounded:
    """s = Aᵀ t, the adjoint of one summand of an affine node."""
    return _product(operator, norm, t, adjoint=True)


def total(parts: Sequence[Rounded]) -> Rounded:
    """The sum of several values; rows of one broadcast."""
    value, error = parts[0]
    for part in parts[1:]:
        value = value + part.value
        error = error + part.error + 2.0 * UNIT_ROUNDOFF * _norm(value)
    return Rounded(value, error * _GUARD)


def _product(operator: Operator, norm: float, x: Rounded, *, adjoint: bool) -> Rounded:
    terms = operator.fan_out if adjoint else operator.fan_in
    error = norm * x.error + _lost(operator, terms, x.value)
    value = operator.adjoint(x.value) if adjoint else operator.apply(x.value)
    return Rounded(value, error * _GUARD)


def _lost(operator: Operator, terms: int, x: Tensor) -> Tensor:
    return product_loss(operator, terms, _norm(x))


def product_loss(operator: Operator, terms: int, size: Tensor) -> Tensor:
    """A bound of the distance of the computed Â x from A x, in the 2-norm.

    The roundoff meets the norms last: a factor u would take a tiny norm below all numbers.

    Args:
        operator: A.
        terms: The fan-in of A; of Aᵀ, its fan-out.
        size: ‖x‖, rounded up.
    """
    rounding = 2.0 * (terms + 2) * UNIT_ROUNDOFF * (operator.absolute_norm * size)
    return rounding + operator.error * size + operator.underflow


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = x.norm(dim=-1)
    return norm + _TINY


def _largest(x: Tensor) -> Tensor:
    return torch.maximum(x.amax(-1), -x.amin(-1))
