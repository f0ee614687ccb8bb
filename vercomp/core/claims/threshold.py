"""The claim that an output stays on its side of a threshold."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError, InputTypeError
from ..inputs import check_number
from ..specifications import Specification
from .claim import Claim, Outputs, Stated, either, entries, output_of


@dataclass(frozen=True, eq=False)
class Threshold(Claim):
    """An output stays on its side of a threshold: z_k > T or z_k < T.

    Args:
        value: T.
        output: k; may be left out where there is one output.
        above: For each input whether the claim is z_k > T, (B,) of type bool, or one for all; None
            for the side on which the network's own output lies.
    """

    value: float
    output: int | None = None
    above: Tensor | bool | None = None

    def about(self, inputs: int, outputs: int, at: Outputs) -> Side:
        """With the sides of the outputs where none are given."""
        value = check_number("a threshold", self.value)
        row = torch.zeros(outputs, dtype=torch.float64)
        row[output_of(self.output, outputs)] = 1.0
        return self.side(inputs, row, (value, value), at)

    def side(self, inputs: int, row: Tensor, limits: tuple[float, float], at: Outputs) -> Side:
        """The claim about c·z, if the threshold of c·z lies between two limits.

        Raises:
            InputTypeError: ``above`` does not say yes or no.
            InputError: ``above`` has a wrong shape.
        """
        above = self.above
        if above is None:
            low, high = at()
            above = (0.5 * low + 0.5 * high) @ row.to(low) > 0.5 * limits[0] + 0.5 * limits[1]
        elif isinstance(above, bool):
            above = torch.full((inputs,), above)
        if not isinstance(above, Tensor) or above.dtype != torch.bool:
            raise InputTypeError("above must be True, False, or a tensor of type bool")
        if above.shape != (inputs,):
            raise InputError(f"above must have the shape ({inputs},), got {tuple(above.shape)}")
        return Side(above, row, limits)


@dataclass(frozen=True, eq=False)
class Side(Stated):
    """c·z > T where ``above`` is true, and c·z < T elsewhere.

    Args:
        above: (B,), of type bool.
        row: c, (outputs,) in float64.
        limits: What T lies between; infinite where no value of c·z reaches T.
    """

    above: Tensor
    row: Tensor
    limits: tuple[float, float]

    @property
    def width(self) -> int:
        """One row."""
        return 1

    def part(self, index: Tensor | slice) -> Side:
        """The sides of some inputs."""
        return replace(self, above=entries(self.above, index))

    def specification(self) -> Specification:
        """c·z − T > 0, or T − c·z > 0; of what T may be, the harder."""
        above, row = self.above, self.row.to(self.above.device)
        low, high = torch.tensor(self.limits, dtype=torch.float64, device=above.device)
        C = torch.where(above[:, None], row, -row)[:, None]
        d = torch.where(above, -high, low)[:, None]
        # Where no output reaches the threshold, the row says 1 > 0 or −1 > 0.
        C = torch.where(d.isinf()[..., None], 0.0, C)
        d = torch.where(d.isinf(), d.sign(), d)
        return Specification(C, d, torch.zeros(1, dtype=torch.long, device=above.device))

    def label(self) -> Tensor:
        """1 above, 0 below."""
        return self.above.long()

    def prediction(self, z: Tensor) -> Tensor:
        """1 above, 0 below."""
        held = self.holds(z)
        return either(held, self.label(), 1 - self.label().to(held.device))
