"""Where a smooth formula changes its sign, proved.

Two methods find every zero of a formula f on a branch. The signs of the factors of f are known
beforehand, or are proved by interval evaluation on boxes and by tails
(:func:`signs_by_factors`); and if the intervals on which f is monotone are known already, f has at
most one zero on each of them (:func:`signs_by_monotonicity`). So the signs of σ‴ give the
monotonicity of σ″, hence the signs of σ″, hence the monotonicity of σ′, and so on down to σ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import sympy

from vercomp.activations.branch_and_bound import UnprovedError
from vercomp.activations.branches import Branch, inner_point
from vercomp.activations.closed_form import LIMITS, NEVER_ZERO, real_roots
from vercomp.activations.enclosures import Enclosed, rounded
from vercomp.activations.functions import factored, has_roots, shortest
from vercomp.activations.tails import UnknownTailError, limit, number_enclosure, tail
from vercomp.ir.activation import X

_FIRST_TAIL = 4.0
_FARTHEST = 2.0**40
_BOXES = 20_000
_FINEST = 2.0**-60
"""Boxes around a zero are not split below this width."""


@dataclass(frozen=True)
class Signs:
    """The signs of a formula on a branch.

    Args:
        zeros: Disjoint intervals with float64 ends, from left to right, that hold every zero.
        signs: The sign (−1, 0, 1) before, between and behind those intervals; 0 is the zero
            function. One more than there are intervals.
    """

    zeros: tuple[tuple[float, float], ...]
    signs: tuple[int, ...]


_Event = tuple[float, float] | int
"""A possible zero, or a sign that is proved from here to the next possible zero."""


def signs_by_factors(branch: Branch) -> Signs:
    """The signs of a branch from the signs of its factors.

    Raises:
        UnprovedError: The sign is not proved in a tail, or in too many boxes.
        UnsupportedError: The formula holds a function without interval evaluation.
    """
    formula = factored(shortest(branch.formula) if has_roots(branch.formula) else branch.formula)
    sign, factors = _factors(formula, branch)
    if not factors:
        return Signs((), (sign,))
    parts = [Enclosed(Branch(branch.lower, branch.upper, factor)) for factor in factors]

    edges: list[float] = []
    tails: list[_Event] = []
    for end, direction in ((branch.lower, -1), (branch.upper, 1)):
        if end.is_infinite:
            start, signs = _tail_signs(factors, direction)
            edges.append(direction * start)
            tails.append(sign * math.prod(signs))
        else:
            edges.append(outward(end, direction))
    before, behind = (tails[:1], tails[1:]) if branch.lower == -sympy.oo else ([], tails)
    inside = (e if isinstance(e, tuple) else sign * e for e in _boxes(parts, *edges))
    return _folded([*before, *inside, *behind], parts)


def signs_by_monotonicity(
    branch: Branch, monotonicity: Signs | None, bounds: tuple[float, float]
) -> Signs:
    """The signs of a branch f from those of f′.

    Args:
        branch: f on its interval.
        monotonicity: The signs of f′ there, if there are finitely many.
        bounds: Proved bounds of f.

    Raises:
        UnprovedError: The sign of f at infinity is not proved.
        UnsupportedError: The formula holds a function without interval evaluation.
    """
    if not branch.formula.has(X):
        return Signs((), (_sign_of(branch.formula),))
    if bounds[0] >= 0 or bounds[1] <= 0:
        return Signs((), (1 if bounds[0] >= 0 else -1,))
    if monotonicity is None:
        raise UnprovedError("may turn without end")
    f = Enclosed(branch)
    first, last = monotonicity.signs[0], monotonicity.signs[-1]
    nodes = [
        _end(f, -1, first),
        *((lower, upper, f.sign(lower, upper)) for lower, upper in monotonicity.zeros),
        _end(f, 1, last),
    ]
    events: list[_Event] = []
    for (left, right), slope in zip(pairwise(nodes), monotonicity.signs, strict=True):
        if not events and left[2]:
            events.append(left[2])
        events.extend(_on_segment(f, left[1], right[0], left[2], right[2], slope))
        if right[2]:
            events.append(right[2])
        elif math.isfinite(right[0]):
            events.append((right[0], right[1]))
    return _folded(events, [f])


def outward(value: sympy.Expr, direction: int) -> float:
    """The float64 nearest to a finite exact number from below (direction −1) or above."""
    if isinstance(value, sympy.Rational):
        nearest = float(value)
        wrong = direction * (sympy.Rational(nearest) - value) < 0
        return math.nextafter(nearest, direction * math.inf) if wrong else nearest + 0.0
    return rounded(number_enclosure(value))[0 if direction < 0 else 1]


def _factors(formula: sympy.Expr, branch: Branch) -> tuple[int, list[sympy.Expr]]:
    """The product of all signs that are known beforehand, and the factors without such a sign."""
    sign = 1
    unknown: list[sympy.Expr] = []
    for factor in sympy.Mul.make_args(formula):
        base, exponent = factor.as_base_exp()
        if not factor.has(X):
            sign *= _sign_of(factor)
            continue
        known = 1 if isinstance(factor, sympy.exp) else _known_sign(base, branch)
        if known is None:
            unknown.append(factor)
        elif known < 0:
            sign *= -1 if exponent.is_odd else 1
    return sign, unknown


def _known_sign(base: sympy.Expr, branch: Branch) -> int | None:
    """The sign of a factor without zeros on the open interval of the branch, or None."""
    if isinstance(base, NEVER_ZERO) or base.is_positive or base.is_negative:
        return -1 if base.is_negative else 1
    if base.is_polynomial(X):
        roots = real_roots(base, X)
        if roots is None or any(branch.lower < root < branch.upper for root in roots):
            return None
        return _sign_of(base.subs(X, inner_point(branch.lower, branch.upper)))
    w = sympy.Dummy("w", real=True)
    for generator in base.atoms(sympy.Function):
        polynomial = base.subs(generator, w)
        if generator.func in LIMITS and not polynomial.has(X):
            below, above = LIMITS[generator.func]
            roots = real_roots(polynomial, w)
            if roots is not None and not any(below < root < above for root in roots):
                return _sign_of(polynomial.subs(w, inner_point(below, above)))
    return None


def _sign_of(number: sympy.Expr) -> int:
    if number.is_zero:
        return 0
    if isinstance(number, sympy.Rational):
        return 1 if number > 0 else -1
    ends = number_enclosure(number)
    if ends.a > 0 or ends.b < 0:
        return 1 if ends.a > 0 else -1
    if sympy.simplify(number) == 0:
        return 0
    raise UnprovedError(f"has a part {number} whose sign is not proved")


def _tail_signs(factors: Iterable[sympy.Expr], direction: int) -> tuple[float, list[int]]:
    """T and the signs of all factors for ±x ≥ T."""
    start = _FIRST_TAIL
    while start <= _FARTHEST:
        try:
            return start, [_tail_sign(factor, start, direction) for factor in factors]
        except UnknownTailError:
            start *= 2
    raise UnprovedError(f"may turn without end as x → {'∞' if direction > 0 else '−∞'}")


def _tail_sign(formula: sympy.Expr, start: float, direction: int) -> int:
    found, arithmetic = tail(formula if direction > 0 else formula.subs(X, -X), start)
    return arithmetic.sign(found)


def _boxes(parts: Sequence[Enclosed], lower: float, upper: float) -> Iterator[_Event]:
    """The signs of a product from left to right: proved ones, and boxes that hold its zeros."""
    stack = [(lower, upper)]
    for _ in range(_BOXES):
        if not stack:
            return
        left, right = stack.pop()
        signs = [part.sign(left, right) for part in parts]
        unknown = [part for part, sign in zip(parts, signs, strict=True) if not sign]
        others = math.prod(sign for sign in signs if sign)
        middle = left / 2 + right / 2
        if not unknown:
            yield others
        elif len(unknown) == 1 and (slope := unknown[0].slope(left, right)):
            ends = unknown[0].sign(left), unknown[0].sign(right)
            for event in _on_segment(unknown[0], left, right, *ends, slope):
                yield event if isinstance(event, tuple) else others * event
        elif right - left <= _FINEST or not left < middle < right:
            yield left, right
        else:
            stack += [(middle, right), (left, middle)]
    raise UnprovedError("has turning points that are not told apart")


def _end(f: Enclosed, direction: int, slope: int) -> tuple[float, float, int]:
    """An end of the branch and the sign of f beside it, from the sign of f′ there."""
    end = f.branch.lower if direction < 0 else f.branch.upper
    if end.is_infinite:
        return direction * math.inf, direction * math.inf, _sign_at_infinity(f, direction, slope)
    at = outward(end, direction)
    if sympy.simplify(f.branch.formula.subs(X, end)) == 0:
        return at, at, -direction * slope
    return at, at, f.sign(at, at)


def _sign_at_infinity(f: Enclosed, direction: int, slope: int) -> int:
    """The sign of f near ±∞, where it is monotone with the given sign of f′."""
    value = limit(f.branch.formula, direction)
    if value is not None:
        return _sign_of(value) or -direction * slope
    away = direction * slope  # whether f grows towards infinity, or falls
    start = _FIRST_TAIL
    while start <= _FARTHEST:
        if f.sign(direction * start, direction * start) == away:
            return away
        start *= 2
    raise UnprovedError(f"may turn as x → {'∞' if direction > 0 else '−∞'}")


def _on_segment(
    f: Enclosed, left: float, right: float, left_sign: int, right_sign: int, slope: int
) -> Iterator[_Event]:
    """The zero of a monotone function between two points with these signs, if there is any."""
    if left_sign == slope or right_sign == -slope:  # it moves away from zero from the start on
        yield left_sign if left_sign == slope else right_sign
        return
    if slope == 0:
        raise UnprovedError("is constant on a piece, in a form that is not recognised")
    lower, upper = left, right
    if left_sign:
        yield left_sign
        lower = _last_with(f, left, right, left_sign)
    if right_sign:
        upper = -_last_with(f, -right, -left, right_sign, mirrored=True)
    yield lower, upper
    if right_sign:
        yield right_sign


def _last_with(
    f: Enclosed, start: float, end: float, sign: int, *, mirrored: bool = False
) -> float:
    """The largest float64 found between start and end up to which f is proved to have a sign.

    f has the sign near the start, and is monotone. With ``mirrored``, f(−x) stands for f(x).
    """

    def proved(x: float) -> bool:
        return f.sign(-x if mirrored else x) == sign

    if not math.isfinite(start):
        distance = max(_FIRST_TAIL, -2 * end if math.isfinite(end) else 0.0)
        while not proved(-distance):
            distance *= 2
            if distance > _FARTHEST:
                raise UnprovedError("has turning points too far from zero")
        start = -distance
    if not math.isfinite(end):
        end = max(_FIRST_TAIL, 2 * abs(start))
        while proved(end):
            start, end = end, 2 * end
    while end - start > _FINEST:
        middle = start / 2 + end / 2
        if not start < middle < end:
            break
        if proved(middle):
            start = middle
        else:
            end = middle
    return start


def _folded(events: Iterable[_Event], factors: Sequence[Enclosed]) -> Signs:
    """Neighbouring possible zeros of a product joined, and neighbouring signs."""
    zeros: list[tuple[float, float]] = []
    signs: list[int] = []
    pending: tuple[float, float] | None = None
    for event in events:
        if isinstance(event, tuple):
            pending = event if pending is None else (pending[0], event[1])
            continue
        signs = signs or [event]
        place = None if pending is None else _placed(pending, factors)
        pending = None
        if place is not None:
            zeros.append(place)
            signs.append(event)
    place = None if pending is None else _placed(pending, factors)
    if place is not None:
        zeros.append(place)
        signs = signs or [0]
        signs.append(signs[-1])
    return Signs(tuple(zeros), tuple(signs))


def _placed(place: tuple[float, float], factors: Sequence[Enclosed]) -> tuple[float, float] | None:
    """The place of a zero, exactly where it is known so; None at an end of the branch."""
    vanishing = [factor for factor in factors if not factor.sign(*place)]
    return vanishing[0].exact_zero(place) if len(vanishing) == 1 else place
