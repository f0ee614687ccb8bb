"""Tails: what stands behind the outputs that are compared, and changes no comparison of them.

A network whose outputs pass through a strictly increasing function decides as it does without that
function. Margins, curvature and attacks are about the outputs in front of it, the *logits*; bounds
of outputs are about those behind it, the model's own.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .arithmetic.rounded import exact
from .functions import Elementwise
from .graph import Activate, Affine, Graph, Term
from .maps.operators import Dense


@dataclass(frozen=True)
class Tail:
    """A strictly increasing function of every logit, or of the one that stands for two outputs.

    Args:
        functions: The functions that make it up, the innermost first.
        complement: Whether the one logit z stands for two outputs, [1 − σ(z), σ(z)], which compare
            as zero and z do because σ(0) = ½.
    """

    functions: tuple[Elementwise, ...]
    complement: bool = False

    def value(self, z: Tensor) -> Tensor:
        """The outputs (B, …) of logits z."""
        for function in self.functions:
            z = function.value(z)
        return torch.cat([1.0 - z, z], -1) if self.complement else z

    @property
    def slack(self) -> float:
        """How much logits must differ for their outputs, as torch computes them, to differ alike.

        The innermost function may deviate from its formula by ε beyond a threshold above which
        σ′ ≥ ½: if a − b ≥ 4ε, the formula's values differ by more than ε.
        """
        return 4.0 * self.functions[0].deviation

    def outputs(self, logits: int) -> int:
        """The number of outputs behind so many logits."""
        return 2 if self.complement else logits

    def behind(self, graph: Graph, device: torch.device) -> Graph:
        """The float64 graph of the logits, continued to the outputs."""
        shape, last, nodes = graph.node(graph.output).shape, graph.output, [*graph.nodes]
        for place, function in enumerate(self.functions):
            nodes.append(Activate(f"tail {place}", shape, last, function))
            last = nodes[-1].name
        if self.complement:
            signs = torch.tensor([[-1.0], [1.0]], dtype=torch.float64, device=device)
            one = torch.tensor([[1.0, 0.0]], dtype=torch.float64, device=device)
            term = Term("tail outputs", Dense(signs), last)
            nodes.append(Affine("tail outputs", (2,), (term,), exact(one)))
            last = nodes[-1].name
        return Graph(tuple(nodes), last)

    def threshold(self, value: float, output: int) -> tuple[int, float, tuple[float, float]]:
        """The threshold of a logit that an output's threshold amounts to.

        Args:
            value: T.
            output: k.

        Returns:
            The number of the logit; 1, or −1 where the output falls as the logit rises; and limits
            (lo, hi) as of :func:`before`, of the output or of its complement.
        """
        logit, sign, limits = output, 1.0, (value, value)
        if self.complement:
            logit = 0
            if output == 0:  # 1 − p > T where p < 1 − T
                sign = -1.0
                limits = (
                    math.nextafter(1.0 - value, -math.inf),
                    math.nextafter(1.0 - value, math.inf),
                )
        return logit, sign, before(self.functions, limits)


def before(functions: Sequence[Elementwise], limits: tuple[float, float]) -> tuple[float, float]:
    """Limits for what functions that never fall are applied to, the innermost first.

    Returns:
        (lo, hi): where z > hi, the value exceeds the upper limit, and where z < lo, it is below the
        lower one. Infinite where nothing is proved of any z.
    """
    low, high = limits
    for function in reversed(functions):
        low, high = _largest_below(function, low), _smallest_above(function, high)
    return low, high


def _smallest_above(function: Elementwise, value: float) -> float:
    """A z from which on σ is proved to exceed a value; ∞ if there is none."""
    return _bisected(lambda z: _range(function, z)[0] > value)


def _largest_below(function: Elementwise, value: float) -> float:
    """A z up to which σ is proved to stay below a value; −∞ if there is none."""
    return -_bisected(lambda z: _range(function, -z)[1] < value)


def _range(function: Elementwise, z: float) -> tuple[float, float]:
    point = torch.tensor([z], dtype=torch.float64)
    low, high = function.range(0, point, point)
    return float(low), float(high)


def _bisected(proves: Callable[[float], bool]) -> float:
    """The smallest float64 found at which something is proved that holds from some number on.

    Whatever is returned was itself proved, and σ never falls: that suffices.
    """
    first = next((k for k, z in enumerate(_STEPS) if proves(z)), None)
    if first is None:
        return math.inf
    if first == 0:
        return _STEPS[0]
    low, high = _ordinal(_STEPS[first - 1]), _ordinal(_STEPS[first])
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proves(_number(middle)) else (middle, high)
    return _number(high)


_SIZES = [2.0**k for k in range(-20, 41)]
_STEPS = (*(-size for size in reversed(_SIZES)), 0.0, *_SIZES)
"""Where a search begins; farther out, rounding leaves nothing to prove."""


def _ordinal(x: float) -> int:
    """The place of a float64 among all of them."""
    bits: int = struct.unpack("<q", struct.pack("<d", x))[0]
    return bits if bits >= 0 else -(bits & (2**63 - 1))


def _number(place: int) -> float:
    """The float64 at a place."""
    bits = place if place >= 0 else -place
    size: float = struct.unpack("<d", struct.pack("<q", bits))[0]
    return size if place >= 0 else -size
