"""The method of global curvature bounds: one gradient, κ and L prove something in every region.

With ∇²f ≽ −κI and ‖∇f‖ ≤ L everywhere, Taylor at x₀ gives over any region around it

    f(x) ≥ f(x₀) + min ∇f(x₀)·(x − x₀) − ½κ max ‖x − x₀‖₂²,     f(x) ≥ f(x₀) − L max ‖x − x₀‖₂,

where the region knows both extrema (for l2 balls these are Theorems 1 and 2 of Singla and Feizi).
In the 2-norm the dual finds the best point of expansion (:mod:`.certify`); in other norms it is the
input: with ‖x − x₀‖₂ ≤ c ‖x − x₀‖ and the dual norm ‖·‖_*, no x with f(x) ≤ 0 is nearer than the
root of f(x₀) − s‖∇f(x₀)‖_* − ½κc²s².
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..arithmetic.outward import down, times_up
from ..bounds import BoundedNetwork
from ..graph import Activate, Graph
from ..linearization import Linearization
from ..network import VerifiedNetwork
from ..regions.ball_kind import BallKind
from ..regions.region import Region
from ..specifications import Specification
from .certificates import Certificates, assembled
from .certify import answered
from .cuts import Cut, cut_radius
from .method import Method, Obstacle, Question
from .pairs import own_gradient_mode
from .radii import certificates_of
from .tasks import Task, split


class Curvature(Method):
    """Global bounds of curvature, for activations that have a second derivative."""

    name = "curvature"

    def requires(self, graph: Graph) -> tuple[Obstacle, ...]:
        """A bounded σ″ of every activation."""
        return tuple(
            Obstacle(node.name, "its activation has no bounded second derivative")
            for node in graph.nodes
            if isinstance(node, Activate) and node.function.second_range is None
        )

    def bound(
        self, network: VerifiedNetwork, region: Region, specification: Specification
    ) -> Tensor:
        """Taylor at x₀, by the better of κ and L."""
        bounded = _bounded(network)
        C, d = specification.coefficients, specification.offsets
        kappa, lipschitz = bounded.bounds_of(C)
        x = region.center[:, None]
        found = bounded.linearize(x, C if specification.batched else C[None])
        shape = (len(region), specification.count)
        value = found.value.expand(shape)
        gradient = found.gradient.expand(*shape, x.shape[2])
        far = region.farthest()[:, None].expand(shape)
        base = down(down(value - found.value_error.expand(shape)) + d)
        slope = region.minimum(gradient, found.gradient_error.expand(shape).contiguous())
        bend = times_up(times_up(far, far), 0.5 * kappa.clamp(min=0.0).expand(shape))
        curved = down(down(base + slope) - bend)
        straight = down(base - times_up(far, lipschitz.expand(shape)))
        return torch.fmax(_proved(curved), _proved(straight))

    @own_gradient_mode()
    def certify(
        self, network: VerifiedNetwork, question: Question, known: Tensor | None = None
    ) -> Certificates:
        """The dual in the 2-norm, the closed form at the input in every other."""
        bounded = _bounded(network)
        if question.kind.name == "l2":
            return answered(bounded, question)
        parts = split(
            bounded,
            question.x,
            question.y,
            question.targets,
            question.evaluations,
            question.chunk,
        )
        found = assembled([self._closed_forms(Task(part), question) for part in parts], question.x)
        reach = _reach(question.kind, question.x[:1].numel())
        if reach > 1.0:
            return found
        # The ball lies in the one of the 2-norm with the same radius.
        wider = answered(bounded, question)
        table = torch.maximum(found.radius_per_target, wider.radius_per_target)
        radius, target = torch.maximum(found.radius, wider.radius), found.target
        target = torch.where(wider.radius > found.radius, wider.target, target)
        asked = question.radius
        return replace(
            found,
            radius=radius,
            target=target,
            radius_per_target=table,
            prediction=wider.prediction,
            evaluations=wider.evaluations,
            certified=None if asked is None else radius > asked,
        )

    def _closed_forms(self, task: Task, question: Question) -> Certificates:
        found = task.margins.linearize_all(task.x0, task.label, task.targets)
        kappa = task.margins.kappa[task.label[:, None], task.targets]
        lipschitz = task.margins.lipschitz[task.label[:, None], task.targets]
        radius = closed_form(found, kappa, lipschitz, question.kind)
        broken = (found.value + found.value_error <= 0.0).any(1)
        return certificates_of(task, radius, broken, self.name, question.radius)


def closed_form(found: Linearization, kappa: Tensor, lipschitz: Tensor, kind: BallKind) -> Tensor:
    """Proved radii (B, K) from one gradient at the input, in any norm.

    Args:
        found: f and ∇f at the inputs with their errors, (B, K) and (B, K, D).
        kappa: κ ≥ 0, (B, K).
        lipschitz: L ≥ 0, (B, K).
        kind: The norm.
    """
    reach = torch.full_like(found.value, _reach(kind, found.gradient.shape[-1]))
    slope = kind.dual_norm(found.gradient)
    slope = times_up(slope + times_up(found.gradient_error, reach), 1.0 + 2.0**-50)
    bend = times_up(times_up(kappa, reach), reach)
    cut = Cut(down(found.value - found.value_error).flatten(), slope.flatten())
    radius = cut_radius(cut, bend.flatten(), times_up(lipschitz, reach).flatten())
    return radius.reshape(kappa.shape)


def _reach(kind: BallKind, size: int) -> float:
    """max ‖v‖₂ over the unit ball, rounded up."""
    return float(kind.reach(torch.ones(size, dtype=torch.float64)))


def _bounded(network: VerifiedNetwork) -> BoundedNetwork:
    assert isinstance(network, BoundedNetwork)  # noqa: S101 - what has a curvature program is one
    return network


def _proved(bound: Tensor) -> Tensor:
    return torch.nan_to_num(bound, nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)
