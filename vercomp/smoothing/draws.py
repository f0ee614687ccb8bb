"""Classes of a network at noisy inputs, counted: draws that depend on the input and a seed alone.

The generator of an input is seeded by a hash of the input and of the seed. So its draws do not
depend on its place in a data set, on what shares a batch with it, or on how many are evaluated at
once; a run that was interrupted goes on with the very draws that it would have had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from vercomp.core.memory import working_set
from vercomp.smoothing.classifier import Classifier

_MOST, _ENTRIES = 1024, 2**22
"""Draws that are made at a time, and the entries of them: a matter of the input's size alone."""

_COPIES = 2
"""Values that an evaluation holds beside those that are counted: scratch space of convolutions."""


def generator_of(x: Tensor, seed: int, device: torch.device) -> torch.Generator:
    """The generator of an input (*shape): the same for equal numbers and equal seeds."""
    numbers = x.detach().to("cpu", torch.float64).contiguous().reshape(-1)
    digest = hashlib.sha256(f"vercomp smoothing {seed} {tuple(x.shape)} ".encode())
    digest.update(numbers.numpy().data)
    own = int.from_bytes(digest.digest()[:8], "little", signed=True)
    return torch.Generator(device).manual_seed(own)


class Draws:
    """Draws f(x + ε), ε ~ N(0, σ²I), for a network f that takes the class of the largest logit.

    Args:
        classifier: The network.
        sigma: σ, in the units of the input.
    """

    def __init__(self, classifier: Classifier, sigma: float) -> None:
        self.classifier, self.sigma = classifier, sigma
        self._bytes: int | None = None

    def counts(self, x: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """How often each class was drawn (classes,); a draw whose logits hold NaN is of none.

        Args:
            x: One input (*shape).
            count: The number of draws.
            generator: Gives the noise, and is advanced.
        """
        classifier = self.classifier
        found = torch.zeros(classifier.classes + 1, dtype=torch.long, device=classifier.device)
        at = x.to(classifier.device, classifier.dtype)[None]
        for noise in self._noise(at, count, generator):
            for part in torch.split(noise, self._at_once(at)):
                found += self._classes(at + self.sigma * part).bincount(minlength=len(found))
        return found[:-1].cpu()

    def _noise(self, at: Tensor, count: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Standard normal numbers, as many draws at a time as the input's size alone says."""
        block = max(1, min(_MOST, _ENTRIES // max(1, at.numel())))
        for start in range(0, count, block):
            size = (min(block, count - start), *at.shape[1:])
            yield torch.randn(size, generator=generator, dtype=at.dtype, device=at.device)

    def _classes(self, points: Tensor) -> Tensor:
        """The class at each point (B,); the number of classes where a logit is NaN."""
        logits = self.classifier(points)
        return torch.where(logits.isnan().any(1), self.classifier.classes, logits.argmax(1))

    def _at_once(self, at: Tensor) -> int:
        """How many points fit into the memory that one working set may take."""
        if self._bytes is None:
            with _Counting() as counting:
                self.classifier(at)
            self._bytes = max(1, _COPIES * (counting.bytes + 4 * at.numel() * at.element_size()))
        return max(1, working_set(at.device) // self._bytes)


class _Counting(TorchFunctionMode):
    """Counts the bytes of all that is computed while the context lasts."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.bytes += leaf.numel() * leaf.element_size()
        return result
