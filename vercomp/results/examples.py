"""The inputs that a report shows: the weakest and the strongest, with their nearest adversaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vercomp.data import Dataset
from vercomp.results.adversaries import (
    Adversaries,
    Surroundings,
    nearest_of,
    searched_adversaries,
    seen_adversaries,
    witnessed_adversaries,
)

SHOWN = 6
"""Inputs at either end."""


@dataclass(frozen=True)
class Example:
    """An input with what is known of it.

    Args:
        index: Its number in the data.
        label: Its label.
        radius: Its certified radius; NaN where there is none.
        distance: Of the nearest adversarial input known.
        target: The class that takes over there, or −1 where classes mean nothing.
        x: The input, as an array of its shape.
        adversary: The adversarial input; None where none is known.
        outputs: What the network says at the input, and at the adversarial input.
    """

    index: int
    label: int
    radius: float
    distance: float
    target: int
    x: NDArray[np.float64]
    adversary: NDArray[np.float64] | None
    outputs: tuple[tuple[float, ...], tuple[float, ...]]


def extremes(values: NDArray[np.float64], usable: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """The places of the smallest values, and of the largest, of those that are usable.

    No place is in both: of a few, the first half counts as small.
    """
    places = np.flatnonzero(usable & ~np.isnan(values))
    ordered = places[np.argsort(values[places], kind="stable")].tolist()
    count = min(SHOWN, (len(ordered) + 1) // 2)
    return ordered[:count], ordered[len(ordered) - min(SHOWN, len(ordered) - count) :][::-1]


def examples_of(
    asked: Surroundings,
    arrays: Mapping[str, NDArray[Any]],
    column: str,
    places: Sequence[int],
    options: Mapping[str, Any],
) -> list[Example]:
    """Inputs with the nearest adversarial inputs that all searches find around them.

    Args:
        asked: What was asked.
        arrays: As in ``certificates.npz``.
        column: The radii.
        places: Rows of the arrays.
        options: Further options of ``certify``, for the search for witnesses.
    """
    if not places:
        return []
    own = np.asarray(places)
    rows = torch.from_numpy(arrays["index"][own].astype(np.int64))
    found = nearest_of(
        seen_adversaries(asked, rows),
        searched_adversaries(asked, rows, arrays["radius_per_target"][own]),
        _witnesses(asked, rows, arrays["gap"][own], options),
    )
    return [
        example(asked, int(rows[at]), float(arrays[column][place]), found, at)
        for at, place in enumerate(places)
    ]


def bare_example(
    data: Dataset, arrays: Mapping[str, NDArray[Any]], column: str, place: int
) -> Example:
    """An input of which no adversarial input was sought, and no output is said."""
    index = int(arrays["index"][place])
    x = data.x[index].double().numpy()
    radius, label = float(arrays[column][place]), int(arrays["label"][place])
    return Example(index, label, radius, np.inf, -1, x, None, ((), ()))


def _witnesses(
    asked: Surroundings,
    rows: torch.Tensor,
    gaps: NDArray[np.float64],
    options: Mapping[str, Any],
) -> Adversaries | None:
    """The certificates' own witnesses, where there are any."""
    if not np.isfinite(gaps).any():
        return None
    return witnessed_adversaries(asked, rows, options)


def example(asked: Surroundings, index: int, radius: float, found: Adversaries, at: int) -> Example:
    """One input with its adversarial input, and what the network says of both."""
    x = asked.x[index].double()
    known = bool(found.distance[at].isfinite())
    point = found.point[at].double() if known else x
    net = asked.network.network
    with torch.no_grad():
        z = net.logits(torch.stack([x, point]).to(net.device, net.dtype)).flatten(1).double().cpu()
    label, target = int(asked.y[index]), -1
    if asked.labels and known:
        scores = z[1] if z.shape[1] > 1 else torch.stack([torch.zeros_like(z[1, 0]), z[1, 0]])
        scores = scores.scatter(0, torch.tensor([label]), -torch.inf)
        target = int(scores.argmax())
    with torch.no_grad():
        said = net(torch.stack([x, point]).to(net.device, net.dtype)).flatten(1).double().cpu()
    first, second = (tuple(row.tolist()) for row in said)
    return Example(
        index,
        label,
        radius,
        float(found.distance[at]),
        target,
        x.cpu().numpy(),
        point.cpu().numpy() if known else None,
        (first, second),
    )
