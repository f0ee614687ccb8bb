"""How regions are made and changed, what is refused, and the register of kinds of ball."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from region_cases import PARTS, Case, functions, region
from weighted_l2 import WeightedL2

from vercomp.core.errors import InputError, InputTypeError
from vercomp.core.regions import Ball, Box, ball_kind, register_ball

X = torch.zeros(3, 2)
ROW = torch.tensor([[0.0], [2.0], [0.0]])


@pytest.mark.parametrize(
    ("name", "p"),
    [
        ("l1", 1), ("l1", "1"), ("l1", 1.0), ("l2", 2), ("l2", "L2"), ("linf", math.inf),
        ("linf", "inf"), ("linf", "∞"), ("weighted-l2", "weighted-l2"),
    ],
)  # fmt: skip
def test_kinds_by_name_and_exponent(name: str, p: str | float) -> None:
    assert ball_kind(p).name == name
    assert Ball(X, 1.0, p).kind.name == name


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no ball is named 3; known are l1, l2, linf"):
        Ball(X, 1.0, 3)


def test_a_name_is_registered_once() -> None:
    class Impostor(WeightedL2):
        name = "l2"

    with pytest.raises(ValueError, match="a ball named 'l2' is registered already"):
        register_ball(Impostor())
    register_ball(WeightedL2())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": -1.0}, "radius of row 0 must be nonnegative and finite"),
        ({"radius": math.inf}, "radius of row 0 must be nonnegative"),
        ({"radius": torch.tensor([1.0, math.nan, 1.0])}, "radius of row 1 must be nonnegative"),
        ({"radius": torch.ones(2)}, r"radius must be a number or have the shape \(3,\)"),
        ({"x": X / 0.0}, "centers of row 0 must be finite"),
        ({"x": X[0]}, "centers must have the shape"),
        ({"box": (1.0, 0.0)}, "box of row 0 is empty: lo > hi"),
        ({"box": (math.nan, 0.0)}, "box of row 0 holds NaN"),
        ({"box": (torch.zeros(4), 1.0)}, "lower end of the box must broadcast"),
        ({"box": (ROW, 3.0)}, "region of row 1 is empty: the ball does not reach the box"),
        ({"slab": (X, 0.0, 1.0)}, "direction of the slab of row 0 must have a length"),
        ({"slab": (X + 1, 1.0, 0.0)}, "slab of row 0 is empty: a > b"),
        ({"slab": (X + 1, math.inf, math.inf)}, "slab of row 0 must have ends"),
        ({"slab": (X + 1, -1.0, math.nan)}, "slab of row 0 must have ends"),
        ({"slab": (X + 1, 2 * ROW[:, 0], 9.0)}, "region of row 1 is empty: ball and box"),
        ({"scales": -ROW}, "scales of row 1 must be zero or between"),
        ({"scales": ROW, "box": (-ROW - 1, ROW + 1), "x": X + 2}, "row 0 is empty: a frozen"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("p", ["l1", "l2", "linf"])
def test_refused_balls(p: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ball(**{"x": X, "radius": 1.0, **options}, p=p)


def test_refused_types() -> None:
    with pytest.raises(TypeError, match="centers must be a tensor of floating-point numbers"):
        Ball(X.long(), 1.0)
    with pytest.raises(TypeError, match="radius must be a number or a tensor, got str"):
        Ball(X, "1")  # type: ignore[arg-type]


MALFORMED = {
    "a number for a box": (
        {"box": 1.0},
        r"box must be \(lo, hi\), got float\. Pass box=\(lo, hi\)",
    ),
    "three ends": ({"box": (0, 1, 2)}, r"box must be \(lo, hi\), got tuple of 3"),
    "one end": ({"box": (0.0,)}, r"box must be \(lo, hi\), got tuple of 1"),
    "text for a box": ({"box": "01"}, r"box must be \(lo, hi\), got str"),
    "an end that is none": ({"box": (None, 1.0)}, "lower end of the box must be a number or a"),
    "an end in words": ({"box": (0.0, "1")}, "upper end of the box must be a number or a tensor"),
    "a slab of two": ({"slab": (X, 0.0)}, r"slab must be \(u, a, b\), got tuple of 2"),
    "a tensor for a slab": ({"slab": X}, r"slab must be \(u, a, b\), got Tensor"),
    "no direction": ({"slab": ("u", 0.0, 1.0)}, "direction of the slab must be a number or a"),
    "an end of the slab": ({"slab": (X + 1.0, 0.0, None)}, "ends of the slab must be a number or"),
    "a list of scales": ({"scales": [1.0, 2.0]}, "scales must be a number or a tensor, got list"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_parts_are_refused(name: str) -> None:
    options, message = MALFORMED[name]
    with pytest.raises(InputTypeError, match=message):
        Ball(X, 1.0, **options)


def test_a_box_holds_the_centers_that_lie_inside_as_their_own_type_sees_it() -> None:
    """0.7 and 0.1 are not float32 numbers: one rounds to less, the other to more."""
    x = torch.tensor([[0.7, 0.1], [0.8, 0.0]])
    low, high = 0.7, 0.1
    box = tuple(torch.tensor(end, dtype=torch.float64) for end in ([low, 0.0], [1.0, high]))
    region = Ball(x, 0.0, "linf", box=box)
    assert bool(region.contains(x).all())
    lower, upper = region.interval()
    assert torch.equal(lower, x.double())
    assert torch.equal(upper, x.double())
    assert region.box is not None
    assert region.box[0][1, 0] == low  # no row is widened for another
    assert region.box[1][1, 1] == high
    with pytest.raises(InputError, match="region of row 0 is empty"):
        Ball(x.double(), 0.0, "linf", box=box)


def test_refused_boxes() -> None:
    with pytest.raises(ValueError, match="box of row 1 is empty"):
        Box(ROW, ROW.flip(0) * 0 + 1)
    with pytest.raises(ValueError, match="upper ends of row 0 must be finite"):
        Box(X, X + math.inf)
    with pytest.raises(ValueError, match="must have one shape"):
        Box(X, X[:1])
    with pytest.raises(ValueError, match="a box has no radius"):
        Box(X, X).scaled(1.0)


def test_parts_that_only_meet_are_no_fault() -> None:
    for p in (1, 2, "inf"):
        touching = Ball(X, 0.1, p, box=(torch.tensor([0.1, 0.0], dtype=torch.float64), 1.0))
        g = torch.ones(3, 1, 2)
        assert (touching.minimum(g) <= 0.1 + 1e-12).all()
        Ball(X, 0.5, p, slab=(torch.tensor([1.0, 0.0]), 0.5, math.inf))


@pytest.mark.parametrize("parts", PARTS)
def test_other_radii_rows_and_devices(parts: str) -> None:
    balls = region(Case("l2", parts, 3))
    g = functions(Case("l2", parts, 3))
    again = balls.scaled(torch.full((3,), 0.7)).scaled(0.7).to("cpu")
    assert torch.equal(again.minimum(g), balls.minimum(g))
    assert (balls.scaled(0.9).minimum(g)[:, 0] <= balls.minimum(g)[:, 0] + 1e-9).all()
    chosen = balls.rows(torch.tensor([2, 0]))
    assert len(chosen) == 2
    torch.testing.assert_close(chosen.minimum(g[[2, 0]]), balls.minimum(g)[[2, 0]])
    with pytest.raises(ValueError, match="radius of row 0 must be nonnegative"):
        balls.scaled(-1.0)


def test_a_radius_for_each_feature() -> None:
    radii = torch.tensor([0.5, 0.0, 0.25])
    g = torch.tensor([[[3.0, 100.0, -4.0]]])
    expected = {"l1": 1.5, "l2": math.hypot(1.5, 1.0), "linf": 2.5}
    for p, least in expected.items():
        found = Ball(torch.zeros(1, 3), 1.0, p, scales=radii).minimum(g)
        assert float(found) == pytest.approx(-least)


def test_splits_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="split along a coordinate: name one"):
        Ball(X, 1.0).split()
    with pytest.raises(ValueError, match="place of the cut of row 0 lies outside the region"):
        Ball(X, 1.0).split(at=2.0, coordinate=0)
    with pytest.raises(ValueError, match="place of the cut of row 0 lies outside the slab"):
        Ball(X, 1.0, slab=(X + 1, 0.0, 1.0)).split(at=1.5)
