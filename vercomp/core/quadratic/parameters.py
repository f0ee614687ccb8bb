"""The free parameters of a quadratic bound: any values give a bound, good ones are searched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ByNode = dict[str, Tensor]
"""A tensor for each activation, by the name of its node."""


@dataclass
class Parameters:
    """For P problems: entries (P, units) for each activation.

    Those behind which no other activation comes have slopes and curvatures alone.

    Args:
        slopes: s_v, of the identity with point coefficients.
        curvatures: Λ_v, of any sign.
        chords: D_v.
        weights: T_v > 0 up to a factor.
        shares: θ_v in (0, 1), (P,) each.
    """

    slopes: ByNode
    curvatures: ByNode
    chords: ByNode
    weights: ByNode
    shares: ByNode

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Parameters:
        """With every tensor changed."""
        return Parameters(
            *(
                {name: change(value) for name, value in values.items()}
                for values in vars(self).values()
            )
        )

    def put(self, problems: Tensor, other: Parameters) -> None:
        """Replace those of some problems."""
        for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True):
            for name, value in theirs.items():
                mine[name][problems] = value

    def row(self, p: int) -> Parameters:
        """The parameters of one problem, in float64 on the CPU."""
        return self.mapped(lambda value: value[p].detach().to("cpu", torch.float64))

    def where(self, better: Tensor, other: Parameters) -> Parameters:
        """These parameters for the problems of a mask (P,), the others elsewhere."""

        def chosen(mine: Tensor, theirs: Tensor) -> Tensor:
            mask = better.reshape(-1, *(1,) * (mine.ndim - 1))
            return torch.where(mask, mine, theirs).detach()

        return Parameters(
            *(
                {name: chosen(value, theirs[name]) for name, value in mine.items()}
                for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)
            )
        )
