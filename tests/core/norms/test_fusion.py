"""Compositions seen as one convolution, and the bounds of those that are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vercomp.core.maps.axes import AlongAxis, AxesSum
from vercomp.core.maps.convolution import Convolution
from vercomp.core.maps.monomials import Diagonal, Monomial
from vercomp.core.maps.operators import Dense, Operator, Product
from vercomp.core.maps.sums import SideBySide, Sum
from vercomp.core.norms.bounds import norm2, weighted_norm2_squared
from vercomp.core.norms.fusion import as_convolution
from vercomp.core.norms.majorants import majorants


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def convolution(
    seed: int, of: tuple[int, ...], kernel: tuple[int, ...], **geometry: int
) -> Convolution:
    return Convolution.sliding(random(seed, *kernel), of, **geometry)


A = convolution(1, (4, 9, 7), (6, 2, 3, 3), padding=1, stride=2, groups=2)
B = convolution(2, (6, 5, 4), (6, 3, 2, 2), groups=2, dilation=2)
SAME = convolution(3, (4, 6, 6), (4, 4, 3, 3), padding=1)
WIDE = convolution(4, (4, 6, 6), (4, 1, 3, 3), padding=2, dilation=2, groups=4)
POINT = convolution(5, (6, 5, 4), (3, 6, 1, 1))
OTHER = convolution(6, (2, 6, 6), (4, 2, 5, 5), padding=2)
MEAN = Convolution.averaging((6, 5, 4), 2, stride=2)

FUSED: dict[str, Operator] = {
    "convolution after a strided one": Product((B, A)),
    "mean of a convolution": Product((MEAN, A)),
    "pointwise after a convolution": Product((POINT, A)),
    "padded after pointwise": Product((SAME, convolution(7, (3, 6, 6), (4, 3, 1, 1)))),
    "matrix along the channels": Product((AlongAxis(random(8, 5, 6), (6, 20), 0), A)),
    "factors for channels": Product(
        (Diagonal.scaling(random(9, 6, 1, 1), (6, 5, 4), divide=True), A)
    ),
    "identity in between": Product((B, Monomial.identity(120), A)),
    "parallel": Sum((SAME, WIDE)),
    "residual": Sum((Monomial.identity(144), SAME)),
    "side by side": SideBySide((SAME, OTHER)),
    "one branch of a concatenation": Product(
        (SAME, Monomial.padding((2, 6, 6), ((1, 1), (0, 0), (0, 0))))
    ),
}


def bounds_hold(operator: Operator, slack: float) -> None:
    matrix = operator.materialise()
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    assert exact * (1 - 1e-12) <= norm2(operator) <= slack * exact
    q = random(10, 3, len(matrix)).abs()
    q[1] = 0.0
    found = weighted_norm2_squared(operator, q)
    weighted = torch.linalg.matrix_norm(q.sqrt()[:, :, None] * matrix, 2).square()
    assert (weighted * (1 - 1e-11) <= found).all()
    assert (found <= slack**2 * q.amax(1) * exact**2).all()
    assert float(found[1]) == 0.0


@pytest.mark.parametrize("name", FUSED)
def test_one_convolution_is_the_same_map(name: str) -> None:
    operator = FUSED[name]
    one = as_convolution(operator)
    assert one is not None
    assert one.shape == operator.shape
    matrix = operator.materialise()
    assert torch.allclose(one.materialise(), matrix, rtol=1e-12, atol=1e-12)
    off = float(torch.linalg.matrix_norm(one.materialise() - matrix, 2))
    assert off <= one.error + 1e-13 * one.absolute_norm
    assert one.error <= 1e-11 * one.absolute_norm
    bounds_hold(operator, 1.0 + 1e-7)


PADDED = Product((SAME, SAME))
UNFUSED: dict[str, Operator] = {
    "zeros in between": PADDED,
    "other shapes": Product((convolution(11, (4, 36), (2, 4, 3)), SAME)),
    "reflection": Product(
        (
            convolution(12, (3, 8, 8), (4, 3, 3, 3)),
            Monomial.padding((3, 6, 6), ((0, 0), (1, 1), (1, 1)), "reflect"),
        )
    ),
    "sum of different strides": Sum(
        (
            convolution(13, (2, 8), (2, 2, 1), stride=2),
            convolution(14, (2, 5 + 3), (2, 2, 2), stride=2),
        )
    ),
    "matrix after a sum": Product((Dense(random(15, 3, 4)), AxesSum((4, 6, 6), (1, 2)))),
    "uneven means": Convolution.averaging((3, 7, 7), 3, stride=2, padding=1, counted=0),
    "concatenation": SideBySide(
        (
            Product((Monomial.padding((4, 6, 6), ((0, 2), (0, 0), (0, 0))), SAME)),
            Monomial.padding((2, 6, 6), ((4, 0), (0, 0), (0, 0))),
        )
    ),
}


@pytest.mark.parametrize("name", UNFUSED)
def test_other_compositions_are_bounded_by_their_matrices(name: str) -> None:
    bounds_hold(UNFUSED[name], 1.0 + 1e-7)


@pytest.mark.parametrize("name", UNFUSED)
def test_compositions_too_large_to_write_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vercomp.core.norms.written._MOST_ENTRIES", 0)
    bounds_hold(UNFUSED[name], 2.5)


def test_means_with_padding_are_bounded_by_schurs_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vercomp.core.norms.written._MOST_ENTRIES", 0)
    bounds_hold(UNFUSED["uneven means"], 1.001)


def test_tiny_factors_do_not_vanish() -> None:
    tiny = Diagonal(torch.full((144,), 1e-200, dtype=torch.float64), (144,))
    for operator in (Product((tiny, tiny)), Product((tiny, SAME, tiny)), Sum((tiny, tiny))):
        assert norm2(operator) > 0.0
    assert norm2(Product((tiny, SAME))) == pytest.approx(1e-200 * norm2(SAME), rel=1e-6)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_majorants_cover(count: int) -> None:
    rows = random(16, 20, 7).abs()
    rows[3] = 0.0
    rows[4, 2:] = 0.0
    covers, which, factor = majorants(rows, count)
    assert len(covers) <= count
    assert (factor[:, None] * covers[which] >= rows).all()
    assert float(factor[3] * covers[which][3].amax()) == 0.0
