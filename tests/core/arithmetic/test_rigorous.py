"""Outward rounding of every operation of the certificates' arithmetic, against exact rationals."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from operator import mul
from typing import Any

import pytest
import torch
from torch import Tensor

from vercomp.core.arithmetic.differentiable import Around, Differentiable
from vercomp.core.arithmetic.operations import Arithmetic, Interval
from vercomp.core.arithmetic.outward import down, up
from vercomp.core.arithmetic.rigorous import Rigorous
from vercomp.core.maps.convolution import Convolution
from vercomp.core.maps.monomials import Diagonal, Monomial
from vercomp.core.maps.operators import Dense, Operator, Product
from vercomp.core.maps.sums import SideBySide, Sum
from vercomp.core.norms.bounds import norm2

OPS = Rigorous()
INFINITE, NOT_A_NUMBER = math.inf, math.nan


def random(seed: int, *shape: int, spread: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = 2 * torch.rand(*shape, dtype=torch.float64, generator=generator) - 1
    return torch.randn(*shape, dtype=torch.float64, generator=generator) * 10.0 ** (spread * size)


def exact(values: Tensor) -> list[Fraction]:
    return [Fraction(v) for v in values.flatten().tolist()]


BINARY: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[..., Fraction]]] = {
    "add": (OPS.add, lambda a, b: a + b),
    "multiply": (OPS.multiply, lambda a, b: a * b),
}


@pytest.mark.parametrize("operation", BINARY)
@pytest.mark.parametrize("spread", [0.0, 20.0, 150.0])
def test_sums_and_products_are_rounded_up(operation: str, spread: float) -> None:
    rounded, truth = BINARY[operation]
    a, b = random(1, 200, spread=spread).abs(), random(2, 200, spread=spread).abs()
    a[:3], b[2:5] = 0.0, 0.0
    result = rounded(a, b)
    inexact = 0
    for x, y, z in zip(exact(a), exact(b), result.tolist(), strict=True):
        true = truth(x, y)
        assert z == INFINITE or Fraction(z) >= true
        assert (z == 0.0) == (true == 0)
        inexact += Fraction(float(true) if true < 10**300 else 0) < true
        if 1e-300 < z < INFINITE:
            assert Fraction(z) <= true * (1 + Fraction(1, 2**51))
    assert inexact > 20  # to the nearest would have been below that often


def test_square_roots_are_rounded_up() -> None:
    a = random(3, 200, spread=100.0).abs()
    for x, root in zip(exact(a), exact(OPS.square_root(a)), strict=True):
        assert x <= root**2 <= x * (1 + Fraction(1, 2**50))
    assert OPS.square_root(torch.zeros(1).double()).tolist() == [0.0]


def test_underflow_does_not_reach_zero() -> None:
    tiny = torch.tensor([1e-200], dtype=torch.float64)
    assert float(OPS.multiply(tiny, tiny)) > 0.0
    product = OPS.through(Interval(tiny, tiny), (1e-200, 1e-190))
    assert float(product.lower) <= 0.0 < float(product.upper)
    for interval in (Interval(-tiny, tiny), Interval(-tiny, -tiny)):
        product = OPS.through(interval, (1e-200, 1e-190))
        assert float(product.lower) < 0.0 <= float(product.upper)
    assert float(OPS.concavity(Interval(tiny, tiny), (-1e-200, 0.0))) > 0.0


def test_exact_operations_stay_exact() -> None:
    a = torch.tensor([1.0, 3.0], dtype=torch.float64)
    b = torch.tensor([2.0, 0.5], dtype=torch.float64)
    assert OPS.minimum(a, b).tolist() == [1.0, 0.5]
    assert OPS.row_max(torch.stack([a, b])).tolist() == [3.0, 2.0]
    assert float(OPS.constant(0.1)) == 0.1
    assert OPS.zeros(a[:, None]).tolist() == [0.0, 0.0]
    interval = OPS.exactly(a[None])
    assert interval.lower.tolist() == interval.upper.tolist() == [[1.0, 3.0]]


def test_joins_of_intervals_contain_every_sum() -> None:
    a = Interval(random(4, 3, 30, spread=9), random(4, 3, 30, spread=9) + 0.1)
    b = Interval(random(5, 3, 30, spread=9) - 1e-9, random(5, 3, 30, spread=9))
    joined = OPS.join(a, b)
    for end, sign in (("lower", 1), ("upper", -1)):
        for x, y, z in zip(
            exact(getattr(a, end)), exact(getattr(b, end)), exact(getattr(joined, end)), strict=True
        ):
            assert sign * z <= sign * (x + y)
            assert abs(z - (x + y)) <= abs(x + y) / 2**51


CONVOLUTION = Convolution.sliding(random(16, 2, 2, 2, spread=4), (2, 4))
SAME = Convolution.sliding(random(17, 2, 1, 3, spread=4), (2, 4), padding=1, groups=2)

OPERATORS: dict[str, Operator] = {
    "dense": Dense(random(6, 9, 7, spread=4)),
    "one row": Dense(random(7, 1, 4)),
    "scaling": Diagonal.scaling(random(8, 6, spread=4), (6,)),
    "division": Diagonal.scaling(random(9, 6, spread=1), (6,), divide=True),
    "repeats": Monomial(torch.tensor([1, 1, 1, 0, 1]), 3, random(10, 5)),
    "permutation": Monomial.permutation((2, 3), (1, 0)),
    "convolution": CONVOLUTION,
    "product": Product((CONVOLUTION, SAME)),
    "sum": Sum((SAME, SAME)),
    "side by side": SideBySide((CONVOLUTION, Dense(random(18, 6, 2, spread=4)))),
}


def exact_matrix(name: str) -> list[list[Fraction]]:
    operator = OPERATORS[name]
    if isinstance(operator, Product):
        left, right = (exact_entries(factor) for factor in operator.factors)
        return [
            [sum(map(mul, row, column), Fraction(0)) for column in zip(*right, strict=True)]
            for row in left
        ]
    if isinstance(operator, Sum):
        return [[2 * value for value in row] for row in exact_entries(SAME)]
    matrix = exact_entries(operator)
    if name == "division":
        divisor = exact(random(9, 6, spread=1))
        matrix = [[1 / divisor[i] if i == j else Fraction(0) for j in range(6)] for i in range(6)]
    return matrix


def exact_entries(operator: Operator) -> list[list[Fraction]]:
    """Of an operator with at most one number in an entry: its columns are not rounded."""
    columns = operator.apply(torch.eye(operator.shape[1], dtype=torch.float64)).T
    return [exact(row) for row in columns]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("width", [0.0, 1e-12, 1.0])
def test_adjoints_of_intervals_contain_the_exact_range(name: str, width: float) -> None:
    """max (Aᵀ F)_j over the box of F is at the corner that the signs of A's column choose."""
    operator = OPERATORS[name]
    m, n = operator.shape
    lower = random(11, 4, m, spread=3)
    interval = Interval(lower, lower + width * random(12, 4, m).abs())
    result = OPS.adjoint(operator, interval)
    assert result.lower.shape == (4, n)
    matrix = exact_matrix(name)
    for p in range(4):
        low, high = exact(interval.lower[p]), exact(interval.upper[p])
        for j in range(n):
            column = [matrix[i][j] for i in range(m)]
            ends = [[a * v for a, v in zip(column, corner, strict=True)] for corner in (low, high)]
            least = sum(map(min, *ends), Fraction(0))
            most = sum(map(max, *ends), Fraction(0))
            assert Fraction(float(result.lower[p, j])) <= least
            assert Fraction(float(result.upper[p, j])) >= most
            size = sum((max(map(abs, pair)) for pair in zip(*ends, strict=True)), Fraction(0))
            slack = size * Fraction(1, 2**40) + Fraction(operator.error) * 10**6
            found = Fraction(float(result.upper[p, j])) - Fraction(float(result.lower[p, j]))
            # |A| of a product is at most the product of the |A_i|.
            assert name == "product" or most - least + slack >= found


def test_adjoint_of_nothing_is_exactly_nothing() -> None:
    matrix = random(13, 3, 4)
    matrix[:, 2] = 0.0
    c = OPS.exactly(random(14, 2, 3))
    assert OPS.adjoint(Dense(matrix), c).lower[:, 2].tolist() == [0.0, 0.0]
    assert OPS.adjoint(Dense(matrix), c).upper[:, 2].tolist() == [0.0, 0.0]


RANGES = [(0.0, 0.25), (-0.1, 1.13), (-1.0, -0.25), (0.0, 0.0), (-0.77, 0.77), (0.3, 0.3)]


@pytest.mark.parametrize("slope", RANGES)
def test_products_with_ranges_contain_every_product(slope: tuple[float, float]) -> None:
    lower = random(15, 3, 40, spread=5)
    lower[0, :4] = 0.0
    interval = Interval(lower, lower + random(16, 3, 40).abs())
    through, concavity = OPS.through(interval, slope), OPS.concavity(interval, slope)
    for a, b, low, high, q in zip(
        exact(interval.lower),
        exact(interval.upper),
        exact(through.lower),
        exact(through.upper),
        exact(concavity),
        strict=True,
    ):
        products = [x * Fraction(s) for x in (a, b) for s in slope]
        assert low <= min(products) <= max(products) <= high
        assert q >= max(Fraction(0), -min(products))
        assert q <= max(Fraction(0), -min(products)) * (1 + Fraction(1, 2**50))


def test_a_convex_activation_with_positive_coefficients_has_no_concavity() -> None:
    c = OPS.exactly(torch.tensor([[0.5, -0.5, 0.0]], dtype=torch.float64))
    assert OPS.concavity(c, (0.0, 0.25)).tolist() == [[0.0, math.nextafter(0.125, 1.0), 0.0]]


@pytest.mark.parametrize("bad", [NOT_A_NUMBER, INFINITE])
def test_the_unknown_never_becomes_a_smaller_bound(bad: float) -> None:
    unknown = torch.tensor([bad, bad, 1.0], dtype=torch.float64)
    known = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)
    for result in (
        OPS.add(unknown, known)[:2],
        OPS.multiply(unknown, known)[:1],
        OPS.minimum(unknown, torch.full_like(known, INFINITE))[:2],
        OPS.square_root(unknown)[:2],
        OPS.row_max(unknown[None]),
    ):
        assert not torch.isfinite(result).any()
    # A term that is scaled by zero vanishes, however large it may be.
    assert float(OPS.multiply(unknown, known)[1]) == 0.0
    interval = Interval(-unknown[None], unknown[None])
    assert OPS.concavity(interval, (0.0, 0.25)).tolist()[0][:2] == [INFINITE, INFINITE]
    assert OPS.concavity(interval, (0.0, 0.0)).tolist() in ([[0.0] * 3], [[INFINITE] * 2 + [0.0]])
    wide = OPS.through(interval, (-0.1, 1.1))
    assert not torch.isfinite(wide.lower[0, :2]).any()
    moved = OPS.adjoint(Dense(torch.ones(3, 2, dtype=torch.float64)), interval)
    assert OPS.concavity(moved, (-0.1, 0.8)).tolist() == [[INFINITE, INFINITE]]
    joined = OPS.join(interval, Interval(unknown[None], -unknown[None]))
    assert OPS.concavity(joined, (-0.1, 0.8)).tolist()[0][:2] == [INFINITE, INFINITE]


def test_rounding_up_and_down() -> None:
    values = torch.tensor([1.0, -1.0, 0.0, 5e-324, INFINITE], dtype=torch.float64)
    assert up(values).tolist() == [
        math.nextafter(1.0, 2.0), math.nextafter(-1.0, 0.0), 0.0, 1e-323, INFINITE
    ]  # fmt: skip
    assert (down(values) == -up(-values)).all()
    assert float(down(values[:1])) == math.nextafter(1.0, 0.0)


#: Of every sign, with and without zero, symmetric and not, of one number.
RANGES = [(-0.1, 1.1), (0.0, 1.0), (0.2, 0.9), (-0.7, -0.1), (-0.7, 0.0), (-0.4, 0.4)]
RANGES += [(1.0, 1.0), (0.0, 0.0), (-0.8, 0.3)]


@pytest.mark.parametrize("seed", range(5))
def test_the_two_arithmetics_compute_the_same(seed: int) -> None:
    """Rigorous minus rounding is Differentiable: one program, two evaluations."""
    live: Arithmetic = Differentiable(random(seed, 1), first_steps=500)
    matrix, c = random(seed + 20, 5, 4), random(seed + 30, 3, 5)
    lower = random(seed + 40, 3, 4)
    upper = lower + random(seed + 50, 3, 4).abs()
    operator = Dense(matrix)

    def around(lower: Tensor, upper: Tensor) -> Around:
        return Around(0.5 * (lower + upper), 0.5 * (upper - lower))

    def ends(interval: Interval | Around) -> tuple[Tensor, Tensor]:
        if isinstance(interval, Interval):
            return interval.lower, interval.upper
        return interval.middle - interval.radius, interval.middle + interval.radius

    def results(ops: Arithmetic, made: Callable[[Tensor, Tensor], Any]) -> list[Tensor]:
        interval, other = made(lower, upper), made(c, c + 0.5)
        q = ops.concavity(interval, (-0.3, 0.7))
        adjoint = ops.adjoint(operator, other)
        joined = ops.join(adjoint, interval)
        narrow = ops.adjoint(operator, ops.exactly(c))
        norm = ops.norm2(operator, name="norm")
        weighted = ops.weighted_norm2_squared(operator, c.abs(), name="weighted")
        return [
            q,
            *ends(adjoint),
            *(end for slope in RANGES for end in ends(ops.through(joined, slope))),
            *(end for slope in RANGES for end in ends(ops.through(narrow, slope))),
            *(ops.concavity(each, second) for each in (joined, narrow) for second in RANGES),
            *ends(narrow),
            norm,
            weighted,
            ops.add(weighted, ops.row_max(q)),
            ops.multiply(norm, ops.square_root(weighted)),
            ops.minimum(weighted, ops.constant(1.5) * ops.row_max(c.abs())),
            ops.zeros(c),
        ]

    for rigorous, differentiable in zip(results(OPS, Interval), results(live, around), strict=True):
        assert torch.allclose(rigorous, differentiable, rtol=1e-7, atol=1e-12)


def test_products_that_underflow_are_not_zero() -> None:
    """1e-200 · 1e-200 underflows; what the product meets next may be large."""
    rigorous = Rigorous()
    tiny = Dense(torch.tensor([[1e-200, 0.0]], dtype=torch.float64))
    found = rigorous.adjoint(tiny, rigorous.exactly(torch.tensor([[1e-200]], dtype=torch.float64)))
    assert found.lower[0, 0] < 0.0 < found.upper[0, 0]
    assert found.lower[0, 1] == found.upper[0, 1] == 0.0


def test_many_rows_go_through_an_operator_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    interval = Interval(random(19, 7, 6), random(19, 7, 6) + 0.5)
    whole = OPS.adjoint(CONVOLUTION, interval)
    monkeypatch.setattr("vercomp.core.arithmetic.rigorous._BLOCK_ENTRIES", 16)
    parts = OPS.adjoint(CONVOLUTION, interval)
    assert torch.allclose(whole.lower, parts.lower)
    assert torch.allclose(whole.upper, parts.upper)


def test_an_instance_proves_a_norm_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rigorous = Rigorous()
    first = rigorous.norm2(CONVOLUTION, name="norm")
    monkeypatch.setattr("vercomp.core.norms.bounds.norm2", lambda operator: pytest.fail("again"))
    assert rigorous.norm2(CONVOLUTION, name="norm") == first


@pytest.mark.parametrize("name", ["convolution", "product", "sum", "side by side"])
def test_live_norms_of_operators_that_are_not_matrices(name: str) -> None:
    operator = OPERATORS[name]
    live = Differentiable(random(0, 1), first_steps=300)
    assert float(live.norm2(operator, name="norm")) == pytest.approx(norm2(operator), rel=5e-3)
    weights = random(20, 3, operator.shape[0]).abs()
    found = live.weighted_norm2_squared(operator, weights, name="weighted")
    assert torch.allclose(found, OPS.weighted_norm2_squared(operator, weights, name=""), rtol=1e-2)


def test_gradients_of_live_norms_reach_kernels() -> None:
    kernel = random(21, 3, 2, 3).requires_grad_()
    live = Differentiable(kernel, first_steps=3000)
    value = live.norm2(Convolution.sliding(kernel, (2, 7), padding=1), name="norm")
    (found,) = torch.autograd.grad(value, kernel)
    matrix = Convolution.sliding(kernel, (2, 7), padding=1).materialise()
    (expected,) = torch.autograd.grad(torch.linalg.matrix_norm(matrix, 2), kernel)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3)
