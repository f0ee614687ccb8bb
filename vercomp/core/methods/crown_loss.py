"""Linear lower bounds as a function of live parameters: a loss that raises what can be proved.

Intervals come from interval propagation and the bound of a row from one backward walk over lines,
in the form of CROWN-IBP (Zhang et al., *Towards Stable and Efficient Training of Verifiably Robust
Neural Networks*, 2020), for any activation with known pieces, over any region:

    β · (linear bounds)  +  (1 − β) · (interval bounds),        0 ≤ β ≤ 1.

Both are lower bounds, and so is their mean. In the interval bounds the rows of the specification
are multiplied out with the affine node that ends the network, as in the literature (Gowal et al.,
*On the Effectiveness of Interval Bound Propagation*, 2018, section 3).

All of it is computed in the network's own type, without outward rounding: it steers a training.
What holds is proved by ``certify``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..domains.linear_forms import AffineForms
from ..domains.live_intervals import LiveIntervals, image, lines
from ..errors import InputError, InputTypeError
from ..graph import Activate, Graph
from ..inputs import check_labels
from ..network import VerifiedNetwork
from ..regions.region import Region
from ..specifications import Specification, units
from ..walk import backward, forward, rule


class Live(Protocol):
    """What has a graph over its parameters as they are now."""

    @property
    def dtype(self) -> torch.dtype:
        """The type that it computes in."""
        ...

    def nodes(self) -> Graph:
        """The graph."""
        ...


class CrownLoss(VerifiedNetwork):
    """A network whose linear bounds can be trained."""

    def crown(self, region: Region, y: Tensor | Specification, *, beta: float = 1.0) -> Tensor:
        """Lower bounds of margins over a region, differentiable in the parameters.

        Of B labels, the bounds of z_y − z_t for every class t, 0 for the label itself: the robust
        cross entropy is ``cross_entropy(-network.crown(region, y), y)``. They are computed in the
        network's type and hold up to its rounding: a loss, not a proof, which is
        :meth:`certify`'s. Margins are those of the logits, in front of what changes no comparison
        of them.

        Args:
            region: The inputs, B of them: :func:`vercomp.Ball` in any norm, :func:`vercomp.Box`.
            y: Labels (B,); or rows C and d, whose C z + d is then bounded, for logits z.
            beta: β, the share of linear bounds beside interval bounds, from 0 to 1. With 0 nothing
                is sent backward.

        Returns:
            (B, classes), or (B, R).

        Raises:
            InputTypeError: Labels that are no integers, or a region that is none.
            InputError: A wrong shape, a class out of range, β outside of its range.
        """
        if not isinstance(region, Region):
            raise InputTypeError(
                f"linear bounds are over a region, got {type(region).__name__}",
                remedy="Make one: Ball(x, radius, norm) or Box(lo, hi)",
            )
        if region.shape != tuple(self.input_shape):
            raise InputError(
                f"the region's inputs have the shape {region.shape}, the network's "
                f"{tuple(self.input_shape)}"
            )
        region = region.to(self.device)
        if isinstance(y, Specification):
            return crown_lower_bounds(self, region, y.to(self.device), beta)
        check_labels("labels", y, self.classes, len(region))
        return crown_margins(self, region, y.to(self.device), self.scores, beta)


def crown_margins(network: Live, region: Region, y: Tensor, outputs: int, beta: float) -> Tensor:
    """Lower bounds (B, C) of z_y − z_t for every class t, with gradients; 0 for the label.

    Args:
        network: Whose logits are bounded.
        region: The inputs, B of them.
        y: Labels (B,).
        outputs: The number of logits. One logit z counts as two classes, zero and z.
        beta: β.
    """
    rows = units(outputs).to(y.device)
    return crown_lower_bounds(network, region, Specification.of(rows[y][:, None] - rows), beta)


def crown_lower_bounds(
    network: Live, region: Region, specification: Specification, beta: float = 1.0
) -> Tensor:
    """Lower bounds (B, R) of C z + d over a region, with gradients for the network's parameters.

    They are computed in the network's type and so hold up to its rounding: a loss, not a proof.

    Args:
        network: The network, in training or not.
        region: The inputs, B of them.
        specification: C and d.
        beta: β, the share of linear bounds beside interval bounds.

    Raises:
        InputError: β outside of its range.
    """
    if not 0.0 <= beta <= 1.0:
        raise InputError(f"beta must be between 0 and 1, got {beta}")
    graph = network.nodes()
    domain = LiveIntervals(region, network.dtype)
    forward(domain, graph)
    C = specification.coefficients if specification.batched else specification.coefficients[None]
    rows = C.to(domain.dtype).expand(len(region), -1, -1)
    total = specification.offsets.to(domain.dtype).expand(rows.shape[:-1])
    if beta < 1.0:
        total = total + (1.0 - beta) * _least(graph, region, Images(domain.entered), rows)
    if beta > 0.0:
        total = total + beta * _least(graph, region, LiveForms(domain.entered), rows)
    return total


class LiveForms(AffineForms):
    """Linear forms over lines that autograd sees.

    Args:
        entered: The interval of every activation's argument.
    """

    def __init__(self, entered: dict[str, Interval]) -> None:
        super().__init__()
        self.entered = entered

    @rule(Activate)
    def activation(self, node: Activate, c: Tensor) -> Iterator[tuple[str, Tensor]]:
        """c⁺ s + c⁻ s′, and c⁺·t + c⁻·t′."""
        below, above = lines(node.function, self.entered[node.name])
        self._add(c, below.intercept, above.intercept)
        yield node.parent, _positive(c) * below.slope[:, None] + _negative(c) * above.slope[:, None]

    def _add(self, c: Tensor, low: Tensor, high: Tensor) -> None:
        """Add the least value of c·a, for numbers (B, n) between two ends, to the constant."""
        least = _positive(c) @ low[:, :, None] + _negative(c) @ high[:, :, None]
        self.constant = self.constant + least[..., 0]


class Images(LiveForms):
    """Linear forms that end at the first activations on their way: interval bounds of rows."""

    title = "interval bounds"

    @rule(Activate)
    def activation(self, node: Activate, c: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The least of c·σ([z]), and nothing for what comes before."""
        self._add(c, *image(node.function, self.entered[node.name]))
        return iter(())


def _positive(c: Tensor) -> Tensor:
    return c.clamp_min(0.0)


def _negative(c: Tensor) -> Tensor:
    return c.clamp_max(0.0)


def _least(graph: Graph, region: Region, domain: LiveForms, rows: Tensor) -> Tensor:
    """Lower bounds (B, R) of C a at the output."""
    g = backward(domain, graph, rows).get(graph.nodes[0].name)
    total = torch.zeros_like(rows[..., 0]) + domain.constant
    if g is None:
        return total
    g = g.expand(len(region), -1, -1)
    away = region.descent(g.detach()).to(g.dtype)
    least = (g * away).sum(-1)
    if not (region.is_ball or (region.kind.is_box and region.slab is None)):
        # Where the minimiser has no closed form, it has the gradient, and the value is proved.
        proved = region.minimum(g.detach().to(region.center.dtype), quick=True)
        least = least + (proved.to(g.dtype) - least.detach())
    return total + (g * region.center[:, None].to(g.dtype)).sum(-1) + least
