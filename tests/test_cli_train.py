"""``vercomp train``: what it writes, that it resumes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchrun import torchrun

from vercomp.commands import train as command
from vercomp.compiled import load_package
from vercomp.data import load_data
from vercomp.errors import UsageError

DIGITS = Path(__file__).parent.parent / "examples" / "digits" / "digits.onnx"
BRIEF = ("--epochs", 4, "--batch-size", 64, "--learning-rate", 0.005, "--evaluate-every", 2)
SMALL = ("--data", "digits", "--limit", 400, *BRIEF)
Run = Callable[..., tuple[int, str, str]]


def weights(folder: Path) -> bytes:
    return (folder / "network" / "net.safetensors").read_bytes()


def test_a_training_ends_with_a_package_that_certifies(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, text, said = run("train", "mlp:16:softplus", *SMALL, "--out", out)
    assert code == 0, said
    assert text.startswith("mlp:16:softplus trained on digits:train: the selected network")
    assert "training mlp:16:softplus by crt, penalty 0.01, on 320 inputs; 80 are held out" in said
    assert [f"epoch {n} of 4: loss" in said for n in (1, 2, 3, 4)] == [True] * 4
    assert said.count("held out: clean") == 2
    names = {path.name for path in out.iterdir()}
    assert names == {
        "certified.png",
        "checkpoint.pt",
        "epochs.png",
        "history.json",
        "network",
        "radii.npz",
        "report.html",
        "result.json",
        "run.json",
    }
    result = json.loads((out / "result.json").read_text())
    with np.load(out / "radii.npz") as radii:
        assert (radii[str(result["best_epoch"])] > 0.5).mean() == pytest.approx(
            result["validation_certified_accuracy"]
        )
    code, text, _ = run("certify", out / "network", "--data", "digits", "--limit", 50)
    assert code == 0
    assert text.startswith("mlp_16_softplus: l2 certificates on digits")


def test_an_architecture_standardises_its_data_unless_told_otherwise(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[Any, Any]] = []

    def train(*arguments: Any, **options: Any) -> Any:
        told.append((options["mean"], options["std"]))
        raise UsageError("that was all")

    monkeypatch.setattr(command, "train", train)
    for number, more in enumerate([(), ("--mean", 0.5, "--std", 0.25), ("--std", 0.25)]):
        run("train", "mlp:8:tanh", "--data", "digits", "--out", tmp_path / str(number), *more)
    pixels = load_data("digits:train", (64,)).x.double()
    expected = pytest.approx((pixels.mean().item(), pixels.std(correction=0).item()), abs=1e-4)
    assert told[0] == expected
    assert told[1:] == [(0.5, 0.25), (None, 0.25)]


def test_a_sweep_has_a_folder_a_penalty_and_a_report_over_all(run: Run, tmp_path: Path) -> None:
    options = ("mlp:8:tanh", *SMALL, "--out", tmp_path / "sweep", "--epochs", 1, "--json", "-")
    code, text, said = run("train", *options, "--penalty", "0,0.5")
    assert code == 0, said
    runs = json.loads(text)["runs"]
    assert [each["penalty"] for each in runs] == [0, 0.5]
    for name in ("penalty-0", "penalty-0.5"):
        assert (tmp_path / "sweep" / name / "report.html").is_file()
        assert load_package(tmp_path / "sweep" / name / "network").network.classes == 10
    assert (tmp_path / "sweep" / "bounds.png").is_file()
    code, text, said = run("train", *options, "--penalty", "0.5,1")  # one more
    assert code == 0, said
    assert said.count("epoch 1 of 1") == 1
    assert [each["penalty"] for each in json.loads(text)["runs"]] == [0.5, 1]
    code, _, said = run("train", *options, "--penalty", "0,1", "--seed", 1)
    assert code == 2
    assert "the folder holds another run: seed differs" in said


def test_an_interrupted_training_resumes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    line = command.line

    def interrupt(row: Any, recipe: Any) -> str:
        if row["epoch"] == 3:
            raise KeyboardInterrupt
        return line(row, recipe)

    monkeypatch.setattr(command, "line", interrupt)
    code, text, said = run("train", "mlp:8:tanh", *SMALL, "--out", out)
    assert (code, text) == (130, "")
    assert said.splitlines()[-1] == "interrupted"
    monkeypatch.undo()
    code, _, said = run("train", "mlp:8:tanh", *SMALL, "--out", out)
    assert code == 0
    assert "epoch 2 of 4" not in said
    assert "epoch 3 of 4" in said
    assert run("train", "mlp:8:tanh", *SMALL, "--out", whole)[0] == 0
    assert weights(out) == weights(whole)


def made() -> nn.Module:
    """Weights are drawn anew at every call."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))


def rectified() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))


def test_a_callable_is_called_with_the_seed(run: Run, tmp_path: Path) -> None:
    options = ("test_cli_train:made", "--input-shape", "1,8,8", *SMALL, "--epochs", 1)
    before = torch.get_rng_state()
    assert run("train", *options, "--out", tmp_path / "one")[0] == 0
    assert torch.equal(torch.get_rng_state(), before)
    code, _, said = run("train", *options, "--out", tmp_path / "one")
    assert code == 0
    assert "epoch 1 of" not in said  # the same model, so the same run, and nothing is left to train
    assert run("train", *options, "--out", tmp_path / "two", "--seed", 1)[0] == 0
    assert weights(tmp_path / "one") != weights(tmp_path / "two")


def test_a_file_and_a_package_are_trained_further(run: Run, tmp_path: Path) -> None:
    options = (*SMALL, "--epochs", 1, "--learning-rate", 1e-4, "--json", "-")
    outside = ("--mean", 0.01, "--std", 1.1)  # inside of the package
    code, text, said = run("train", DIGITS, *options, *outside, "--out", tmp_path / "file")
    assert code == 0, said
    first = json.loads(text)
    assert first["validation_clean_accuracy"] > 0.9  # it could do that before
    package = tmp_path / "file" / "network"
    code, text, said = run("train", package, *options, "--out", tmp_path / "package")
    assert code == 0, said
    assert load_package(tmp_path / "package" / "network").name == "digits"
    assert weights(tmp_path / "package") != weights(tmp_path / "file")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("mlp:8:tanh", "--data", "mnist:data"),
            "error: DATA 'mnist:data' is a test split, which must not be trained on. "
            "Write mnist:data:train",
        ),
        (("mlp:8:tanh", "--data", "digits:test"), "is a test split, which must not be trained on"),
        (("mlp:8:sign", "--data", "digits"), "no activation 'sign'"),
        (("mlp:8:tanh", "--data", "digits", "--epochs", 0), "epochs must be at least 1, not 0"),
        (("mlp:8:tanh", "--data", "digits", "--penalty", "1,x"), "'1,x' is no list of numbers"),
        (("mlp:8:tanh", "--data", "digits", "--penalty", "1,1.0"), "has a number twice"),
        (("mlp:8:tanh", "--data", "digits", "--method", "sgd"), "'sgd' is not one of"),
        (
            ("mlp:8:tanh", "--data", "digits", "--method", "pgd", "--penalty", "0,1"),
            "method 'pgd' has no penalty, and cannot be swept over several",
        ),
        (
            ("mlp:8:tanh", "--data", "digits", "--limit", 100, "--batch-size", 256),
            "batch of 256 is more than the 80 inputs that are left to train on (20 are held out)",
        ),
        (
            ("test_cli_train:rectified", "--input-shape", "1,8,8", "--data", "digits"),
            "relu",
        ),
    ],
)
def test_refusals_leave_no_folder(
    run: Run, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    code, text, said = run("train", *arguments, "--out", tmp_path / "run")
    assert (code, text) == (2, "")
    assert message in said
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    code, _, said = run("train", "mlp:8:tanh", *SMALL, "--out", tmp_path)
    assert code == 2
    assert "the folder holds 'thesis.tex', which is no run of vercomp" in said


@pytest.mark.slow
def test_two_processes_share_averages_shifts_and_what_attacks_found(
    run: Run, tmp_path: Path
) -> None:
    options = ("mlp:16:softplus", *SMALL, "--averaging", 0.9, "--shift", 1)
    done = torchrun("-m", "vercomp", "train", *options, "--out", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 4 of 4") == 1
    assert run("train", *options, "--out", tmp_path / "one")[0] == 0
    one, two = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("one", "two")
    )
    for name, weight in one["stepper"]["model"].items():
        torch.testing.assert_close(two["stepper"]["model"][name], weight, rtol=1e-5, atol=1e-5)
    found, expected = (state["stepper"]["perturbations"].float() for state in (two, one))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    assert one["selection"]["best_epoch"] == two["selection"]["best_epoch"]
    for epoch, radii in one["selection"]["radii"].items():
        torch.testing.assert_close(two["selection"]["radii"][epoch], radii, rtol=1e-4, atol=1e-4)
