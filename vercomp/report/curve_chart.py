"""Shares of inputs against radius as an SVG, in colours that the page's style sheet gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vercomp.report.markup import Markup, tag
from vercomp.report.tables import number, percent
from vercomp.results.curves import Curve

TIPS = 48
"""Places along the axis that a pointer gets numbers at."""


@dataclass(frozen=True)
class Frame:
    """The size of a chart, in the units of its view box.

    Args:
        width: All of it.
        height: All of it.
        left: Room for the numbers of the vertical axis.
        bottom: Room for those of the horizontal one.
        right: Room beside the curves.
        top: Room above them.
    """

    width: float
    height: float
    left: float
    bottom: float
    right: float
    top: float

    def x(self, share: float) -> float:
        """The place of a share of the horizontal axis."""
        return self.left + share * (self.width - self.left - self.right)

    def y(self, share: float) -> float:
        """The place of a share of the vertical axis, which points upwards."""
        return self.top + (1.0 - share) * (self.height - self.top - self.bottom)


LARGE = Frame(460, 300, 46, 44, 14, 12)
SMALL = Frame(220, 130, 44, 24, 10, 10)


@dataclass(frozen=True)
class Line:
    """A curve of a chart.

    Args:
        name: What it is.
        curve: Its steps.
        kind: The class that the style sheet knows: ``certified``, ``attacked``, ``run-1`` …
    """

    name: str
    curve: Curve
    kind: str


def curve_chart(
    lines: Sequence[Line],
    right: float,
    *,
    title: str,
    x_label: str,
    marks: Sequence[float] = (),
    frame: Frame = LARGE,
    shaded: bool = True,
) -> Markup:
    """Curves of shares that fall as the radius grows.

    Args:
        lines: The curves.
        right: The largest radius that is drawn.
        title: What a screen reader says, and a pointer on a small chart.
        x_label: What the horizontal axis measures, with its unit.
        marks: Radii with a vertical line.
        frame: The size.
        shaded: Whether the area between the first two curves is tinted.
    """
    small = frame is SMALL
    ticks = [place for place in ticks_up_to(right) if not small or place in (0.0, right)]
    if small:
        ticks = [0.0, ticks_up_to(right)[-1]]
    parts: list[Markup] = [tag("title", title), *_grid(frame, ticks, right, small=small)]
    if shaded:
        parts.append(_between(frame, lines[0].curve, lines[1].curve, right))
    parts += [
        tag("path", class_=f"curve {line.kind}", d=_path(frame, line.curve, right))
        for line in lines
    ]
    for mark in marks:
        if mark < right:
            at = _px(frame.x(mark / right))
            parts.append(_line(at, _px(frame.y(1.0)), at, _px(frame.y(0.0)), "mark"))
    if not small:
        middle = _px(frame.x(0.5))
        parts.append(tag("text", x_label, x=middle, y=_px(frame.height - 6), class_="axis middle"))
        parts += _tips(frame, lines, right)
    return tag(
        "svg",
        parts,
        viewBox=f"0 0 {frame.width:g} {frame.height:g}",
        class_="chart small" if small else "chart",
        role="img",
        aria_label=title,
    )


def ticks_up_to(right: float, count: int = 5) -> list[float]:
    """Round numbers from 0 up to a limit, at most so many and two more."""
    raw = right / count
    scale = 10.0 ** np.floor(np.log10(raw))
    step = min(m * scale for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * scale >= raw * (1 - 1e-9))
    return [float(f"{step * place:.6g}") for place in range(int(right / step * (1 + 1e-9)) + 1)]


def share_at(curve: Curve, radius: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """The share of a curve at radii: what it has been since the last step."""
    at, share = curve
    found: NDArray[np.float64] = share[np.searchsorted(at, radius, side="right") - 1]
    return found


def legend(lines: Sequence[Line], marks: Sequence[tuple[str, str]] = ()) -> Markup:
    """What the lines are: a piece of each with its name.

    Args:
        lines: The curves.
        marks: (class, name) of what else is drawn.
    """
    entries = [(f"curve {line.kind}", line.name) for line in lines] + list(marks)
    return tag(
        "ul",
        (
            tag(
                "li",
                tag(
                    "svg",
                    _line("1", "6", "27", "6", kind),
                    viewBox="0 0 28 12",
                    class_="swatch",
                    aria_hidden="true",
                ),
                name,
            )
            for kind, name in entries
        ),
        class_="legend",
    )


def _grid(frame: Frame, ticks: Sequence[float], right: float, *, small: bool) -> list[Markup]:
    parts = []
    left, end = _px(frame.left), _px(frame.x(1.0))
    for share in (0.0, 0.5, 1.0) if small else (0.0, 0.25, 0.5, 0.75, 1.0):
        y = frame.y(share)
        parts.append(_line(left, _px(y), end, _px(y), "grid"))
        text = f"{100 * share:.0f} %" if share == 1.0 or not small else f"{100 * share:.0f}"
        label = {"x": _px(frame.left - 5), "y": _px(y + 4), "class_": "axis end"}
        parts.append(tag("text", text, **label))
    for tick in ticks:
        x = frame.x(tick / right)
        if not small:
            parts.append(_line(_px(x), _px(frame.y(1.0)), _px(x), _px(frame.y(0.0)), "grid"))
        label = {"x": _px(x), "y": _px(frame.y(0.0) + 16), "class_": "axis middle"}
        parts.append(tag("text", number(tick), **label))
    return parts


def _line(x1: str, y1: str, x2: str, y2: str, kind: str) -> Markup:
    return tag("path", class_=kind, d=f"M{x1} {y1}L{x2} {y2}")


def _corners(frame: Frame, curve: Curve, right: float) -> list[tuple[float, float]]:
    """(x, y) from which on the curve has the height y; no two closer than half a unit."""
    at, share = curve
    inside = at < right
    at, share = at[inside], share[inside]
    columns = int(2 * (frame.x(1.0) - frame.left))
    if len(at) > columns:
        at = np.linspace(0.0, right, columns, endpoint=False)
        share = share_at(curve, at)
        kept = np.concatenate([[True], share[1:] != share[:-1]])
        at, share = at[kept], share[kept]
    return [(frame.x(r / right), frame.y(s)) for r, s in zip(at, share, strict=True)]


def _path(frame: Frame, curve: Curve, right: float) -> str:
    corners = _corners(frame, curve, right)
    (x, y), *others = corners
    steps = "".join(f"H{_px(x)}V{_px(y)}" for x, y in others)
    return f"M{_px(x)} {_px(y)}{steps}H{_px(frame.x(1.0))}"


def _between(frame: Frame, low: Curve, high: Curve, right: float) -> Markup:
    """The area between two curves: what is neither proved nor broken."""
    forward = _path(frame, high, right)
    corners = _corners(frame, low, right)
    back = "".join(f"V{_px(y)}H{_px(x)}" for x, y in reversed(corners))
    return tag("path", class_="between", d=f"{forward}{back}Z")


def _tips(frame: Frame, lines: Sequence[Line], right: float) -> list[Markup]:
    """Invisible stripes, each with the numbers of its middle."""
    width = (frame.x(1.0) - frame.left) / TIPS
    tips = []
    for place in range(TIPS):
        radius = (place + 0.5) / TIPS * right
        words = [f"at radius {number(radius, 3)}"]
        words += [f"{line.name}: {percent(float(share_at(line.curve, radius)))}" for line in lines]
        tips.append(
            tag(
                "rect",
                tag("title", "\n".join(words)),
                class_="tip",
                x=_px(frame.left + place * width),
                y=_px(frame.top),
                width=_px(width),
                height=_px(frame.y(0.0) - frame.top),
            )
        )
    return tips


def _px(length: float) -> str:
    return f"{length:.1f}".removesuffix(".0")
