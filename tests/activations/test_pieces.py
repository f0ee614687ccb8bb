"""Monotone pieces: against 50-digit values, and what is refused."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import mpmath
import pytest
import sympy
import torch
from rows import compiled, everyone, row
from sympy import Max, atan, exp, log, sin, sqrt, tanh

from vercomp.activations import BUILTIN, pieces
from vercomp.activations.branches import Branch, branches
from vercomp.activations.evaluation import REAL, real_function
from vercomp.activations.signs import Signs, signs_by_factors, signs_by_monotonicity
from vercomp.errors import UnboundedCurvatureError, UnsupportedError
from vercomp.ir.activation import Activation, X

ROWS = {str(activation): activation for activation in everyone()}
EVERY = [(name, order) for name in ROWS for order in (0, 1, 2)]
INF = math.inf
DIRECTIONS = {"+": 1, "-": -1, "0": 0}


def user(formula):
    return Activation("mine", sympy.sympify(formula), torch.tanh)


def of(name, order):
    found = pieces(ROWS[name])
    if order >= len(found):
        pytest.skip("there is no second derivative")
    return found[order]


@cache
def derivatives(name, order):
    """The derivative on each branch to 50 digits, with the upper end of the branch."""
    found = []
    for branch in branches(ROWS[name].formula):
        upper = REAL.inf
        if branch.upper.is_Rational:
            upper = REAL.mpf(branch.upper.p) / branch.upper.q
        found.append((upper, real_function(branch.derivative(order).formula)))
    return found


def exact(name, order, x, *, right=False):
    """The derivative at x by 50 digits, from the branch to the left of a breakpoint or right."""
    return next(
        f(x) for upper, f in derivatives(name, order) if x < upper or (x == upper and not right)
    )


@pytest.mark.parametrize(("name", "order"), EVERY)
def test_values_at_turning_points_are_those_of_fifty_digits(name, order):
    for turn in of(name, order).turns:
        if math.isinf(turn.at[0]):
            continue
        ends = [REAL.mpf(end) for end in turn.at]
        for x in (ends[0], (ends[0] + ends[1]) / 2, ends[1]):
            left, right = exact(name, order, x), exact(name, order, x, right=True)
            slack = REAL.mpf(10) ** -40
            assert turn.values[0] - slack <= min(left, right)
            assert max(left, right) <= turn.values[1] + slack
        left, right = exact(name, order, ends[0]), exact(name, order, ends[1], right=True)
        assert turn.left[0] - slack <= left <= turn.left[1] + slack
        assert turn.behind[0] - slack <= right <= turn.behind[1] + slack
        for low, high in (turn.left, turn.behind):
            assert high - low <= 4e-16 * max(abs(low), abs(high)) + 1e-30


@pytest.mark.parametrize(("name", "order"), EVERY)
def test_the_slope_has_the_sign_of_its_piece(name, order):
    """At points of every piece, close to its ends and far from them."""
    found = of(name, order)
    turns = list(found.turns)
    if found.period is not None:
        first = turns[0]
        turns.append(type(first)(tuple(end + found.period for end in first.at), first.left))
    assert len(found.signs) == len(turns) - 1
    for (left, right), sign in zip(pairwise(turns), found.signs, strict=True):
        start, end = REAL.mpf(left.at[1]), REAL.mpf(right.at[0])
        start = min(-REAL.mpf(30), end - 30) if start == -INF else start
        end = max(REAL.mpf(30), start + 30) if end == INF else end
        for fraction in ("1e-12", "1e-6", "0.01", "0.3", "0.5", "0.8", "0.999", "0.999999999"):
            slope = exact(name, order + 1, start + REAL.mpf(fraction) * (end - start))
            direction = DIRECTIONS[sign]
            assert slope == 0 if direction == 0 else slope * direction >= 0


@pytest.mark.parametrize(("name", "order"), EVERY)
def test_turning_points_turn(name, order):
    """Between rising and falling, a zero of the slope; its place is one or two floats."""
    found = of(name, order)
    for index, turn in enumerate(found.turns):
        low, high = turn.at
        if math.isinf(low) or turn.right is not None:
            continue
        assert high - low <= 2 * math.ulp(max(abs(low), abs(high)))
        before, behind = found.signs[index - 1], found.signs[index % len(found.signs)]
        assert before != behind
        if low < high and found.period is None:
            slopes = exact(name, order + 1, low), exact(name, order + 1, high, right=True)
            assert slopes[0] * slopes[1] <= 0


@pytest.mark.parametrize(("name", "order"), EVERY)
def test_limits_at_infinity(name, order):
    found = of(name, order)
    if found.period is not None:
        return
    for turn, far in zip((found.turns[0], found.turns[-1]), (-1e6, 1e6), strict=True):
        value = exact(name, order, REAL.mpf(far), right=far > 0)
        low, high = turn.left
        if math.isinf(low) and math.isinf(high) and low == high:
            assert value * math.copysign(1, low) > 1e3
        else:
            assert low - 1e-5 <= value <= high + 1e-5


@pytest.mark.parametrize(("name", "order"), EVERY)
def test_the_steepest_slope(name, order):
    found = of(name, order)
    ends = [end for turn in found.turns for end in turn.at if math.isfinite(end)]
    points = [REAL.mpf(k) / 16 + REAL.mpf("1e-9") for k in range(-100, 101, 3)]
    points += [REAL.mpf(end) + REAL.mpf(k) * REAL.mpf("1e-9") for end in ends for k in (-1, 1)]
    steepest = max(abs(exact(name, order + 1, x)) for x in points)
    assert steepest <= found.steepest * (1 + 1e-15)
    assert found.steepest <= 1.5 * steepest


@pytest.mark.parametrize("name", list(ROWS))
def test_the_errors_of_rounding_stay_below_their_bounds(name):
    """The model of each order, measured against 50 digits at points near and far."""
    function = row(ROWS[name])
    near = torch.linspace(-13, 13, 81, dtype=torch.float64) + 1e-7
    far = torch.logspace(1.1, 4, 12, dtype=torch.float64)
    points = torch.cat((near, far, -far, torch.logspace(-300, -1, 9, dtype=torch.float64)))
    for order in range(len(function.pieces)):
        values = compiled(ROWS[name], order)(points)
        allowed = function.rounding(order, points, values) + function.deviation * (order == 0)
        for x, value, error in zip(points.tolist(), values.tolist(), allowed.tolist(), strict=True):
            assert abs(exact(name, order, REAL.mpf(x)) - value) <= error, (order, x)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", ("0+", "00")),
        ("abs", ("-+", "00")),
        ("hardtanh", ("0+0", "000")),
        ("hardswish", ("0-++", "0+0")),
        ("elu", ("++", "+0", "+0")),
        ("identity", ("+", "0", "0")),
        ("tanh", ("+", "+-", "+-+")),
        ("silu", ("-+", "-+-", "-+-+")),
        ("sin", ("-+", "-+", "+-")),
    ],
)
def test_signs(name, expected):
    found = tuple(part.signs for part in pieces(BUILTIN.build(name)))
    assert tuple(map(merged, found)) == tuple(map(merged, expected))


def merged(signs):
    return "".join(
        sign for index, sign in enumerate(signs) if signs[index - 1] != sign or not index
    )


def test_breakpoints_and_zeros_that_are_floats_have_one_end():
    (value, first) = pieces(BUILTIN.build("hardswish"))
    assert [turn.at for turn in value.turns[1:-1]] == [(-3.0, -3.0), (-1.5, -1.5)]
    assert first.turns[1].left == (0.0, 0.0)
    assert first.turns[1].right == (-0.5, -0.5)
    assert pieces(BUILTIN.build("gelu"))[2].turns[2].at == (0.0, 0.0)


def test_a_breakpoint_that_is_no_float_is_enclosed():
    jumping = pieces(user(Max(X, log(2))))[1]
    low, high = jumping.turns[1].at
    assert low < high == math.nextafter(low, INF)
    with mpmath.workdps(40):
        assert low < mpmath.log(2) < high
    assert (jumping.turns[1].left, jumping.turns[1].right) == ((0.0, 0.0), (1.0, 1.0))


def test_a_double_zero_is_a_turn_of_unknown_direction():
    """f′ = x²(1 − x²)-like: it touches zero without a change of sign, which nothing excludes."""
    found = signs_by_factors(
        Branch(-sympy.oo, sympy.oo, (X - sympy.Rational(1, 3)) ** 2 * exp(-(X**2)))
    )
    assert found.signs in ((1, 1), (1,))
    for low, high in found.zeros:
        assert low <= 1 / 3 <= high
        assert high - low < 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_zeros_of_random_polynomials_on_bounded_branches(seed):
    """Both methods, against numpy's roots."""
    generator = torch.Generator().manual_seed(seed)
    roots = sorted(int(k) for k in torch.randint(-40, 40, (4,), generator=generator).unique())
    f = sympy.prod([X - sympy.Rational(root, 7) for root in roots]) * (2 + sin(X))
    lower, upper = sympy.Rational(-11, 2), sympy.Rational(13, 2)
    found = signs_by_factors(Branch(lower, upper, f))
    places = [sympy.Rational(root, 7) for root in roots if lower < sympy.Rational(root, 7) < upper]
    assert len(found.zeros) == len(places)
    for (low, high), place in zip(found.zeros, places, strict=True):
        assert low <= place <= high
    for (left, right), sign in zip(pairwise([lower, *places, upper]), found.signs, strict=True):
        assert sympy.sign(f.subs(X, (left + right) / 2).evalf()) == sign


def test_signs_from_monotonicity_at_the_ends_of_a_branch():
    half_line = Branch(sympy.Integer(0), sympy.oo, X**2)
    reals = (-INF, INF)
    assert signs_by_monotonicity(half_line, Signs((), (1,)), reals) == Signs((), (1,))
    shifted = Branch(sympy.Integer(0), sympy.oo, X**2 - 2)
    (zero,) = signs_by_monotonicity(shifted, Signs((), (1,)), reals).zeros
    assert zero[0] < sqrt(2) < zero[1]
    falling = Branch(-sympy.oo, sympy.Integer(0), exp(X))
    assert signs_by_monotonicity(falling, Signs((), (1,)), reals) == Signs((), (1,))


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (X + 2 * sin(X), "the monotone pieces of mine are not proved: σ may turn without end"),
        (tanh(X) * atan(X), "σ″ may turn without end as x → −∞"),
        (sin(X) * exp(-(X**2)), "σ″ may turn without end as x → −∞"),
        (sin(X) + sin(40 * X) / 1000, "has more than 64 turning points"),
    ],
)
def test_what_is_not_proved_is_refused(formula, message):
    with pytest.raises(UnsupportedError) as caught:
        pieces(user(formula))
    assert message in str(caught.value)
    assert "mine" in str(caught.value)


def test_what_jumps_is_refused():
    with pytest.raises(UnboundedCurvatureError, match="the value of mine jumps at x = 0"):
        pieces(user(sympy.sign(X)))
