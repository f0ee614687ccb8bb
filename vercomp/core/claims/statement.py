"""The claim that a specification of any rows holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..specifications import Specification
from .claim import Claim, Outputs, Stated, either, entries


@dataclass(frozen=True, eq=False)
class Statement(Claim):
    """A specification of any rows.

    Args:
        rows: The same for all inputs, or rows for each.
    """

    rows: Specification

    def about(self, inputs: int, outputs: int, at: Outputs) -> StatedRows:
        """With rows for each input."""
        C, d = self.rows.coefficients, self.rows.offsets
        if C.shape[-1] != outputs:
            raise InputError(f"C has {C.shape[-1]} columns, and the network {outputs} outputs")
        if self.rows.batched and len(C) != inputs:
            raise InputError(f"C is for {len(C)} inputs, and there are {inputs}")
        if self.rows.batched:
            return StatedRows(self.rows)
        wide = C.expand(inputs, -1, -1), d.expand(inputs, -1)
        return StatedRows(replace(self.rows, coefficients=wide[0], offsets=wide[1]))


@dataclass(frozen=True, eq=False)
class StatedRows(Stated):
    """Rows for each input.

    Args:
        rows: The rows, C (B, R, outputs).
    """

    rows: Specification

    @property
    def width(self) -> int:
        """The number of rows."""
        return self.rows.count

    def part(self, index: Tensor | slice) -> StatedRows:
        """The rows of some inputs."""
        C, d = entries(self.rows.coefficients, index), entries(self.rows.offsets, index)
        return StatedRows(replace(self.rows, coefficients=C, offsets=d))

    def specification(self) -> Specification:
        """The rows."""
        return self.rows

    def label(self) -> Tensor:
        """One: the statement holds."""
        return torch.ones_like(self.rows.offsets[:, 0], dtype=torch.long)

    def prediction(self, z: Tensor) -> Tensor:
        """One, or zero where the statement does not hold."""
        held = self.holds(z)
        return either(held, self.label(), torch.zeros_like(held, dtype=torch.long))
