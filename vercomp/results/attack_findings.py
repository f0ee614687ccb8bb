"""What a run of attacks found, as a report shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vercomp.data import Dataset
from vercomp.results.adversaries import Adversaries, Surroundings
from vercomp.results.breakdowns import Confusion, Group, by_class, group_of, nearest_targets
from vercomp.results.examples import Example, example, extremes
from vercomp.results.summaries import Arrays, Summary


@dataclass(frozen=True)
class AttackFindings:
    """A run of ``attack``.

    Args:
        name: What the network is called.
        data: What the data are called.
        summary: As :func:`vercomp.results.summaries.attack_summary` gives it.
        arrays: As in ``attacks.npz``.
        overall: All inputs: certified where the lower bound is positive, left where the margin is.
        classes: A group for each label.
        confusion: Which class the worst point of a broken input is nearest to.
        weakest: Inputs with the smallest margins, of those that are classified correctly.
        strongest: Those with the largest.
        shapes: The shape of one input, to the network and in the data.
    """

    name: str
    data: str
    summary: Summary
    arrays: Arrays
    overall: Group
    classes: Sequence[Group]
    confusion: Confusion
    weakest: Sequence[Example]
    strongest: Sequence[Example]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]


def attack_findings_of(
    asked: Surroundings, arrays: Arrays, summary: Summary, data: Dataset
) -> AttackFindings:
    """Put everything together that a report of attacks shows.

    Args:
        asked: What was asked, of all inputs.
        arrays: As in ``attacks.npz``.
        summary: Of the arrays.
        data: The inputs.
    """
    correct = arrays["label"] == arrays["prediction"]
    margin = arrays["margin"]
    broken = {
        **arrays,
        "margin": np.where(margin > 0.0, np.nan, margin),
    }
    weak, strong = extremes(margin, correct)
    shown = _examples(asked, arrays, weak + strong)
    every = np.arange(len(correct))
    return AttackFindings(
        asked.network.name,
        data.title,
        summary,
        arrays,
        group_of("all", every, arrays, "lower_bound", margin, (0.0,)),
        by_class(arrays, "lower_bound", margin, (0.0,)),
        nearest_targets(broken, "margin", asked.network.network.classes),
        shown[: len(weak)],
        shown[len(weak) :],
        (tuple(asked.x.shape[1:]), data.layout),
    )


def _examples(asked: Surroundings, arrays: Arrays, places: Sequence[int]) -> list[Example]:
    """Inputs with the worst points that the attack found."""
    rows = torch.tensor(list(places), dtype=torch.long)
    points = torch.from_numpy(arrays["point"][np.asarray(places, dtype=np.int64)])
    found = Adversaries(points, asked.distances(points, rows))
    return [
        example(asked, place, float(arrays["margin"][place]), found, at)
        for at, place in enumerate(places)
    ]
