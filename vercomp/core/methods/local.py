"""The method of local curvature: κ of nested balls around the input, in the place of a global one.

A plain deep network bends far less near an input than anywhere: global bounds multiply the norms of
all layers. Here κ is proved on a few balls around the input (:mod:`..local.curvature`), and radii
follow along rays and from cuts at points on the way to the boundary (:mod:`..local.shells`).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ..arithmetic.outward import down, times_up
from ..graph import Activate, Graph
from ..local.nested import NestedBalls
from ..local.products import LARGEST_LAYER, work
from ..network import VerifiedNetwork
from ..regions.region import Region
from ..specifications import Specification
from .certificates import Certificates
from .crown import Crown
from .local_search import InputSearch
from .method import Obstacle, Question
from .pairs import own_gradient_mode
from .radii import certificates_of
from .tasks import Task

_MOST_USUAL = 2**23
"""Networks whose Jacobians take more multiplications than this get local curvature on request."""


class LocalCurvatures(Crown):
    """Curvature bounds of balls around each input, for activations that have a second derivative.

    It takes seconds for an input of a network with thousands of units, and so is a method on
    request; but where it takes milliseconds it is used without being named.
    """

    name: ClassVar[str] = "local"
    on_request: ClassVar[bool] = True

    def usual(self, graph: Graph) -> bool:
        """Where Jacobians between layers are small."""
        return work(graph) <= _MOST_USUAL

    def requires(self, graph: Graph) -> tuple[Obstacle, ...]:
        """A σ″ and known pieces of every activation, and layers that fit into matrices."""
        lacking = super().requires(graph)
        rough = tuple(
            Obstacle(node.name, "its activation has no bounded second derivative")
            for node in graph.nodes
            if isinstance(node, Activate) and node.function.second_range is None
        )
        wide = tuple(
            Obstacle(node.name, f"local curvature needs layers of at most {LARGEST_LAYER:,} units")
            for node in graph.nodes
            if math.prod(node.shape) > LARGEST_LAYER
        )
        return (*lacking, *rough, *wide[:1])

    @own_gradient_mode()
    def bound(
        self, network: VerifiedNetwork, region: Region, specification: Specification
    ) -> Tensor:
        """Taylor at x₀ with κ of the ball of the 2-norm around the region."""
        graph = network.in_double()[1]
        d = specification.offsets
        shape = (len(region), specification.count)
        result = torch.full(shape, -math.inf, dtype=torch.float64, device=d.device)
        rows = self._row_norms(network, graph)
        for b in range(len(region)):
            one = region.rows(slice(b, b + 1))
            far = float(one.farthest())
            if math.isfinite(far):
                balls = NestedBalls(graph, one.center, one.shape, rows)
                balls.add([far])
                own = specification.rows(torch.tensor([b], device=d.device))
                result[b] = _taylor(balls, one, far, own)
        return result

    def _radii(
        self, network: VerifiedNetwork, task: Task, question: Question, known: Tensor | None
    ) -> Certificates:
        """Radii of the 2-norm, in which balls of the 1-norm lie; nothing new of other balls.

        Nor of claims of which some parts may fail.
        """
        balls = question.kind.name in ("l1", "l2") and question.scales is None
        least = torch.zeros_like(task.x0[:, 0]) if known is None else task.smallest(known)
        none = torch.zeros(len(least), dtype=torch.bool, device=least.device)
        right = task.logits.argmax(1) == task.label if task.asked == "all" else ~none
        if not (balls and task.separable):
            return certificates_of(task, task.filled(least), none, self.name, question.radius)
        table = torch.zeros(task.targets.shape, dtype=torch.float64, device=least.device)
        if known is not None:
            table = known if task.of_rows else known.gather(1, task.targets)
        open_rows = torch.nonzero(right & least.isfinite())[:, 0]
        if question.decide and question.radius is not None:
            open_rows = open_rows[least[open_rows] <= question.radius]
        table = table.clone()
        enough = question.radius if question.decide else None
        graph = network.in_double()[1]
        rows = self._row_norms(network, graph)
        for b in open_rows.tolist():
            search = InputSearch(graph, rows, task, b)
            table[b] = search.radii(table[b], enough)
        return certificates_of(task, task.table(table), none, self.name, question.radius)


def _taylor(balls: NestedBalls, region: Region, far: float, specification: Specification) -> Tensor:
    """Lower bounds (R,) of C z + d over one region from the value, the gradient and κ at x₀."""
    C, d = specification.coefficients, specification.offsets
    C, d = (C[0], d[0]) if specification.batched else (C, d)
    found: list[Tensor] = []
    for row, offset in zip(C, d, strict=True):
        kappa = max(0.0, balls.curvature(far, row).bound)
        at = balls.expansion.linearize(row[None])
        slope = region.minimum(at.gradient[:, None], at.gradient_error[:, None])[:, 0]
        reach = torch.full_like(slope, far)
        bend = times_up(times_up(reach, reach), 0.5 * kappa)
        base = down(down(at.value - at.value_error) + offset)
        bound = down(down(base + slope) - bend)
        found.append(torch.nan_to_num(bound, nan=-math.inf, posinf=-math.inf)[0])
    return torch.stack(found)
