"""The report of an analysis: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vercomp.report.cards import interval, shape_text
from vercomp.report.document import document
from vercomp.report.drawing import anchors, graph_svg
from vercomp.report.heat import heat_table
from vercomp.report.markup import Markup, join, tag
from vercomp.report.tables import local_title, number, percent
from vercomp.results.analysis import ActivationNode, AffineNode, Analysis, LayerRow

if TYPE_CHECKING:
    from vercomp.results.regional import LocalAnalysis


@dataclass(frozen=True)
class Found:
    """Curvature that was found at real inputs.

    Args:
        matrix: (C, C), NaN where nothing was looked at.
        label: What it is, and where it was found.
    """

    matrix: NDArray[np.float64]
    label: str


def report_page(
    analysis: Analysis,
    manifest: Mapping[str, Any],
    parameters: int,
    found: Found | None = None,
    local: LocalAnalysis | None = None,
) -> bytes:
    """The report of a network.

    Args:
        analysis: What is known of it.
        manifest: manifest.json of its package: name, source, versions.
        parameters: How many numbers its weights are.
        found: Curvature to set beside the bound.
        local: Curvature bounds in balls around inputs.
    """
    kappa = -analysis.curvature[0].numpy()
    return document(
        f"{manifest['name']}: curvature",
        _header(analysis, manifest, parameters, kappa),
        tag(
            "main",
            _graph(analysis),
            _layers(analysis, kappa),
            _pairs(analysis, kappa, found),
            "" if local is None else _local(local),
        ),
        _footer(manifest),
        styles=("page.css",),
        script="page.js",
    )


def _header(
    analysis: Analysis,
    manifest: Mapping[str, Any],
    parameters: int,
    kappa: NDArray[np.float64],
) -> Markup:
    source = manifest["source"]
    affine = sum(isinstance(node, AffineNode) for node in analysis.nodes)
    activations = sum(isinstance(node, ActivationNode) for node in analysis.nodes)
    off = _pairs_of(kappa)
    facts = [
        ("inputs", shape_text(analysis.nodes[0].shape)),
        ("classes", f"{manifest['classes']}"),
        ("affine nodes", f"{affine:,}"),
        ("activations", f"{activations:,}"),
        ("hidden units", f"{analysis.hidden_units:,}"),
        ("parameters", f"{parameters:,}"),
        ("mean κ", number(float(off.mean()))),
        ("largest κ", number(float(off.max()))),
        ("mean L", number(float(_pairs_of(analysis.lipschitz.numpy()).mean()))),
    ]
    links = [("graph", "graph"), ("layers", "layers"), ("pairs", "pairs of classes")]
    return tag(
        "header",
        tag("p", f"vercomp analyze · from {source['kind']}", class_="kicker"),
        tag("h1", str(manifest["name"])),
        tag(
            "dl",
            (tag("div", tag("dt", what), tag("dd", value)) for what, value in facts),
            class_="facts",
        ),
        tag("nav", (tag("a", text, href=f"#{to}") for to, text in links), aria_label="Sections"),
    )


def _graph(analysis: Analysis) -> Markup:
    return tag(
        "section",
        tag("h2", "The graph"),
        tag(
            "div",
            tag("div", graph_svg(analysis), class_="canvas scroll", tabindex=0),
            _how_to_read(analysis),
            class_="beside",
        ),
        id="graph",
    )


def _how_to_read(analysis: Analysis) -> Markup:
    notes: list[tuple[str, str]] = [
        (
            "Boxes",
            "An affine node z = Σ A a + b, and below it, tinted, the activation a = σ(z) that "
            "reads it. Of several maps in a product the lowest is applied first.",
        ),
        ("‖A‖ ≤", "A proved upper bound of the 2-norm of the whole map, not an estimate of it."),
        (
            "% of κ",
            "What the activation adds to the curvature bound, as a mean over all pairs of classes. "
            "The bar and the depth of the tint say the same: where they are large, smaller norms "
            "before or after, or a flatter activation, make certificates grow.",
        ),
        ("σ′, σ″", "The ranges of the derivatives over all real numbers, rounded outward."),
    ]
    if any(len(node.parents) > 1 for node in analysis.nodes):
        notes.append(
            (
                "Edges",
                "Values flow downwards. Coloured edges skip rows; small numbers tell the terms of "
                "a sum apart. Point at a box to light up what it reads and what reads it.",
            )
        )
    else:
        notes.append(("Edges", "Values flow downwards."))
    notes.append(("Digits", "Point at a box or a cell for all digits."))
    return tag(
        "aside",
        tag("h3", "How to read it"),
        tag("dl", (join(tag("dt", what), tag("dd", text)) for what, text in notes)),
    )


def _layers(analysis: Analysis, kappa: NDArray[np.float64]) -> Markup:
    names = {node.identifier: node.name for node in analysis.nodes}
    ids = anchors(analysis)
    mean = float(_pairs_of(kappa).mean())
    columns = (
        ("layer", ""),
        ("shape", ""),
        ("maps, and what they read", ""),
        ("‖A‖ ≤", "number"),
        ("activation", ""),
        ("g = sup|σ′|", "number"),
        ("h = sup|σ″|", "number"),
        ("adds to mean κ", "number"),
        ("share of κ", "number"),
    )
    head = tag("tr", (tag("th", text, scope="col", class_=kind or None) for text, kind in columns))
    rows = [_row(row, names, ids[row.node.identifier], mean) for row in analysis.layers]
    caption = (
        "Every affine node with the activation that reads it. Norms of several maps stand beside "
        "their maps, and the largest in the column."
    )
    table = tag(
        "table",
        tag("caption", caption),
        tag("thead", head),
        tag("tbody", rows),
        class_="layers",
    )
    return tag(
        "section",
        tag("h2", "Layers"),
        tag("div", table, class_="scroll", tabindex=0),
        id="layers",
    )


def _row(row: LayerRow, names: Mapping[str, str], anchor: str, mean: float) -> Markup:
    maps: list[Markup] = []
    terms = row.affine.terms if row.affine else ()
    for term in terms:
        norm = f" ‖·‖ ≤ {number(term.norm, 5)}" if len(terms) > 1 else ""
        text = (tag("code", term.map), " · ", names[term.parent], norm)
        maps.append(tag("div", text))
    following = row.following
    if row.affine is None and following is not None:
        maps.append(tag("div", f"σ of {names[following.parent]}"))
    empty = tag("td", "–", class_="number")
    cells: list[Markup] = [
        tag("th", tag("a", row.name, href=f"#{anchor}"), scope="row"),
        tag("td", shape_text(row.shape), class_="nowrap"),
        tag("td", maps, class_="maps"),
        tag("td", number(row.norm, 5), class_="number"),
    ]
    if following is None:
        cells += [tag("td", "–"), empty, empty, empty, empty]
    else:
        ranges = f"σ′ ∈ {interval(following.first_range)}, σ″ ∈ {interval(following.second_range)}"
        cells += [
            tag("td", following.function, tag("div", ranges, class_="dim nowrap")),
            tag("td", number(following.g), class_="number"),
            tag("td", number(following.h), class_="number"),
            tag("td", number(following.share * mean), class_="number"),
            tag(
                "td",
                percent(following.share),
                class_="number heat",
                style=f"--v:{following.share:.2f}",
            ),
        ]
    return tag("tr", cells)


def _pairs(analysis: Analysis, kappa: NDArray[np.float64], found: Found | None) -> Markup:
    tables = [
        heat_table(
            kappa,
            "κ",
            "κ(y, t): −κ(y, t) I ≼ ∇²(z_y − z_t) ≼ κ(t, y) I at every input. Certificates rest on "
            "it. The K that the command prints is the larger of the two.",
        ),
        heat_table(
            analysis.lipschitz.numpy(),
            "L",
            "L(y, t): ‖∇(z_y − z_t)‖ ≤ L(y, t) at every input. Far from the input it promises more "
            "than κ.",
        ),
    ]
    if found is not None:
        tables.append(heat_table(found.matrix, "K_lb", f"{found.label}."))
    return tag(
        "section", tag("h2", "Pairs of classes"), tag("div", tables, class_="tables"), id="pairs"
    )


def _local(found: LocalAnalysis) -> Markup:
    """Which layer's looseness the curvature bounds near inputs have."""
    columns = (
        ("layer", ""),
        ("at the inputs", "number"),
        ("added in the balls", "number"),
        ("share of the looseness", "number"),
    )
    head = tag("tr", (tag("th", text, scope="col", class_=kind or None) for text, kind in columns))
    rows = [
        tag(
            "tr",
            tag("th", layer.name, scope="row"),
            tag("td", number(layer.at_inputs), class_="number"),
            tag("td", number(layer.added), class_="number"),
            tag(
                "td",
                percent(layer.share),
                class_="number heat",
                style=f"--v:{layer.share:.2f}",
            ),
        )
        for layer in found.layers
    ]
    table = tag(
        "table",
        tag("caption", f"{local_title(found)}."),
        tag("thead", head),
        tag("tbody", rows),
        class_="layers",
    )
    return tag(
        "section",
        tag("h2", "Curvature near inputs"),
        tag("div", table, class_="scroll", tabindex=0),
        id="local",
    )


def _footer(manifest: Mapping[str, Any]) -> Markup:
    versions = ", ".join(f"{what} {version}" for what, version in manifest["versions"].items())
    source = manifest["source"]
    return tag(
        "footer",
        tag(
            "p",
            "Norms and κ are upper bounds that hold in real arithmetic for these weights: computed "
            "in float64, proved, and rounded outward. What is printed is rounded to the nearest.",
        ),
        tag("p", f"{versions}. Source ({source['kind']}): SHA-256 ", tag("code", source["sha256"])),
    )


def _pairs_of(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    off: NDArray[np.float64] = matrix[~np.eye(len(matrix), dtype=bool)]
    return off
