"""The two sides of a benchmark: what is asked, kept, resumed, and reported where it fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from benchmarks.sides import runner, worker
from benchmarks.sides.job import BOUNDS, OURS, PEER, RADII, Block, Job, Results, parsed
from benchmarks.sides.runner import PEER_PYTHON, Runner
from benchmarks.zoo import Subject

JOB = Job(OURS, BOUNDS, "small", "interval", "l2", 0.1, block=2)


def subject(count: int = 5) -> Subject:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    x = torch.rand(count, 3)
    y = module(x).argmax(1)
    return Subject("small", module, x, y, (x, y), has_peer=True)


class Counting:
    """A side that answers with the first pixel, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.fails_at = 1_000_000

    def bounds(self, x: Tensor, y: Tensor, job: Job) -> Tensor:
        self.asked.append(len(x))
        if len(self.asked) > self.fails_at:
            raise RuntimeError("no more\nand a second line")
        return x[:, :1].expand(-1, 2)

    def radii(self, x: Tensor, y: Tensor, job: Job) -> Tensor:
        return x[:, 0]


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> Counting:
    module, made = ModuleType("counting_side"), Counting()
    module.prepared = lambda network, x: made  # type: ignore[attr-defined]
    module.versions = lambda: "counting 1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "counting_side", module)
    monkeypatch.setitem(worker.MODULES, OURS, "counting_side")
    return made


Run = Callable[..., Results]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A worker's run in this process."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)

    def started(count: int, job: Job = JOB, timeout: float = 100.0) -> Results:
        this = subject()
        runner.hand_over(this, tmp_path)
        path = tmp_path / "results.json"
        assignment = {
            "job": asdict(job),
            "stamp": "s",
            "count": count,
            "timeout": timeout,
            "network": str(tmp_path / "network.pt"),
            "inputs": str(tmp_path / "inputs.pt"),
            "results": str(path),
        }
        written = tmp_path / "assignment.json"
        written.write_text(json.dumps(assignment))
        monkeypatch.setattr(sys, "argv", ["worker", str(written)])
        worker.main()
        return parsed(json.loads(path.read_text()))

    return started


def test_a_worker_answers_block_by_block_after_a_warm_up(run: Run, side: Counting) -> None:
    found = run(5)
    assert side.asked == [1, 2, 2, 1]
    assert [row[0] for row in found.values] == subject().x[:, 0].double().tolist()
    assert found.failed is None
    assert found.versions == "counting 1"
    assert found.peak >= found.answering > 0.0
    assert found.peak >= found.before > 0.0
    assert found.seconds("cpu") >= 0.0


def test_a_worker_goes_on_where_it_stopped(run: Run, side: Counting) -> None:
    run(2)
    side.asked.clear()
    assert len(run(5).values) == 5
    assert side.asked == [1, 2, 1]


def test_one_block_at_least_whatever_the_time(run: Run, side: Counting) -> None:
    assert len(run(5, timeout=-1.0).values) == 2


def test_a_failure_is_kept_with_what_came_before(
    run: Run, side: Counting, capsys: pytest.CaptureFixture[str]
) -> None:
    side.fails_at = 2
    found = run(5)
    assert len(found.values) == 2
    assert found.failed == "RuntimeError: no more"
    assert "Traceback" in capsys.readouterr().err
    side.fails_at = 1_000_000
    assert run(5).failed is None


def test_radii_are_rows_of_one(run: Run, side: Counting) -> None:
    found = run(3, replace(JOB, task=RADII, radius=None))
    assert found.values == [[radius] for radius in subject().x[:3, 0].double().tolist()]


def test_no_ball_without_a_radius() -> None:
    assert JOB.ball == 0.1
    with pytest.raises(ValueError, match="radii are looked for"):
        _ = replace(JOB, radius=None).ball


def test_results_survive_the_file() -> None:
    results = Results("s", "v", 1.0, 2.0, 3.0, 2.5, None, [Block([[1.0, -2.0]], 0.5, 0.25)])
    assert parsed(json.loads(json.dumps(asdict(results)))) == results


def test_no_environment_no_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PEER_PYTHON, raising=False)
    assert Runner(tmp_path, 10.0).run(JOB.by(PEER), subject()) is None


def test_a_process_that_dies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PEER_PYTHON, "/bin/false")
    found = Runner(tmp_path, 10.0).run(JOB.by(PEER), subject())
    assert found is not None
    assert found.failed == "the process ended without a word"
    assert found.values == []


def test_kept_results_are_used_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    this, made = subject(2), Runner(tmp_path, 100.0)
    first = made.run(JOB, this)
    assert first is not None
    assert first.failed is None
    assert torch.tensor(first.values).shape == (2, 2)
    monkeypatch.setattr(runner.subprocess, "run", forbidden)
    assert made.run(JOB, this) == first
    with torch.no_grad():
        this.module[0].weight *= 2.0  # type: ignore[index]
    with pytest.raises(AssertionError, match="a process was started"):
        made.run(JOB, this)


def forbidden(*args: object, **options: object) -> None:
    raise AssertionError("a process was started")


def test_one_thread_more_is_another_job() -> None:
    assert runner.environment(replace(JOB, threads=3))["OMP_NUM_THREADS"] == "3"
    assert runner.environment(JOB)["GOMP_SPINCOUNT"] == "0"
