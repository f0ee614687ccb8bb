"""What ``vercomp certify`` can be asked, and what it says where radii mean little."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vercomp

MODELS = """
import torch
from torch import nn


def made(outputs, scale=1.0, depth=1):
    torch.manual_seed(0)
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(4, 8 if not layers else 8), nn.Tanh()] if not layers else [
            nn.Linear(8, 8), nn.Tanh()
        ]
    model = nn.Sequential(*layers, nn.Linear(8, outputs))
    for parameter in model.parameters():
        parameter.data *= scale
    model.input_shape = (4,)
    return model.eval()


def controller():
    return made(1)


def policy():
    return made(3)


def probabilities():
    model = nn.Sequential(made(3), nn.Sigmoid())
    model.input_shape = (4,)
    return model


def steep():
    return made(3, 4.0, 5)
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command, in a folder with the models above and inputs with and without labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "questions", raising=False)
    (tmp_path / "questions.py").write_text(MODELS)
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    np.savez("bare.npz", x=x)
    np.savez("labelled.npz", x=x, y=(x[:, 0] > 0).astype(int))
    np.savez("regression.npz", x=x, y=x[:, 0])
    Path("torn.npz").write_bytes(b"PK\x03\x04torn")
    np.save("scales.npy", np.array([1.0, 0.5, 2.0, 1.0]))
    return run


def certified(run: Run, model: str, *options: Any) -> tuple[dict[str, Any], np.ndarray]:
    code, text, error = run("certify", f"questions:{model}", *options, "--out", "o", "--json", "-")
    assert code == 0, error
    with np.load("o/certificates.npz") as archive:
        return json.loads(text), archive["radius"]


def network(model: str) -> tuple[vercomp.CompiledNetwork, torch.Tensor]:
    sys.path.insert(0, str(Path.cwd()))
    import questions  # type: ignore[import-not-found]

    x = torch.from_numpy(np.load("bare.npz")["x"])
    return vercomp.compile(getattr(questions, model)(), (4,)), x


@pytest.mark.parametrize(
    ("model", "options", "claim"),
    [
        ("controller", ["--deviation", 0.1], vercomp.Deviation(0.1)),
        ("policy", ["--deviation", 0.1, "--entry", 2], vercomp.Deviation(0.1, 2)),
        ("controller", ["--threshold", 0.2, "--labels", "predicted"], vercomp.Threshold(0.2)),
        ("policy", ["--labels", "predicted"], vercomp.Labels()),
        ("policy", ["--labels", "predicted", "--top", 2], vercomp.Labels(top=2)),
        ("policy", ["--labels", "predicted", "--groups", "0,1"], vercomp.Labels(groups=[(0, 1)])),
    ],
)
def test_the_command_line_asks_what_python_asks(
    run: Run, model: str, options: list[Any], claim: Any
) -> None:
    found, radius = certified(run, model, "--data", "bare.npz", *options)
    net, x = network(model)
    torch.testing.assert_close(
        torch.from_numpy(radius), net.certify(x, claim).radius, rtol=1e-3, atol=0.0
    )
    assert found["clean_accuracy"] == 1.0
    assert found["mean_radius"] > 0 if np.isfinite(radius).all() else True
    if "--labels" in options:
        assert found["labels"] == "predicted"
    if "--deviation" in options:
        assert found["deviation"] == 0.1
        regression, _ = certified(run, model, "--data", "regression.npz", *options, "--limit", 20)
        assert regression["mean_radius"] == found["mean_radius"]
    code, text, _ = run("certify", f"questions:{model}", "--data", "bare.npz", *options)
    assert code == 0
    said = "what the model predicts" if "--labels" in options else "none needed"
    assert said in text
    assert "clean accuracy" not in text


def test_labels_say_on_which_side_of_a_threshold(run: Run) -> None:
    found, radius = certified(run, "controller", "--data", "labelled.npz", "--threshold", 0)
    net, x = network("controller")
    above = net.network(x)[:, 0] > 0
    right = above == (x[:, 0] > 0)
    assert found["clean_accuracy"] == pytest.approx(float(right.double().mean()))
    assert np.array_equal(radius > 0, right.numpy())


def test_features_have_radii_of_their_own(run: Run) -> None:
    options = ["--data", "labelled.npz", "--norm", "linf", "--scales", "scales.npy"]
    found, radius = certified(run, "policy", *options, "--frozen", "0,2-3")
    net, x = network("policy")
    scales = torch.tensor([0.0, 0.5, 0.0, 0.0])
    y = (x[:, 0] > 0).long()
    expected = net.certify(x, y, norm="linf", scales=scales).radius
    torch.testing.assert_close(torch.from_numpy(radius), expected, rtol=1e-3, atol=0.0)
    assert found["frozen"] == [0, 2, 3]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("controller", [], "Ask for --threshold T"),
        ("controller", ["--threshold", 1, "--deviation", 1], "ask one at a time"),
        ("controller", ["--threshold", 1, "--top", 2], "are about labels, not about numbers"),
        ("policy", ["--threshold", 1], "does not say which is meant. Name one, 0 to 2"),
        ("policy", ["--deviation", 1, "--entry", 3], "outputs are 0 to 2, got 3"),
        ("policy", ["--entry", 1], "--entry goes with --threshold or --deviation"),
        ("policy", ["--top", 3], "top must lie in 1..2"),
        ("policy", ["--groups", "0,1/1,2"], "class 1 is in two groups"),
        ("policy", ["--groups", "0,1,2"], "all classes count as one"),
        ("policy", ["--groups", "0,x"], "is no list of whole numbers"),
        ("policy", ["--frozen", "4"], "there is no feature 4 to freeze: they are 0 to 3"),
        ("policy", ["--frozen", "1-"], "is no list of columns"),
        ("policy", ["--frozen", "0-3"], "every feature of an input is frozen"),
        ("policy", ["--scales", "none.npy"], "cannot be read"),
        ("policy", ["--scales", "bare.npz"], "no array 'scales'"),
        ("policy", ["--scales", "torn.npz"], "at torn.npz: cannot be read"),
        ("policy", ["--deviation", 1, "--targets", "runner-up"], "has --targets"),
    ],
)
def test_questions_that_make_no_sense(
    run: Run, model: str, options: list[Any], message: str
) -> None:
    code, text, error = run("certify", f"questions:{model}", "--data", "labelled.npz", *options)
    assert (code, text) == (2, "")
    assert message in error
    assert error.count("\n") == 1


def test_data_without_labels_needs_a_question_without_them(run: Run) -> None:
    code, _, error = run("certify", "questions:policy", "--data", "bare.npz")
    assert code == 2
    assert "no array 'y'" in error
    assert "certify --labels predicted needs no y" in error


def test_radii_that_say_little_are_called_so(run: Run) -> None:
    options = ["--data", "bare.npz", "--labels", "predicted", "--methods", "curvature"]
    code, text, error = run("certify", "questions:steep", *options)
    assert code == 0, error
    assert "note: these radii say little: points that break the claim were found" in text
    assert "of the curvature bound, with a norm of" in text
    assert "what would help: " in text
    assert "train with the curvature bound as a penalty" in " ".join(text.split())
    found, _ = certified(run, "steep", *options)
    assert found["seen_over_radius"] > 10
    code, text, error = run("certify", "questions:policy", *options)
    assert code == 0, error
    assert "note:" not in text
    code, text, error = run("analyze", "questions:steep", "--data", "labelled.npz")
    assert code == 0, error
    assert "note: K says little: it is" in text
    code, text, error = run("analyze", "questions:controller", "--data", "bare.npz")
    assert code == 0, error
    assert "1 output" in text
    assert "note:" not in text


def test_a_tail_is_said_and_numbers_are_those_behind_it(run: Run) -> None:
    code, text, error = run("compile", "questions:probabilities", "--out", "p")
    assert (code, error) == (0, "")
    assert "labels are compared in front of sigmoid(z), which keeps order" in text
    code, text, error = run("show", "questions:probabilities", "--merged")
    assert "tail sigmoid(z), z the output" in text
    options = ["--data", "bare.npz", "--labels", "predicted", "--json", "-"]
    code, text, _ = run("certify", "p", *options)
    code, bare, _ = run("certify", "questions:policy", *options)
    # The points that certify are searched in float32, in blocks that follow the machine's speed.
    radius = json.loads(bare)["mean_radius"]
    assert json.loads(text)["mean_radius"] == pytest.approx(radius, rel=1e-4)
    code, text, _ = run("certify", "p", *options, "--threshold", 1.5, "--entry", 0)
    assert json.loads(text)["mean_radius"] > 100  # no probability is as large
