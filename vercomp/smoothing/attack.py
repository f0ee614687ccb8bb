"""Attacks on smoothed classifiers: points that the noise itself does not save.

Projected gradient ascent on −log of the mean probability of the label under noise (Salman et al.,
*Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers*, 2019), with draws of
the noise that are kept for the whole search. Whether a point is broken is then decided by fresh
draws, as the certificate of that point decides it: the smoothed classifier is shown to give another
class there, with the confidence that was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vercomp.core.errors import InputError
from vercomp.core.inputs import check_count, check_radius
from vercomp.smoothing.certify import Noise, SmoothedCertificates, certify
from vercomp.smoothing.classifier import Classifier, scores
from vercomp.smoothing.draws import generator_of

_AHEAD = 2.5
"""All steps together are so many times as long as the radius."""


@dataclass(frozen=True)
class SmoothedAttacks:
    """What was found in l2 balls around B inputs with labels y.

    Args:
        point: The end of the search, within the radius up to rounding, like x.
        found: What the smoothed classifier gives there: a prediction, or an abstention.
        broken: It is shown to give another class than y there, (B,): probable, with the confidence
            of ``found``.
    """

    point: Tensor
    found: SmoothedCertificates
    broken: Tensor


def attack(
    classifier: Classifier,
    x: Tensor,
    y: Tensor,
    radius: float,
    noise: Noise,
    *,
    steps: int = 20,
    draws: int = 32,
) -> SmoothedAttacks:
    """Look for points of l2 balls at which the smoothed classifier gives another class than y.

    Args:
        classifier: The network that is smoothed, which gradients go through.
        x: Inputs, float32 or float64, (B, *input_shape).
        y: Labels (B,).
        radius: Of the balls.
        noise: The noise, and how the points are judged.
        steps: Gradient evaluations of the search.
        draws: Of the noise, which are kept for the whole search.

    Raises:
        InputError: A radius that is not positive, or a network that gives no gradients.
    """
    rho = check_radius(radius)
    check_count("steps", steps)
    check_count("draws", draws)
    points = [_ascended(classifier, x[k], y[k], rho, noise, steps, draws) for k in range(len(x))]
    point = torch.stack(points) if points else x
    found = certify(classifier, point, noise)
    return SmoothedAttacks(point, found, (~found.abstained) & (found.prediction != y.cpu()))


def _ascended(
    classifier: Classifier,
    x: Tensor,
    y: Tensor,
    radius: float,
    noise: Noise,
    steps: int,
    draws: int,
) -> Tensor:
    """Where the search for one input (*shape) ends."""
    at = x.to(classifier.device, classifier.dtype)
    generator = generator_of(x, noise.seed + 1, classifier.device)
    size = (draws, *at.shape)
    fixed = noise.sigma * torch.randn(size, generator=generator, dtype=at.dtype, device=at.device)
    label = y.to(at.device).reshape(1, 1).expand(draws, 1)
    moved = torch.zeros_like(at)
    for _ in range(steps):
        with torch.enable_grad():
            leaf = moved.requires_grad_()
            logits = scores(classifier.logits(at + leaf + fixed))
            if not logits.requires_grad:
                raise InputError(
                    "the network gives no gradients, which an attack follows",
                    remedy="Attack a compiled network or a torch module",
                )
            value = -logits.log_softmax(1).gather(1, label).logsumexp(0).sum()
            (slope,) = torch.autograd.grad(value, leaf)
        length = slope.norm().clamp_min(torch.finfo(slope.dtype).tiny)
        moved = moved.detach() + (_AHEAD * radius / steps) * slope / length
        moved = moved * (radius / moved.norm().clamp_min(radius))
    return (at + moved.detach()).to(x)
