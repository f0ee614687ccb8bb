"""Runs beside each other: what is better, what is worse, and which are not comparable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vercomp.errors import InputDataError, UsageError
from vercomp.results.comparison import change, compare
from vercomp.results.runs import FinishedRun, read_run

INF = float("inf")
ASKED = {"norm": "l2", "targets": "all", "radius": None, "decide": False}


def run(name: str, radius: Any, label: Any = (0, 1, 0, 1), **values: Any) -> FinishedRun:
    arrays = {
        "index": np.arange(len(radius)),
        "label": np.array(label[: len(radius)]),
        "prediction": np.array(values.pop("prediction", label[: len(radius)])),
        "radius": np.array(radius, dtype=float),
    }
    options = {**ASKED, **values.pop("options", {})}
    return FinishedRun(name, "certify", arrays, options, values.pop("data", "abc"))


def test_better_and_worse_are_counted_beside_the_first() -> None:
    first = run("runs/a", [0.1, 0.2, 0.3, INF])
    second = run("runs/b", [0.2, 0.2 * (1 + 5e-4), 0.1, INF], prediction=[0, 1, 0, 1])
    third = run("runs/c", [9.0, 0.2, 0.3, 0.5], prediction=[1, 1, 0, 1])  # 9.0 is misclassified
    found = compare([first, second, third])
    assert found.names == ("a", "b", "c")
    assert [(row.better, row.worse) for row in found.rows] == [(0, 0), (1, 1), (0, 2)]
    assert found.changes(1).tolist() == pytest.approx([0.1, 0.0, -0.2, 0.0])
    assert found.values[2].tolist() == [0.0, 0.2, 0.3, 0.5]
    assert [row.clean for row in found.rows] == [1.0, 1.0, 0.75]
    at, share = found.curves[0]
    assert at.tolist() == [0.0, 0.1, 0.2, 0.3]
    assert share.tolist() == [1.0, 0.75, 0.5, 0.25]
    for radius, part in zip(found.radii, found.rows[0].shares, strict=True):
        assert part == (first.arrays["radius"] > radius).mean()
    assert found.notes == ()
    assert json.loads(json.dumps(found.summary()["runs"]))[1]["better"] == 1
    assert found.arrays()["change"].tolist() == found.changes().tolist()


def test_a_change_within_what_searches_leave_is_none() -> None:
    before = np.array([1.0, 1.0, 0.0, INF, INF, 2.0])
    after = np.array([1.0005, 1.01, 0.0, INF, 1.0, INF])
    assert change(before, after).tolist() == pytest.approx([0.0, 0.01, 0.0, 0.0, -INF, INF])


def test_other_inputs_have_curves_and_nothing_else() -> None:
    found = compare([run("a", [0.1, 0.2]), run("b", [0.1, 0.3], label=(1, 1), data="other")])
    assert len(found.index) == 0
    assert found.rows[1].better is None
    assert len(found.curves) == 2
    assert "different inputs" in found.notes[0]


def test_as_many_inputs_as_all_runs_have() -> None:
    found = compare([run("a", [0.1, 0.2, 0.3]), run("b", [0.2, 0.1], data="part of it")])
    assert found.index.tolist() == [0, 1]
    assert (found.rows[1].better, found.rows[1].worse) == (1, 1)
    assert "the first 2" in found.notes[0]
    assert "not known" in found.notes[1]
    unknown = compare([run("a", [0.1]), run("b", [0.1], data=None)])
    assert "not known" in unknown.notes[0]


def test_runs_that_only_decided_compare_what_they_decided() -> None:
    decided = {"radius": 0.25, "decide": True}
    first = run("a", [0.1, 0.26, 0.3, 0.2], options=decided)
    second = run("b", [0.4, 0.1, 0.3, 0.2], options={"radius": 0.25})
    found = compare([first, second])
    assert found.curves == ()
    assert found.values.tolist() == [[0, 1, 1, 0], [1, 0, 1, 0]]
    assert (found.rows[1].better, found.rows[1].worse) == (1, 1)
    assert found.rows[0].shares == (0.5,)


def test_probable_radii_are_said_to_be_no_proofs() -> None:
    first, second = run("a", [0.1, 0.2]), run("b", [np.nan, np.nan])
    arrays = {**second.arrays, "probable_radius": np.array([0.3, 0.1])}
    found = compare([first, FinishedRun("b", "certify", arrays, second.options, "abc")])
    assert found.values[1].tolist() == [0.3, 0.1]
    assert found.notes == ("The radii of b are probable, and not proved.",)
    arrays["base_prediction"] = arrays["label"]
    found = compare([first, FinishedRun("b", "certify", arrays, second.options, "abc")])
    assert found.notes[1].startswith("The radii of b are those of a classifier smoothed by noise")


def attacked(name: str, margin: Any, radius: float = 0.5) -> FinishedRun:
    own = run(name, margin)
    arrays = {**own.arrays, "margin": np.array(margin), "lower_bound": np.array(margin) - 0.2}
    del arrays["radius"]
    return FinishedRun(name, "attack", arrays, {"norm": "l2", "radius": radius}, "abc")


def test_attacks_are_compared_by_margins() -> None:
    found = compare([attacked("a", [0.1, -0.2, 0.5]), attacked("b", [0.1, 0.3, 0.4])])
    assert found.value == "margin"
    assert [row.shares for row in found.rows] == [
        pytest.approx((2 / 3, 1 / 3)),
        pytest.approx((1.0, 2 / 3)),
    ]
    assert (found.rows[1].better, found.rows[1].worse) == (1, 1)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([run("a", [0.1])], "a comparison is of 2 to 6 runs, not of 1"),
        ([run("a", [0.1])] * 7, "not of 7"),
        ([run("a", [0.1]), attacked("b", [0.1])], "a is a run of certify, and b of attack"),
        ([run("a", [0.1]), run("b", [0.1], options={"norm": "linf"})], "norm differs"),
        (
            [run("a", [0.1]), run("b", [0.1], options={"norm": "l1", "box": [0, 1]})],
            "norm, box differ",
        ),
        ([attacked("a", [0.1]), attacked("b", [0.1], 0.25)], "radius differs"),
        (
            [run("a", [0.1]), run("b", [0.1], options={"decide": True, "radius": 0.5})],
            "Certify again without --decide",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(runs: list[FinishedRun], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compare(runs)


def test_names_that_are_alike_are_whole_paths() -> None:
    found = compare([run("old/digits", [0.1]), run("new/digits", [0.1])])
    assert found.names == ("old/digits", "new/digits")
    files = compare([run("old/certificates.npz", [0.1]), run("new/certificates.npz", [0.1])])
    assert files.names == ("old", "new")


def test_runs_are_read_from_folders_and_archives(tmp_path: Path) -> None:
    arrays = run("a", [0.1, 0.2]).arrays
    np.savez(tmp_path / "certificates.npz", **arrays)
    bare = read_run(tmp_path / "certificates.npz")
    assert (bare.command, bare.options, bare.data) == ("certify", {}, None)
    described = {"options": {"norm": "linf"}, "data": "hash"}
    (tmp_path / "run.json").write_text(json.dumps(described))
    found = read_run(tmp_path)
    assert (found.option("norm"), found.data) == ("linf", "hash")
    assert found.arrays["radius"].tolist() == [0.1, 0.2]
    runner = FinishedRun("a", "certify", arrays, {"targets": "runner-up"})
    assert runner.column == "radius_runner_up"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path, "no finished run is there"),
        (tmp_path / "none.npz", "no finished run is there"),
    ):
        with pytest.raises(InputDataError, match=message):
            read_run(path)
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"no archive")
    with pytest.raises(InputDataError, match="cannot be read as an archive"):
        read_run(broken)
    np.savez(tmp_path / "data.npz", x=np.zeros(3), y=np.zeros(3))
    with pytest.raises(InputDataError, match="no results of certify or attack"):
        read_run(tmp_path / "data.npz")
    np.savez(tmp_path / "empty.npz", **run("a", []).arrays)
    with pytest.raises(InputDataError, match="not a single input"):
        read_run(tmp_path / "empty.npz")
