"""``vercomp certify --methods smoothing``: what is asked, written, resumed and refused."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from html_reader import Reader
from onnx_models import node, save
from torch import Tensor, nn

import vercomp
from vercomp.commands import blocks
from vercomp.data import load_data
from vercomp.report.document import is_report
from vercomp.smoothing.certify import certify

DIGITS = str(Path(__file__).parent.parent / "examples" / "digits" / "digits.onnx")
SMOOTHING = ("--methods", "smoothing", "--sigma", 0.25, "--samples", 400)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled") / "digits"
    vercomp.compile(DIGITS).save(folder)
    return folder


def test_json_agrees_with_the_api(run: Run, package: Path) -> None:
    code, text, _ = run(
        *("certify", package, "--data", "digits", *SMOOTHING, "--every", 45),
        *("--radius", 0.3, "--json", "-"),
    )
    assert code == 0
    found = json.loads(text)
    data = load_data("digits", (64,))
    x, y = data.x[::45], data.y[::45]
    own = vercomp.Smoothed(vercomp.load_package(package), 0.25).certify(x, samples=400)
    right = own.prediction == y
    assert found["n"] == len(y) == 10
    assert found["clean_accuracy"] == pytest.approx(float(right.double().mean()))
    assert found["abstained"] == pytest.approx(float(own.abstained.double().mean()))
    assert found["base_accuracy"] == pytest.approx(float((own.base == y).double().mean()))
    certified = right & (own.radius > 0.3)
    assert found["probably_certified_accuracy"] == pytest.approx(float(certified.double().mean()))
    assert found["mean_probable_radius"] == pytest.approx(float(own.radius[right].mean()))
    assert found["largest_probable_radius"] == own.noise.largest_radius
    assert (found["samples"], found["selection"]) == (400, 100)
    assert found["confidence"] == pytest.approx(0.999)
    assert found["confidence_of_all"] == pytest.approx(0.99)
    assert found["classifier"] == "smoothed"
    assert found["evidence"] == "probable"
    assert "certified_accuracy" not in found
    assert found["curvature"] == pytest.approx(0.48394 / 0.25**2, rel=1e-4)


def test_a_report_calls_radii_probable_and_shows_no_attack(
    run: Run, package: Path, tmp_path: Path
) -> None:
    options = ("certify", package, "--data", "digits", *SMOOTHING, "--every", 45)
    out, html, rows = tmp_path / "run", tmp_path / "page.html", tmp_path / "rows.csv"
    code, _, error = run(*options, "--out", out, "--html", html, "--csv", rows)
    assert code == 0, error
    page = html.read_bytes()
    text = Reader(page).text
    assert is_report(page)
    assert "the classifier smoothed by noise with σ = 0.25, and not the network" in text
    assert "Nothing on this page is proved" in text
    said = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", page.decode(), flags=re.DOTALL)
    assert "Nothing on this page is proved" in said
    assert "adversarial" not in said
    assert "left by attacks" not in text
    with np.load(out / "certificates.npz") as archive:
        radii = archive["probable_radius"].tolist()
    table = list(csv.DictReader(rows.read_text().splitlines()))
    assert [float(row["probable_radius"]) for row in table] == radii
    code, text, error = run(*options, "--seed", 1, "--compare", out)
    assert code == 0, error
    assert "l2 certificates beside those of run" in text


def test_the_table_says_whose_figures_they_are(run: Run, package: Path) -> None:
    code, text, _ = run("certify", package, "--data", "digits", *SMOOTHING, "--limit", 4)
    assert code == 0
    assert "probable l2 certificates" in text.splitlines()[0]
    assert "smoothed with σ = 0.25" in text
    for line in text.splitlines():
        if "certified accuracy" in line or "radius of correct" in line:
            assert "probabl" in line
    assert "nothing is proved: each certificate holds with probability" in text
    assert "≥ 0.999" in text


def test_a_confidence_of_all_is_shared_out(run: Run, package: Path) -> None:
    options = ("certify", package, "--data", "digits", *SMOOTHING, "--limit", 4, "--json", "-")
    each = json.loads(run(*options, "--confidence", 0.99)[1])
    together = json.loads(run(*options, "--confidence", 0.99, "--jointly")[1])
    assert each["confidence"] == pytest.approx(0.99)
    assert together["confidence_of_all"] == pytest.approx(0.99)
    assert together["mean_probable_radius"] < each["mean_probable_radius"]


def test_a_run_resumes_with_the_very_same_draws(
    run: Run, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("certify", package, "--data", "digits", *SMOOTHING, "--limit", 7)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*options, "--out", whole)[0] == 0
    calls = 0

    def interrupted(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return certify(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(blocks, "KEEP", 0.0)
    monkeypatch.setattr("vercomp.commands.certify_smoothed.certify", interrupted)
    assert run(*options, "--out", parts)[0] == 130
    code, _, error = run(*options, "--out", parts)
    assert code == 0
    assert "are there already" in error
    with np.load(whole / "certificates.npz") as one, np.load(parts / "certificates.npz") as other:
        for name in set(one.files) - {"seconds"}:
            real = one[name].dtype.kind == "f"
            assert np.array_equal(one[name], other[name], equal_nan=real), name
        assert np.isnan(one["radius"]).all()  # nothing is proved
    code, _, error = run(*options, "--seed", 3, "--out", parts)
    assert code == 2
    assert "another run: seed differs" in error


def test_rows_and_a_finished_run_beside(run: Run, package: Path, tmp_path: Path) -> None:
    options = ("certify", package, "--data", "digits", "--limit", 6)
    assert run(*options, "--methods", "interval", "--out", tmp_path / "proved")[0] == 0
    smoothed = (*options, *SMOOTHING, "--compare", tmp_path / "proved")
    code, text, _ = run(*smoothed, "--json", "-")
    assert code == 0
    notes = json.loads(text)["comparison"]["notes"]
    assert "The radii of this run are probable, and not proved." in notes
    code, text, _ = run(*options, *SMOOTHING, "--csv", "-")
    assert code == 0
    head, *rows = text.splitlines()
    assert len(rows) == 6
    assert {"prediction", "probable_radius", "failure_probability"} <= set(head.split(","))


def test_a_limit_of_time_leaves_inputs_undecided(run: Run, package: Path) -> None:
    code, text, error = run(
        *("certify", package, "--data", "digits", *SMOOTHING, "--limit", 30),
        *("--timeout", 1e-6, "--json", "-"),
    )
    assert code == 0
    assert json.loads(text)["undecided"] > 0
    assert "undecided" in error


class Products(nn.Module):
    """A network that is refused by compile: it multiplies activations."""

    input_shape = (64,)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Linear(64, 20), nn.Linear(64, 20)
        self.last = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)) * torch.relu(self.second(x)))


def products() -> nn.Module:
    return Products()


def test_what_merely_runs_is_smoothed_too(run: Run, tmp_path: Path) -> None:
    state = {name: tensor.numpy() for name, tensor in Products().state_dict().items()}
    nodes = [
        node("Gemm", ["x", "first.weight", "first.bias"], ["a"], transB=1),
        node("Gemm", ["x", "second.weight", "second.bias"], ["b"], transB=1),
        node("Relu", ["a"], ["ra"]),
        node("Relu", ["b"], ["rb"]),
        node("Mul", ["ra", "rb"], ["ab"]),
        node("Gemm", ["ab", "last.weight", "last.bias"], ["y"], transB=1),
    ]
    path = save(tmp_path / "products.onnx", nodes, state, shape=["n", 64])
    results = []
    for model in (f"{__name__}:products", path):
        code, text, error = run(
            "certify", model, "--data", "digits", *SMOOTHING, "--limit", 3, "--json", "-"
        )
        assert code == 0
        assert "cannot be compiled" in error
        results.append(json.loads(text))
    for name in ("clean_accuracy", "mean_probable_radius", "abstained"):
        assert results[0][name] == pytest.approx(results[1][name])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--methods", "smoothing"), "--sigma"),
        (("--sigma", 1), "--sigma: only --methods smoothing"),
        (("--methods", "smoothing,crown", "--sigma", 1), "another classifier"),
        (("--methods", "smoothing", "--sigma", 1, "--norm", "linf"), "2-norm"),
        (("--methods", "smoothing", "--sigma", 1, "--box", "0,1"), "--box"),
        (("--methods", "smoothing", "--sigma", 1, "--threshold", 0), "--threshold"),
        (("--methods", "smoothing", "--sigma", 1, "--frozen", "0"), "--frozen"),
        (("--methods", "smoothing", "--sigma", 1, "--scales", "none.npy"), "--scales"),
        (("--methods", "smoothing", "--sigma", 1, "--targets", "runner-up"), "runner-up"),
        (("--methods", "smoothing", "--sigma", 1, "--confidence", 1), "--confidence"),
    ],
)
def test_what_does_not_go_together_is_refused(
    run: Run, package: Path, options: tuple[object, ...], said: str
) -> None:
    code, _, error = run("certify", package, "--data", "digits", *options)
    assert code == 2
    assert said in error
    assert len(error.splitlines()) == 1
