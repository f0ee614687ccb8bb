"""What is known of a training when it ends, as plain data, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vercomp.report.tables import number

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A training, finished or interrupted.

    Args:
        name: What it is called.
        recipe: Every number of it; ``radius`` is ρ, ``method`` the objective.
        history: A row an epoch with any of ``epoch``, ``loss``, ``learning_rate``, ``radius``,
            ``penalty``, ``clean_accuracy``, ``attacked_accuracy``, ``curvature``, ``seconds``, and
            where the network was evaluated ``validation_clean_accuracy``,
            ``validation_certified_accuracy`` (at ρ), ``validation_mean_radius`` and
            ``validation_curvature``, the mean κ over pairs. Accuracies are shares.
        radii: Epoch → (N,) certified radii of the validation split, 0 where misclassified.
        bounds: (K_lb, K_ub) of the selected network, the means of appendix H.1 of the paper.
        penalty: γ.
        selected: The epoch whose network was kept; by default the one with the largest certified
            accuracy.
        about: What else the report says of the run: the command, the seed, versions.
    """

    name: str
    recipe: Mapping[str, Any]
    history: Sequence[Row]
    radii: Mapping[int, NDArray[np.floating[Any]]] = field(default_factory=dict)
    bounds: tuple[float, float] | None = None
    penalty: float = 0.0
    selected: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def radius(self) -> float | None:
        """ρ, if the recipe has one."""
        return finite(self.recipe.get("radius"))

    @property
    def best(self) -> int | None:
        """The selected epoch; None where no network was evaluated."""
        if self.selected is not None:
            return self.selected
        scores = dict(self.series("validation_certified_accuracy"))
        if scores:
            return max(scores, key=lambda epoch: (scores[epoch], -epoch))
        return max(self.radii, default=None)

    @property
    def seconds(self) -> float | None:
        """Of all epochs together."""
        spent = [seconds for _, seconds in self.series("seconds")]
        return sum(spent) if spent else None

    def row(self, epoch: int | None) -> Row:
        """The row of an epoch; an empty one where there is none."""
        return next((row for at, row in self.epochs() if at == epoch), {})

    def epochs(self) -> list[tuple[int, Row]]:
        """(epoch, row), in order; a row that does not say which epoch it is of is counted."""
        known = [(row.get("epoch"), row) for row in self.history]
        return sorted(
            ((place if at is None else int(at), row) for place, (at, row) in enumerate(known, 1)),
            key=lambda pair: pair[0],
        )

    def series(self, key: str) -> list[tuple[int, float]]:
        """(epoch, value) where a row has a finite value of that name."""
        found = [(epoch, finite(row.get(key))) for epoch, row in self.epochs()]
        return [(epoch, value) for epoch, value in found if value is not None]


def finite(value: object) -> float | None:
    """A number, if it is a finite one."""
    if isinstance(value, (int, float, np.number)) and math.isfinite(value):
        return float(value)
    return None


def is_sweep(runs: Sequence[Run]) -> bool:
    """Whether γ tells runs apart."""
    return len({run.penalty for run in runs}) == len(runs)


def labels(runs: Sequence[Run]) -> list[str]:
    """What to call runs where they stand together: their γ if that tells them apart."""
    if is_sweep(runs):
        return [f"γ = {number(run.penalty)}" for run in runs]
    return [run.name for run in runs]


def in_order(runs: Sequence[Run]) -> list[Run]:
    """Runs by growing γ."""
    return sorted(runs, key=lambda run: run.penalty)
