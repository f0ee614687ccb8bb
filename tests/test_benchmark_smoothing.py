"""The benchmark of smoothed classifiers: its rows, and the published figures beside them."""

from __future__ import annotations

import pytest

from benchmarks import smoothing

SUMMARY = {
    "samples": 100_000,
    "n": 500,
    "clean_accuracy": 0.97,
    "abstained": 0.004,
    "probably_certified_accuracy": 0.9312,
}


def test_every_row_has_its_published_figure() -> None:
    lines = smoothing.table([(name, SUMMARY) for name in smoothing.ROWS]).splitlines()[4:]
    assert len(lines) == len(smoothing.ROWS) == 18
    assert all(not line.endswith("| – |") for line in lines)
    assert lines[0] == "| 2-sigmoid-0.25 | 100000 | 500 | 97.00 | 0.40 | 93.12 | 93.75 |"


def test_a_row_that_is_not_published_has_no_figure() -> None:
    assert smoothing.table([("2-relu-0.25", SUMMARY)]).endswith("| 93.12 | – |\n")
    with pytest.raises(SystemExit, match="is no row"):
        smoothing.run("2-softmax-0.25", 10, 1)
