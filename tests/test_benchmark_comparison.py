"""Bounds and radii of two sides, compared and put into tables."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pytest
import torch

from benchmarks.comparison import of_bounds, of_radii
from benchmarks.relax_tables import Pair, tables
from benchmarks.sections import write_section
from benchmarks.sides.job import BOUNDS, OURS, PEER, RADII, Block, Job, Results
from benchmarks.tight import check
from benchmarks.tight_tables import Row, table

OPTIONS = argparse.Namespace(limit=3, block=2, threads=1, iterations=20, timeout=60.0)


def results(*values: list[float], seconds: float = 1.0) -> Results:
    return Results(
        "s", "v 1", peak=100.0, answering=80.0, blocks=[Block(list(values), 2.0 * seconds, seconds)]
    )


def test_bounds_are_equal_to_rounding() -> None:
    found = of_bounds(results([1.0, -1000.0], [2.0, 5.0]), results([1.00001, -1000.05], [3.0, 4.0]))
    assert found is not None
    assert found.inputs == 2
    assert found.least == pytest.approx(-1.0)
    assert found.where == 1
    assert found.at_least == 0.75
    assert found.mean == pytest.approx((-0.00001 + 0.05 - 1.0 + 1.0) / 4)


def test_only_what_both_have_answered_is_compared() -> None:
    found = of_bounds(results([1.0], [2.0]), results([1.0]))
    assert found is not None
    assert found.inputs == 1
    assert of_bounds(results(), results([1.0])) is None
    assert of_radii(results([1.0]), results()) is None


def test_nan_is_no_bound() -> None:
    theirs = of_bounds(results([1.0]), results([math.nan]))
    ours = of_bounds(results([math.nan]), results([1.0]))
    neither = of_bounds(results([-math.inf]), results([-math.inf]))
    assert theirs is not None
    assert ours is not None
    assert neither is not None
    assert theirs.at_least == 1.0
    assert ours.at_least == 0.0
    assert (neither.at_least, neither.least) == (1.0, 0.0)


def test_radii_are_equal_to_the_width_of_the_search() -> None:
    found = of_radii(results([0.9995], [0.0], [2.0]), results([1.0], [0.0], [4.0]))
    assert found is not None
    assert found.at_least == pytest.approx(2 / 3)
    assert found.least == 0.5
    assert found.where == 2
    assert found.mean == pytest.approx((0.9995 + 1.0 + 0.5) / 3)


def test_the_tables_of_bounds_and_radii() -> None:
    job = Job(OURS, BOUNDS, "net", "crown", "linf", 0.1)
    radii = Job(OURS, RADII, "net", "crown", "l2", None)
    pairs = [
        Pair(job, results([1.0]), results([0.5], seconds=2.0)),
        Pair(radii, results([0.3]), None),
    ]
    text = tables(pairs, OPTIONS)
    assert "| net | l∞ 0.1 | 1 | 0.5 | 0.5 | 100.0% | 1 (2) | 2 (4) | 80 (100) | 80 (100) |" in text
    assert "| net | 1 | 0.3000 | – | – | – | – | 1 (2) | – | 80 (100) | – |" in text
    assert "v 1; Python" in text
    assert "as good on 100.0%" in pairs[0].line()


def row(side: str, method: str, *radii: float) -> Row:
    job = Job(side, RADII, "net", method, "l2", None)
    return Row(job, results(*([radius] for radius in radii)), torch.tensor([1.0, 2.0]).double())


def test_the_gap_between_crown_and_the_attack() -> None:
    crown, better = row(PEER, "crown", 0.5, 1.0), row(OURS, "portfolio", 0.9, 1.8)
    assert better.share == pytest.approx(0.9)
    assert better.gap_closed(crown) == pytest.approx(0.8)
    assert crown.gap_closed(crown) == 0.0
    assert better.at_least(crown) == 1.0
    assert row(OURS, "crown", 0.49, 1.5).at_least(crown) == 0.5
    assert row(OURS, "portfolio", 0.9).gap_closed(crown) == pytest.approx(0.8)
    text = table([better, crown], OPTIONS)
    assert "| net | portfolio | 2 | 1.3500 | **0.9000** | 0.9000 | 80.0% | 100.0% | 0.5 |" in text
    assert "| net | auto_LiRPA, CROWN | 2 | 0.7500 | 0.5000 | 0.5000 | 0.0% |" in text


def test_our_own_crown_stands_in_where_the_peer_has_none() -> None:
    text = table([row(OURS, "portfolio", 0.9, 1.8), row(OURS, "crown", 0.5, 1.0)], OPTIONS)
    assert "80.0%" in text
    assert "–" in table([row(OURS, "portfolio", 0.9, 1.8)], OPTIONS)


def test_a_certificate_beyond_an_adversarial_point_stops_everything() -> None:
    check(row(OURS, "crown", 1.0, 2.0))
    with pytest.raises(SystemExit, match=r"net: false certificates by crown: \[1\]"):
        check(row(OURS, "crown", 0.5, 2.001))


def test_the_peers_false_certificate_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    check(row(PEER, "crown", 0.5, 2.001))
    assert "auto_LiRPA's crown is beyond an adversarial point at [1]" in capsys.readouterr().err


def test_a_section_is_replaced_between_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text("before\n<!-- a: begin -->\nold\n<!-- a: end -->\nafter\n")
    write_section("a", "new\n", path)
    assert path.read_text() == "before\n<!-- a: begin -->\nnew\n<!-- a: end -->\nafter\n"
    with pytest.raises(SystemExit, match="has lost the marks"):
        write_section("b", "new\n", path)
