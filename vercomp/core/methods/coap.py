"""The methods of dual networks: linear bounds with parallel lines, exact or by projections."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from ..chance import Chance
from ..domains.dual_network import DualIntervals, ProjectedIntervals
from ..domains.refined_intervals import Relaxation
from ..network import VerifiedNetwork
from ..projections import Projection
from ..regions.region import Region
from ..specifications import Specification
from ..walk import forward
from .crown import Crown
from .interval import IntervalBounds
from .pairs import own_gradient_mode


class Coap(Crown):
    """Bounds by the dual network (Wong and Kolter 2018, Wong et al. 2018), cut with intervals.

    The *convex outer adversarial polytope* of a network, with one slope for both lines of an
    activation. :class:`~.crown.Crown` chooses the line below freely, and is seldom below it; this
    is the bound that networks trained by it were trained for.
    """

    name = "coap"
    on_request = True

    def _relaxed(self, network: VerifiedNetwork, region: Region) -> Relaxation:
        graph = network.in_double()[1]
        domain = DualIntervals(graph, region, self._row_norms(network, graph))
        forward(domain, graph)
        return domain.relaxation


class ProjectedCoap(Coap):
    """The same with the intervals of wide layers estimated by random projections.

    Its cost is linear in the number of hidden units, where that of all exact intervals is
    quadratic. The certificates are probable: with δ the failure probability, all estimates behind
    an input's certificate hold together with probability 1 − δ. The rows that are asked for are
    bounded exactly over what was estimated. What is proved without chance is what interval
    propagation proves.
    """

    name = "coap-projected"
    probable = True

    def __init__(self, projection: Projection | None = None) -> None:
        super().__init__()
        self.projection = projection or Projection()

    @own_gradient_mode()
    def bound(
        self, network: VerifiedNetwork, region: Region, specification: Specification
    ) -> Tensor:
        """Those of interval propagation."""
        return IntervalBounds.bound(self, network, region, specification)

    @own_gradient_mode()
    def probable_bound(
        self,
        network: VerifiedNetwork,
        region: Region,
        specification: Specification,
        chance: Chance,
    ) -> Tensor:
        """Bounds over the dual network by random projections."""
        relaxed = partial(self._estimated, chance)
        return self._in_parts(network, region, specification, relaxed)

    def _estimated(self, chance: Chance, network: VerifiedNetwork, region: Region) -> Relaxation:
        graph = network.in_double()[1]
        rows = self._row_norms(network, graph)
        domain = ProjectedIntervals(graph, region, rows, self.projection, chance)
        forward(domain, graph)
        return domain.relaxation
