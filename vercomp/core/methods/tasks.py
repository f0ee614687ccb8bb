"""A question about many inputs, taken apart: chunks of B inputs with K targets each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..inputs import check_count, target_table
from ..specifications import Specification
from .cuts import Cut, screening_cut
from .pairs import Classifier, Margins, Screen, chunks, flattened, placement


class Part(NamedTuple):
    """One chunk of the question.

    Args:
        margins: The network's margins.
        x0: Inputs in float64 on the network's device, shape (B, D).
        label: Labels, shape (B,).
        asked: ``"all"``, ``"runner-up"`` or the chunk's targets, shape (B, K).
        evaluations: Gradient evaluations a pair, at most.
    """

    margins: Margins
    x0: Tensor
    label: Tensor
    asked: str | Tensor
    evaluations: int


def split(
    network: Classifier,
    x: Tensor,
    y: Tensor,
    targets: str | Tensor,
    evaluations: int,
    chunk: int | None,
) -> Iterator[Part]:
    """Take a question about inputs that are checked apart into what fits into memory.

    Raises:
        InputTypeError: Targets or numbers of the wrong type.
        InputError: Targets or numbers that make no sense.
    """
    check_count("evaluations", evaluations)
    if chunk is not None:
        check_count("chunk", chunk)
    where = placement(network, x)
    margins = Margins(network, where)
    points, labels = flattened(network, x, where), y.to(where.device, torch.long).clone()
    if isinstance(targets, Tensor):
        targets = target_table(network, labels, points, targets)
    width = 1 if isinstance(targets, str) and targets != "all" else network.classes - 1
    for part in chunks(margins, len(x), width, chunk):
        asked = targets[part] if isinstance(targets, Tensor) else targets
        yield Part(margins, points[part], labels[part], asked, evaluations)


class Task:
    """One chunk: B inputs with K targets each, on the network's device, inputs in float64.

    Args:
        part: The chunk.
    """

    def __init__(self, part: Part) -> None:
        self.margins, self.x0, self.label, asked, self.evaluations = part
        self.asked = asked if isinstance(asked, str) else "given"
        self.logits = self._look()
        self.targets = target_table(self.margins.network, self.label, self.logits, asked)

    def _look(self) -> Tensor:
        """Logits of the inputs, (B, C)."""
        return self.margins.logits(self.x0)

    def specification(self) -> Specification:
        """The margins of all pairs."""
        return Specification.of(self.margins.coefficients(self.label[:, None], self.targets))

    def nearest(self, radius: Tensor) -> Tensor:
        """The column of the smallest radius (B, K); of the smallest margin where that is 0."""
        others = self.logits.gather(1, self.targets)
        return torch.where((radius > 0.0).all(1), radius.argmin(1), others.argmax(1))


class ScreenedTask(Task):
    """What searches on the curvature bound begin with: all pairs, screened at the inputs."""

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        self.kappa = self.margins.kappa[self.label[:, None], self.targets]
        self.lipschitz = self.margins.lipschitz[self.label[:, None], self.targets]
        self.value, self.gradient = self._screen.margins(self.label, self.targets)
        self.count = torch.ones_like(self.targets)  # gradient evaluations
        x = self._screen.x.detach()
        self.point = x[:, None].repeat(1, self.targets.shape[1], 1)  # where a search ended
        del self._screen  # and what it keeps for backward passes

    def _look(self) -> Tensor:
        """The evaluation that gives the logits serves the gradients too."""
        self._screen = Screen(self.margins, self.x0.to(self.margins.where.search_dtype))
        return self._screen.logits

    def screened_cuts(self) -> tuple[Cut, Tensor, Tensor]:
        """The cuts at the inputs with κ and L, all pairs in one row; they promise nothing."""
        gradient, kappa = self.gradient.flatten(0, 1), self.kappa.to(self.value).reshape(-1)
        cut = screening_cut(self.value.reshape(-1), gradient, torch.zeros_like(gradient), kappa)
        return cut, kappa, self.lipschitz.to(self.value).reshape(-1)
