"""Packages of cascades: saved, loaded, run alone, certified and attacked from the command line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import vercomp
from vercomp.cascades import CompiledCascade
from vercomp.errors import ModelFileError, UsageError, VercompError

RADIUS = 0.3
Run = Callable[..., tuple[int, str, str]]


def _stage(seed: int) -> vercomp.CompiledNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        with torch.no_grad():
            model[0].weight.mul_(2.0)
            model[2].weight.mul_(3.0)
    return vercomp.compile(model, (2,))


@pytest.fixture(scope="module")
def cascade() -> CompiledCascade:
    return vercomp.cascade([_stage(0), _stage(1)], RADIUS, box=(-1.0, 1.0), name="two")


@pytest.fixture(scope="module")
def package(cascade: CompiledCascade, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cascade.save(tmp_path_factory.mktemp("cascades") / "two")


@pytest.fixture(scope="module")
def data(cascade: CompiledCascade, tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = torch.Generator().manual_seed(0)
    x = 2.0 * torch.rand(6, 2, generator=generator) - 1.0
    y = cascade.predict(x).label.clamp_min(0)
    path = tmp_path_factory.mktemp("data") / "points.npz"
    np.savez(path, x=x.numpy(), y=y.numpy())
    return path


def _points(data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    with np.load(data) as arrays:
        return torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])


def test_a_package_is_what_it_was(cascade: CompiledCascade, package: Path, data: Path) -> None:
    opened = vercomp.load_cascade(package)
    assert (opened.rule, opened.name, len(opened.stages)) == (cascade.rule, "two", 2)
    assert opened.files == cascade.files
    x, y = _points(data)
    assert torch.equal(opened.predict(x).label, cascade.predict(x).label)
    assert torch.equal(opened.certify(x, y).certified, cascade.certify(x, y).certified)
    # every stage is a package of its own
    stage = vercomp.load_package(package / "stage_2")
    assert torch.equal(stage.network(x), cascade.stages[1].network(x))


def test_a_package_runs_without_vercomp(
    cascade: CompiledCascade, package: Path, data: Path
) -> None:
    x, y = _points(data)
    found = cascade.certify(x[:4], y[:4])
    code = (
        "import sys; sys.modules['vercomp'] = None; sys.path.insert(0, sys.argv[1])\n"
        "import torch, two\n"
        "cascade = two.load()\n"
        "x, y = torch.tensor(eval(sys.argv[2])), torch.tensor(eval(sys.argv[3]))\n"
        "found = cascade.certify(x, y)\n"
        "print(found.label.tolist(), found.certified.tolist(), cascade(x).tolist())\n"
        "print(cascade.attack(x, y).broken.tolist())\n"
    )
    arguments = [str(package.parent), str(x[:4].tolist()), str(y[:4].tolist())]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    label, certified = found.label.tolist(), found.certified.tolist()
    assert done.stdout.splitlines()[0] == f"{label} {certified} {label}"


def test_the_command_makes_the_same_package(
    run: Run, cascade: CompiledCascade, package: Path, tmp_path: Path
) -> None:
    folders = [cascade.stages[k].save(tmp_path / f"own_{k}") for k in range(2)]
    out = tmp_path / "two"
    code, text, _ = run(
        *("cascade", *folders, "--radius", RADIUS, "--box", "-1,1", "--out", out),
    )
    assert code == 0
    assert "a cascade of 2 stages, inputs 2, 3 classes; it answers what a stage proves" in text
    assert text.endswith(f"within linf {RADIUS}\n")
    assert text.startswith(f"wrote {out} (")
    for path in package.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert (out / path.relative_to(package)).read_bytes() == path.read_bytes()


def test_certify_reports_abstention_and_both_counts(
    run: Run, cascade: CompiledCascade, package: Path, data: Path, tmp_path: Path
) -> None:
    out, left = tmp_path / "run", tmp_path / "left.npz"
    options = ("certify", package, "--data", data, "--out", out)
    code, text, _ = run(*options, "--left", left, "--json", "-")
    assert code == 0
    found = json.loads(text)
    x, y = _points(data)
    own = cascade.certify(x, y)
    assert found["classifier"] == "cascade"
    assert (found["n"], found["stages"], found["radius"], found["norm"]) == (6, 2, RADIUS, "linf")
    assert found["certified_accuracy"] == pytest.approx(float(own.certified.double().mean()))
    assert found["counted_accuracy"] == pytest.approx(float(own.counted.double().mean()))
    assert found["abstained"] == pytest.approx(float(own.abstained.double().mean()))
    assert sum(found["answered_by_stage"]) + found["abstained"] == pytest.approx(1.0)
    assert found["certified_and_answered"] <= found["certified_accuracy"]
    with np.load(left) as arrays:
        assert np.array_equal(arrays["x"], x[own.abstained].numpy())
        assert np.array_equal(arrays["y"], y[own.abstained].numpy())
    code, text, error = run(*options, "--radius", RADIUS)
    assert code == 0
    assert "are there already" in error
    assert "the paper's count" in text
    assert "(no certificate)" in text
    assert "abstained" in text


def test_attack_reports_what_it_broke(
    run: Run, cascade: CompiledCascade, package: Path, data: Path
) -> None:
    options = ("--data", data, "--radius", RADIUS, "--json", "-")
    found = json.loads(run("attack", package, *options)[1])
    certified = json.loads(run("certify", package, *options)[1])
    assert certified["certified_accuracy"] <= found["attacked_accuracy"]
    assert certified["certified_and_answered"] <= found["attacked_and_answered"]
    assert found["counted_accuracy"] == certified["counted_accuracy"]
    assert 0.0 < found["counted_and_broken"] < found["counted_accuracy"]
    code, text, _ = run("attack", package, *options[:-2])
    assert code == 0
    assert "of which another answer was found" in text


@pytest.mark.parametrize("command", [("certify",), ("attack", "--radius", RADIUS)])
def test_rows_of_inputs(run: Run, package: Path, data: Path, command: tuple[object, ...]) -> None:
    name, *options = command
    code, text, error = run(name, package, "--data", data, *options, "--csv", "-")
    assert code == 0, error
    rows = list(csv.DictReader(text.splitlines()))
    labels = _points(data)[1].tolist()
    assert [row["index"] for row in rows] == [str(place) for place in range(len(labels))]
    assert [int(row["label"]) for row in rows] == labels


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("certify", "--norm", "l2"), "--norm does not go with a cascade"),
        (("certify", "--methods", "crown"), "--methods does not go with a cascade"),
        (("certify", "--radius", 1), "nothing is known of its answers within 1"),
        (("attack", "--radius", 0.1), "Give --radius 0.3"),
        (("attack", "--radius", RADIUS, "--budget", 9), "--budget does not go"),
        (("certify", "--html", "p.html"), "cascade: pages are drawn of single networks"),
        (
            ("attack", "--radius", RADIUS, "--compare", "run"),
            "--compare does not go",
        ),
        (("analyze",), "Take one of its stages"),
    ],
)
def test_what_a_cascade_has_no_use_for_is_refused(
    run: Run, package: Path, data: Path, command: tuple[object, ...], said: str
) -> None:
    name, *options = command
    code, _, error = run(name, package, "--data", data, *options)
    assert code == 2
    assert said in error
    assert len(error.splitlines()) == 1


def test_what_is_no_cascade_is_refused(run: Run, package: Path, data: Path, tmp_path: Path) -> None:
    stage = package / "stage_1"
    code, _, error = run("certify", stage, "--data", data, "--left", tmp_path / "left.npz")
    assert code == 2
    assert "--left is for a cascade" in error
    with pytest.raises(ModelFileError, match="not a cascade"):
        vercomp.load_cascade(stage)
    with pytest.raises(ModelFileError, match="load_cascade"):
        vercomp.load_package(package)


def test_a_package_whose_code_has_changed_is_refused(
    run: Run, cascade: CompiledCascade, data: Path, tmp_path: Path
) -> None:
    folder = cascade.save(tmp_path / "changed")
    with (folder / "stage_1" / "net.py").open("a") as file:
        file.write("# changed\n")
    code, _, error = run("certify", folder, "--data", data)
    assert code == 2
    assert "stage_1/net.py" in error


def test_stages_must_be_able_to_prove_what_the_rule_asks(cascade: CompiledCascade) -> None:
    with pytest.raises(UsageError, match="stage 1 has no method 'guess'"):
        vercomp.cascade(cascade.stages, RADIUS, methods=["guess"])
    with pytest.raises(UsageError, match="'coap-projected' is probable"):
        vercomp.cascade(cascade.stages, RADIUS, methods=["coap-projected"])
    with pytest.raises(VercompError, match="needs a stage"):
        vercomp.cascade([], RADIUS)
