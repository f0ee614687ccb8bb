"""Bounds of σ, σ′ and σ″ on intervals: a million points in each, and what is broken is noticed."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import pytest
import torch
from rows import everyone, row
from torch import Tensor

from vercomp.core.functions import Elementwise
from vercomp.core.pieces import Pieces, Turn

ROWS = {str(activation): activation for activation in everyone()}
POINTS = 60
INTERVALS = 18_000
EVERY = [(name, order) for name in ROWS for order in (0, 1, 2)]
INF = math.inf


@cache
def made(name: str) -> Elementwise:
    return row(ROWS[name])


def has(name: str, order: int) -> bool:
    return order < 2 or made(name).second is not None


def intervals(pieces: Pieces, seed: int, count: int = INTERVALS) -> tuple[Tensor, Tensor]:
    """Short, long, huge, tiny, at turning points, points, and with infinite ends."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count // 9, dtype=torch.float64, generator=generator)

    def sign() -> Tensor:
        return torch.sign(uniform(-1, 1))

    turns = [end for turn in pieces.turns for end in turn.at if math.isfinite(end)] or [0.0]
    turn = torch.tensor(turns, dtype=torch.float64)[
        torch.randint(len(turns), (count // 9,), generator=generator)
    ]
    centre, width = 6 * torch.erfinv(uniform(-0.99, 0.99)), 10 ** uniform(-14, 1)
    far = sign() * 10 ** uniform(1, 300)
    tiny = sign() * 10 ** uniform(-323, -100)
    infinite = torch.full_like(turn, INF)
    pairs = [
        (centre, centre + width),
        (centre - 100 * width, centre + 100 * width),
        (turn, turn + width),
        (turn - width, turn),
        (turn - width, turn + uniform(0, 1) * width),
        (far, far + sign().clamp(min=0) * 10 ** uniform(0, 300)),
        (torch.minimum(tiny, centre.roll(1) * tiny), torch.maximum(tiny, centre.roll(1) * tiny)),
        (centre, infinite),
        (-infinite, torch.where(width > 1e-3, centre, turn)),
    ]
    lower, upper = (torch.cat(side) for side in zip(*pairs, strict=True))
    return torch.minimum(lower, upper), torch.maximum(lower, upper)


def samples(pieces: Pieces, lower: Tensor, upper: Tensor, seed: int) -> Tensor:
    """Points of every interval: the ends, turning points and their neighbours, others between."""
    generator = torch.Generator().manual_seed(seed)
    low, high = lower.clamp(min=-1e300)[:, None], upper.clamp(max=1e300)[:, None]
    fraction = torch.rand(len(lower), POINTS - 4, dtype=torch.float64, generator=generator)
    fraction = torch.where(fraction < 0.5, fraction, 10 ** (-40 * (fraction - 0.5)))
    points = [
        low,
        high,
        low + fraction * (high - low),
        high - 1e-9 * fraction[:, :2] * (high - low),
    ]
    for turn in pieces.turns:
        for end, aside in zip(turn.at, (-INF, INF), strict=True):
            if math.isfinite(end):
                at = torch.full_like(low, end)
                if pieces.period is not None:
                    at = at + torch.ceil((low - at) / pieces.period) * pieces.period
                points += [at, torch.nextafter(at, torch.full_like(at, aside))]
    return torch.minimum(torch.maximum(torch.cat(points, 1), low), high)


def excess(function: Elementwise, order: int, seed: int = 0, count: int = INTERVALS):
    """How far values leave the bounds, and how far the bounds are from the values, in errors."""
    assert function.pieces is not None
    pieces = function.pieces[order]
    lower, upper = intervals(pieces, seed, count)
    low, high = function.range(order, lower, upper)
    points = samples(pieces, lower, upper, seed)
    values = (function.value, function.first, function.second)[order](points)
    allowed = function.rounding(order, points, values) + function.deviation * (order == 0)
    known = ~values.isnan()
    assert (known | (points.abs() > 1e4)).all()
    least = torch.where(known, values - allowed, INF).amin(1)
    most = torch.where(known, values + allowed, -INF).amax(1)
    inside = torch.where(known, values + allowed, INF).amin(1)
    outside = torch.where(known, values - allowed, -INF).amax(1)
    return low, high, least, most, inside, outside, lower, upper


@pytest.mark.parametrize(("name", "order"), EVERY)
def test_a_million_points_lie_within_the_bounds(name: str, order: int) -> None:
    if not has(name, order):
        pytest.skip("there is no second derivative")
    low, high, _, _, inside, outside, *_ = excess(made(name), order)
    assert not (low.isnan() | high.isnan()).any()
    assert (low <= inside).all()
    assert (high >= outside).all()


@pytest.mark.parametrize(("name", "order"), EVERY)
def test_the_bounds_are_tight(name: str, order: int) -> None:
    """Within three rounding errors of what is reached at the ends, turning points and limits."""
    if not has(name, order):
        pytest.skip("there is no second derivative")
    function = made(name)
    low, high, least, most, _, _, lower, upper = excess(function, order)
    assert function.pieces is not None
    pieces = function.pieces[order]
    for turn in pieces.turns:
        reached = (lower <= turn.at[1]) & (turn.at[0] <= upper)
        if turn.right is not None or not math.isfinite(turn.at[0]):
            least = torch.where(reached, least.clamp(max=turn.values[0]), least)
            most = torch.where(reached, most.clamp(min=turn.values[1]), most)
    ends = torch.maximum(lower.abs(), upper.abs())
    near = torch.where(ends.isinf(), torch.minimum(lower.abs(), upper.abs()), ends)
    error = 3 * function.rounding(order, near, most.abs().clamp(max=1e300))
    error = error + 8 * function.deviation * (order == 0)
    usable = near < (100 if pieces.period is not None else 1e12)
    assert ((low >= least - error) | ~usable | low.isinf() & least.isinf()).all()
    assert ((high <= most + error) | ~usable | high.isinf() & most.isinf()).all()


@pytest.mark.parametrize(("name", "order"), EVERY)
def test_the_bounds_lie_within_the_global_ones(name: str, order: int) -> None:
    if not has(name, order):
        pytest.skip("there is no second derivative")
    function = made(name)
    everything = torch.tensor([-INF]).double(), torch.tensor([INF]).double()
    low, high = (float(end) for end in function.range(order, *everything))
    ranges = (None, function.first_range, function.second_range)
    if ranges[order] is not None:
        assert ranges[order][0] <= low
        assert high <= ranges[order][1]
        assert low - ranges[order][0] <= 1e-9 * max(1.0, abs(low))
        assert ranges[order][1] - high <= 1e-9 * max(1.0, abs(high))


def without(pieces: Pieces, index: int) -> Pieces:
    turns = pieces.turns[:index] + pieces.turns[index + 1 :]
    return dataclasses.replace(
        pieces, turns=turns, signs=pieces.signs[:index] + pieces.signs[index + 1 :]
    )


@pytest.mark.parametrize("name", list(ROWS))
def test_a_missing_turning_point_is_noticed(name: str) -> None:
    function = made(name)
    assert function.pieces is not None
    for order, pieces in enumerate(function.pieces):
        for index, turn in enumerate(pieces.turns):
            around = {pieces.signs[index - 1], pieces.signs[index % len(pieces.signs)]}
            if math.isinf(turn.at[0]) or around != {"+", "-"}:
                continue
            broken = list(function.pieces)
            broken[order] = without(pieces, index)
            missing = dataclasses.replace(function, pieces=tuple(broken))
            lower, upper = intervals(pieces, 1)
            low, high = missing.range(order, lower, upper)
            points = samples(pieces, lower, upper, 1)
            values = (function.value, function.first, function.second)[order](points)
            allowed = function.rounding(order, points, values)
            assert ((values - allowed > high[:, None]) | (values + allowed < low[:, None])).any()


@pytest.mark.parametrize("name", ["tanh", "relu", "sin", "silu", "softplus"])
@pytest.mark.parametrize("order", [0, 1])
def test_what_is_no_interval_has_no_bounds(name: str, order: int) -> None:
    nan = math.nan
    lower = torch.tensor([nan, 0.0, nan, 1.0, INF], dtype=torch.float64)
    upper = torch.tensor([0.0, nan, nan, 0.0, -INF], dtype=torch.float64)
    low, high = made(name).range(order, lower, upper)
    assert (low == -INF).all()
    assert (high == INF).all()


def test_pieces_of_relu_are_exact() -> None:
    relu = made("relu")
    lower = torch.tensor([[-3.0, -3.0, 1.0], [0.0, -1.0, -INF]], dtype=torch.float64)
    upper = torch.tensor([[-1.0, 0.0, 7.0], [1.0, 1.0, -5.0]], dtype=torch.float64)
    low, high = relu.range(1, lower, upper)
    assert low.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert high.tolist() == [[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]]
    low, high = relu.range(0, lower, upper)
    assert low[0, :2].tolist() == high[0, :2].tolist() == [0.0, 0.0]
    assert float(low[0, 2]) == pytest.approx(1.0, abs=1e-14)


def test_what_does_not_exist_is_refused() -> None:
    x = torch.zeros(2).double()
    with pytest.raises(ValueError, match="σ″ does not exist: σ′ jumps"):
        made("relu").range(2, x, x)
    unproved = dataclasses.replace(made("tanh"), pieces=None)
    with pytest.raises(ValueError, match="pieces of this activation are not proved"):
        unproved.range(0, x, x)


def test_a_jump_bounds_both_limits_and_the_value() -> None:
    turn = Turn((0.0, 0.0), (2.0, 2.0), (-2.0, -2.0))
    assert turn.values == (-2.0, 2.0)
    zero = torch.zeros(1).double()
    low, high = made("softsign").range(2, zero, zero)
    assert (float(low), float(high)) == (-2.0, 2.0)


@pytest.mark.parametrize("name", ["tanh", "gelu", "sin", "hardswish"])
def test_float32_gives_nearly_the_same(name: str) -> None:
    function = made(name)
    lower, upper = torch.randn(2, 1000).sort(0).values
    exact = function.range(0, lower.double(), upper.double())
    for found, reference in zip(function.range(0, lower, upper), exact, strict=True):
        assert found.dtype == torch.float32
        assert torch.allclose(found.double(), reference, atol=1e-5)
