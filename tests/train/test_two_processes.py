"""``torchrun -m vercomp train``: two processes take the steps of one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torchrun import torchrun

from vercomp import cli

EPOCHS = 3
OPTIONS = ["train", "mlp:16:softplus", "--data", "digits:train", "--batch-size", "64"]
OPTIONS += ["--epochs", str(EPOCHS), "--evaluate-every", "1", "--penalty", "0.05"]

TRAINING = """
import os, signal, sys
from vercomp import cli
from vercomp.train import checkpoint
if os.environ["RANK"] == "1":
    def refuse(*paths):
        raise AssertionError(f"process 1 writes {paths}")
    os.replace = os.rename = refuse
write = checkpoint.write
def dying(folder, state):
    write(folder, state)
    if str(len(state["history"])) == os.environ["KILLED_AT"]:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.write = dying
cli.main(sys.argv[1:])
"""

COMPARED = """
import sys, torch
from vercomp import cli
from vercomp.train import loop
keep = loop._Run.keep
def compared(run, *, soon):
    stepper = run.stepper
    mine = {**stepper.model.state_dict(), **stepper.regularizer.state_dict()}
    for name, first in stepper.processes.same(mine).items():
        assert torch.equal(mine[name], first), name
    keep(run, soon=soon)
loop._Run.keep = compared
cli.main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [(), ("--penalty", "0", "--target", "certificate", "--validation", "1")]
)
def test_certified_margins_of_two_processes_are_those_of_one(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    """They bound the same pairs of classes, by what the inputs of both weigh, at all times."""
    alone, shared, script = tmp_path / "alone", tmp_path / "shared", tmp_path / "training.py"
    options = [*OPTIONS, "--method", "dual", *more]
    with pytest.raises(SystemExit) as ended:
        cli.main([*options, "--out", str(alone)])
    assert ended.value.code == 0
    script.write_text(COMPARED)
    done = torchrun(script, *options, "--out", shared)
    assert done.returncode == 0, done.stderr
    one, two = (
        torch.load(folder / "checkpoint.pt", weights_only=True)["stepper"]
        for folder in (alone, shared)
    )
    assert int(two["regularizer"]["position"]) == int(one["regularizer"]["position"]) > 0
    for part in ("model", "regularizer"):
        for name, tensor in one[part].items():
            torch.testing.assert_close(two[part][name], tensor, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_two_processes_killed_and_resumed_train_the_network_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same weights up to the order of sums, and every file written by process 0."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    with pytest.raises(SystemExit) as ended:
        cli.main([*OPTIONS, "--out", str(alone)])
    assert ended.value.code == 0
    said = capsys.readouterr().err

    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    command = (script, *OPTIONS, "--json", "-", "--out", shared)
    killed = torchrun(*command, environment={"KILLED_AT": "1"})
    assert killed.returncode == 1
    assert "AssertionError" not in killed.stderr
    assert len(json.loads((shared / "run.json").read_text())["recipe"]) > 10
    done = torchrun(*command, environment={"KILLED_AT": "never"})
    assert done.returncode == 0, done.stderr

    one, two = (
        torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (alone, shared)
    )
    weights, found = one["stepper"]["model"], two["stepper"]["model"]
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-5)
    with np.load(alone / "radii.npz") as radii, np.load(shared / "radii.npz") as others:
        assert radii.files == others.files == [str(epoch + 1) for epoch in range(EPOCHS)]
        for epoch in radii.files:
            np.testing.assert_allclose(others[epoch], radii[epoch], atol=1e-4)

    assert _files(shared) == _files(alone)
    assert (shared / "run.json").read_bytes() == (alone / "run.json").read_bytes()
    epochs = re.findall(r"^epoch (\d) of 3: .* held out: .*$", done.stderr, re.MULTILINE)
    assert epochs == ["2", "3"]
    assert len(re.findall(r"^epoch \d of 3: ", said, re.MULTILINE)) == EPOCHS
    assert json.loads(done.stdout)["best_epoch"] in range(1, EPOCHS + 1)  # printed once


def _files(folder: Path) -> list[str]:
    """What lies in a folder, but for what a kill or running code leaves there."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if "__pycache__" not in name)
