"""What make bench-relax and make bench-tight ask, of whom, and what they write of the answers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import relax, tight
from benchmarks.sides.command import job, parser
from benchmarks.sides.job import BOUNDS, OURS, PEER, RADII, Block, Job, Results
from benchmarks.sides.runner import Runner
from benchmarks.zoo import Subject, radii_of

NAME = "relu-3x256-5epochs"


def options(*words: str) -> argparse.Namespace:
    command = parser("What it does.\nAnd more.", Path("build"))
    command.add_argument("--norms", nargs="+", default=["linf", "l2"])
    command.add_argument("--methods", nargs="+", default=["crown", "alpha"])
    command.add_argument("--peer-methods", nargs="*", default=["crown"])
    return command.parse_args(words)


def subject(name: str, count: int, has_peer: bool = True) -> Subject:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3))
    x = torch.randn(40, 4)
    y = module(x).argmax(1)
    return Subject(name, module, x[:count], y[:count], (x[count:], y[count:]), has_peer)


class Answering(Runner):
    """Answers a radius that grows with the job's number, and nothing for the peer's α."""

    asked: list[Job] = []  # noqa: RUF012 - one runner a test

    def run(self, job: Job, subject: Subject) -> Results | None:
        self.asked.append(job)
        if (job.side, job.method) == (PEER, "alpha"):
            return Results("s", failed="NotImplementedError: no line")
        rows = [[1e-3 * len(self.asked)] for _ in subject.x]
        return Results("s", "v 1", blocks=[Block(rows, 2.0, 1.0)])


@pytest.fixture
def runner(tmp_path: Path) -> Answering:
    Answering.asked = []
    return Answering(tmp_path, 10.0)


def test_costly_methods_take_smaller_blocks_and_iterations() -> None:
    given = options("--block", "12", "--threads", "2")
    crown = job(given, OURS, BOUNDS, NAME, "crown", "l1", 0.5)
    alpha = job(given, PEER, BOUNDS, NAME, "alpha", "l1", 0.5)
    assert (crown.block, crown.iterations, crown.threads) == (12, 0, 2)
    assert (alpha.block, alpha.iterations) == (2, 20)
    assert job(options("--block", "3"), OURS, RADII, NAME, "quadratic", "l2", None).block == 1


def test_bounds_in_every_norm_and_radii_of_what_is_not_optimised() -> None:
    asked = [(j.method, j.norm, j.task, j.radius) for j in relax.questions(NAME, options())]
    radii = radii_of(NAME)
    assert asked == [
        ("crown", "linf", BOUNDS, radii["linf"]),
        ("crown", "l2", BOUNDS, radii["l2"]),
        ("crown", "l2", RADII, None),
        ("alpha", "linf", BOUNDS, radii["linf"]),
        ("alpha", "l2", BOUNDS, radii["l2"]),
    ]


def test_both_sides_are_asked_the_same(runner: Answering) -> None:
    pairs = list(relax.pairs(runner, subject(NAME, 2), options("--methods", "crown")))
    assert [job.side for job in runner.asked] == [OURS, PEER] * 3
    assert all(job.by(OURS) == pairs[k // 2].job for k, job in enumerate(runner.asked))


def test_a_network_without_a_peer_is_ours_alone(runner: Answering) -> None:
    alone = subject(NAME, 2, has_peer=False)
    pairs = list(relax.pairs(runner, alone, options("--methods", "crown")))
    assert {job.side for job in runner.asked} == {OURS}
    assert all(pair.theirs is None and pair.difference is None for pair in pairs)


def test_the_attack_is_kept_and_rows_follow_it(
    runner: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    this = subject(NAME, 3)
    rows = list(tight.rows(runner, this, options()))
    assert [(row.job.side, row.job.method) for row in rows] == [
        (OURS, "crown"),
        (OURS, "alpha"),
        (PEER, "crown"),
    ]
    attacked = rows[0].distance
    assert attacked.shape == (3,)
    assert bool((attacked > 0.0).all())
    monkeypatch.setattr(tight.nearest_module, "nearest", lambda subject: pytest.fail("again"))
    assert torch.equal(tight.distances(runner, this), attacked)
    with torch.no_grad():
        this.module[0].weight *= 2.0  # type: ignore[index]
    with pytest.raises(pytest.fail.Exception, match="again"):
        tight.distances(runner, this)


def test_a_side_that_fails_has_no_row_in_the_table(
    runner: Answering, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tight, "subject", subject)
    monkeypatch.setattr(tight, "Runner", lambda folder, timeout: runner)
    monkeypatch.setattr(tight, "end_with_us", lambda: None)
    words = [NAME, "--limit", "3", "--methods", "crown", "--dry"]
    monkeypatch.setattr(sys, "argv", ["tight", *words])
    tight.main()
    printed = capsys.readouterr()
    assert "auto_LiRPA, α-CROWN: nothing (NotImplementedError: no line)" in printed.err
    assert f"| {NAME} | crown | 3 |" in printed.out
    assert "α-CROWN |" not in printed.out


def test_the_section_of_relax_is_written_after_every_answer(
    runner: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, str]] = []
    monkeypatch.setattr(relax, "subject", subject)
    monkeypatch.setattr(relax, "Runner", lambda folder, timeout: runner)
    monkeypatch.setattr(relax, "end_with_us", lambda: None)
    monkeypatch.setattr(relax, "write_section", lambda *section: written.append(section))
    monkeypatch.setattr(sys, "argv", ["relax", NAME, "--limit", "2", "--methods", "crown"])
    relax.main()
    assert [name for name, _ in written] == ["relax"] * 4
    assert written[-1][1].count(f"| {NAME} |") == 4
    assert "### `crown` and CROWN: certified l2 radii" in written[-1][1]
