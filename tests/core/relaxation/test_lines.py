"""Lines below and above every activation: at a million points, at extremes, and when broken."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from rows import everyone, row
from torch import Tensor

from vercomp.core.functions import Elementwise
from vercomp.core.relaxation.bracket import Bracket
from vercomp.core.relaxation.curve import Curve, Least
from vercomp.core.relaxation.lines import Line, lower_line, slope_range, upper_line
from vercomp.core.relaxation.minimum import least
from vercomp.ir.activation import Activation

EVERY = [activation for activation in everyone() if activation.name != "sign"]
COUNT, POINTS = 1000, 1001


@cache
def function_of(activation: Activation) -> Elementwise:
    return row(activation)


def intervals(seed: int, count: int = COUNT) -> tuple[Tensor, Tensor]:
    """Intervals of widths from 1e-5 to 60 around the origin."""
    generator = torch.Generator().manual_seed(seed)
    center = 3.0 * torch.randn(count, dtype=torch.float64, generator=generator)
    draw = torch.rand(count, dtype=torch.float64, generator=generator)
    half = 10.0 ** (6.5 * draw - 5.0)
    return center - half, center + half


def points(lower: Tensor, upper: Tensor, count: int = POINTS) -> Tensor:
    share = torch.linspace(0.0, 1.0, count, dtype=torch.float64)[:, None]
    return torch.clamp(lower + (upper - lower) * share, lower, upper)


def gap(function: Elementwise, line: Line, z: Tensor, sign: float) -> Tensor:
    """How far a line lies below σ (above, for −1) at points (count, n), up to rounding."""
    value = function.value(z)
    away = sign * (value - line.slope * z - line.intercept)
    slack = function.rounding(0, z, value) + 2.0 * function.deviation
    size = (line.slope * z).abs() + line.intercept.abs()
    return away + slack + 2.0**-50 * size


@pytest.mark.parametrize("activation", EVERY, ids=str)
def test_a_million_points_lie_between_the_lines_which_touch(activation: Activation) -> None:
    function = function_of(activation)
    assert function.pieces is not None
    lower, upper = intervals(0)
    z = points(lower, upper)
    for sign, line in (
        (1.0, lower_line(function, lower, upper)),
        (-1.0, upper_line(function, lower, upper)),
    ):
        away = gap(function, line, z, sign)
        assert (away >= 0.0).all()
        if function.pieces[1].period is None or float((upper - lower).max()) < 1.0:
            # Between two points of the grid a curve may come nearer by a second-order term.
            step = (upper - lower) / POINTS
            bend = function.h if math.isfinite(function.h) else 0.0
            near = 2e-9 * (1.0 + upper.abs() + lower.abs()) * max(1.0, function.g)
            near = near + 8.0 * function.deviation + bend * step.square()
            kink = 2.0 * function.g * step if not math.isfinite(function.h) else 0.0
            assert (away.amin(0) <= near + kink).all()


@pytest.mark.parametrize("activation", EVERY, ids=str)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_lines_of_any_slope(activation: Activation, sign: float) -> None:
    """Proved, tight, and wherever the search begins."""
    function = function_of(activation)
    lower, upper = intervals(1, 300)
    generator = torch.Generator().manual_seed(2)
    slope = function.g * torch.randn(300, dtype=torch.float64, generator=generator)
    z = points(lower, upper)
    share = torch.rand(300, dtype=torch.float64, generator=generator)
    hints = (None, lower, upper, lower + share * (upper - lower), torch.full_like(lower, 1e9))
    truth = (sign * function.value(z) - slope * z).amin(0)
    for hint in hints:
        found = least(function, slope, lower, upper, sign=sign, hint=hint)
        line = Line(sign * slope, sign * found.value)
        assert (gap(function, line, z, sign) >= 0.0).all()
        assert ((lower <= found.place) & (found.place <= upper)).all()
        if function.pieces is not None and function.pieces[1].period is None:
            step = (upper - lower) / POINTS
            steep = function.g + slope.abs()
            near = 1e-9 * (1.0 + steep * (lower.abs() + upper.abs())) + 8.0 * function.deviation
            assert (truth - found.value <= near + steep * step).all()
    few = least(function, slope, lower, upper, sign=sign, steps=1)
    assert (gap(function, Line(sign * slope, sign * few.value), z, sign) >= 0.0).all()


@pytest.mark.parametrize("activation", EVERY, ids=str)
def test_slopes_outside_the_useful_range_gain_nothing(activation: Activation) -> None:
    """A line with another slope lies below one with the slope at that end of the range."""
    function = function_of(activation)
    lower, upper = intervals(3, 200)
    short = upper - lower < (1.0 if function.pieces and function.pieces[1].period else 1e9)
    lower, upper = lower[short], upper[short]
    z = points(lower, upper, 101)
    for sign in (1.0, -1.0):
        low, high = slope_range(function, lower, upper, sign=sign)
        assert (low <= high).all()
        for outside, end in ((low - 0.3, low), (high + 0.3, high)):
            lines = [
                sign * (slope * z) + least(function, sign * slope, lower, upper, sign=sign).value
                for slope in (outside, end)
            ]
            size = 1.0 + z.abs() * (function.g + 1.0)
            assert (lines[0] <= lines[1] + 1e-5 * size).all()


@pytest.mark.parametrize("name", ["sigmoid", "gelu", "softplus", "relu", "hardswish", "sin"])
def test_infinite_ends_points_and_extremes(name: str) -> None:
    (activation,) = [a for a in EVERY if str(a) == name]
    function = function_of(activation)
    ends = torch.tensor(
        [
            [-math.inf, math.inf],
            [-math.inf, 1.0],
            [-1.0, math.inf],
            [0.7, 0.7],
            [0.0, 0.0],
            [-1e-300, 1e-300],
            [-1e150, 1e150],
            [1e200, 1e300],
            [-1e308, 1e308],
            [2.0, 1.0],
            [math.nan, 1.0],
        ],
        dtype=torch.float64,
    )
    lower, upper = ends.unbind(1)
    inside = torch.tensor([-1e30, -700.0, -3.0, -0.5, 0.0, 0.7, 3.0, 700.0, 1e30]).double()
    for sign, line in (
        (1.0, lower_line(function, lower, upper)),
        (-1.0, upper_line(function, lower, upper)),
    ):
        assert not line.slope.isnan().any()
        z = inside[:, None].expand(-1, len(ends))
        meant = (lower <= z) & (z <= upper)
        away = gap(function, line, z, sign)
        assert (away >= 0.0)[meant & away.isfinite()].all()
        # What is not an interval has no finite line.
        assert not line.intercept[-2:].isfinite().any()
        assert line.intercept[-1] * sign == -math.inf
    point = least(function, torch.tensor([math.nan, math.inf]).double(), lower[3:5], upper[3:5])
    assert (point.value == -math.inf).all()


def test_relu_has_the_adaptive_slope_and_the_chord() -> None:
    (activation,) = [a for a in EVERY if str(a) == "relu"]
    function = function_of(activation)
    lower = torch.tensor([-1.0, -2.0, 1.0, -3.0], dtype=torch.float64)
    upper = torch.tensor([2.0, 1.0, 2.0, -1.0], dtype=torch.float64)
    below, above = lower_line(function, lower, upper), upper_line(function, lower, upper)
    assert torch.equal(below.slope, torch.tensor([1.0, 0.0, 1.0, 0.0]).double())
    torch.testing.assert_close(above.slope, torch.tensor([2 / 3, 1 / 3, 1.0, 0.0]).double())
    torch.testing.assert_close(above.intercept, torch.tensor([2 / 3, 2 / 3, 0.0, 0.0]).double())
    low, high = slope_range(function, lower, upper)
    assert torch.equal(low, torch.tensor([0.0, 0.0, 1.0, 0.0]).double())
    assert torch.equal(high, torch.tensor([1.0, 1.0, 1.0, 0.0]).double())
    low, high = slope_range(function, lower, upper, sign=-1.0)
    torch.testing.assert_close(low, above.slope)
    torch.testing.assert_close(high, above.slope)


@pytest.mark.parametrize("broken", ["raised", "convex parts forgotten", "a tangent too steep"])
def test_a_broken_line_is_noticed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (activation,) = [a for a in EVERY if str(a) == "gelu"]
    function = function_of(activation)
    lower, upper = intervals(4)
    z = points(lower, upper)
    assert (gap(function, lower_line(function, lower, upper), z, 1.0) >= 0.0).all()
    honest = Curve.convex

    def flawed(curve: object, stretch: object, p: Tensor, *others: object) -> Least:
        value, place = honest(curve, stretch, p, *others)  # type: ignore[arg-type]
        return Least(value + 1e-6 if broken == "raised" else value + math.inf, place)

    if broken == "a tangent too steep":
        monkeypatch.setattr(Bracket, "narrow", lambda self, *a: self.point > math.inf)
        monkeypatch.setattr(Curve, "convex", lambda c, s, p, q, *a: c.at(p))
    else:
        monkeypatch.setattr(Curve, "convex", flawed)
    assert (gap(function, lower_line(function, lower, upper), z, 1.0) < 0.0).any()
