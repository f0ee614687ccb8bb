"""Finished runs of ``certify`` and ``attack``, as they lie on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vercomp.errors import InputDataError
from vercomp.results.summaries import Arrays

FILES = {"certificates.npz": "certify", "attacks.npz": "attack"}
VALUES = {"certify": "radius", "attack": "margin"}
"""The column that runs of a command are compared by."""

DEFAULTS = {"norm": "l2", "targets": "all", "decide": False}
"""Options where a run does not mention them."""

ESSENTIAL = frozenset({"index", "label", "prediction"})


@dataclass(frozen=True)
class FinishedRun:
    """The results of a command.

    Args:
        name: What the user called it.
        command: ``certify`` or ``attack``.
        arrays: As in ``certificates.npz`` or ``attacks.npz``.
        options: What was asked; empty where it is not known.
        data: A hash of the inputs and labels; None where it is not known.
    """

    name: str
    command: str
    arrays: Arrays
    options: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = None

    @property
    def column(self) -> str:
        """The column of its values: radii, or margins."""
        if self.probable:
            return "probable_radius"
        if self.options.get("targets") == "runner-up":
            return "radius_runner_up"
        return VALUES[self.command]

    @property
    def probable(self) -> bool:
        """Whether its radii hold with some probability, and are not proved."""
        return "probable_radius" in self.arrays

    @property
    def smoothed(self) -> bool:
        """Whether its radii are those of a smoothed classifier, and not of the network."""
        return "base_prediction" in self.arrays

    def option(self, name: str) -> Any:
        """An option; the default, or None, where it was not given."""
        return self.options.get(name, DEFAULTS.get(name))


def read_run(path: Path) -> FinishedRun:
    """Read what ``--out`` has written: the folder, or the archive in it.

    Raises:
        InputDataError: There is no such run, or its results cannot be read.
    """
    where = str(path)
    archive = path
    if path.is_dir():
        archive = next((path / name for name in FILES if (path / name).is_file()), path)
    if not archive.is_file():
        raise InputDataError(
            "no finished run is there",
            location=where,
            remedy="Give a folder that certify or attack has written with --out, or its .npz file",
        )
    arrays = _arrays(archive)
    columns = {**dict.fromkeys(("radius", "probable_radius"), "certify"), "margin": "attack"}
    command = next((name for column, name in columns.items() if column in arrays), None)
    lengths = {len(array) for array in arrays.values() if array.ndim}
    if command is None or not arrays.keys() >= ESSENTIAL or len(lengths) != 1:
        raise InputDataError(
            "no results of certify or attack with radii or margins", location=str(archive)
        )
    if lengths == {0}:
        raise InputDataError("results of not a single input", location=str(archive))
    described = _description(archive.parent / "run.json")
    return FinishedRun(
        where, command, arrays, described.get("options") or {}, described.get("data")
    )


def _arrays(archive: Path) -> Arrays:
    try:
        with np.load(archive, allow_pickle=False) as found:
            return {name: found[name] for name in found.files if name != "point"}
    except Exception as error:
        raise InputDataError(
            "cannot be read as an archive of results", location=str(archive)
        ) from error


def _description(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
