r"""Training on certified margins: Theorem 2's dual value in the place of the attacked margin.

Let f = z_y − z_t and ∇²f ≽ −κ·I. On the ball ‖x − x₀‖ ≤ ρ

    L(x) = f(x) − ½κ(ρ² − ‖x − x₀‖²) ≤ f(x),

and L is convex on all of space, so that projected gradient descent finds its minimum over the ball:
no margin in the ball is smaller. By strong duality for this convex problem the minimum is the dual
value of Theorem 2 ("Second-Order Provable Defenses"), max over η ≥ κ of
min_x f(x) + ½η(‖x − x₀‖² − ρ²). Where it is attained on the sphere the two terms agree, and the
certified margin is the attacked one. Where it is not, ½κ(ρ² − ‖x̂ − x₀‖²) is what the certificate
loses to the curvature; as a part of the loss it lowers κ for those pairs of classes, and as much,
as inputs need it. By the envelope theorem the gradient is that of f and of κ at a fixed x̂.

In training κ is the regulariser's, which comes from below, and x̂ is a few steps away from the
minimum: these margins steer, and are no certificates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from vercomp.train.attacks import dual_attack
from vercomp.train.balls import slack
from vercomp.train.method import Method
from vercomp.train.objectives import (
    Batch,
    Loss,
    Moment,
    Objective,
    mean_bound,
    right,
    untouched,
)

if TYPE_CHECKING:
    from vercomp.core.regularizer import Regularizer

METHOD = Method(
    name="dual",
    summary="crt with certified margins in the place of attacked ones",
    objective="DualTraining",
    bounded=True,
    attacked=True,
    warm=True,
)

_LEAST = 1e-9
"""A penalty that all pairs have at least: κ is followed also where no input has use for it yet.

Which inputs those are would otherwise be for rounding to say, and κ might grow unseen.
"""


class DualTraining(Objective):
    """Cross entropy of certified margins, plus γ·κ.

    The logit of the nearest class is raised by what its certificate loses to the curvature, so that
    the margin in the cross entropy is the smallest certified one. κ is the regulariser's latest;
    its gradient, ∂loss/∂κ[y, t] summed over the batch, is a weighted sum of the bounds, of which a
    step evaluates a few.
    """

    def __call__(self, batch: Batch, now: Moment) -> Loss:
        """The loss on a batch at a moment of the schedules."""
        regularizer = cast("Regularizer", self.regularizer)
        x, y = batch.x, batch.y
        clean = self.clean_correct(batch)
        with untouched(self.inner):
            found = dual_attack(
                self.inner,
                x,
                y,
                now.radius,
                regularizer.latest,
                steps=self.recipe.attack_steps,
                target=self.recipe.target,
                start=batch.start,
            )
        logits = self.model(found.point)
        room = slack(found.point - x, now.radius)
        lost = (regularizer.latest[y, found.target].to(logits) * room).requires_grad_()
        certified = logits.scatter_add(1, found.target[:, None], lost[:, None])
        value = self.cross_entropy(certified, y, now)
        (slope,) = torch.autograd.grad(value, lost, retain_graph=True)
        bound = regularizer.weighted(self._weights(y, found.target, slope * room, now.penalty))
        mean = mean_bound(regularizer.latest)
        # The value of the loss has κ in it already; from the bound it takes the gradient.
        value = value + (bound - bound.detach()) + now.penalty * mean
        return Loss(value, found.point, clean, right(logits, y), mean)

    def _weights(self, y: Tensor, target: Tensor, slope: Tensor, penalty: float) -> Tensor:
        """∂loss/∂κ (C, C), over the batches of all processes."""
        latest = cast("Regularizer", self.regularizer).latest
        weights = torch.zeros_like(latest)
        weights.index_put_((y, target), slope.to(latest), accumulate=True)
        if isinstance(self.model, DistributedDataParallel):
            dist.all_reduce(weights)
            weights /= dist.get_world_size()
        classes = len(latest)
        share = max(penalty, _LEAST) / (classes * (classes - 1))
        weights = weights + share * (1.0 - torch.eye(classes).to(latest))
        return weights.nan_to_num()  # a loss that is no number is refused by those who train
