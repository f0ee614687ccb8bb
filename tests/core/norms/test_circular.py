"""Convolutions after circular padding: recognised, and bounded by the norm of their matrices."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from vercomp.core.maps.convolution import Convolution
from vercomp.core.maps.monomials import Diagonal, Monomial
from vercomp.core.maps.operators import Operator, Product
from vercomp.core.norms.bounds import norm2, weighted_norm2_squared
from vercomp.core.norms.circular import as_circular
from vercomp.core.norms.lanczos import norm_from_below


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def padded(
    of: tuple[int, ...],
    pads: Sequence[tuple[int, int]],
    kernel: Tensor,
    *,
    mode: str = "circular",
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int | tuple[int, int]] = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Operator:
    sizes = (of[0], *(n + b + e for n, (b, e) in zip(of[1:], pads, strict=True)))
    outer = Convolution.sliding(
        kernel, sizes, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    return outer @ Monomial.padding(of, ((0, 0), *pads), mode)


def recognised(operator: Operator) -> bool:
    return isinstance(operator, Product) and as_circular(operator.factors) is not None


BOTH = ((1, 1), (1, 1))

EXACT: dict[str, Operator] = {
    "two axes": padded((3, 7, 5), BOTH, random(1, 4, 3, 3, 3)),
    "stride": padded((2, 6, 4), BOTH, random(2, 3, 2, 3, 3), stride=2),
    "stride, uneven": padded((2, 6, 6), ((0, 1), (1, 1)), random(3, 3, 2, 2, 3), stride=(3, 2)),
    "fewer results": padded((2, 6, 6), BOTH, random(4, 3, 2, 5, 4)),
    "dilation": padded((2, 6, 6), ((2, 2), (2, 2)), random(5, 3, 2, 3, 3), dilation=2),
    "groups": padded((4, 5, 5), BOTH, random(6, 4, 2, 3, 3), groups=2),
    "one axis, kept": padded((2, 6, 4), ((1, 1), (0, 0)), random(7, 3, 2, 3, 2)),
    "one axis, zeros": padded((2, 6, 4), ((0, 0), (1, 1)), random(8, 3, 2, 3, 3), padding=(1, 0)),
    "as far as it goes": padded((2, 3, 4), ((3, 3), (0, 0)), random(9, 3, 2, 7, 1)),
    "one dimension": padded((2, 8), ((1, 1),), random(10, 3, 2, 3)),
    "three dimensions": padded((1, 3, 4, 2), (*BOTH, (1, 1)), random(11, 2, 1, 3, 3, 3)),
}

OTHERS: dict[str, Operator] = {
    "reflected": padded((2, 6, 6), BOTH, random(12, 3, 2, 3, 3), mode="reflect"),
    "replicated": padded((2, 6, 6), BOTH, random(13, 3, 2, 3, 3), mode="replicate"),
    "stride that does not divide": padded((2, 5, 5), BOTH, random(14, 3, 2, 3, 3), stride=2),
    "more results than positions": padded((2, 4, 4), ((2, 2), (2, 2)), random(15, 3, 2, 3, 3)),
    "zeros as well": padded((2, 4, 4), BOTH, random(16, 3, 2, 3, 3), padding=1),
    "permuted": Convolution.sliding(random(17, 3, 2, 3, 3), (2, 4, 4))
    @ Monomial.permutation((2, 4, 4), (0, 2, 1)),
    "repeated": Convolution.sliding(random(18, 3, 2, 2, 2), (2, 4, 4))
    @ Monomial.gathering((2, 4, 4), 1, (0, 2, 2, 0)),
    "with a factor": Convolution.sliding(random(19, 3, 2, 3, 3), (2, 6, 6))
    @ (
        Monomial.padding((2, 4, 4), ((0, 0), *BOTH), "circular")
        @ Diagonal(random(20, 2, 4, 4), (2, 4, 4))
    ),
}


def exact(operator: Operator) -> float:
    return float(torch.linalg.matrix_norm(operator.materialise(), 2))


@pytest.mark.parametrize("name", EXACT)
def test_norms_are_those_of_the_matrices(name: str) -> None:
    operator = EXACT[name]
    assert recognised(operator)
    bound, truth = norm2(operator), exact(operator)
    assert truth <= bound
    if name != "fewer results":
        assert bound <= truth * 1.001


@pytest.mark.parametrize("name", [*EXACT, *OTHERS])
def test_weighted_bounds_hold(name: str) -> None:
    operator = {**EXACT, **OTHERS}[name]
    q = random(30, 4, operator.shape[0]).square()
    q[0], q[1, ::3] = 1.0, 0.0
    bounds = weighted_norm2_squared(operator, q)
    matrix = operator.materialise()
    truths = torch.linalg.matrix_norm(q.sqrt()[:, :, None] * matrix, 2).square()
    assert bool((truths <= bounds).all())
    assert float(bounds[0]) <= norm2(operator) ** 2 * (1 + 1e-12)


def test_a_rolled_tensor_is_turned_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Along one axis; with the estimates that large layers ask for."""
    of = (2, 6, 5)
    for turn in (1, 4):
        places = torch.arange(60).reshape(of).roll(turn, 1).reshape(-1)
        for k in (1, 3, 6):
            outer = Convolution.sliding(random(40 + k, 3, 2, k, 3), of, stride=(2, 1))
            operator = Product((outer, Monomial(places, 60)))
            truth = exact(operator)
            for most in (2e9, -1.0):
                monkeypatch.setattr("vercomp.core.norms.convolution_norms._AT_ONCE", most)
                assert recognised(operator)
                assert truth <= norm2(operator)
            q = random(50, 2, operator.shape[0]).square()
            scaled = q.sqrt()[:, :, None] * operator.materialise()
            truths = torch.linalg.matrix_norm(scaled, 2).square()
            assert bool((truths <= weighted_norm2_squared(operator, q)).all())


@pytest.mark.parametrize("name", OTHERS)
def test_other_selections_are_not_circular(name: str) -> None:
    operator = OTHERS[name]
    assert not recognised(operator)
    assert exact(operator) <= norm2(operator)


def test_gathering_along_each_axis_is_the_same() -> None:
    """How exporters spell it, and how concatenated slices end."""
    of, around = (2, 4, 6), (2, 6, 8)
    rows = Monomial.gathering(of, 1, (3, 0, 1, 2, 3, 0))
    columns = Monomial.gathering((2, 6, 6), 2, (5, 0, 1, 2, 3, 4, 5, 0))
    operator = Convolution.sliding(random(21, 3, 2, 3, 3), around) @ columns @ rows
    assert recognised(operator)
    assert exact(operator) <= norm2(operator) <= exact(operator) * 1.000001


def test_what_multiplying_out_rounded_counts_for_every_copy() -> None:
    of = (2, 4, 4)
    factor = Diagonal.scaling(
        torch.tensor([3.0, 7.0]).double()[:, None, None], (2, 6, 6), divide=True
    )
    outer = Convolution.sliding(random(22, 3, 2, 3, 3), (2, 6, 6)) @ factor
    found = as_circular((outer, Monomial.padding(of, ((0, 0), *BOTH), "circular")))
    assert found is not None
    assert found.convolution.error >= 2.0 * outer.error > 0.0


def test_a_wide_layer_of_images_within_a_percent() -> None:
    operator = padded((64, 32, 32), BOTH, random(23, 64, 64, 3, 3))
    below = norm_from_below(operator)
    assert below <= norm2(operator) <= 1.01 * below
