"""Minima of linear functions: never above a value in the region, and not far below."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import mpmath
import pytest
import torch
from region_cases import (
    CASES,
    LARGE,
    PARTS,
    Case,
    every_case,
    fractions,
    functions,
    minimum,
    region,
    truly_inside,
    value,
)
from torch import Tensor

from vercomp.core.regions import Ball, Box, Region, bound
from vercomp.core.regions.l2 import L2


def false_bounds(case: Case) -> int:
    """How many exact values at members lie below the bound of their function."""
    balls, g = region(case), functions(case)
    bounds = balls.minimum(g)
    assert bounds.isfinite().all()
    points = torch.cat(
        [balls.argmin(g), balls.sample(6, torch.Generator().manual_seed(case.seed))], 1
    )
    count = 0
    for row in range(len(balls)):
        for point in points[row]:
            assert truly_inside(balls, row, point)
            for k in range(g.shape[1]):
                count += value(balls, row, g[row, k], point) < Fraction(float(bounds[row, k]))
    return count


@every_case
def test_no_member_has_a_smaller_value(case: Case) -> None:
    assert false_bounds(case) == 0


def size_of(balls: Region, g: Tensor) -> Tensor:
    """The minimum over the ball alone: what a gap is measured by."""
    return -replace(balls, box=None, slab=None).minimum(g)


@pytest.mark.parametrize("case", [*CASES, *LARGE], ids=str)
def test_a_member_nearly_attains_the_minimum(case: Case) -> None:
    balls, g = region(case), functions(case)
    points = balls.argmin(g)
    assert balls.contains(points).all()
    values = (g * (points - balls.center[:, None])).sum(-1)
    gap = values - balls.minimum(g)
    assert (gap <= 1e-4 * size_of(balls, g) + 1e-310).all()


@pytest.mark.parametrize("case", [case for case in CASES if 1e-300 < case.radius < 1e9], ids=str)
def test_scipy_finds_the_same_minimum(case: Case) -> None:
    balls, g = region(case), functions(case)
    g[:, 1] *= 1e30  # scipy's tolerances are absolute
    if case.radius < 0.1:  # likewise
        balls = replace(
            balls,
            radius=balls.radius / case.radius,
            box=balls.box and tuple(end / case.radius for end in balls.box),
            slab=balls.slab and balls.slab._replace(
                low=balls.slab.low / case.radius, high=balls.slab.high / case.radius
            ),
        )  # fmt: skip
    bounds, size = balls.minimum(g), size_of(balls, g)
    for row in range(len(balls)):
        for k in range(g.shape[1] - 1):
            true = minimum(balls, row, g[row, k])
            assert abs(true - float(bounds[row, k])) <= 1e-4 * float(size[row, k])


@pytest.mark.parametrize("size", [1, 3, 784])
@pytest.mark.parametrize("radius", [0.0, 1e-310, 1e-9, 0.3, 1e9, 1e290])
def test_balls_have_their_closed_form(size: int, radius: float) -> None:
    generator = torch.Generator().manual_seed(size)
    x, g = torch.randn(2, 5, size, dtype=torch.float64, generator=generator)
    r = Fraction(radius)
    bounds = {p: Ball(x, radius, p).minimum(g[:, None])[:, 0] for p in (1, 2, "inf")}
    for row in range(5):
        parts = [abs(part) for part in fractions(g[row])]
        true = {1: r * max(parts), "inf": r * sum(parts)}
        for p, least in true.items():
            found = -Fraction(float(bounds[p][row]))
            assert least <= found <= least * (1 + Fraction(1, 10**11)) + Fraction(1, 10**321)
        square = r * r * sum(part * part for part in parts)
        found = Fraction(float(bounds[2][row])) ** 2
        slack = Fraction(1, 10**321)
        assert square <= found <= square * (1 + Fraction(1, 10**11)) + slack * (2 * r + slack) * 99


@pytest.mark.parametrize("size", [1, 4, 784])
def test_boxes_have_their_closed_form(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    x, g, a, b = torch.randn(4, 5, size, dtype=torch.float64, generator=generator)
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    radius = float((x - 0.5 * (low + high)).abs().max()) + 0.1
    ball, box = Ball(x, radius, "inf", box=(low, high)), Box(low, high)
    for made in (ball, box):
        bounds = made.minimum(g[:, None])[:, 0]
        for row in range(5):
            ends = [fractions(end[row]) for end in (low, high, made.center, g)]
            true = scale = Fraction(0)
            reach = Fraction(radius) if made is ball else Fraction(10**9)
            for lo, hi, c, f in zip(*ends, strict=True):
                lo, hi = max(lo - c, -reach), min(hi - c, reach)
                true += min(f * lo, f * hi)
                scale += abs(f) * max(abs(lo), abs(hi))
            assert true - scale / 10**11 <= Fraction(float(bounds[row])) <= true


@pytest.mark.parametrize("size", [1, 2, 5, 784])
@pytest.mark.parametrize("length", [1e-4, 1.0, 1.0 + 1e-12, 300.0])
def test_an_l2_ball_in_a_slab_has_its_closed_form(size: int, length: float) -> None:
    generator = torch.Generator().manual_seed(size)
    x, g, u = torch.randn(3, 6, size, dtype=torch.float64, generator=generator)
    u = length * torch.nn.functional.normalize(u, dim=1)
    g[0] = u[0]
    shares = torch.tensor([[-0.9, 0.9, -0.2, -torch.inf, 0.3, 0.85],
                           [-0.5, 1.0, 0.2, -0.3, torch.inf, 1.0]]).double()  # fmt: skip
    low, high = 0.7 * length * shares
    bounds = Ball(x, 0.7, slab=(u, low, high)).minimum(g[:, None])[:, 0]
    for row in range(6):
        with mpmath.workdps(60):
            true, norm = _slab_minimum(g[row], u[row], float(low[row]), float(high[row]))
            assert true - 1e-9 * 0.7 * norm <= mpmath.mpf(float(bounds[row])) <= true


def _slab_minimum(g: Tensor, u: Tensor, low: float, high: float) -> tuple[mpmath.mpf, mpmath.mpf]:
    functions, direction = (list(map(mpmath.mpf, t.tolist())) for t in (g, u))
    r, length = mpmath.mpf(0.7), mpmath.sqrt(mpmath.fdot(direction, direction))
    along = mpmath.fdot(functions, direction) / length
    square = mpmath.fdot(functions, functions)
    across = mpmath.sqrt(max(0, square - along**2))
    norm = mpmath.sqrt(square)
    least, most = max(-r, low / length), min(r, high / length)
    tau = min(max(-r * along / norm, least), most)
    return along * tau - across * mpmath.sqrt(r * r - tau * tau), norm


@pytest.mark.parametrize("parts", ["box", "slab", "box+slab"])
@pytest.mark.parametrize("kind", ["l1", "l2", "linf", "weighted-l2"])
def test_an_intersection_is_no_worse_than_its_parts(kind: str, parts: str) -> None:
    balls = region(Case(kind, parts, 6, seed=5))
    g = functions(Case(kind, parts, 6))
    ball = size_of(balls, g).neg()
    assert (balls.minimum(g) >= ball - 1e-12 * ball.abs()).all()
    if balls.slab is not None:
        cut = balls.minimum(balls.slab.direction[:, None])[:, 0]
        assert (cut >= balls.slab.low - 1e-3 * balls.slab.direction.norm(dim=1)).all()


@pytest.mark.parametrize("kind", ["l1", "l2", "linf", "weighted-l2"])
@pytest.mark.parametrize("clipped", [False, True])
def test_a_larger_radius_has_no_larger_minimum(kind: str, clipped: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(1, 40, dtype=torch.float64, generator=generator)
    g = torch.randn(1, 20, 40, dtype=torch.float64, generator=generator)
    ball = Ball(x, 0.1, kind, box=(0.0, 1.0) if clipped else None)
    radii = [0.1, 0.1 + 1e-15, 0.1 + 1e-12, 0.11, 0.2, 0.5, 3.0, 3.0 + 1e-14]
    bounds = torch.stack([ball.scaled(radius).minimum(g) for radius in radii])
    closed = not clipped or kind == "linf"  # exact there; elsewhere up to rounding and search
    slack = 0.0 if closed else 1e-9 * bounds.abs().max()
    assert (bounds[1:] <= bounds[:-1] + slack).all()


@every_case
def test_rows_do_not_depend_on_each_other(case: Case) -> None:
    """Up to the order of summation, which is torch's."""
    balls, g = region(case), functions(case)
    together, size = balls.minimum(g), size_of(balls, g)
    for row in range(len(balls)):
        alone = balls.rows(slice(row, row + 1)).minimum(g[row : row + 1, 1:2])
        gap = (alone - together[row : row + 1, 1:2]).abs()
        assert (gap <= 1e-9 * size[row : row + 1, 1:2]).all()


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("l2", "box", 6)
    whole = region(case).minimum(functions(case))
    monkeypatch.setattr("vercomp.core.regions.region._BLOCK_ENTRIES", 12)
    torch.testing.assert_close(region(case).minimum(functions(case)), whole)


def test_what_is_not_finite_proves_nothing() -> None:
    for case in (Case("l2", "ball", 3), Case("l1", "box+slab", 3), Case("linf", "box", 3)):
        balls = region(case)
        for bad in (torch.nan, torch.inf, -torch.inf):
            g = torch.ones(3, 2, 3).double()
            g[1, 0, 2] = bad
            bounds = balls.minimum(g)
            assert bounds[1, 0] == -torch.inf
            assert bounds.isfinite().sum() == 5
    errors = torch.tensor([[torch.nan], [torch.inf], [0.0]])
    assert balls.minimum(g[:, 1:], errors).isfinite().flatten().tolist() == [False, False, True]


@pytest.mark.parametrize("kind", ["l1", "l2", "linf", "weighted-l2"])
def test_errors_of_functions_are_paid_for(kind: str) -> None:
    case = Case(kind, "box+slab", 4)
    balls, g = region(case), functions(case)
    wrong = g + 1e-3 * torch.nn.functional.normalize(torch.randn_like(g), dim=-1)
    bounds = balls.minimum(wrong, torch.full(g.shape[:2], 1.001e-3))
    points = balls.argmin(g)
    assert (bounds <= (g * (points - balls.center[:, None])).sum(-1)).all()
    assert (bounds >= balls.minimum(wrong) - 2e-3 * balls.farthest()[:, None]).all()


@pytest.mark.parametrize("case", [case for case in CASES if case.parts == "box+slab"], ids=str)
def test_every_division_of_a_function_is_sound(case: Case) -> None:
    """Multipliers of any sign, and shares that no search would give."""
    balls, g = region(case), functions(case)[:, 0]
    form, points = balls.geometry, balls.argmin(g[:, None])[:, 0]
    generator = torch.Generator().manual_seed(case.seed)
    for size in (0.0, 1e-3, 1.0, 1e3):
        share = size * torch.randn(g.shape, dtype=torch.float64, generator=generator)
        share = torch.zeros_like(g) if balls.kind.is_box else share
        nu = size * torch.randn(len(g), dtype=torch.float64, generator=generator)
        scaled, length = bound.scaled_rows(g, balls.scales)
        bounds = bound._divided(form, scaled, share, nu)
        for row in range(len(balls)):
            true = value(balls, row, g[row], points[row])
            unit = Fraction(float(form.unit[row])) * Fraction(float(length[row]))
            proved = float(bounds[row])  # −∞ where ν pulls against an open face
            assert proved == -math.inf or Fraction(proved) * unit <= true


# Deliberate breaks: each is noticed by the checks above.


def test_a_slab_drawn_in_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = bound._divided

    def broken(form, g, share, nu):  # type: ignore[no-untyped-def]
        slab = form.slab._replace(low=form.slab.low + 0.05, high=form.slab.high - 0.05)
        return original(replace(form, slab=slab), g, share, nu)

    monkeypatch.setattr(bound, "_divided", broken)
    assert sum(false_bounds(Case(kind, "slab", 3)) for kind in ("l1", "l2", "linf")) > 0


def test_a_multiplier_on_the_wrong_face_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = bound._divided

    def broken(form, g, share, nu):  # type: ignore[no-untyped-def]
        slab = form.slab._replace(low=form.slab.high, high=form.slab.low)
        return original(replace(form, slab=slab), g, share, nu)

    monkeypatch.setattr(bound, "_divided", broken)
    assert sum(false_bounds(Case(kind, "slab", 3)) for kind in ("l1", "l2", "linf")) > 0


def test_a_forgotten_share_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = bound._divided

    def broken(form, g, share, nu):  # type: ignore[no-untyped-def]
        return original(replace(form, radius=0.0 * form.radius), g, share, nu)

    monkeypatch.setattr(bound, "_divided", broken)
    assert false_bounds(Case("l2", "box", 3)) > 0


def test_a_norm_rounded_down_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = L2.dual_norm
    monkeypatch.setattr(L2, "dual_norm", lambda self, g: original(self, g) * (1 - 1e-12))
    with pytest.raises(AssertionError):
        test_balls_have_their_closed_form(3, 0.3)


@every_case
def test_quick_minima_are_lower_and_nearly_as_good(case: Case) -> None:
    of, g = region(case), functions(case)
    full, quick = of.minimum(g), of.minimum(g, quick=True)
    assert (quick <= full + 1e-4 * size_of(of, g)).all()
    points = torch.cat([of.argmin(g), of.sample(6, torch.Generator().manual_seed(0))], 1)
    for row in range(len(of)):
        for point in points[row]:
            for k in range(g.shape[1]):
                exact = value(of, row, g[row, k], point)
                assert exact >= Fraction(float(quick[row, k]))
    if case.radius == 0.7:
        alone = Ball(of.center, of.radius, case.kind, scales=of.scales).minimum(g)
        assert (quick >= alone - 1e-9 * alone.abs()).all()


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("kind", ["l1", "l2", "linf"])
def test_descents_are_gradients_of_minima(kind: str, parts: str) -> None:
    case = Case(kind, parts, 6, seed=2)
    of, g = region(case), functions(case)[:, :1]
    reached = (of.descent(g) * g).sum(-1)
    least = of.minimum(g)
    assert ((reached - least).abs() <= 0.1 * size_of(of, g)).all()
