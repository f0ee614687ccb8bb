"""Claims: what shall stay true around each input, in the words of the user's question.

A claim is *stated* once the network and the inputs are known, and then gives rows C z + d > 0 for
each input, a :class:`~..specifications.Specification`:

======================  ==========================================================================
:class:`.Labels`        the label's output stays the largest, or among the k largest; classes may
                        count as one
:class:`.Threshold`     an output stays on its side of a threshold T
:class:`.Deviation`     no output moves by more than D
:class:`.Statement`     a specification of any rows
======================  ==========================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError, InputTypeError
from ..specifications import Specification

Outputs = Callable[[], tuple[Tensor, Tensor]]
"""Proved bounds (B, outputs) of the outputs at the inputs, from below and from above."""


class Claim(ABC):
    """What shall stay true around inputs that are not known yet."""

    @abstractmethod
    def about(self, inputs: int, outputs: int, at: Outputs) -> Stated:
        """The claim about B inputs of a network with so many outputs.

        Args:
            inputs: B.
            outputs: The number of outputs.
            at: The outputs at the inputs; only called where the claim depends on them.

        Raises:
            InputTypeError: A part of the claim has a wrong type.
            InputError: The claim does not fit the network or the inputs.
        """


class Stated(ABC):
    """What shall stay true around each of B inputs."""

    @property
    @abstractmethod
    def width(self) -> int:
        """The number of rows for each input."""

    @abstractmethod
    def part(self, index: Tensor | slice) -> Stated:
        """The claim about some of the inputs."""

    @abstractmethod
    def specification(self) -> Specification:
        """The rows that must hold, a set for each input: C (B, R, outputs)."""

    @abstractmethod
    def label(self) -> Tensor:
        """What is claimed of each input, as a number, (B,)."""

    @abstractmethod
    def prediction(self, z: Tensor) -> Tensor:
        """What outputs z (B, outputs) say instead: the label exactly where the claim holds."""

    def looseness(self) -> Tensor:
        """How far the rows' offsets may lie below what the claim says, (B,): numbers are bounds."""
        return torch.zeros(len(self.label()), dtype=torch.float64)

    def holds(self, z: Tensor) -> Tensor:
        """Whether the claim holds of outputs z (B, outputs), as evaluated: (B,)."""
        rows = self.specification().to(z.device)
        return rows.decided(rows.values(z))


def output_of(output: int | None, outputs: int) -> int:
    """The number of an output that is asked about.

    Raises:
        InputTypeError: No integer.
        InputError: There is no such output, or none is named and there are several.
    """
    if output is None:
        if outputs > 1:
            raise InputError(
                f"the network has {outputs} outputs, and the question does not say which is meant",
                remedy=f"Name one, 0 to {outputs - 1}",
            )
        return 0
    if isinstance(output, bool) or not isinstance(output, int):
        raise InputTypeError(f"an output is named by an integer, got {output!r}")
    if not 0 <= output < outputs:
        raise InputError(f"outputs are 0 to {outputs - 1}, got {output}")
    return output


def entries(tensor: Tensor, index: Tensor | slice) -> Tensor:
    """Entries of a tensor by an index that may be on another device."""
    return tensor[index.to(tensor.device) if isinstance(index, Tensor) else index]


def either(held: Tensor, label: Tensor, other: Tensor) -> Tensor:
    """The label where the claim holds, and else something other than the label."""
    return torch.where(held, label.to(held.device), other)
