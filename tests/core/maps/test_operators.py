"""Operators against their explicit matrices, and stored errors against exact arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from vercomp.core.arithmetic.outward import frobenius
from vercomp.core.maps.monomials import Diagonal, Monomial
from vercomp.core.maps.operators import Dense, Operator

Rational = list[list[Fraction]]


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


OPERATORS: dict[str, Operator] = {
    "dense": Dense(random(1, 4, 6)),
    "transposed view": Dense(random(2, 6, 4).T),
    "scaling": Diagonal.scaling(random(3, 3), (2, 3)),
    "division": Diagonal.scaling(random(4, 2, 1), (2, 3), divide=True),
    "identity": Monomial.identity(6),
    "permutation": Monomial.permutation((1, 2, 3), (2, 0, 1)),
    "repeats and gaps": Monomial(torch.tensor([0, 0, 5, 2]), 6, random(5, 4)),
    "slice": Monomial(torch.tensor([1, 3, 5]), 6),
}


def matrix_of(operator: Operator) -> Tensor:
    """The matrix of an operator, column by column."""
    return operator.apply(torch.eye(operator.shape[1], dtype=torch.float64)).T


@pytest.mark.parametrize("name", OPERATORS)
def test_every_way_to_apply_an_operator_agrees_with_its_matrix(name: str) -> None:
    operator = OPERATORS[name]
    matrix = matrix_of(operator)
    m, n = operator.shape
    assert matrix.shape == (m, n)
    x, s, jacobian = random(6, 2, 3, n), random(7, 2, 3, m), random(8, 2, n, 5)
    assert torch.allclose(operator.apply(x), x @ matrix.T)
    assert torch.allclose(operator.adjoint(s), s @ matrix)
    assert torch.allclose(operator.abs_apply(x), x @ matrix.abs().T)
    assert torch.allclose(operator.abs_adjoint(s), s @ matrix.abs())
    assert torch.allclose(operator.apply_to_rows(jacobian), matrix @ jacobian)
    assert operator.fan_in >= int((matrix != 0).sum(1).max())
    assert operator.fan_out >= int((matrix != 0).sum(0).max())
    size = float(torch.linalg.matrix_norm(matrix.abs(), 2))
    assert size * (1 - 1e-12) <= operator.absolute_norm <= float(matrix.norm()) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (outer, inner)
        for outer, a in OPERATORS.items()
        for inner, b in OPERATORS.items()
        if a.shape[1] == b.shape[0]
    ],
)
def test_products_are_compositions(outer: str, inner: str) -> None:
    a, b = OPERATORS[outer], OPERATORS[inner]
    product = a @ b
    assert product.shape == (a.shape[0], b.shape[1])
    assert torch.allclose(matrix_of(product), matrix_of(a) @ matrix_of(b))


def test_permutation_is_torchs() -> None:
    x = random(9, 5, 2, 3, 4)
    operator = Monomial.permutation((2, 3, 4), (2, 0, 1))
    assert torch.equal(operator.apply(x.flatten(1)), x.permute(0, 3, 1, 2).flatten(1))


def rational(matrix: Tensor) -> Rational:
    return [[Fraction(float(value)) for value in row] for row in matrix]


def times(a: Rational, b: Rational) -> Rational:
    return [
        [
            sum((x * y for x, y in zip(row, column, strict=True)), Fraction(0))
            for column in zip(*b, strict=True)
        ]
        for row in a
    ]


def distance_squared(a: Rational, b: Rational) -> Fraction:
    return sum(
        ((x - y) ** 2 for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)),
        Fraction(0),
    )


def scaled(seed: int, *shape: int, spread: float = 8.0) -> Tensor:
    """Entries of very different magnitudes, so that sums cancel."""
    return random(seed, *shape) * 10.0 ** (spread * torch.rand(*shape, dtype=torch.float64) - 4)


def exact_diagonal(values: Sequence[Fraction]) -> Rational:
    return [
        [value if i == j else Fraction(0) for j in range(len(values))]
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize("seed", range(10))
def test_stored_errors_of_products_cover_what_rounding_did(seed: int) -> None:
    """W₂ · diag(s) · W₁ · P · diag(1/d), in every grouping, against exact rational arithmetic."""
    torch.manual_seed(seed)
    w1, w2 = scaled(seed, 3, 4), scaled(seed + 50, 2, 3)
    s, d = scaled(seed + 100, 3), scaled(seed + 150, 4)
    permute = Monomial.permutation((2, 2), (1, 0))
    exact = times(rational(w2), exact_diagonal([Fraction(float(v)) for v in s]))
    exact = times(times(exact, rational(w1)), rational(matrix_of(permute)))
    exact = times(exact, exact_diagonal([1 / Fraction(float(v)) for v in d]))
    scaling = Diagonal.scaling(s, (3,))
    division = Diagonal.scaling(d, (4,), divide=True)
    a, b = Dense(w2), Dense(w1)
    for product in (
        (((a @ scaling) @ b) @ permute) @ division,
        a @ (scaling @ (b @ (permute @ division))),
        (a @ (scaling @ b)) @ (permute @ division),
    ):
        assert isinstance(product, Dense)
        off = distance_squared(rational(product.matrix), exact)
        assert 0 < off <= Fraction(product.error) ** 2
        assert product.error < 1e-11 * float(w2.norm() * w1.norm() * s.norm() * (1 / d).norm())
        # |A| by its Frobenius norm, and what rounding did to A besides.
        assert (
            distance_squared(exact, [[Fraction(0)] * 4] * 2) <= Fraction(product.absolute_norm) ** 2
        )


def test_copies_are_exact_and_say_so() -> None:
    permute = Monomial.permutation((2, 3), (1, 0))
    assert (Dense(random(10, 4, 6)) @ permute).error == 0.0
    assert (permute @ Dense(random(11, 6, 2))).error == 0.0
    assert (permute @ Monomial.permutation((3, 2), (1, 0))).error == 0.0
    assert (permute @ Diagonal.scaling(random(12, 6), (6,))).error == 0.0
    assert (Dense(random(13, 2, 6)) @ Dense(random(14, 6, 2))).error > 0.0


def test_summing_repeats_is_not_a_copy() -> None:
    spread = Monomial(torch.tensor([0, 0, 0]), 1)
    matrix = torch.tensor([[1.0, 2.0**-60, 2.0**-60]], dtype=torch.float64)
    product = Dense(matrix) @ spread
    assert float(product.matrix) == 1.0
    assert product.error >= 2.0**-59


def test_division_is_not_multiplication_by_a_rounded_reciprocal() -> None:
    operator = Diagonal.scaling(torch.tensor([3.0], dtype=torch.float64), (1,), divide=True)
    assert operator.factor is not None
    off = abs(Fraction(float(operator.factor)) - Fraction(1, 3))
    assert 0 < off <= Fraction(operator.error)


def test_live_parameters_carry_gradients_and_no_error() -> None:
    weight = random(15, 3, 4).requires_grad_()
    product = Dense(weight) @ Dense(random(16, 4, 2))
    assert product.error == 0.0
    assert isinstance(product, Dense)
    product.matrix.sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("size", [1.0, 1e-200, 1e200, 1e-310, 5e307])
def test_frobenius_is_an_upper_bound_at_every_magnitude(size: float) -> None:
    matrix = size * torch.rand(
        3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    exact = sum((Fraction(float(v)) ** 2 for v in matrix.flatten()), Fraction(0))
    bound = frobenius(matrix)
    assert Fraction(bound) ** 2 >= exact
    assert bound <= 1e-299 or Fraction(bound) ** 2 <= exact * Fraction(1 + 1e-12)


def test_frobenius_of_nothing_and_of_what_is_not_finite() -> None:
    assert frobenius(torch.zeros(0, 3, dtype=torch.float64)) == 0.0
    assert frobenius(torch.zeros(2, 3, dtype=torch.float64)) == 0.0
    assert frobenius(torch.tensor([1.0, math.inf], dtype=torch.float64)) == math.inf
    assert math.isnan(frobenius(torch.tensor([1.0, math.nan], dtype=torch.float64)))


@pytest.mark.parametrize(("left", "right"), [(0.1, 0.0), (0.0, 0.2), (0.1, 0.2)])
def test_products_inherit_stored_errors(left: float, right: float) -> None:
    """(A + E)(B + F) with E and F along B and A: attained up to ‖E‖‖F‖."""
    a = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[3.0], [0.0]], dtype=torch.float64)
    product = Dense(a, left) @ Dense(b, right)
    off = (a[0, 0] + left) * (b[0, 0] + right) - 6.0
    assert float(off) <= product.error <= float(off) + 1.001 * left * right + 1e-12
    factor = Monomial(torch.tensor([0]), 1, b[0], right)
    assert (Dense(a[:, :1], left) @ factor).error >= float(off)
    assert (Monomial(torch.tensor([0]), 1, a[0, :1], left) @ factor).error >= float(off)


def test_an_identity_does_nothing() -> None:
    x = torch.randn(2, 6, dtype=torch.float64)
    identity = Monomial.identity(6)
    assert identity.apply(x) is x
    assert identity.adjoint(x) is x
    assert not Monomial.permutation((2, 3), (1, 0)).is_identity
    assert not Monomial(torch.arange(4), 6).is_identity
