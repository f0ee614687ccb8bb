"""The smoothed classifier as an object: the network, the noise, and what is proved of the two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from vercomp.core.methods.portfolio import CONFIDENCE
from vercomp.errors import UsageError
from vercomp.smoothing.attack import SmoothedAttacks, attack
from vercomp.smoothing.certify import (
    SAMPLES,
    SELECTION,
    Noise,
    SmoothedCertificates,
    certify,
)
from vercomp.smoothing.classifier import Classifier, Numbers, of_module, of_network, of_onnx
from vercomp.smoothing.curvature import curvature_bound

if TYPE_CHECKING:
    from vercomp.compiled import CompiledNetwork


class Smoothed:
    """The classifier that gives the class a network most likely gives under normal noise.

    It is another classifier than the network: its classes, its accuracy and its certificates are
    its own, and certificates of the network say nothing about it. See :mod:`.certify` for the
    theorem.

    Args:
        model: A compiled network; or whatever merely runs: a module, or the path of an ONNX file.
        sigma: σ of the noise, in the units of the input.
        input_shape: Of one input; a module needs it.
        mean: Of a normalisation in front of a module or a file: a number, or one a channel.
        std: Its standard deviation.

    Raises:
        UsageError: A module without the shape of its inputs, or that gives no logits for it.
        InputError: A σ that is not positive.
    """

    def __init__(
        self,
        model: CompiledNetwork | nn.Module | str | Path,
        sigma: float,
        input_shape: Sequence[int] | None = None,
        *,
        mean: Numbers = None,
        std: Numbers = None,
    ) -> None:
        self.sigma = Noise(sigma).sigma
        self.classifier = _classifier(model, input_shape, mean, std)

    def certify(
        self,
        x: Tensor,
        *,
        samples: int = SAMPLES,
        selection: int = SELECTION,
        confidence: float = CONFIDENCE,
        seed: int = 0,
    ) -> SmoothedCertificates:
        """The class at each input, and a radius in the 2-norm within which it stays: probable.

        Args:
            x: Inputs, float32 or float64, (B, *input_shape).
            samples: n, draws that bound the probability of the selected class.
            selection: n₀, draws that select it.
            confidence: 1 − α: each certificate holds with this probability, or a larger one.
            seed: Of the draws, which depend on it and on the input alone.
        """
        return certify(self.classifier, x, Noise(self.sigma, samples, selection, confidence, seed))

    def attack(
        self,
        x: Tensor,
        y: Tensor,
        radius: float,
        *,
        samples: int = SAMPLES,
        selection: int = SELECTION,
        confidence: float = CONFIDENCE,
        seed: int = 0,
        steps: int = 20,
        draws: int = 32,
    ) -> SmoothedAttacks:
        """Points of l2 balls at which the smoothed classifier is shown to give another class.

        Args:
            x: Inputs, float32 or float64, (B, *input_shape).
            y: Labels (B,).
            radius: Of the balls.
            samples: As for :meth:`certify`, which judges the points; so are the next three.
            selection: The same.
            confidence: The same.
            seed: The same.
            steps: Gradient evaluations of the search.
            draws: Of the noise, which are kept for the whole search.
        """
        noise = Noise(self.sigma, samples, selection, confidence, seed)
        return attack(self.classifier, x, y, radius, noise, steps=steps, draws=draws)

    def curvature(self) -> tuple[float, float]:
        """(lo, hi): lo·I ≼ ∇²P[f(x + ε) = c] ≼ hi·I for every input and class, without draws."""
        bound = curvature_bound(self.sigma)
        return -bound, bound


def _classifier(
    model: CompiledNetwork | nn.Module | str | Path,
    input_shape: Sequence[int] | None,
    mean: Numbers,
    std: Numbers,
) -> Classifier:
    if isinstance(model, str | Path):
        return of_onnx(model, mean, std)
    if isinstance(model, nn.Module):
        if input_shape is None:
            raise UsageError(
                "a module does not say what shape its inputs have",
                remedy="Pass input_shape=(1, 28, 28), without the batch dimension",
            )
        return of_module(model, input_shape, mean, std)
    return of_network(model)
