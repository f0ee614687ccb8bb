"""The claim that the label's output stays the largest, or among the largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError, InputTypeError
from ..inputs import check_labels
from ..specifications import Specification
from .claim import Claim, Outputs, Stated, either, entries, output_of


@dataclass(frozen=True, eq=False)
class Labels(Claim):
    """The label's output stays the largest, or among the k largest.

    Args:
        y: Labels, (B,); None for the class that the network predicts.
        top: k: at most k − 1 other classes may have an output as large as the label's.
        groups: Sets of classes that count as one: the claim holds if one of the classes that count
            as the label does.
    """

    y: Tensor | None = None
    top: int = 1
    groups: Sequence[Sequence[int]] = ()

    def about(self, inputs: int, outputs: int, at: Outputs) -> StatedLabels:
        """With the predicted labels where none are given."""
        if outputs < 2:
            raise InputError(
                "a network with one output has no class to change to",
                remedy="Ask for Threshold(T), the output's side of T, or Deviation(D), how far it "
                "may move",
            )
        if isinstance(self.top, bool) or not isinstance(self.top, int):
            raise InputTypeError(f"top must be an integer, got {self.top!r}")
        if not 1 <= self.top < outputs:
            raise InputError(f"top must lie in 1..{outputs - 1}, got {self.top}")
        y = self.y
        if y is None:
            low, high = at()
            y = (0.5 * low + 0.5 * high).argmax(1)
        check_labels("labels", y, outputs, inputs)
        return StatedLabels(y, self.top, _members(self.groups, outputs))


@dataclass(frozen=True, eq=False)
class StatedLabels(Stated):
    """The claim about labels that are known.

    Args:
        y: The labels, (B,).
        top: k.
        members: For each class the classes that count as the same, itself among them.
    """

    y: Tensor
    top: int
    members: tuple[tuple[int, ...], ...]

    @property
    def plain(self) -> bool:
        """Whether the claim is that the label's output is larger than every other."""
        return self.top == 1 and max(map(len, self.members)) == 1

    @property
    def width(self) -> int:
        """A row for every class and every class that may count as the label."""
        return len(self.members) * max(map(len, self.members))

    def part(self, index: Tensor | slice) -> StatedLabels:
        """The labels of some inputs."""
        return replace(self, y=entries(self.y, index))

    def specification(self) -> Specification:
        """For every class outside of the label's group, the clause that one inside is larger.

        The clause of a class inside says 1 > 0; a group smaller than the largest repeats classes.
        """
        device, classes = self.y.device, len(self.members)
        longest = max(map(len, self.members))
        padded = [(group * longest)[:longest] for group in self.members]
        mine = torch.tensor(padded, device=device)[self.y.long()]  # (B, longest)
        inside = (mine[:, None] == torch.arange(classes, device=device)[:, None]).any(2)
        units = torch.eye(classes, dtype=torch.float64, device=device)
        C = units[mine][:, None] - units[:, None]  # (B, classes, longest, classes)
        C = torch.where(inside[:, :, None, None], 0.0, C).flatten(1, 2)
        d = inside.double().repeat_interleave(longest, 1)
        groups = torch.arange(classes, device=device).repeat_interleave(longest)
        return Specification(C, d, groups, self.top - 1)

    def label(self) -> Tensor:
        """The labels."""
        return self.y

    def prediction(self, z: Tensor) -> Tensor:
        """The class of the largest output, unless the claim holds all the same."""
        largest = z.argmax(1)
        return largest if self.plain else either(self.holds(z), self.y, largest)


def _members(groups: Sequence[Sequence[int]], classes: int) -> tuple[tuple[int, ...], ...]:
    """For each class the classes that count as the same, itself among them."""
    members: list[tuple[int, ...]] = [(label,) for label in range(classes)]
    seen: set[int] = set()
    for group in groups:
        own = tuple(dict.fromkeys(group))
        for label in own:
            if output_of(label, classes) in seen:
                raise InputError(f"class {label} is in two groups")
            members[label] = own
        seen |= set(own)
    if len({*members}) < 2:
        raise InputError("all classes count as one, so that no label can change")
    return tuple(members)
