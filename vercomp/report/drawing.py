"""The graph of an analysis as SVG."""

from __future__ import annotations

from vercomp.report.cards import Card, cards, face
from vercomp.report.layering import Stroke, drawing
from vercomp.report.markup import Markup, tag
from vercomp.results.analysis import ActivationNode, Analysis

MARGIN = 14.0
PAGE = 2400.0  # what is higher would be too small on one printed page


def anchors(analysis: Analysis) -> dict[str, str]:
    """The id, within the page, of the box that each node stands in."""
    return {
        node.identifier: f"n{index}"
        for index, card in enumerate(cards(analysis))
        for node in card.nodes
    }


def graph_svg(analysis: Analysis) -> Markup:
    """The graph: boxes in rows, the input on top, edges downwards.

    Edges that pass a row (skip connections) have a colour of their own; where several arrive at a
    box, each carries the number of its term.
    """
    boxes = cards(analysis)
    names = {node.identifier: node.name for node in analysis.nodes}
    index = {node.identifier: at for at, card in enumerate(boxes) for node in card.nodes}
    shares = [node.share for node in analysis.nodes if isinstance(node, ActivationNode)]
    faces = [face(card, analysis, names, max(shares, default=0.0)) for card in boxes]
    parents = [[index[parent] for parent in card.parents] for card in boxes]
    placed = drawing([one.size for one in faces], parents)
    edges = [_edge(stroke) for stroke in placed.strokes]
    labels = [
        _label(stroke, terms)
        for stroke in placed.strokes
        if stroke.end is not None
        and len(terms := _terms(boxes[stroke.targets[0]], index, stroke.source)) > 0
    ]
    groups = [
        tag("g", one.content, id=f"n{at}", class_="card", transform=f"translate({x:g} {y:g})")
        for at, (one, (x, y)) in enumerate(zip(faces, placed.corners, strict=True))
    ]
    width, height = placed.width + 2 * MARGIN, placed.height + 2 * MARGIN
    return tag(
        "svg",
        tag("title", "The network as a graph", id="graph-title"),
        tag(
            "desc",
            f"{len(boxes)} boxes in {max(placed.rows) + 1} rows, the input on top; every number in "
            "it stands in the table of layers below.",
            id="graph-desc",
        ),
        _arrowheads(),
        tag("g", edges, class_="edges"),
        tag("g", groups, class_="cards"),
        tag("g", labels, class_="labels"),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"{-MARGIN:g} {-MARGIN:g} {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        class_="short" if height < PAGE else None,
        role="img",
        aria_labelledby="graph-title graph-desc",
    )


def _terms(card: Card, index: dict[str, int], source: int) -> list[int]:
    """Which of a card's terms read a source, from 1; none where there is only one term."""
    if len(card.parents) < 2:
        return []
    return [term for term, parent in enumerate(card.parents, start=1) if index[parent] == source]


def _edge(stroke: Stroke) -> Markup:
    classes = ["edge", "long" if stroke.long else "", f"from-n{stroke.source}"]
    classes += [f"to-n{target}" for target in stroke.targets]
    arrow = None
    if stroke.end is not None:
        arrow = f"url(#{'long-' if stroke.long else ''}head)"
    return tag("path", class_=" ".join(filter(None, classes)), d=stroke.path, marker_end=arrow)


def _label(stroke: Stroke, terms: list[int]) -> Markup:
    assert stroke.end is not None  # noqa: S101 - only these are labelled
    x, y = stroke.end
    return tag("text", ", ".join(map(str, terms)), x=f"{x + 5:g}", y=f"{y - 9:g}")


def _arrowheads() -> Markup:
    heads = [
        tag(
            "marker",
            tag("path", d="M0 0L7 3.5L0 7z", class_=name),
            id=name,
            viewBox="0 0 7 7",
            refX=7,
            refY=3.5,
            markerWidth=7,
            markerHeight=7,
            orient="auto",
            markerUnits="userSpaceOnUse",
        )
        for name in ("head", "long-head")
    ]
    return tag("defs", heads)
