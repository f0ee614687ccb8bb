"""Runs beside each other: what is better than in the first of them, and what is worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vercomp.errors import UsageError
from vercomp.results.curves import Curve, certified_curve, round_radii
from vercomp.results.runs import FILES, VALUES, FinishedRun

SAME = 1e-3
"""Values that are relatively this close count as equal: searches stop at about that."""

QUESTION = (
    *("norm", "box", "targets", "threshold", "deviation", "entry", "top", "groups", "labels"),
    *("scales", "frozen"),
)
"""Options that say what was asked: runs of other questions are not comparable."""

MOST = 6
"""Runs whose curves can be told apart."""


@dataclass(frozen=True)
class Row:
    """A run in the table.

    Args:
        name: What the user called it.
        count: Its inputs.
        clean: The share that is classified correctly.
        shares: For each radius the share that is certified beyond it; of attacks, in the place of
            radii, the shares that are left and that are proved.
        median: The median value of the correct inputs; None where none is.
        mean: Their mean; None where none is.
        better: Inputs with a larger value than in the first run; None where inputs differ.
        worse: Inputs with a smaller one.
    """

    name: str
    count: int
    clean: float
    shares: tuple[float, ...]
    median: float | None
    mean: float | None
    better: int | None
    worse: int | None


@dataclass(frozen=True)
class Comparison:
    """Runs of the same question.

    Args:
        command: ``certify`` or ``attack``.
        value: What is compared: ``radius``, ``margin``, or ``certified`` (0 or 1) where radii were
            only compared with one.
        norm: The norm of radii.
        names: What the runs are called.
        radii: What shares are reported at; for attacks their radius alone.
        rows: A row for each run.
        curves: Shares of inputs against the value; none where values are 0 or 1.
        index: The inputs that all runs have, (M,); empty where the data differ.
        label: Their labels, (M,).
        values: For each run their values, (R, M); 0 where a certified input is misclassified.
        notes: What a reader must know.
    """

    command: str
    value: str
    norm: str
    names: tuple[str, ...]
    radii: tuple[float, ...]
    rows: tuple[Row, ...]
    curves: tuple[Curve, ...]
    index: NDArray[np.int64]
    label: NDArray[np.int64]
    values: NDArray[np.float64]
    notes: tuple[str, ...]

    def changes(self, run: int = -1) -> NDArray[np.float64]:
        """What a run has more than the first, by input, (M,); 0 where they are as good as equal."""
        return change(self.values[0], self.values[run])

    def summary(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return {
            "command": self.command,
            "value": self.value,
            "norm": self.norm,
            "radii": list(self.radii),
            "runs": [asdict(row) for row in self.rows],
            "inputs_compared": len(self.index),
            "notes": list(self.notes),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """A row for each input that all runs have: the value in every run, and the change."""
        columns = {"index": self.index, "label": self.label}
        found: dict[str, NDArray[Any]] = dict(columns)
        for name, value in zip(self.names, self.values, strict=True):
            found[f"{self.value} {name}"] = value
        found["change"] = self.changes()
        return found


def change(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """after − before; 0 where the two are relatively within 0.1 % of each other."""
    with np.errstate(invalid="ignore"):
        moved = np.where(before == after, 0.0, after - before)
        close = np.abs(moved) <= SAME * np.maximum(np.abs(before), np.abs(after))
    return np.where(close & np.isfinite(moved), 0.0, moved)


def compare(runs: Sequence[FinishedRun]) -> Comparison:
    """Put finished runs beside each other; the first is what the others are compared with.

    Raises:
        UsageError: Fewer than two or too many runs, or runs that asked different things.
    """
    check_comparable(runs)
    first = runs[0]
    decided = any(run.option("decide") for run in runs)
    measured = [_values(run, decided=decided) for run in runs]
    rows, notes = _common(runs)
    values = (
        np.stack([value[: len(rows)] for value in measured])
        if len(rows)
        else np.zeros((len(runs), 0))
    )
    probable = [name for name, run in zip(_names(runs), runs, strict=True) if run.probable]
    if probable:
        notes.append(f"The radii of {', '.join(probable)} are probable, and not proved.")
    smoothed = [n for n, run in zip(_names(runs), runs, strict=True) if run.smoothed]
    if 0 < len(smoothed) < len(runs):
        notes.append(
            f"The radii of {', '.join(smoothed)} are those of a classifier smoothed by noise; the "
            "others are those of networks themselves."
        )
    radii = _radii(runs, measured, decided=decided)
    made = []
    names = _names(runs)
    for place, (run, value) in enumerate(zip(runs, measured, strict=True)):
        moved = change(values[0], values[place]) if len(rows) else None
        made.append(_row(names[place], run, value, radii, moved, decided=decided))
    curves = () if decided else tuple(certified_curve(value) for value in measured)
    return Comparison(
        first.command,
        "certified" if decided else VALUES[first.command],
        str(first.option("norm") or "l2"),
        tuple(names),
        radii,
        tuple(made),
        curves,
        first.arrays["index"][rows].astype(np.int64),
        first.arrays["label"][rows].astype(np.int64),
        values,
        tuple(notes),
    )


def check_comparable(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs that cannot be compared, by what they were asked; results are not looked at.

    Raises:
        UsageError: Fewer than two or too many runs, or runs that asked different things.
    """
    if not 2 <= len(runs) <= MOST:
        raise UsageError(f"a comparison is of 2 to {MOST} runs, not of {len(runs)}")
    first = runs[0]
    for other in runs[1:]:
        if other.command != first.command:
            raise UsageError(
                f"{first.name} is a run of {first.command}, and {other.name} of {other.command}",
                remedy="Compare runs of the same command",
            )
        asked = [*QUESTION, *(("radius",) if first.command == "attack" else ())]
        if first.options and other.options:
            unlike = [name for name in asked if first.option(name) != other.option(name)]
            if unlike:
                raise UsageError(
                    f"{first.name} and {other.name} asked different things: "
                    f"{', '.join(unlike)} {'differs' if len(unlike) == 1 else 'differ'}"
                )
    decided = any(run.option("decide") for run in runs)
    if decided and len({run.option("radius") for run in runs}) > 1:
        raise UsageError(
            "a run with --decide knows only which radii exceed its own --radius, and the others "
            "have another one",
            remedy="Certify again without --decide",
        )


def _values(run: FinishedRun, *, decided: bool) -> NDArray[np.float64]:
    """The value of each input of a run; a misclassified one has no radius."""
    found = run.arrays[run.column].astype(np.float64)
    if run.command == "attack":
        return found
    correct = run.arrays["label"] == run.arrays["prediction"]
    radii = np.where(correct & ~np.isnan(found), found, 0.0)
    return (radii > run.option("radius")).astype(np.float64) if decided else radii


def _common(runs: Sequence[FinishedRun]) -> tuple[NDArray[np.int64], list[str]]:
    """The rows of the first run that all others have as well, and what is to be said of it."""
    first = runs[0]
    count = min(len(run.arrays["index"]) for run in runs)
    counts = {len(run.arrays["index"]) for run in runs}
    starts = [run.arrays["index"][:count] for run in runs]
    aligned = all(np.array_equal(start, np.arange(count)) for start in starts)
    labelled = aligned and all(
        np.array_equal(run.arrays["label"][:count], first.arrays["label"][:count]) for run in runs
    )
    hashes = {run.data for run in runs}
    known = len(hashes) == 1 and None not in hashes
    if not aligned or (not known and not labelled):
        return np.zeros(0, dtype=np.int64), [
            "The runs are of different inputs, so that nothing is said of single inputs."
        ]
    notes = []
    if len(counts) > 1:
        notes.append(f"Single inputs are compared where all runs have them: the first {count:,}.")
    if not known:
        notes.append(
            "Whether the runs saw the same inputs is not known; their labels are the same."
            if None in hashes or len(counts) > 1
            else "The inputs of the runs are not the same, bit for bit; their labels are."
        )
    return np.arange(count), notes


def _radii(
    runs: Sequence[FinishedRun], values: Sequence[NDArray[np.float64]], *, decided: bool
) -> tuple[float, ...]:
    asked = [run.option("radius") for run in runs if run.option("radius") is not None]
    if decided or runs[0].command == "attack":
        return tuple(float(radius) for radius in asked[:1])
    known = {*round_radii(np.concatenate(values)), *(float(radius) for radius in asked)}
    return tuple(sorted(known))


def _row(
    name: str,
    run: FinishedRun,
    value: NDArray[np.float64],
    radii: Sequence[float],
    moved: NDArray[np.float64] | None,
    *,
    decided: bool,
) -> Row:
    correct = run.arrays["label"] == run.arrays["prediction"]
    if run.command == "attack":
        lower = run.arrays["lower_bound"]
        shares: tuple[float, ...] = (
            float((correct & (value > 0)).mean()),
            float((correct & (lower > 0)).mean()),
        )
    elif decided:
        shares = (float(value.mean()),)
    else:
        shares = tuple(float((value > radius).mean()) for radius in radii)
    own = value[correct]
    known = len(own) > 0 and not decided
    return Row(
        name,
        len(value),
        float(correct.mean()),
        shares,
        float(np.median(own)) if known else None,
        float(own.mean()) if known else None,
        None if moved is None else int((moved > 0).sum()),
        None if moved is None else int((moved < 0).sum()),
    )


def _names(runs: Sequence[FinishedRun]) -> list[str]:
    """What tells the runs apart: the last parts of their paths, where these are all different."""
    folders = [
        run.name.rpartition("/")[0] if run.name.endswith(tuple(FILES)) else run.name for run in runs
    ]
    short = [folder.rstrip("/").rpartition("/")[2] for folder in folders]
    return short if len(set(short)) == len(short) and all(short) else [run.name for run in runs]
