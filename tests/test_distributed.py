"""What processes tell each other, and that an error in one is an end for all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchrun import torchrun

from vercomp.distributed import Processes, processes
from vercomp.errors import UsageError

MEETING = {"LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_alone_needs_no_group(capsys: pytest.CaptureFixture[str]) -> None:
    with processes() as team:
        assert (team.rank, team.size, team.main) == (0, 1, True)
        assert not torch.distributed.is_initialized()
        values = torch.tensor([1.0, 2.0])
        team.average([values])
        assert values.tolist() == [1.0, 2.0]
        total = team.total(values)
        total += 1.0
        assert values.tolist() == [1.0, 2.0]
        assert team.gather("a") == ["a"]
        assert team.same("b") == "b"
        team.wait()
        team.say("word")
    assert capsys.readouterr().err == "word\n"
    assert team == Processes()


def test_torchrun_with_one_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**MEETING, "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    with processes() as team:
        assert team == Processes()
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"RANK": "0", "WORLD_SIZE": "2"},
            "at the environment: RANK and WORLD_SIZE are set, but not LOCAL_RANK, MASTER_ADDR, "
            "MASTER_PORT. Start the processes by torchrun, or unset RANK and WORLD_SIZE for a "
            "single one",
        ),
        (
            {**MEETING, "RANK": "2", "WORLD_SIZE": "2"},
            "RANK is '2' of a WORLD_SIZE of '2'",
        ),
        (
            {**MEETING, "RANK": "first", "WORLD_SIZE": "2"},
            "RANK is 'first' of a WORLD_SIZE of '2'",
        ),
    ],
    ids=["in part", "too large", "no number"],
)
def test_an_environment_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], message: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught, processes():
        pass
    assert message in str(caught.value)


TALK = """
import sys, torch
from vercomp.distributed import processes

with processes() as team:
    one, two = torch.arange(6.0).reshape(2, 3).T, torch.tensor(team.rank, dtype=torch.float64)
    one = one * (1 + team.rank)  # not contiguous, and of another type than the second
    weight = torch.nn.Parameter(torch.full((2,), 4.0 * team.rank))
    team.average([one, two, weight])
    assert torch.equal(one, 1.5 * torch.arange(6.0).reshape(2, 3).T)
    assert two.item() == 0.5
    assert weight.tolist() == [2.0, 2.0]
    mine = torch.tensor([1, team.rank])
    assert team.total(mine).tolist() == [2, 1]
    assert mine.tolist() == [1, team.rank]
    assert team.gather("ab"[team.rank]) == ["a", "b"]
    assert team.same({"rank": team.rank}) == {"rank": 0}
    team.wait()
    team.say("said by one")
    assert team.gather(0) == [0, 0]
    if team.rank == 1:
        raise ValueError("met by the second")
    team.gather(1)  # in vain: nobody is there
"""


def test_two_processes_talk_and_an_error_in_one_ends_both(tmp_path: Path) -> None:
    """The process that meets the error says it; the other, which lost its peer, is silent."""
    script = tmp_path / "talk.py"
    script.write_text(TALK)
    done = torchrun(script)
    assert done.returncode == 1
    assert "AssertionError" not in done.stderr
    assert done.stderr.count("said by one") == 1
    assert done.stderr.count("ValueError: met by the second") == 1
    assert "[rank0]" not in done.stderr  # how torch marks a traceback of that process


def test_the_module_is_the_command() -> None:
    code = [sys.executable, "-m", "vercomp", "--version"]
    done = subprocess.run(code, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.startswith("vercomp 0.")
