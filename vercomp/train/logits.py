"""A model as training sees it: the input as it is certified goes in, logits come out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vercomp.frontends.torch_outputs import choose


class Logits(nn.Module):
    """z((x − mean)/std) of a model, the one result that is named.

    Attacks move the input that certificates speak of, in front of the normalisation.

    Args:
        model: The model; its parameters are this module's.
        mean: A number, or one a channel; None is 0.
        std: The same; None is 1.
        output: Which result the logits are, as for :func:`vercomp.compile`.
        like: A parameter; its type and device are those of the normalisation.
        axes: Number of axes of an input.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        mean: Sequence[float] | float | None,
        std: Sequence[float] | float | None,
        output: str | int | None,
        like: Tensor,
        axes: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.output = output
        for name, numbers in (("mean", mean), ("std", std)):
            buffer = None
            if numbers is not None:
                buffer = torch.as_tensor(numbers, dtype=like.dtype, device=like.device)
                buffer = buffer.reshape(-1, *(1,) * (axes - 1))
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of inputs (B, *shape)."""
        if self.mean is not None:
            x = x - self.mean
        if self.std is not None:
            x = x / self.std
        z = choose(self.model(x), self.output, Tensor, type(self.model).__name__)
        assert isinstance(z, Tensor)  # noqa: S101 - choose has checked it
        return z
