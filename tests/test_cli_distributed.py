"""``torchrun -m vercomp``: certificates shared out, kept by one process, and said by one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from torchrun import torchrun

import vercomp
from vercomp import cli
from vercomp.commands import blocks

DIGITS = Path(__file__).parent.parent / "examples" / "digits" / "digits.onnx"
LIMIT = 80  # four rounds of two blocks of ten

SAME_BLOCKS = """
import os, signal, sys
from vercomp import cli
from vercomp.commands import blocks
blocks.FIRST = blocks.LARGEST = 10
blocks.KEEP, blocks.PATIENCE = 0.0, 1e9
keep = blocks._Keeper.keep
def dying(self, *, soon=False):
    keep(self)
    if str(len(self.parts)) == os.environ["KILLED_AT"]:
        os.kill(os.getpid(), signal.SIGKILL)
blocks._Keeper.keep = dying
cli.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled") / "digits"
    vercomp.compile(DIGITS).save(folder)
    return folder


@pytest.fixture
def same_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of ten whatever the clock says: results depend a little on what is solved together."""
    monkeypatch.setattr(blocks, "FIRST", 10)
    monkeypatch.setattr(blocks, "LARGEST", 10)
    monkeypatch.setattr(blocks, "PATIENCE", 1e9)


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files if name != "seconds"}


@pytest.mark.slow
def test_two_processes_find_what_one_does_and_runs_pass_between_them(
    package: Path, tmp_path: Path, same_blocks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes, killed; resumed by two; the beginning resumed by one: always the same."""
    script = tmp_path / "killed.py"
    script.write_text(SAME_BLOCKS)
    options = ["certify", package, "--data", "digits", "--limit", LIMIT, "--json", "-", "--out"]

    alone, shared, other = tmp_path / "alone", tmp_path / "shared", tmp_path / "other"
    with pytest.raises(SystemExit) as ended:
        cli.main([str(option) for option in (*options, alone)])
    assert ended.value.code == 0
    expected = json.loads(capsys.readouterr().out)

    killed = torchrun(script, *options, shared, environment={"KILLED_AT": "4"})
    assert killed.returncode == 1
    assert killed.stdout == ""
    partial = load(shared / "certificates.npz")
    assert partial["index"].tolist() == list(range(40))
    other.mkdir()
    for name in ("run.json", "certificates.npz"):
        (other / name).write_bytes((shared / name).read_bytes())

    done = torchrun(script, *options, shared, environment={"KILLED_AT": "never"})
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"certifying digits: 40 of {LIMIT} are there already") == 1
    with pytest.raises(SystemExit) as ended:
        cli.main([str(option) for option in (*options, other)])
    assert ended.value.code == 0

    whole = load(alone / "certificates.npz")
    assert whole["index"].tolist() == list(range(LIMIT))
    for folder in (shared, other):
        found = load(folder / "certificates.npz")
        assert found.keys() == whole.keys()
        for name, array in whole.items():
            if name == "method":
                assert found[name].tolist() == array.tolist()
            else:
                np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-9, err_msg=name)
    for text in (done.stdout, capsys.readouterr().out):
        summary = json.loads(text)  # one object, printed once
        assert summary.pop("seconds_per_input") > 0
        assert summary.pop("methods") == expected["methods"]
        assert summary == pytest.approx(
            {k: v for k, v in expected.items() if k not in ("seconds_per_input", "methods")}
        )


@pytest.mark.slow
def test_attacks_are_shared_out(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["attack", package, "--data", "digits", "--radius", "0.3", "--limit", LIMIT]
    options += ["--json", "-", "--out"]
    done = torchrun("-m", "vercomp", *options, tmp_path / "shared")
    assert done.returncode == 0, done.stderr
    with pytest.raises(SystemExit):
        cli.main([str(option) for option in (*options, tmp_path / "alone")])
    found, expected = (load(tmp_path / name / "attacks.npz") for name in ("shared", "alone"))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-4, err_msg=name)
    summary = json.loads(done.stdout)
    accuracy = json.loads(capsys.readouterr().out)["attacked_accuracy"]
    one = 1.5 / LIMIT  # a margin of next to nothing may fall on either side
    assert summary["attacked_accuracy"] == pytest.approx(accuracy, abs=one)


@pytest.mark.slow
def test_a_mistake_is_said_once(package: Path, tmp_path: Path) -> None:
    """What all processes meet, and what one alone meets: the folder is process 0's business."""
    (tmp_path / "theirs.txt").write_text("not ours")
    options = ("certify", package, "--data", "digits", "--out", tmp_path)
    for command, message in (
        (("certify", "nowhere.onnx", "--data", "digits"), "error: at nowhere.onnx: no such file"),
        (options, "'theirs.txt', which is no run of vercomp"),
        (("certify", package, "--dta", "digits"), "error: No such option '--dta'."),
    ):
        done = torchrun("-m", "vercomp", *command)
        assert done.returncode == 1
        assert "exitcode  : 2" in done.stderr
        assert done.stderr.count(message) == 1
        assert done.stderr.count("error: ") == 1
        assert done.stdout == ""
