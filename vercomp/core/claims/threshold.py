"""The claim that an output stays on its side of a threshold."""

from __future__ import annotations

import math
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
        return self.moved(inputs, outputs, output_of(self.output, outputs), 1.0, (value, value), at)

    def moved(
        self,
        inputs: int,
        outputs: int,
        place: int,
        sign: float,
        limits: tuple[float, float],
        at: Outputs,
    ) -> Side:
        """The same claim about something that rises, or falls, with the output.

        Args:
            inputs: B.
            outputs: How many of these things there are.
            place: The number of the one that the claim is about.
            sign: −1 where it falls as the output rises.
            limits: What its threshold lies between.
            at: Bounds of these things at the inputs; the last columns count.

        Raises:
            InputTypeError: ``above`` does not say yes or no.
            InputError: ``above`` has a wrong shape.
        """
        above = self.above
        if above is None:
            low, high = at()
            middle = (0.5 * low + 0.5 * high)[:, place - outputs]
            threshold = limits[1] if limits[0] == -math.inf else limits[0]
            above = (middle > threshold) == (sign > 0.0)
        elif isinstance(above, bool):
            above = torch.full((inputs,), above)
        if not isinstance(above, Tensor) or above.dtype != torch.bool:
            raise InputTypeError("above must be True, False, or a tensor of type bool")
        if above.shape != (inputs,):
            raise InputError(f"above must have the shape ({inputs},), got {tuple(above.shape)}")
        return Side(above, place, sign, limits, outputs)


@dataclass(frozen=True, eq=False)
class Side(Stated):
    """z_k > T where ``above`` is true, and z_k < T elsewhere; the other way round for sign −1.

    Args:
        above: (B,), of type bool: whether the claim is that the user's output is above.
        place: k.
        sign: −1 where the user's output is above its threshold where z_k is below T.
        limits: What T lies between; infinite where no z_k reaches T.
        outputs: The number of outputs that C has columns for.
    """

    above: Tensor
    place: int
    sign: float
    limits: tuple[float, float]
    outputs: int

    @property
    def width(self) -> int:
        """One row."""
        return 1

    def part(self, index: Tensor | slice) -> Side:
        """The sides of some inputs."""
        return replace(self, above=entries(self.above, index))

    def specification(self) -> Specification:
        """z_k − T > 0, or T − z_k > 0; of what T may be, the harder."""
        rises = self.above if self.sign > 0.0 else ~self.above
        low, high = torch.tensor(self.limits, dtype=torch.float64, device=rises.device)
        row = torch.zeros(self.outputs, dtype=torch.float64, device=rises.device)
        row[self.place] = 1.0
        C = torch.where(rises[:, None], row, -row)[:, None]
        d = torch.where(rises, -high, low)[:, None]
        # Where no output reaches the threshold, the row says 1 > 0 or −1 > 0.
        C = torch.where(d.isinf()[..., None], 0.0, C)
        d = torch.where(d.isinf(), d.sign(), d)
        return Specification(C, d, torch.zeros(1, dtype=torch.long, device=rises.device))

    def looseness(self) -> Tensor:
        """How well the threshold is known."""
        width = math.nextafter(self.limits[1] - self.limits[0], math.inf)
        known = width if math.isfinite(width) and self.limits[0] < self.limits[1] else 0.0
        return torch.full(self.above.shape, known, dtype=torch.float64, device=self.above.device)

    def label(self) -> Tensor:
        """1 above, 0 below."""
        return self.above.long()

    def prediction(self, z: Tensor) -> Tensor:
        """1 above, 0 below."""
        held = self.holds(z)
        return either(held, self.label(), 1 - self.label().to(held.device))
