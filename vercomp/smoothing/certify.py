"""Cohen's certificate: the class that a network most likely gives under noise, and its radius.

Randomised smoothing (Cohen, Rosenfeld and Kolter 2019) makes another classifier of a network f,

    g(x) = the class c with the largest P[f(x + ε) = c],        ε ~ N(0, σ²I).

If P[f(x + ε) = c] ≥ p > ½, then g gives c at every x′ with ‖x′ − x‖₂ < σ Φ⁻¹(p), Φ the normal
distribution function. Proof: by the lemma of Neyman and Pearson, no event that has a probability of
at least p under N(x, σ²I) has a smaller one under N(x′, σ²I) than the half-space
{v : (x′ − x)·(v − x) ≤ σ‖x′ − x‖Φ⁻¹(p)}. There it is Φ(Φ⁻¹(p) − ‖x′ − x‖/σ), which exceeds ½ as
long as ‖x′ − x‖ < σ Φ⁻¹(p). ∎

p is not known; a sample bounds it from below, and fails to with a probability of at most α. So the
radius, the class and the accuracy are those of g, not of f, and *probable*: they hold with
probability 1 − α for each input, if the draws are independent and normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vercomp.core.errors import InputError, InputTypeError
from vercomp.core.inputs import check_count
from vercomp.core.methods.portfolio import CONFIDENCE
from vercomp.smoothing.classifier import Classifier
from vercomp.smoothing.confidence import certified_radius, lower_probability
from vercomp.smoothing.draws import Draws, generator_of

SELECTION, SAMPLES = 100, 100_000
"""The numbers of the paper: n₀ and n; 1 − α is 0.999 there, too."""

ABSTAINS = -1
"""The prediction where no class was seen to have a probability above ½."""


@dataclass(frozen=True)
class Noise:
    """What is drawn, and how sure the result is to be.

    Args:
        sigma: σ of the normal noise, in the units of the input.
        samples: n, draws that bound the probability of the selected class.
        selection: n₀, draws that select it; none of them counts for the bound.
        confidence: 1 − α: each certificate holds with this probability, or a larger one.
        seed: Of the draws.

    Raises:
        InputError: A number out of its range.
        InputTypeError: A count or a seed that is no whole number.
    """

    sigma: float
    samples: int = SAMPLES
    selection: int = SELECTION
    confidence: float = CONFIDENCE
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma > 0.0):
            raise InputError(f"sigma must be positive and finite, got {self.sigma}")
        if not 0.0 < self.confidence < 1.0:
            raise InputError(f"a confidence must lie between 0 and 1, got {self.confidence}")
        check_count("samples", self.samples)
        check_count("selection", self.selection)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputTypeError(f"a seed must be an integer, got {self.seed!r}")

    @property
    def failure(self) -> float:
        """α, the largest probability with which a certificate may be wrong."""
        return 1.0 - self.confidence

    @property
    def largest_radius(self) -> float:
        """The radius if every draw is of one class: no certificate can be larger."""
        most = lower_probability(np.array(float(self.samples)), self.samples, self.failure)
        return float(certified_radius(most, self.sigma))


@dataclass(frozen=True)
class SmoothedCertificates:
    """What was found of a smoothed classifier at B inputs.

    Nothing is proved: each prediction with its radius holds with probability 1 − α over the draws,
    and those of several inputs together with probability 1 − Σα.

    Args:
        prediction: The class of the smoothed classifier, −1 where it abstains: no class was shown
            to have a probability above ½. Shape (B,).
        radius: In the 2-norm: for every perturbation shorter than this the smoothed classifier
            gives ``prediction``; 0 where it abstains. Float64, (B,).
        probability: A lower bound of the probability of the class that was selected, (B,).
        selected: That class, (B,).
        count: How many of the n draws were of it, (B,).
        base: The class of the network itself, without noise, (B,).
        noise: What was drawn.
    """

    prediction: Tensor
    radius: Tensor
    probability: Tensor
    selected: Tensor
    count: Tensor
    base: Tensor
    noise: Noise = field(repr=False)

    @property
    def failure_probability(self) -> Tensor:
        """α of each certificate, (B,), as other probable certificates have it."""
        return torch.full_like(self.radius, self.noise.failure)

    @property
    def abstained(self) -> Tensor:
        """Where no class is shown to be the most probable one, (B,)."""
        return self.prediction == ABSTAINS


def certify(classifier: Classifier, x: Tensor, noise: Noise) -> SmoothedCertificates:
    """Certify inputs of the smoothed classifier.

    For each input n₀ draws select a class, and n further ones, independent of those, bound its
    probability from below (:mod:`.confidence`).

    Args:
        classifier: The network that is smoothed.
        x: Inputs, float32 or float64, (B, *input_shape).
        noise: What is drawn.

    Raises:
        InputTypeError: Inputs that are not float32 or float64.
        InputError: A wrong shape, NaN or infinity.
    """
    _check(classifier, x)
    draws = Draws(classifier, noise.sigma)
    selected = torch.zeros(len(x), dtype=torch.long)
    count = torch.zeros_like(selected)
    for row, point in enumerate(x):
        generator = generator_of(point, noise.seed, classifier.device)
        selected[row] = draws.counts(point, noise.selection, generator).argmax()
        count[row] = draws.counts(point, noise.samples, generator)[selected[row]]
    hits = count.numpy().astype(np.float64)
    least = lower_probability(hits, noise.samples, noise.failure)
    radius = torch.from_numpy(certified_radius(least, noise.sigma))
    return SmoothedCertificates(
        prediction=torch.where(radius > 0.0, selected, ABSTAINS),
        radius=radius,
        probability=torch.from_numpy(least),
        selected=selected,
        count=count,
        base=_base(classifier, x),
        noise=noise,
    )


def _base(classifier: Classifier, x: Tensor) -> Tensor:
    """The classes of the network itself, one input at a time (B,)."""
    at = x.to(classifier.device, classifier.dtype)
    rows = [classifier(point[None]).argmax(1).cpu() for point in at]
    return torch.cat(rows) if rows else torch.zeros(0, dtype=torch.long)


def _check(classifier: Classifier, x: Tensor) -> None:
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
        raise InputTypeError("inputs must be a tensor of float32 or float64")
    if tuple(x.shape[1:]) != classifier.input_shape:
        sizes = ", ".join(map(str, classifier.input_shape))
        raise InputError(f"inputs must have the shape (batch, {sizes}), got {tuple(x.shape)}")
    if not bool(x.isfinite().all()):
        raise InputError("inputs must be finite: one holds NaN or infinity")
