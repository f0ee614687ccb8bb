"""Pages of certificates, attacks and comparisons: complete, inert, and true to the results."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from typing import Any

import findings as made
import numpy as np
import pytest
from html_reader import Reader
from PIL import Image

from vercomp.report.attack_page import attack_page
from vercomp.report.certify_page import certify_page, ranges
from vercomp.report.compare_page import compare_page, signed
from vercomp.report.document import is_report
from vercomp.report.inputs_table import ROWS
from vercomp.report.tables import number, percent
from vercomp.results.breakdowns import by_method
from vercomp.results.comparison import Comparison, compare
from vercomp.results.runs import FinishedRun
from vercomp.results.summaries import certificate_summary

HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=alert(2)> \u202e\x00\x1b[31m&amp;"


def comparison(name: str = "net") -> Comparison:
    runs = []
    for place in range(3):
        arrays = made.certificates(30)
        arrays["radius"] = arrays["radius"] * (1.0 + 0.1 * place)
        runs.append(FinishedRun(f"{name}-{place}", "certify", arrays, {"norm": "l2"}, "abc"))
    return compare(runs)


PAGES: dict[str, Callable[[str], bytes]] = {
    "certify": lambda name: certify_page(made.findings(name=name), [name], comparison(name)),
    "decide": lambda name: certify_page(made.findings(name=name, radius=0.3, decide=True)),
    "tabular": lambda name: certify_page(made.findings(name=name, shape=(20,))),
    "attack": lambda name: attack_page(made.attacks(name=name), comparison(name)),
    "compare": lambda name: compare_page(comparison(name)),
}


@pytest.mark.parametrize("kind", PAGES)
def test_pages_are_inert_whatever_names_say(kind: str) -> None:
    page = PAGES[kind](HOSTILE)
    reader = Reader(page)
    kinds = [attributes.get("type") for attributes in reader.named("script")]
    assert kinds == ["application/json", None]  # the rows, and our script
    for name, attributes in reader.elements:
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key in ("href", "src"):
                assert value is not None
                assert value.startswith(("#", "data:image/png;base64,")), (name, value)
    said = "<img src=x onerror=alert(2)>" if kind == "compare" else "<script>alert('1')</script>"
    assert said in reader.text  # said, not done; of a path the last part
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e]", page.decode().replace("\t", ""))


@pytest.mark.parametrize("kind", PAGES)
def test_nothing_is_loaded_and_only_our_script_may_run(kind: str) -> None:
    page = PAGES[kind]("net").decode()
    reader = Reader(page.encode())
    policy = next(a["content"] for a in reader.named("meta") if a.get("http-equiv") is not None)
    script = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; ")
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert ("img-src data:" in policy) == (kind != "compare")
    assert not re.findall(r"\w+://[^\"'\s)]+", page)
    assert "@import" not in page
    assert "url(" not in page
    assert is_report(page.encode())


@pytest.mark.parametrize("kind", PAGES)
def test_sections_are_linked_tables_have_headers_and_pictures_are_described(kind: str) -> None:
    page = PAGES[kind]("net")
    assert page == PAGES[kind]("net")
    reader = Reader(page)
    marked = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(marked) == len(set(marked))
    targets = {a["href"][1:] for a in reader.named("a") if a.get("href")}
    assert targets <= set(marked)
    assert targets == {a["id"] for a in reader.named("section")} - {"curves", "changes"} or (
        kind == "compare"
    )
    assert all(a.get("scope") in ("row", "col") for a in reader.named("th"))
    assert all(a.get("alt") for a in reader.named("img"))
    charts = [a for a in reader.named("svg") if "chart" in (a.get("class") or "")]
    assert all(a.get("aria-label") for a in charts)
    assert len(reader.named("table")) == len(reader.named("caption"))


def rows_of(page: bytes) -> dict[str, list[Any]]:
    """The data of the table of all inputs, by heading."""
    text = page.decode()
    found = re.search(r'<script type="application/json" class="rows">(.*?)</script>', text)
    assert found is not None
    assert "<" not in found[1]
    data = json.loads(found[1])
    table = text[: found.start()].rpartition("<table")[2]
    heads = [unescape(head) for head in re.findall(r"<button[^>]*>(.*?)</button></th>", table)]
    columns = {}
    for head, column in zip(heads, data["columns"], strict=True):
        words = column.get("words")
        columns[head] = [words[v] if words else v for v in column["values"]]
    return columns


def test_the_rows_are_the_results() -> None:
    found = made.findings(200, radius=0.5)
    rows = rows_of(certify_page(found))
    assert rows["input"] == list(range(200))
    assert rows["label"] == found.arrays["label"].tolist()
    assert rows["predicted"] == found.arrays["prediction"].tolist()
    np.testing.assert_allclose(rows["radius"], found.arrays["radius"], rtol=1e-5)
    np.testing.assert_allclose(rows["adversarial at"], found.distance, rtol=1e-5)
    assert rows["nearest"] == found.arrays["target"].tolist()
    assert rows["method"] == found.arrays["method"].tolist()
    beyond = found.arrays["radius"] > 0.5
    assert rows["beyond 0.5"] == ["yes" if yes else "–" for yes in beyond]
    assert rows["exact"] == ["yes" if yes else "–" for yes in found.arrays["exact"]]


def test_the_numbers_are_the_results() -> None:
    found = made.findings(100, radius=0.5)
    text = Reader(certify_page(found)).text
    arrays = found.arrays
    correct = arrays["label"] == arrays["prediction"]
    assert f"clean accuracy{percent(correct.mean())}" in text
    assert f"certified at 0.5{percent((arrays['radius'] > 0.5).mean())}" in text
    assert f"median radius{number(float(np.median(arrays['radius'][correct])))}" in text
    proved, left = (arrays["radius"] > 0.25).mean(), (found.distance > 0.25).mean()
    assert f"0.25{percent(proved)}{percent(left)}{percent(left - proved)}" in text
    for name in ("curvature", "crown"):
        assert f"{name}{((arrays['method'] == name) & (arrays['radius'] > 0)).sum()}" in text
    assert found.confusion is not None
    cells = [a["title"] for a in Reader(certify_page(found)).named("td") if a.get("title")]
    count = found.confusion.counts[0, 1]
    assert f"inputs(0, 1) = {float(count)!r}" in cells


def test_curves_are_drawn_where_they_are() -> None:
    arrays = made.certificates(4)
    values = {"label": [0, 0, 1, 1], "prediction": [0, 0, 1, 1], "radius": [0.1, 0.2, 0.3, 0.4]}
    arrays |= {name: np.array(value) for name, value in values.items()}
    page = certify_page(
        made.findings(4, arrays=arrays, distance=np.array([0.2, 0.4, 0.6, 0.8]))
    ).decode()
    path = re.search(r'class="curve certified" d="M([^"]*)"', page)
    assert path is not None
    steps = re.findall(r"H([\d.]+)V([\d.]+)", path[1])
    heights = [float(y) for _, y in steps]
    assert heights == pytest.approx(
        [12 + 244 * (1 - share) for share in (0.75, 0.5, 0.25, 0)], abs=0.1
    )
    widths = [float(x) - 46 for x, _ in steps]
    assert [width / widths[0] for width in widths] == pytest.approx([1, 2, 3, 4], rel=0.01)


def test_ten_thousand_inputs_make_a_small_file() -> None:
    page = certify_page(made.findings(10_000))
    assert len(page) < 1_500_000
    reader = Reader(page)
    bodies = page.decode().count('<tr><th scope="row" class="number">')
    assert bodies < 2 * ROWS
    assert "50 of 10,000 inputs" in reader.text
    assert len(rows_of(page)["input"]) == 10_000


def test_one_input_and_none_that_is_correct() -> None:
    page = certify_page(made.findings(1))
    assert "1 of 1 inputs" in Reader(page).text
    arrays = made.certificates(8)
    wrong = {**arrays, "prediction": arrays["label"] + 1, "radius": np.zeros(8)}
    none = made.findings(8, arrays=wrong, weakest=[], strongest=[], distance=np.zeros(8))
    text = Reader(certify_page(none)).text
    assert "The weakest inputs" not in text


def test_inputs_that_were_not_reached_are_named() -> None:
    text = Reader(certify_page(made.findings(10, total=25))).text
    assert "The time was over before 15 inputs were reached (inputs 10 to 24)" in text
    assert ranges([(3, 3), (5, 9)]) == "3, 5 to 9"


def test_a_run_that_decided_has_verdicts_and_no_curve() -> None:
    found = made.findings(60, radius=0.3, decide=True)
    reader = Reader(certify_page(found))
    assert not [a for a in reader.named("svg") if "chart" in (a.get("class") or "")]
    proved = found.overall.certified[0]
    left = found.overall.left[0]
    title = (
        f"{percent(proved)} certified, {percent(left - proved)} open, {percent(1 - left)} broken"
    )
    bars = [a["title"] for a in reader.named("div") if a.get("title")]
    assert bars[0] is not None
    assert bars[0].startswith(title)
    assert "radius, at least" in reader.text
    assert "median radius" not in reader.text


def test_questions_without_labels_say_nothing_of_classes() -> None:
    page = certify_page(made.findings(labelled=False, question="no output moves by more than 0.1"))
    text = Reader(page).text
    assert "The question: no output moves by more than 0.1." in text
    for words in ("By class", "Nearest targets", "predicted"):
        assert words not in text
    assert "label" not in rows_of(page)


def test_runner_up_radii_are_called_no_certificates() -> None:
    found = made.findings()
    summary = {**found.summary, "targets": "runner-up"}
    text = Reader(certify_page(replace(found, column="radius_runner_up", summary=summary))).text
    assert "these radii are no certificates of robustness" in text
    assert "certified against the runner-up only" in text


def pictures(page: bytes) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page.decode())
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8), (3, 8, 8)])
def test_pictures_show_inputs_adversaries_and_changes(shape: tuple[int, ...]) -> None:
    found = made.findings(shape=shape)
    shown = pictures(certify_page(found))
    every = [*found.weakest, *found.strongest]
    assert len(shown) == 3 * len(every)
    for place, one in enumerate(every):
        x, beside, change = shown[3 * place : 3 * place + 3]
        planes = one.x.reshape(-1, 8, 8)
        expected = np.rint(255 * planes.repeat(3 // len(planes), axis=0)).transpose(1, 2, 0)
        assert np.array_equal(x, expected)
        assert one.adversary is not None
        moved = one.adversary - one.x
        rest = 255 if len(planes) == 1 else 128
        still = np.abs(moved).reshape(-1, 8, 8).max(axis=0) < 1e-9
        assert (change[still] == rest).all()
        assert beside.shape == change.shape == (8, 8, 3)
        if len(planes) == 1:  # what rose the most is orange, what fell the most is blue
            flat = moved.reshape(8, 8)
            rises = np.unravel_index(flat.argmax(), flat.shape)
            assert change[rises][0] > change[rises][2]


def test_flat_inputs_are_pictures_where_the_data_has_pictures() -> None:
    flat = made.findings(shape=(64,), shapes=((64,), (8, 8)))
    assert pictures(certify_page(flat))[0].shape == (8, 8, 3)


def test_large_pictures_are_averaged_down() -> None:
    page = certify_page(made.findings(14, shape=(3, 300, 200)))
    assert pictures(page)[0].shape == (100, 66, 3)


def test_tables_list_the_largest_changes() -> None:
    found = made.findings(shape=(20,))
    page = certify_page(found)
    assert pictures(page) == []
    one = found.weakest[0]
    assert one.adversary is not None
    order = np.argsort(-np.abs(one.adversary - one.x), kind="stable")
    text = Reader(page).text
    start = text.index(f"The largest changes of input {one.index}.")
    part = text[start : start + 400]
    names = re.findall(r"x\[(\d+)\]", part)[:6]
    assert [int(name) for name in names] == order[:6].tolist()
    assert "14 other features change by at most" in part


def test_what_has_no_adversary_says_so() -> None:
    found = made.findings()
    alone = [replace(one, adversary=None, distance=np.inf, target=-1) for one in found.weakest]
    page = certify_page(replace(found, weakest=alone)).decode()
    assert page.count('<p class="dim">no adversarial input is known</p>') == len(alone)


def test_attacks_have_verdicts_margins_and_rows() -> None:
    found = made.attacks(50)
    page = attack_page(found)
    text = Reader(page).text
    arrays = found.arrays
    correct = arrays["label"] == arrays["prediction"]
    assert f"left by the attack{percent((correct & (arrays['margin'] > 0)).mean())}" in text
    assert f"proved{percent((correct & (arrays['lower_bound'] > 0)).mean())}" in text
    rows = rows_of(page)
    np.testing.assert_allclose(rows["margin"], arrays["margin"], rtol=1e-5)
    verdicts = []
    for right, margin, lower in zip(correct, arrays["margin"], arrays["lower_bound"], strict=True):
        verdicts.append(
            "wrong" if not right else "broken" if margin <= 0 else "proved" if lower > 0 else "open"
        )
    assert rows["verdict"] == verdicts
    assert len(set(verdicts)) == 4


def test_a_comparison_lists_what_changed() -> None:
    found = comparison()
    page = compare_page(found)
    text = Reader(page).text
    changes = found.changes(1)
    best = int(changes.argmax())
    assert f"{found.index[best]}{found.label[best]}" in text
    assert signed(changes[best]) in text
    assert text.count("the largest gains") == 2
    assert "net-2: the largest losses: none." in text
    rows = rows_of(page)
    np.testing.assert_allclose(rows["net-1"], found.values[1], rtol=1e-5)
    np.testing.assert_allclose(rows["change"], found.changes(), rtol=1e-5)
    assert page.decode().count('class="curve run-') == 6  # three curves, three pieces in the legend


def test_runs_of_other_inputs_have_curves_alone() -> None:
    one, other = (
        FinishedRun(name, "certify", made.certificates(count), {"norm": "l2"}, name)
        for name, count in (("a", 20), ("b", 30))
    )
    other.arrays["label"][:] = 2
    text = Reader(compare_page(compare([one, other]))).text
    assert "different inputs" in text
    assert "All inputs" not in text


def test_probable_radii_are_never_called_proved() -> None:
    arrays = made.certificates(40)
    failure = np.full(40, 1e-3)
    probable = {**arrays, "probable_radius": arrays["radius"], "failure_probability": failure}
    probable |= {"radius": np.full(40, np.nan), "method": np.full(40, "sampling")}
    summary = certificate_summary(probable, radius=0.5, targets="all")
    found = made.findings(40, radius=0.5)
    found = replace(found, arrays=probable, summary=summary, column="probable_radius")
    found = replace(found, methods=by_method(probable, "probable_radius"))
    page = certify_page(found)
    text = Reader(page).text
    assert (
        "Nothing on this page is proved: each radius holds with a probability of at least" in text
    )
    assert "at least 0.999, all of them together of at least 0.96." in text
    assert f"probably certified at 0.5{percent((arrays['radius'] > 0.5).mean())}" in text
    assert "Probably certified accuracy against radius" in text
    assert "are proved to" not in text
    assert "Radii are proved" not in text
    np.testing.assert_allclose(rows_of(page)["radius"], arrays["radius"], rtol=1e-5)
