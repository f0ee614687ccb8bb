"""A question about many inputs, taken apart: chunks of B inputs with K targets each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..arithmetic.outward import down
from ..claims.labels import StatedLabels
from ..inputs import check_count, check_inputs, target_table
from ..specifications import Specification
from .cuts import Cut, screening_cut
from .pairs import Classifier, Margins, Pairs, Rows, chunks, flattened, placement, slack_of

if TYPE_CHECKING:
    from .method import Question


class Part(NamedTuple):
    """One chunk of the question.

    Args:
        margins: The network's margins, or the rows of a specification.
        x0: Inputs in float64 on the network's device, shape (B, D).
        label: Labels, shape (B,); of rows, the numbers of the inputs.
        asked: ``"all"``, ``"runner-up"`` or the chunk's targets, shape (B, K); of rows, the numbers
            of the rows.
        evaluations: Gradient evaluations a pair, at most.
    """

    margins: Pairs
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
    """Check the question, and take it apart into what fits into memory.

    Raises:
        InputTypeError: Inputs, labels, targets or numbers of the wrong type.
        InputError: Shapes, values, labels or targets that make no sense.
    """
    check_inputs(network, x, y)
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


def split_claim(network: Classifier, question: Question) -> Iterator[Part]:
    """The question, taken apart into what fits into memory; it was checked when it was made."""
    claim, x = question.claim, question.x
    if isinstance(claim, StatedLabels) and claim.plain:
        return split(
            network, x, claim.label(), question.targets, question.evaluations, question.chunk
        )
    return _split_rows(network, question)


def _split_rows(network: Classifier, question: Question) -> Iterator[Part]:
    x, claim = question.x, question.claim
    where = placement(network, x)
    tail = slack_of(network) if isinstance(claim, StatedLabels) else 0.0

    def pairs(part: slice) -> Rows:
        own = claim.part(part)
        rows, loose = own.specification().to(where.device), own.looseness()
        slacks = rows.offsets.new_full(rows.offsets.shape, tail) + loose.to(where.device)[:, None]
        return Rows(network, where, rows, slacks)

    points = flattened(network, x, where)
    for part in chunks(pairs(slice(0, 0)), len(x), claim.width, question.chunk):
        margins = pairs(part)
        numbers = torch.arange(len(points[part]), device=where.device)
        count = margins.specification.count
        asked = torch.arange(count, device=where.device).expand(len(numbers), -1)
        yield Part(margins, points[part], numbers, asked, question.evaluations)


class Task:
    """One chunk: B inputs with K pairs each, on the network's device, inputs in float64.

    A *table* has a column for everything that may fail by itself: for every class, where labels are
    asked about, and for every clause of a specification otherwise; one for all, if some clauses may
    fail.

    Args:
        part: The chunk.
    """

    def __init__(self, part: Part) -> None:
        self.margins, self.x0, self.label, asked, self.evaluations = part
        self.asked = asked if isinstance(asked, str) else "given"
        self.logits = self.margins.logits(self.x0)
        self.of_rows = isinstance(self.margins, Rows)
        if isinstance(asked, Tensor) and self.of_rows:
            self.targets = asked
        else:
            self.targets = target_table(self.margins.network, self.label, self.logits, asked)

    def specification(self) -> Specification:
        """The rows of all pairs, less the slack."""
        if isinstance(self.margins, Rows):
            rows = self.margins.specification
        else:
            rows = Specification.of(self.margins.coefficients(self.label[:, None], self.targets))
        return replace(rows, offsets=down(rows.offsets - self.slack))

    @property
    def slack(self) -> Tensor | float:
        """The slack of all pairs, (B, K) or one for all."""
        return self.margins.slack(self.label[:, None], self.targets)

    @property
    def separable(self) -> bool:
        """Whether every pair must hold, so that a point where one fails is a witness."""
        return not isinstance(self.margins, Rows) or self.margins.specification.separable

    def table(self, rows: Tensor) -> Tensor:
        """The table of radii (B, K) of all pairs."""
        if isinstance(self.margins, Rows):
            return self.margins.specification.radii(rows)
        return self.scattered(rows, torch.inf)

    def scattered(self, rows: Tensor, fill: float) -> Tensor:
        """Numbers (B, K) of all pairs, in the columns of their classes where there are classes."""
        if self.of_rows:
            return rows
        table = torch.full(self.logits.shape, fill, dtype=rows.dtype, device=rows.device)
        return table.scatter(1, self.targets, rows)

    def filled(self, radius: Tensor) -> Tensor:
        """The table of a radius (B,) within which everything holds."""
        return self.table(radius[:, None].expand(self.targets.shape).contiguous())

    def smallest(self, table: Tensor) -> Tensor:
        """The smallest radius (B,) of a table, over what is asked about."""
        return (table if self.of_rows else table.gather(1, self.targets)).amin(1)

    def nearest(self, table: Tensor) -> Tensor:
        """The column of the smallest radius; that of the smallest margin where a radius is 0."""
        if self.of_rows:
            return table.argmin(1)
        radius = table.gather(1, self.targets)
        others = self.logits.gather(1, self.targets)
        column = torch.where((radius > 0.0).all(1), radius.argmin(1), others.argmax(1))
        return self.targets.gather(1, column[:, None])[:, 0]

    def violated(self, upper: Tensor) -> Tensor:
        """Which inputs (B,) upper bounds (B, K) of all pairs refute."""
        return self.specification().violated(upper) if self.of_rows else (upper <= 0.0).any(1)


class ScreenedTask(Task):
    """What searches on the curvature bound begin with: all pairs, screened at the inputs."""

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        self.kappa, self.lipschitz = self.margins.bounds(self.label[:, None], self.targets)
        x = self.x0.to(self.margins.where.search_dtype)
        self.value, self.gradient = self.margins.screen_all(x, self.label, self.targets)
        self.count = torch.ones_like(self.targets)  # gradient evaluations
        self.point = x[:, None].repeat(1, self.targets.shape[1], 1)  # where a search ended

    def screened_cuts(self) -> tuple[Cut, Tensor, Tensor]:
        """The cuts at the inputs with κ and L, all pairs in one row; they promise nothing."""
        gradient, kappa = self.gradient.flatten(0, 1), self.kappa.to(self.value).reshape(-1)
        cut = screening_cut(self.value.reshape(-1), gradient, torch.zeros_like(gradient), kappa)
        return cut, kappa, self.lipschitz.to(self.value).reshape(-1)
