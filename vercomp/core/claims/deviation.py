"""The claim that no output moves by more than so much."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF, down, up
from ..errors import InputError
from ..inputs import check_number
from ..specifications import Specification
from .claim import Claim, Outputs, Stated, either, entries, output_of


@dataclass(frozen=True, eq=False)
class Deviation(Claim):
    """No output moves by more than D: |z_k(x′) − z_k(x)| ≤ D for every k.

    Args:
        distance: D > 0.
        output: The only output that is asked about; None for all.
    """

    distance: float
    output: int | None = None

    def about(self, inputs: int, outputs: int, at: Outputs) -> StatedDeviation:
        """With the outputs at the inputs."""
        distance = check_number("a deviation", self.distance)
        if distance <= 0.0:
            raise InputError(f"a deviation must be positive, got {distance}")
        kept = range(outputs) if self.output is None else [output_of(self.output, outputs)]
        low, high = at()
        return StatedDeviation(distance, tuple(kept), low, high)


@dataclass(frozen=True, eq=False)
class StatedDeviation(Stated):
    """The claim about inputs at which the outputs are known.

    Args:
        distance: D.
        outputs: The k that are asked about.
        low: Proved bounds of all outputs at the inputs from below, (B, outputs).
        high: From above.
    """

    distance: float
    outputs: tuple[int, ...]
    low: Tensor
    high: Tensor

    @property
    def width(self) -> int:
        """Two rows for each output."""
        return 2 * len(self.outputs)

    def part(self, index: Tensor | slice) -> StatedDeviation:
        """The outputs of some inputs."""
        return replace(self, low=entries(self.low, index), high=entries(self.high, index))

    def specification(self) -> Specification:
        """z_k − (z_k(x) − D) > 0 and (z_k(x) + D) − z_k > 0, where z_k(x) is known to lie."""
        kept = torch.tensor(self.outputs, device=self.low.device)
        units = torch.eye(self.low.shape[1], dtype=torch.float64, device=self.low.device)[kept]
        C = torch.cat([units, -units]).expand(len(self.low), -1, -1)
        falls, rises = self.distance - self.high[:, kept], self.distance + self.low[:, kept]
        d = down(torch.cat([falls, rises], 1))
        return Specification(C, d, torch.arange(self.width, device=self.low.device))

    def looseness(self) -> Tensor:
        """How well the outputs at the inputs are known."""
        kept = torch.tensor(self.outputs, device=self.low.device)
        width = (self.high - self.low)[:, kept].amax(1)
        return up(width + 4.0 * UNIT_ROUNDOFF * (self.distance + self.high[:, kept].abs().amax(1)))

    def label(self) -> Tensor:
        """Zero: there is nothing that the network could be wrong about."""
        return torch.zeros_like(self.low[:, 0], dtype=torch.long)

    def prediction(self, z: Tensor) -> Tensor:
        """Zero, or −1 where rounding alone exceeds D."""
        held = self.holds(z)
        return either(held, self.label(), torch.full_like(held, -1, dtype=torch.long))
