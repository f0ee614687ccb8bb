"""Inputs beside their nearest adversarial inputs, and what is different between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vercomp.report.markup import Markup, join, tag
from vercomp.report.photographs import difference, gray_range, photograph
from vercomp.report.tables import number
from vercomp.results.examples import Example

Facts = Callable[[Example], list[tuple[str, str]]]
"""(what, value) of an input."""

LISTED = 6
"""Features of a table that are listed."""


def example_cards(
    examples: Sequence[Example],
    shape: tuple[int, int, int] | None,
    facts: Facts,
    *,
    beside: str | None = "adversarial",
) -> Markup:
    """A card for each input.

    Args:
        examples: The inputs.
        shape: How an input is read as a picture; None for a table of features.
        facts: What is said below each.
        beside: What the point beside each input is called; None where none was sought.
    """
    limits = gray_range([one.x for one in examples])
    cards = []
    for one in examples:
        shown = _features(one, beside) if shape is None else _pictures(one, shape, limits, beside)
        said = (tag("div", tag("dt", what), tag("dd", value)) for what, value in facts(one))
        cards.append(tag("figure", shown, tag("figcaption", tag("dl", said)), class_="example"))
    return tag("div", cards, class_="examples wide" if shape is None else "examples")


def change_words(shape: tuple[int, int, int] | None) -> str:
    """How the picture of a change is to be read."""
    if shape is None:
        return ""
    if shape[0] == 1:
        return " Orange pixels rise, blue ones fall."
    return " In the change gray is zero; a channel that rises is lighter, one that falls darker."


def _pictures(
    one: Example, shape: tuple[int, int, int], limits: tuple[float, float], beside: str | None
) -> Markup:
    parts = [_labelled(photograph(one.x, shape, limits, f"input {one.index}"), "input")]
    if beside is None:
        return tag("div", parts, class_="trio")
    if one.adversary is None:
        parts.append(tag("div", tag("p", "no adversarial input is known", class_="dim")))
    else:
        moved = one.adversary - one.x
        largest = number(float(np.abs(moved).max()), 2)
        alt = f"{beside}, near input {one.index}"
        parts.append(_labelled(photograph(one.adversary, shape, limits, alt), beside))
        parts.append(_labelled(difference(moved, shape, "what changed"), f"change, ≤ {largest}"))
    return tag("div", parts, class_="trio")


def _labelled(picture: Markup, label: str) -> Markup:
    return tag("div", picture, tag("span", label))


def _features(one: Example, beside: str | None) -> Markup:
    """The features that change the most, with bars in either direction."""
    if beside is None:
        return _alone(one)
    if one.adversary is None:
        return tag("p", "no adversarial input is known", class_="dim")
    before, after = one.x.reshape(-1), one.adversary.reshape(-1)
    moved = after - before
    order = np.argsort(-np.abs(moved), kind="stable")[:LISTED]
    largest = float(np.abs(moved).max()) or 1.0
    rows = [_feature(int(k), before, after, moved[k] / largest, one.x.shape) for k in order]
    left = len(moved) - len(order)
    rest = number(float(np.abs(np.delete(moved, order)).max(initial=0.0)), 2)
    others = "1 other feature changes" if left == 1 else f"{left} other features change"
    note = f"{others} by at most {rest}." if left else ""
    heads = (("feature", ""), ("input", "number"), (beside, "number"), ("change", ""))
    head = tag("tr", (tag("th", text, scope="col", class_=kind or None) for text, kind in heads))
    return join(
        tag(
            "table",
            tag("caption", f"The largest changes of input {one.index}."),
            tag("thead", head),
            tag("tbody", rows),
            class_="layers features",
        ),
        tag("p", note, class_="dim") if note else "",
    )


def _alone(one: Example) -> Markup:
    """The first features of an input."""
    values = one.x.reshape(-1)[:LISTED]
    more = "…" if one.x.size > LISTED else ""
    return tag("p", tag("code", ", ".join(map(number, values.tolist())), more))


def _feature(
    place: int,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    part: float,
    shape: Sequence[int],
) -> Markup:
    where = ", ".join(map(str, np.unravel_index(place, shape))) if shape else "0"
    side = "rise" if part > 0 else "fall"
    bar = tag("span", class_=side, style=f"--w:{abs(part):.3f}")
    change = number(float(after[place] - before[place]), 3)
    return tag(
        "tr",
        tag("th", f"x[{where}]", scope="row"),
        tag("td", number(float(before[place])), class_="number"),
        tag("td", number(float(after[place])), class_="number"),
        tag("td", tag("span", bar, class_="change"), title=f"{change}"),
    )
