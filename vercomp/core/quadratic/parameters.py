"""The free parameters of a quadratic bound: any values give a bound, good ones are searched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Parameters:
    """For P problems on a chain with n activations; lists run over the layers, entries (P, units).

    Args:
        slopes: s_k, of the identity with point coefficients.
        curvatures: Λ_k, of any sign.
        chords: D_k, of all but the last layer.
        weights: T_k > 0 up to a factor, of all but the last layer.
        shares: θ_k in (0, 1), (P,) each, of all but the last layer.
    """

    slopes: list[Tensor]
    curvatures: list[Tensor]
    chords: list[Tensor]
    weights: list[Tensor]
    shares: list[Tensor]

    def row(self, p: int) -> Parameters:
        """The parameters of one problem, in float64 on the CPU."""
        return Parameters(
            *(
                [value[p].detach().to("cpu", torch.float64) for value in values]
                for values in vars(self).values()
            )
        )

    def where(self, better: Tensor, other: Parameters) -> Parameters:
        """These parameters for the problems of a mask (P,), the others elsewhere."""

        def chosen(mine: Tensor, theirs: Tensor) -> Tensor:
            mask = better.reshape(-1, *(1,) * (mine.ndim - 1))
            return torch.where(mask, mine, theirs).detach()

        return Parameters(
            *(
                [chosen(a, b) for a, b in zip(mine, theirs, strict=True)]
                for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)
            )
        )
