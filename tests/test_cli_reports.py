"""Reports, rows and comparisons from the command line."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from html_reader import Reader
from torch import nn

import vercomp
from vercomp.report.document import is_report
from vercomp.report.tables import number

Run = Callable[..., tuple[int, str, str]]


def network(outputs: int, scale: float = 1.0, *, smooth: bool = True) -> nn.Module:
    torch.manual_seed(0)
    activation = nn.Tanh() if smooth else nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 8), activation, nn.Linear(8, outputs))
    for parameter in model.parameters():
        parameter.data *= scale
    return model.eval()


def of_pictures() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.Softplus(), nn.Linear(6, 3)).eval()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled networks, each in a folder of its name."""
    folder = tmp_path_factory.mktemp("packages")
    models = {
        "policy": network(3),
        "other": network(3, 1.2),
        "rectified": network(3, smooth=False),
        "controller": network(1),
        "pictures": of_pictures(),
    }
    for name, model in models.items():
        shape = (3, 4, 4) if name == "pictures" else (4,)
        vercomp.compile(model, shape, name=name).save(folder / name)
    return folder


@pytest.fixture
def run(run: Run, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command, in a folder with the networks above, and inputs with labels and without."""
    monkeypatch.chdir(tmp_path)
    for package in packages.iterdir():
        Path(package.name).symlink_to(package)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 4)).astype(np.float32)
    np.savez("bare.npz", x=x)
    np.savez("labelled.npz", x=x, y=rng.integers(0, 2, 12))
    np.savez("pictures.npz", x=rng.random((6, 3, 4, 4), dtype=np.float32))
    return run


def rows_of(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8"))))


def done(run: Run, *arguments: Any) -> str:
    code, text, error = run(*arguments)
    assert code == 0, error
    return text


def rows(page: str) -> list[Any]:
    found = re.search(r'<script type="application/json" class="rows">(.*?)</script>', page)
    assert found is not None
    return [column["values"] for column in json.loads(found[1])["columns"]]


INTERVAL = ("--methods", "interval")  # the quickest
PREDICTED = ("--data", "bare.npz", "--labels", "predicted")


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("policy", PREDICTED, "Certified share against radius"),
        ("policy", ("--data", "labelled.npz"), "Certified accuracy against radius"),
        (
            "rectified",
            (*PREDICTED, "--norm", "linf", *INTERVAL),
            "linf radius, in units",
        ),
        ("policy", (*PREDICTED, "--norm", "l1", "--box", "-5,5", *INTERVAL), "l1 · within [-5, 5]"),
        ("policy", (*PREDICTED, "--top", 2, *INTERVAL), "among the 2 largest"),
        ("policy", (*PREDICTED, "--radius", 0.1, "--decide"), "At radius 0.1"),
        ("policy", (*PREDICTED, "--frozen", "0-1", *INTERVAL), "2 features frozen"),
        ("policy", ("--data", "bare.npz", "--deviation", 0.1), "moves by more than 0.1"),
        ("controller", (*PREDICTED, "--threshold", 0.1), "stays on its side of 0.1"),
        ("policy", (*PREDICTED, "--targets", "runner-up"), "no certificates of robustness"),
        ("policy", (*PREDICTED, "--limit", 1), "1 of 1 inputs"),
        ("pictures", ("--data", "pictures.npz", "--labels", "predicted"), "a channel that rises"),
    ],
)
def test_every_question_has_a_page(
    run: Run, model: str, options: tuple[Any, ...], words: str
) -> None:
    done(
        run,
        *("certify", model, *options),
        *("--out", "o", "--html", "o/page.html", "--csv", "o/rows.csv"),
    )
    page = Path("o/page.html").read_bytes()
    assert is_report(page)
    assert words in Reader(page).text
    if "--decide" in options:  # radii that were only compared with one say nothing of targets
        assert "Nearest targets" not in Reader(page).text
    column = "radius_runner_up" if "--targets" in options else "radius"
    with np.load("o/certificates.npz") as archive:
        arrays = dict(archive)
    table = rows_of("o/rows.csv")
    assert [float(row[column]) for row in table] == arrays[column].tolist()
    numbers = [float(f"{radius:.6g}") for radius in arrays[column]]
    assert ["inf" if np.isinf(value) else value for value in numbers] in rows(page.decode())


def test_a_second_run_resumes_beside_its_report_and_draws_the_same(run: Run) -> None:
    command = ("certify", "policy", "--data", "labelled.npz", "--out", "o")
    done(run, *command, "--html", "o/page.html")
    first = Path("o/page.html").read_bytes()
    done(run, *command, "--html", "o/page.html")
    assert Path("o/page.html").read_bytes() == first
    Path("o/page.html").write_text("mine")
    code, _, error = run(*command, "--html", "o/page.html")
    assert code == 2
    assert "no report of vercomp, or has been changed" in error


def test_rows_go_to_standard_output_alone(run: Run) -> None:
    command = ("certify", "policy", "--data", "labelled.npz", "--csv", "-")
    table = list(csv.DictReader(io.StringIO(done(run, *command))))
    assert [row["index"] for row in table] == [str(place) for place in range(12)]
    code, text, error = run(*command, "--json", "-")
    assert (code, text) == (2, "")
    assert "standard output cannot hold both" in error
    found = done(run, *command[:-1], "rows.csv", "--json", "-")
    assert json.loads(found)["n"] == 12
    assert len(Path("rows.csv").read_text().splitlines()) == 13


def test_inputs_that_were_not_reached_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from vercomp.commands import blocks

    monkeypatch.setattr(blocks, "FIRST", 5)
    options = ("certify", "policy", "--data", "labelled.npz", "--timeout", 1e-9)
    done(run, *options, "--html", "page.html")
    text = Reader(Path("page.html").read_bytes()).text
    assert "before 7 inputs were reached (inputs 5 to 11)" in text


def test_attacks_have_a_page(run: Run) -> None:
    options = ("--data", "labelled.npz", "--radius", 0.3, "--steps", 5, "--restarts", 1)
    text = done(
        run,
        *("attack", "policy", *options, "--out", "o"),
        *("--html", "page.html", "--csv", "rows.csv", "--json", "-"),
    )
    summary = json.loads(text)
    page = Path("page.html").read_text(encoding="utf-8")
    said = Reader(page.encode()).text
    assert f"mean margin{number(summary['mean_margin'])}" in said
    with np.load("o/attacks.npz") as archive:
        margin, lower = archive["margin"], archive["lower_bound"]
    for values in (margin, lower):
        assert [float(f"{value:.6g}") for value in values] in rows(page)
    table = rows_of("rows.csv")
    assert [float(row["margin"]) for row in table] == margin.tolist()


@pytest.fixture
def finished(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two runs of certify in the folders ``a`` and ``b``."""
    kept = tmp_path_factory.getbasetemp() / "finished"
    for name, model in (("a", "policy"), ("b", "other")):
        if not (kept / name / "result.json").exists():
            done(run, "certify", model, "--data", "labelled.npz", "--out", kept / name)
        shutil.copytree(kept / name, name)
    return run


def test_runs_are_compared(finished: Run) -> None:
    text = done(finished, "compare", "a", "b/certificates.npz")
    assert "l2 certificates beside those of a" in text
    found = json.loads(
        done(finished, "compare", "a", "b", "--json", "-", "--html", "c.html", "--csv", "c.csv")
    )
    values = []
    for name in ("a", "b"):
        with np.load(f"{name}/certificates.npz") as archive:
            correct = archive["label"] == archive["prediction"]
            values.append(np.where(correct, archive["radius"], 0.0))
    moved = values[1] - values[0]
    close = np.abs(moved) <= 1e-3 * np.maximum(*values)
    row = found["runs"][1]
    assert (row["better"], row["worse"]) == (
        int((~close & (moved > 0)).sum()),
        int((~close & (moved < 0)).sum()),
    )
    assert row["better"] + row["worse"] > 0
    table = rows_of("c.csv")
    assert [float(line["radius b"]) for line in table] == values[1].tolist()
    assert "What became better, and what worse" in Reader(Path("c.html").read_bytes()).text


def test_a_new_run_stands_beside_finished_ones(finished: Run) -> None:
    options = ("certify", "other", "--data", "labelled.npz", "--compare", "a")
    found = json.loads(done(finished, *options, "--html", "page.html", "--json", "-"))
    beside = json.loads(done(finished, "compare", "a", "b", "--json", "-"))
    names = ("better", "worse", "shares", "median")
    for place in (0, 1):
        for name in names:
            assert found["comparison"]["runs"][place][name] == beside["runs"][place][name]
    assert found["comparison"]["runs"][1]["name"] == "this run"
    assert "Beside earlier runs" in Reader(Path("page.html").read_bytes()).text
    text = done(finished, *options)
    assert "l2 certificates beside those of a" in text


def test_attacks_stand_beside_finished_ones(run: Run) -> None:
    options = ("--data", "labelled.npz", "--radius", 0.3, "--steps", 5, "--restarts", 1)
    done(run, "attack", "policy", *options, "--out", "a")
    text = done(run, "attack", "other", *options, "--compare", "a", "--html", "p.html")
    assert "l2 attacks beside those of a" in text
    assert "Beside earlier runs" in Reader(Path("p.html").read_bytes()).text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "a"), "a comparison is of 2 to 6 runs, not of 1"),
        (("compare", "a", "nowhere"), "no finished run is there"),
        (("compare", "a", "labelled.npz"), "no results of certify or attack"),
        (
            (*("certify", "policy", "--data", "labelled.npz"), "--compare", "nowhere"),
            "no finished run is there",
        ),
        (
            (*("certify", "policy", "--data", "labelled.npz", "--norm", "linf"), "--compare", "a"),
            "a and this run asked different things: norm differs",
        ),
        (
            (*("certify", "policy", "--data", "labelled.npz"), "--html", "no/p.html"),
            "its folder is not there",
        ),
        (
            (*("certify", "policy", "--data", "labelled.npz"), "--csv", "no/r.csv"),
            "its folder is not there",
        ),
    ],
)
def test_what_cannot_be_drawn_or_compared_is_refused(
    finished: Run, arguments: tuple[str, ...], message: str
) -> None:
    code, text, error = finished(*arguments)
    assert (code, text) == (2, "")
    assert message in error
    assert error.count("\n") == 1
