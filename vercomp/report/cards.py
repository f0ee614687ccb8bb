"""What stands in the boxes of a drawn graph: names, maps with their norms, constants, shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vercomp.report.layering import Size
from vercomp.report.markup import Markup, clean, join, tag
from vercomp.report.tables import number, percent
from vercomp.results.analysis import ActivationNode, AffineNode, Analysis, InputNode, Node

WIDTH = 364.0
INDENT = 14.0
LINE = 16.0
COLUMNS = 50  # of the monospaced font in a box
NAME = 34  # letters of a name
BIAS = 26  # of a bias, beside a norm
MAP_LINES = 5
TERMS = 16  # more than so many, and the rest is counted


@dataclass(frozen=True)
class Card:
    """A box: an affine node with the activation that alone reads it, or one node.

    Args:
        nodes: One node, or those two.
    """

    nodes: tuple[Node, ...]

    @property
    def parents(self) -> tuple[str, ...]:
        """Identifiers of what the first node reads, a term at a time."""
        return self.nodes[0].parents


def cards(analysis: Analysis) -> tuple[Card, ...]:
    """The boxes of a graph, in order."""
    readers: dict[str, list[Node]] = {node.identifier: [] for node in analysis.nodes}
    for node in analysis.nodes:
        for parent in dict.fromkeys(node.parents):
            readers[parent].append(node)
    made, inside = [], set()
    for node in analysis.nodes:
        if node.identifier in inside:
            continue
        following = readers[node.identifier]
        if (
            isinstance(node, AffineNode)
            and node.identifier != analysis.output
            and len(following) == 1
            and isinstance(following[0], ActivationNode)
        ):
            inside.add(following[0].identifier)
            made.append(Card((node, following[0])))
        else:
            made.append(Card((node,)))
    return tuple(made)


@dataclass(frozen=True)
class Face:
    """How a card looks: its size, and its markup with the upper left corner at the origin."""

    size: Size
    content: Markup


def face(card: Card, analysis: Analysis, names: dict[str, str], largest: float) -> Face:
    """Draw a card.

    Args:
        card: The card.
        analysis: The network's.
        names: Names of nodes by identifier.
        largest: The largest share, which gets the full colour.
    """
    sheet = _Sheet()
    for node in card.nodes:
        if isinstance(node, InputNode):
            _input(sheet, node)
        elif isinstance(node, AffineNode):
            _affine(sheet, node, names)
        else:
            _activation(sheet, node, largest)
    if card.nodes[-1].identifier == analysis.output:
        classes = len(analysis.lipschitz)
        sheet.line(f"output: {classes} logits", class_="tag")
    height = sheet.y + 8
    ring = tag("rect", class_="ring", width=_px(WIDTH), height=_px(height), rx=9)
    back = tag("rect", class_="back", width=_px(WIDTH), height=_px(height), rx=9)
    tooltip = tag("title", "\n\n".join(describe(node, names) for node in card.nodes))
    return Face(Size(WIDTH, height), join(tooltip, back, sheet.parts, ring))


def describe(node: Node, names: dict[str, str]) -> str:
    """All that is known of a node, for its tooltip: nothing shortened, every digit."""
    head = f"{node.name} : {shape_text(node.shape)}"
    if isinstance(node, InputNode):
        return f"input {head}"
    if isinstance(node, AffineNode):
        lines = [f"affine {head}"]
        for term in node.terms:
            lines += [f"{term.map} · {names[term.parent]}", f"    ‖A‖₂ ≤ {term.norm!r}"]
        return "\n".join([*lines, *([node.bias] if node.bias else [])])
    return "\n".join(
        [
            f"activation {head}",
            f"{node.function}({names[node.parent]}), σ(x) = {node.formula}",
            f"{node.first_range[0]!r} ≤ σ′ ≤ {node.first_range[1]!r}",
            f"{node.second_range[0]!r} ≤ σ″ ≤ {node.second_range[1]!r}",
            f"share of the curvature bound: {percent(node.share)}",
        ]
    )


def shape_text(shape: Iterable[int]) -> str:
    """A shape as graphs print it."""
    return "×".join(map(str, shape)) or "scalar"


def shortened(text: str, length: int) -> str:
    """Text of at most so many letters: the middle goes, for names differ at their ends."""
    text = " ".join(clean(text).split())
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def interval(ends: tuple[float, float]) -> str:
    """A range as the tables print numbers."""
    return f"[{number(ends[0])}, {number(ends[1])}]"


class _Sheet:
    """Lines of text, from the top down."""

    def __init__(self) -> None:
        self.parts: list[Markup] = []
        self.y = 8.0

    def line(
        self, text: str, *, right: str = "", class_: str = "", side: str = "mono dim end"
    ) -> None:
        """A line, and what stands at its right end."""
        self.y += LINE
        base = _px(self.y - 4)
        self.parts.append(tag("text", text, x=_px(INDENT), y=base, class_=class_ or None))
        if right:
            end = _px(WIDTH - INDENT)
            self.parts.append(tag("text", right, x=end, y=base, class_=side))

    def heading(self, name: str, shape: Sequence[int]) -> None:
        """A node's name and shape."""
        self.line(shortened(name, NAME), right=shape_text(shape), class_="name")


def _input(sheet: _Sheet, node: InputNode) -> None:
    sheet.heading(node.name, node.shape)
    sheet.line("input", class_="tag")


def _affine(sheet: _Sheet, node: AffineNode, names: dict[str, str]) -> None:
    sheet.heading(node.name, node.shape)
    several = len(node.terms) > 1
    for index, term in enumerate(node.terms[:TERMS], start=1):
        if several:
            origin = f"{index}  from {shortened(names[term.parent], 24)}"
            sheet.line(origin, right=norm_text(term.norm), class_="from")
        indent = "   " if several else ""
        for line in _factors(term.map):
            sheet.line(indent + shortened(line, COLUMNS - len(indent)), class_="mono")
    if len(node.terms) > TERMS:
        sheet.line(f"and {len(node.terms) - TERMS} more", class_="from")
    bias = node.bias if len(node.bias) <= BIAS else "+ b"
    if not several:
        sheet.line(bias, right=norm_text(node.norm), class_="from")
    elif bias:
        sheet.line(bias, class_="from")


def _activation(sheet: _Sheet, node: ActivationNode, largest: float) -> None:
    start, before = sheet.y + 5, len(sheet.parts)
    sheet.y += 8
    sheet.line(node.function, right=f"{percent(node.share)} of κ", class_="name", side="share end")
    sheet.y += 4
    full = WIDTH - 2 * INDENT
    length = full * min(max(node.share, 0.0), 1.0)
    for class_, width in (("rail", full), ("bar", length)):
        rail = {"x": _px(INDENT), "y": _px(sheet.y), "width": _px(width), "height": 5, "rx": 2.5}
        sheet.parts.append(tag("rect", class_=class_, **rail))
    sheet.y += 6
    sheet.line(
        f"σ′ ∈ {interval(node.first_range)}  σ″ ∈ {interval(node.second_range)}", class_="mono"
    )
    sheet.line(shortened(node.name, NAME), right=shape_text(node.shape), class_="from")
    strength = node.share / largest if largest > 0 else 0.0
    tint = tag(
        "rect",
        class_="tint",
        x=5,
        y=_px(start),
        width=_px(WIDTH - 10),
        height=_px(sheet.y + 4 - start),
        rx=6,
        fill_opacity=f"{0.05 + 0.5 * strength:.2f}",
    )
    sheet.parts.insert(before, tint)


def norm_text(norm: float) -> str:
    """A proved bound of a norm."""
    return f"‖A‖ ≤ {number(norm, 5)}"


def _factors(text: str) -> list[str]:
    """A map on a few lines: a factor each."""
    first, *others = text.split(" · ")
    lines = [first, *(f"· {factor}" for factor in others)]
    if len(lines) > MAP_LINES:
        left_out = len(lines) - MAP_LINES + 1
        lines = [*lines[: MAP_LINES - 1], f"· {left_out} factors more"]
    return lines


def _px(length: float) -> str:
    return f"{length:.1f}".removesuffix(".0")
