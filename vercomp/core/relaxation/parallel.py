"""Two parallel lines that hold an activation between them: the linear dual layer.

On an interval [l, u] of its input, for any slope s,

    s z + t ≤ σ(z) ≤ s z + t′,    t = min over [l, u] of σ(z) − s z,  t′ = max of the same.

These t and t′ are the conjugates of ±σ on the interval at s: with ν = s ν′ for what arrives at the
activation's input, max over [l, u] of ν′ σ(z) − ν z is t′ν′ where ν′ > 0 and t ν′ elsewhere (Wong
et al., *Scaling provable adversarial defenses*, 2018, Theorem 1 and appendix B). Since ν is linear
in ν′, a network of such layers has a dual that is linear, too.

Any slope is sound. The slope here is that of the narrowest strip t′ − t. The width is convex in s,
and where it is least, the line below touches σ between places where the line above does, or the
other way round: it is a slope of the convex or of the concave envelope of σ at an end of the
interval, or of the chord. For ReLU, LeakyReLU and hardtanh on an interval with one kink it is the
chord, u/(u − l) for ReLU; for hardtanh on an interval with both kinks min(2/(1 − l), 2/(1 + u)),
the smaller of the slopes of equation 38.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..functions import Elementwise
from .lines import slope_range
from .minimum import least


class Strip(NamedTuple):
    """σ(z) − s z lies in [t, t′] for each entry.

    Args:
        slope: s.
        below: t, rounded down.
        above: t′, rounded up.
    """

    slope: Tensor
    below: Tensor
    above: Tensor


def narrowest_strip(function: Elementwise, lower: Tensor, upper: Tensor) -> Strip:
    """The narrowest strip around σ on intervals, of those with the slopes that can have it.

    Where an end is infinite, or not a number, the strip is flat.

    Args:
        function: σ, with proved pieces.
        lower: The lower ends, float64.
        upper: The upper ends, of the same shape.
    """
    finite = lower.isfinite() & upper.isfinite() & (lower <= upper)
    low, high = torch.where(finite, lower, 0.0), torch.where(finite, upper, 0.0)
    slopes = torch.stack(
        [
            chord_slope(function, low, high),
            *slope_range(function, low, high),
            *slope_range(function, low, high, sign=-1.0),
        ]
    )
    slopes = torch.where(slopes.isfinite(), slopes, 0.0)
    below = least(function, slopes, low, high).value
    above = -least(function, -slopes, low, high, sign=-1.0).value
    width = torch.where((above - below).isnan(), torch.inf, above - below)
    best = width.argmin(0, keepdim=True)
    slope, below, above = (each.gather(0, best)[0] for each in (slopes, below, above))
    bottom, top = function.range(0, lower, upper)
    return Strip(
        torch.where(finite, slope, 0.0),
        torch.where(finite, below, bottom),
        torch.where(finite, above, top),
    )


def chord_slope(function: Elementwise, lower: Tensor, upper: Tensor) -> Tensor:
    """(σ(u) − σ(l))/(u − l), and σ′ where the ends meet; differentiable in both ends."""
    wide = upper > lower
    run = torch.where(wide, upper - lower, 1.0)
    rise = function.value(upper) - function.value(lower)
    return torch.where(wide, rise / run, function.first(0.5 * lower + 0.5 * upper).detach())
