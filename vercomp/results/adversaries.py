"""The nearest adversarial inputs that are known: what no certified radius can exceed.

Three searches find them. The certificate's own witness is proved, and its distance is known without
another search. A few tangent steps find a point for each input (:mod:`.tightness`). For some of the
inputs descents on shrinking balls look harder (:mod:`vercomp.core.methods.nearest`), at the two
targets that the certificates say are the nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vercomp.core.regions.ball_kind import ball_kind
from vercomp.results.tightness import seen_failures

if TYPE_CHECKING:
    from vercomp.compiled import CompiledNetwork
    from vercomp.core.claims.claim import Claim

SEARCHED = 256
"""Inputs around which descents look for a nearer point."""

_AT_ONCE = 256
_ENTRIES = 2**24
"""Of coefficients so many are held at once."""


@dataclass(frozen=True)
class Surroundings:
    """What a run of certificates asked, as far as a search for adversarial inputs needs it.

    Args:
        network: The network.
        x: Inputs, (N, *input_shape).
        y: Labels, (N,), or what stands for them.
        claim: The claim about inputs with these labels.
        labels: Whether the claim is that the label is the largest.
        norm: The norm that distances are in.
        box: The limits of perturbed inputs.
        scales: How far each feature moves for a radius of one.
        methods: The methods that were asked for; None for the usual ones.
    """

    network: CompiledNetwork
    x: Tensor
    y: Tensor
    claim: Callable[[Tensor], Claim]
    labels: bool = True
    norm: str = "l2"
    box: tuple[float, float] | None = None
    scales: Tensor | None = None
    methods: tuple[str, ...] | None = None

    def distances(self, points: Tensor, rows: Tensor) -> Tensor:
        """How far points lie from these inputs, (B,) float64; infinite where a point is NaN."""
        moved = points.double() - self.x[rows].double()
        if self.scales is not None:
            moved = moved / torch.where(self.scales == 0.0, 1.0, self.scales)
        length: Tensor = ball_kind(self.norm).norm(moved.flatten(1))
        return torch.where(length.isnan(), torch.inf, length)


@dataclass(frozen=True)
class Adversaries:
    """The nearest adversarial inputs that were found around B inputs.

    Args:
        point: (B, *input_shape) float64; NaN where none was found; the input itself where the
            claim fails there.
        distance: (B,) float64; infinite where none was found.
    """

    point: Tensor
    distance: Tensor


def seen_adversaries(asked: Surroundings, rows: Tensor) -> Adversaries:
    """What tangent steps find around some of the inputs."""
    outputs = asked.network.network.outputs
    size = max(1, min(_AT_ONCE, _ENTRIES // max(1, outputs * outputs)))
    parts = []
    for part in torch.split(rows, size):
        claim = asked.claim(asked.y[part])
        x = asked.x[part]
        parts.append(seen_failures(asked.network, x, claim, asked.norm, asked.scales, asked.box))
    points, distances = zip(*parts, strict=True)
    return Adversaries(torch.cat(points).double(), torch.cat(distances))


def searched_adversaries(
    asked: Surroundings, rows: Tensor, radius_per_target: NDArray[np.float64]
) -> Adversaries | None:
    """What descents find around some of the inputs; None where they cannot search.

    Args:
        asked: What was asked.
        rows: Numbers of the inputs.
        radius_per_target: (B, C), their certificates against every target: the two smallest say
            which targets are looked at.
    """
    search = getattr(asked.network.network, "nearest", None)
    if search is None or not asked.labels or asked.scales is not None or len(rows) == 0:
        return None
    radii = torch.from_numpy(radius_per_target).scatter(1, asked.y[rows, None], torch.inf)
    count = min(2, radii.shape[1] - 1)
    targets = _two_nearest(radii, asked.y[rows], count)
    found = search(asked.x[rows], asked.y[rows], norm=asked.norm, box=asked.box, targets=targets)
    nearest = found.distance.argmin(1)
    picked = torch.arange(len(rows))
    return Adversaries(found.point[picked, nearest], found.distance[picked, nearest])


def _two_nearest(radii: Tensor, y: Tensor, count: int) -> Tensor:
    """The targets with the smallest radii, (B, count), none of them the label."""
    order = radii.argsort(stable=True, dim=1)
    others: Tensor = order[order != y[:, None]].reshape(len(order), -1)[:, :count]
    return others


def witnessed_adversaries(
    asked: Surroundings, rows: Tensor, options: Mapping[str, Any]
) -> Adversaries:
    """The witnesses of the certificates of some inputs, which are certified once more for them.

    Args:
        asked: What was asked.
        rows: Numbers of the inputs.
        options: Further options of ``certify``, such as ``radius`` and ``decide``.
    """
    network = asked.network
    known = [method.name for method in network.network.methods]
    wanted = known if asked.methods is None else asked.methods
    first = [name for name in known if name in wanted][:1]  # whose witnesses certificates keep
    found = network.certify(
        asked.x[rows],
        asked.claim(asked.y[rows]),
        norm=asked.norm,
        box=asked.box,
        scales=asked.scales,
        methods=first,
        **options,
    )
    return Adversaries(found.witness.double(), asked.distances(found.witness, rows))


def nearest_of(first: Adversaries, *others: Adversaries | None) -> Adversaries:
    """The nearest of what several searches found around the same inputs."""
    point, distance = first.point, first.distance
    for other in others:
        if other is not None:
            nearer = other.distance < distance
            each = nearer.reshape(-1, *(1,) * (point.ndim - 1))
            point = torch.where(each, other.point.to(point), point)
            distance = torch.where(nearer, other.distance.to(distance), distance)
    return Adversaries(point, distance)


def known_distances(
    asked: Surroundings, arrays: Mapping[str, NDArray[Any]], column: str, also: NDArray[np.int64]
) -> NDArray[np.float64]:
    """For each certified input the distance of the nearest adversarial input known, (N,).

    Args:
        asked: What was asked.
        arrays: As in ``certificates.npz``.
        column: The radii, which a gap is relative to.
        also: Numbers of inputs around which descents search in any case, beside those that are
            evenly spread over the data.
    """
    count = len(arrays["index"])
    every = torch.from_numpy(arrays["index"].astype(np.int64))
    distance = seen_adversaries(asked, every).distance.numpy().copy()
    chosen = np.linspace(0, count - 1, min(count, SEARCHED)).astype(np.int64)
    places = np.unique(np.concatenate([chosen, also]))
    searched = searched_adversaries(asked, every[places], arrays["radius_per_target"][places])
    if searched is not None:
        distance[places] = np.minimum(distance[places], searched.distance.numpy())
    with np.errstate(invalid="ignore"):  # no radius, and so no distance of its witness
        witnessed = arrays[column] * (1.0 + arrays["gap"])
    wrong = arrays["label"] != arrays["prediction"]
    return np.where(wrong, 0.0, np.fmin(distance, witnessed))
