"""Strips of parallel lines around every activation: sound, the papers' slopes, and narrow."""

from __future__ import annotations

import pytest
import torch
from rows import everyone, row
from torch import Tensor, nn

from vercomp.activations import BUILTIN
from vercomp.core.functions import Elementwise
from vercomp.core.relaxation.minimum import least
from vercomp.core.relaxation.parallel import Strip, chord_slope, narrowest_strip
from vercomp.ir.activation import Activation

EVERY = [activation for activation in everyone() if activation.name != "sign"]


def intervals(seed: int, count: int = 200) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    center = 2.0 * torch.randn(count, dtype=torch.float64, generator=generator)
    half = 10.0 ** (5.0 * torch.rand(count, dtype=torch.float64, generator=generator) - 4.0)
    return center - half, center + half


def worst(function: Elementwise, strip: Strip, lower: Tensor, upper: Tensor) -> Tensor:
    """By how much values lie outside of the strip, less what float64 loses of them."""
    z = lower + (upper - lower) * torch.linspace(0.0, 1.0, 501, dtype=torch.float64)[:, None]
    z = torch.clamp(z, lower, upper)
    value = function.value(z)
    rest = value - strip.slope * z
    slack = function.rounding(0, z, value) + 2.0**-50 * (strip.slope * z).abs()
    return (torch.maximum(rest - strip.above, strip.below - rest) - slack).amax(0)


@pytest.mark.parametrize("activation", EVERY, ids=str)
def test_every_activation_lies_in_its_strip(activation: Activation) -> None:
    function = row(activation)
    lower, upper = intervals(0)
    assert (worst(function, narrowest_strip(function, lower, upper), lower, upper) <= 0.0).all()


@pytest.mark.parametrize("activation", EVERY, ids=str)
def test_hardly_any_other_slope_has_a_narrower_strip(activation: Activation) -> None:
    """All slopes between the least and the largest, against those that the strip chooses from."""
    function = row(activation)
    assert function.pieces is not None
    lower, upper = intervals(1, 60)
    low, high = function.range(1, lower, upper)
    low, high = torch.nan_to_num(low, neginf=-50.0), torch.nan_to_num(high, posinf=50.0)
    slopes = low + (high - low) * torch.linspace(0.0, 1.0, 201, dtype=torch.float64)[:, None]
    below = least(function, slopes, lower, upper).value
    above = -least(function, -slopes, lower, upper, sign=-1.0).value
    strip = narrowest_strip(function, lower, upper)
    narrow, best = strip.above - strip.below, (above - below).amin(0)
    if function.pieces[1].period is None:
        assert (narrow <= 1.25 * best + 1e-9).all()
        assert (narrow <= 1.001 * best + 1e-9).double().mean() > 0.8
    else:
        assert (narrow <= 3.0 * best + 1e-9).all()


def relu() -> Elementwise:
    return row(BUILTIN.build("relu"))


def test_relu_has_the_slope_of_the_papers() -> None:
    generator = torch.Generator().manual_seed(2)
    lower, upper = (sign * torch.rand(100, generator=generator).double() for sign in (-1.0, 1.0))
    strip = narrowest_strip(relu(), lower, upper)
    slope = upper / (upper - lower)
    torch.testing.assert_close(strip.slope, slope, rtol=1e-14, atol=0.0)
    torch.testing.assert_close(strip.below, torch.zeros_like(slope), rtol=0.0, atol=1e-14)
    torch.testing.assert_close(strip.above, -lower * slope, rtol=1e-13, atol=1e-14)
    for shift, slope_there in ((2.0, 1.0), (-2.0, 0.0)):
        decided = narrowest_strip(relu(), lower + shift, upper + shift)
        assert (decided.slope == slope_there).all()
        assert (decided.above - decided.below < 1e-13).all()


def hardtanh_case(lower: float, upper: float) -> tuple[float, float, float]:
    """Slope and intercepts of appendix B.4, case by case."""
    if upper <= -1.0:
        return 0.0, -1.0, -1.0
    if lower >= 1.0:
        return 0.0, 1.0, 1.0
    if lower >= -1.0 and upper <= 1.0:
        return 1.0, 0.0, 0.0
    if upper <= 1.0:  # the triangle above the lower kink
        slope = (1.0 + upper) / (upper - lower)
        return slope, slope - 1.0, -slope * lower - 1.0
    if lower >= -1.0:  # the triangle below the upper kink
        slope = (1.0 - lower) / (upper - lower)
        return slope, -slope * lower + lower, 1.0 - slope
    slope = min(2.0 / (1.0 - lower), 2.0 / (1.0 + upper))
    return slope, slope - 1.0, 1.0 - slope


@pytest.mark.parametrize(
    ("lower", "upper"),
    [(-3.0, -1.5), (1.5, 2.0), (-0.5, 0.75), (-4.0, 0.25), (-0.25, 4.0), (-2.0, 5.0), (-5.0, 2.0)],
)
def test_hardtanh_in_all_its_cases(lower: float, upper: float) -> None:
    function = row(BUILTIN.build("hardtanh", lower=-1.0, upper=1.0))
    ends = (torch.tensor([end], dtype=torch.float64) for end in (lower, upper))
    found = [float(part) for part in narrowest_strip(function, *ends)]
    assert found == pytest.approx(hardtanh_case(lower, upper), abs=1e-12)


def test_infinite_intervals_get_flat_strips() -> None:
    ends = torch.tensor([-torch.inf, 0.0, -torch.inf, 1.0], dtype=torch.float64)
    tops = torch.tensor([torch.inf, torch.inf, 1.0, torch.nan], dtype=torch.float64)
    sigmoid = narrowest_strip(row(BUILTIN.build("sigmoid")), ends, tops)
    assert (sigmoid.slope == 0.0).all()
    assert (sigmoid.below[:3] <= torch.tensor([0.0, 0.5, 0.0])).all()
    assert (sigmoid.above[:3] >= torch.tensor([1.0, 1.0, 0.731])).all()
    assert narrowest_strip(relu(), ends, tops).above[0] == torch.inf


def test_the_slope_of_a_chord_is_differentiable_in_its_ends() -> None:
    ends = [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (-1.0, 3.0)]
    slope = chord_slope(relu(), *ends)
    slope.sum().backward()
    low, high = -1.0, 3.0
    assert float(ends[0].grad) == pytest.approx(high / (high - low) ** 2)
    assert float(ends[1].grad) == pytest.approx(-low / (high - low) ** 2)
    same = torch.zeros(1, dtype=torch.float64)
    assert chord_slope(row(BUILTIN.build("tanh")), same, same) == 1.0


def test_a_strip_that_is_too_narrow_is_noticed() -> None:
    lower, upper = intervals(3)
    for module in (nn.Tanh, nn.ReLU):
        function = row(BUILTIN.build(module.__name__.lower()))
        strip = narrowest_strip(function, lower, upper)
        closer = strip._replace(above=strip.above - 0.01 * (strip.above - strip.below))
        assert (worst(function, closer, lower, upper) > 0.0).any()
