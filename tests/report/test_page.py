"""The report: complete, inert whatever names say, and the same bytes for the same network."""

from __future__ import annotations

import base64
import hashlib
import re
from html import unescape

import numpy as np
import pytest
import torch
from html_reader import Reader
from torch import nn

import vercomp
from vercomp.report.cards import cards, shortened
from vercomp.report.document import is_report
from vercomp.report.heat import heat_table
from vercomp.report.markup import clean, join, tag
from vercomp.report.page import Found, report_page
from vercomp.report.tables import number, percent
from vercomp.results.analysis import ActivationNode, AffineNode, Analysis, InputNode, MapTerm

HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=alert(2)> \u202e\x00\x1b[31m&amp;"
MANIFEST = {
    "name": "net",
    "classes": 3,
    "source": {"kind": "torch", "sha256": "0" * 64},
    "versions": {"vercomp": "0.1.0", "torch": "2.8.0"},
}


def analysis(name: str = "fc", classes: int = 3) -> Analysis:
    """A network with everything: a skip, a concatenation of one node, activations side by side."""
    sigmoid = {
        "function": "sigmoid",
        "formula": "1/(1 + exp(-x))",
        "first_range": (0.0, 0.25),
        "second_range": (-0.09623, 0.09623),
    }
    nodes = (
        InputNode("x", f"{name}.x", (4,)),
        ActivationNode("a0", f"{name}.a0", (4,), "x", share=0.25, **sigmoid),
        AffineNode("z1", f"{name}.z1", (6,), (MapTerm("a0", f"dense[{name}]", 1.5),), f"+ {name}"),
        ActivationNode("a1", f"{name}.a1", (6,), "z1", share=0.5, **sigmoid),
        ActivationNode("a2", f"{name}.a2", (6,), "z1", share=0.25, **sigmoid),
        AffineNode(
            "z2",
            f"{name}.z2",
            (classes,),
            (
                MapTerm("a1", "dense[a]", 0.123456789),
                MapTerm("a2", "dense[b]", 2.0),
                MapTerm("x", "dense[c]", 3.0),
            ),
            "",
        ),
    )
    kappa = torch.rand(classes, classes, dtype=torch.float64).fill_diagonal_(0) + 1
    return Analysis(nodes, "z2", (-kappa, kappa.T), 2 * kappa)


def test_names_from_outside_are_inert() -> None:
    page = report_page(analysis(HOSTILE), {**MANIFEST, "name": HOSTILE}, 10)
    reader = Reader(page)
    assert len(reader.named("script")) == 1
    assert not reader.named("img")
    for name, attributes in reader.elements:
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key in ("href", "src", "xlink:href"):
                assert value is not None
                assert value.startswith("#"), (name, value)
    assert "<script>alert('1')</script>" in reader.text  # said, not done
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e]", page.decode())


def test_nothing_is_loaded_and_only_our_script_may_run() -> None:
    reader = Reader(report_page(analysis(), MANIFEST, 10))
    policy = next(a["content"] for a in reader.named("meta") if a.get("http-equiv") is not None)
    page = report_page(analysis(), MANIFEST, 10).decode()
    script = re.search(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    addresses = set(re.findall(r"\w+://[^\"'\s)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "@import" not in page
    assert "url(#" in page  # arrowheads
    assert not re.search(r"url\((?!#)", page)


def test_it_says_what_the_command_prints() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.GELU(), nn.Linear(6, 3))
    network = vercomp.compile(model, input_shape=(5,), name="seven")
    found = network.analysis()
    page = report_page(found, network.manifest, 42)
    text = Reader(page).text
    for row in found.layers:
        assert f"‖A‖ ≤ {number(row.norm, 5)}" in text
        assert f">{number(row.norm, 5)}<" in page.decode()
        if row.following is not None:
            assert f"{percent(row.share)} of κ" in text
            for value in (*row.following.first_range, *row.following.second_range):
                assert repr(value) in text  # all digits, in the tooltip
            assert row.following.formula in text
    kappa = -found.curvature[0]
    off = kappa[~torch.eye(3, dtype=torch.bool)]
    assert f"mean κ{number(float(off.mean()))}" in text
    assert f"hidden units{13}" in text
    assert "seven" in text
    assert network.source_hash in text
    titles = [unescape(a["title"] or "") for a in Reader(page).named("td") if "title" in a]
    assert f"κ(0, 1) = {float(kappa[0, 1])!r}" in titles


def test_tables_have_headers_and_the_drawing_a_description() -> None:
    reader = Reader(report_page(analysis(), MANIFEST, 10))
    assert len(reader.named("table")) == len(reader.named("caption")) == 3
    assert all(a.get("scope") in ("row", "col") for a in reader.named("th"))
    (svg,) = reader.named("svg")
    ids = {a.get("id") for _, a in reader.elements}
    assert svg["role"] == "img"
    assert set((svg["aria-labelledby"] or "").split()) <= ids
    assert {a["href"][1:] for a in reader.named("a") if a["href"]} <= ids
    marked = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(marked) == len(set(marked))
    assert reader.named("html")[0]["lang"] == "en"


def test_curvature_that_was_found_stands_beside_the_bound() -> None:
    matrix = np.array([[np.nan, 0.5, 0.25], [np.nan, np.nan, 1.0], [0.1, 0.2, np.nan]])
    text = Reader(report_page(analysis(), MANIFEST, 1, Found(matrix, "K_lb: at 8 inputs"))).text
    assert "K_lb: at 8 inputs" in text
    assert "5 pairs: smallest 0.1, mean 0.41, largest 1." in text


def test_the_seal_notices_every_change() -> None:
    page = report_page(analysis(), MANIFEST, 10)
    assert is_report(page)
    for changed in (
        page + b"\n",
        page.replace(b"The graph", b"My graph", 1),
        page[:-10],
        page[10:],
        b"",
        b"<!DOCTYPE html>\n",
    ):
        assert not is_report(changed)


def test_a_card_holds_an_activation_that_alone_reads_its_node() -> None:
    made = [[node.identifier for node in card.nodes] for card in cards(analysis())]
    assert made == [["x"], ["a0"], ["z1"], ["a1"], ["a2"], ["z2"]]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    chain = cards(vercomp.compile(model, input_shape=(5,)).analysis())
    assert [len(card.nodes) for card in chain] == [1, 2, 1]


def test_rows_of_activations_that_share_a_node_or_have_none() -> None:
    rows = analysis().layers
    assert [(row.name, row.activation, row.norm) for row in rows] == [
        ("fc.a0", "sigmoid", None),
        ("fc.z1", "sigmoid", 1.5),
        ("fc.a2", "sigmoid", None),
        ("fc.z2", None, 3.0),
    ]
    assert sum(row.share for row in rows) == 1
    assert analysis().hidden_units == 16


@pytest.mark.parametrize(
    ("classes", "cells", "words"),
    [(2, 4, "1.50"), (12, 144, "1.50"), (13, 169, "156 pairs"), (65, 0, "4160 pairs")],
)
def test_heat_of_few_many_and_very_many_classes(classes: int, cells: int, words: str) -> None:
    matrix = np.full((classes, classes), 1.5)
    table = heat_table(matrix, "K", "All:")
    assert table.count("<td") == cells
    assert words in table


def test_heat_spreads_over_the_values_and_knows_what_is_unknown() -> None:
    table = heat_table(np.array([[0.0, 1.0, 3.0], [np.nan, 0.0, 2.0], [2.0, 2.0, 0.0]]), "K", "")
    assert re.findall(r"--v:([\d.]+)", table) == ["0.10", "1.00", "0.55", "0.55", "0.55"]
    assert table.count("–") == 1
    assert "Nothing is known." in heat_table(np.full((2, 2), np.nan), "K", "")


def test_markup_is_escaped_once() -> None:
    inner = tag("b", "a < b & c", title='"quoted"')
    assert inner == '<b title="&quot;quoted&quot;">a &lt; b &amp; c</b>'
    assert tag("p", inner, ["x", inner], hidden=False, id=None) == f"<p>{inner}x{inner}</p>"
    assert join("<", inner) == f"&lt;{inner}"
    assert tag("meta", charset="utf-8", http_equiv="x") == '<meta charset="utf-8" http-equiv="x">'
    assert clean("a\nb\tc\ud800") == "a\ufffdb\ufffdc\ufffd"


def test_long_names_lose_their_middle() -> None:
    assert shortened("features.denseblock1.conv", 12) == "featu…1.conv"
    assert shortened("short", 12) == "short"
    assert len(shortened("x" * 100, 33)) == 33
