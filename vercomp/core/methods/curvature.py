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

from ..arithmetic.outward import down, times_up, up
from ..bounds import BoundedNetwork
from ..graph import Activate, Graph
from ..linearization import Linearization
from ..network import VerifiedNetwork
from ..regions.ball_kind import BallKind
from ..regions.region import Region
from ..specifications import Specification
from .certificates import Certificates, assembled
from .certify import certify_parts
from .cuts import Cut, cut_radius
from .method import Method, Obstacle, Question
from .pairs import own_gradient_mode
from .radii import certificates_of
from .tasks import Task, split_claim


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
        if question.kind.name == "l2" and question.scales is None:
            return _dual(bounded, question)
        parts = []
        start = 0
        for part in split_claim(bounded, question):
            task = Task(part)
            rows = slice(start, start + len(task.x0))
            start = rows.stop
            scales = question.scales
            if scales is not None:
                scales = scales[rows].flatten(1).to(task.x0)
            parts.append(self._closed_forms(task, question, scales))
        found = assembled(parts, question.x)
        if question.scales is not None or _reach(question.kind, question.x[:1].numel()) > 1.0:
            return found
        # The ball lies in the one of the 2-norm with the same radius.
        wider = _dual(bounded, question)
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

    def _closed_forms(self, task: Task, question: Question, scales: Tensor | None) -> Certificates:
        found = task.margins.linearize_all(task.x0, task.label, task.targets)
        kappa, lipschitz = task.margins.bounds(task.label[:, None], task.targets)
        radius = closed_form(found, kappa, lipschitz, question.kind, scales)
        broken = task.violated(up(found.value + found.value_error))
        return certificates_of(task, task.table(radius), broken, self.name, question.radius)


def closed_form(
    found: Linearization,
    kappa: Tensor,
    lipschitz: Tensor,
    kind: BallKind,
    scales: Tensor | None = None,
) -> Tensor:
    """Proved radii (B, K) from one gradient at the input, in any norm.

    With scales s, the function is f(x₀ + s ⊙ y), whose gradient is s ⊙ ∇f.

    Args:
        found: f and ∇f at the inputs with their errors, (B, K) and (B, K, D).
        kappa: κ ≥ 0, (B, K).
        lipschitz: L ≥ 0, (B, K).
        kind: The norm.
        scales: s ≥ 0, (B, D); None for ones.
    """
    if scales is None:
        reach = torch.full_like(found.value, _reach(kind, found.gradient.shape[-1]))
        slope = kind.dual_norm(found.gradient)
    else:
        reach = kind.reach(scales)[:, None].expand_as(found.value)
        slope = kind.dual_norm(times_up(found.gradient.abs(), scales[:, None]))
    slope = times_up(slope + times_up(found.gradient_error, reach), 1.0 + 2.0**-50)
    bend = times_up(times_up(kappa, reach), reach)
    cut = Cut(down(found.value - found.value_error).flatten(), slope.flatten())
    radius = cut_radius(cut, bend.flatten(), times_up(lipschitz, reach).flatten())
    return radius.reshape(kappa.shape)


def _reach(kind: BallKind, size: int) -> float:
    """max ‖v‖₂ over the unit ball, rounded up."""
    return float(kind.reach(torch.ones(size, dtype=torch.float64)))


def _dual(network: BoundedNetwork, question: Question) -> Certificates:
    parts = split_claim(network, question)
    return assembled(certify_parts(parts, question.radius, question.decide), question.x)


def _bounded(network: VerifiedNetwork) -> BoundedNetwork:
    assert isinstance(network, BoundedNetwork)  # noqa: S101 - what has a curvature program is one
    return network


def _proved(bound: Tensor) -> Tensor:
    return torch.nan_to_num(bound, nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)
