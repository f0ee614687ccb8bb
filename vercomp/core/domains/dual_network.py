"""The dual network: intervals and parallel lines of every node.

Theorem 1 of Wong et al. (*Scaling provable adversarial defenses*, 2018) bounds c·z over a region of
inputs by sending ν = −c through a *dual network*, operation by operation. For affine nodes it is
the adjoint, with the bias in the objective; sums, concatenations and skips send to every parent.
An activation whose conjugate is bounded by a pair of parallel lines sends s ν. What arrives at the
input meets the conjugate of the region. That is the walk of :class:`~.linear_forms.ProvedForms`,
c = −ν, over lines that are parallel: a dual network is a choice of lines, and needs no walk of its
own. Fixed parallel lines make it linear.
"""

from __future__ import annotations

import hashlib
import math

import torch

from ..arithmetic.operations import Interval
from ..arithmetic.outward import down, up
from ..chance import Chance
from ..functions import Elementwise
from ..graph import Activate, Affine, Graph
from ..projections import Projection
from ..regions.region import Region
from ..relaxation.lines import Line
from ..relaxation.parallel import narrowest_strip
from ..walk import forward
from .intervals import RowNorms
from .linear_forms import Lines
from .projected_dual import Middle, ProjectedDual, laws, spread_of
from .refined_intervals import RefinedIntervals


class DualIntervals(RefinedIntervals):
    """Refined intervals over parallel lines."""

    title = "the dual network"

    def lines_of(self, function: Elementwise, z: Interval) -> Lines:
        """The narrowest strip of parallel lines."""
        strip = narrowest_strip(function, *z)
        return Lines(Line(strip.slope, strip.below), Line(strip.slope, strip.above))


class ProjectedIntervals(DualIntervals):
    """The same, with intervals of wide nodes estimated from random projections.

    All of them hold together, for each input, with probability 1 − δ: every estimate of every node
    fails with probability δ/N at most, given the lines of the activations before it. They depend
    on random numbers that were drawn before, so that every node has fresh ones. N counts each unit
    of those nodes, once for each norm that its interval takes.

    Args:
        graph: The graph.
        region: The inputs.
        rows: Dual norms of the rows of maps that read the input.
        projection: How many random numbers an estimate takes.
        chance: δ, and where the random numbers begin.
    """

    title = "the dual network by random projections"

    def __init__(
        self,
        graph: Graph,
        region: Region,
        rows: RowNorms,
        projection: Projection,
        chance: Chance,
    ) -> None:
        super().__init__(graph, region, rows)
        self.projection, self.seed = projection, chance.seed
        self.spread = spread_of(region)
        self.laws = tuple(laws(self.spread))
        estimates = sum(
            math.prod(node.shape) * len(self.laws)
            for node in graph.nodes
            if isinstance(node, Affine) and self._is_estimated(node)
        )
        self.failure = chance.failure / max(1, estimates)

    def _is_estimated(self, node: Affine) -> bool:
        """Whether the rows of the node, up and down, are more than the random vectors."""
        read = any(isinstance(reader, Activate) for reader in self.graph.children(node.name))
        vectors = self.projection.columns * self.projection.estimators * len(self.laws)
        return read and 2 * math.prod(node.shape) > vectors and not self._is_tight(node)

    def _refined(self, node: Affine, found: Interval) -> Interval:
        if not self._is_estimated(node):
            return super()._refined(node, found)
        if not bool(self._bent(node, found).any()):
            return found
        part, lines = self.relaxation.before(node.name), self.relaxation.lines
        needed = part.ancestors(node.name) | {node.name}
        middle = forward(Middle(part, self.region, self.spread, lines), part, only=needed)
        width = torch.zeros_like(found.lower)
        generator = self._generator(node)
        for law in self.laws:
            estimate = self.projection.estimate(law, self.failure)
            for rows in self.projection.blocks():
                domain = ProjectedDual(self.spread, lines, law, rows, generator)
                estimate.add(*forward(domain, part, only=needed)[node.name])
            width = up(width + estimate.norm())
        lower, upper = middle[node.name]
        return self._cut(found, down(lower - width), up(upper + width))

    def _generator(self, node: Affine) -> torch.Generator:
        """Random numbers of the node's own."""
        place = [each.name for each in self.graph.nodes].index(node.name)
        digest = hashlib.sha256(f"{self.seed}/{place}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
