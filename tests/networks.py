"""Random networks with everything that goes wrong in real ones, for property tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "softplus(3)": lambda x: F.softplus(x, beta=3.0),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "elu": F.elu,
    "celu": lambda x: F.celu(x, alpha=2.0),
    "arctan": torch.arctan,
    "erf": torch.erf,
    "sin": torch.sin,
    "softsign": F.softsign,
}
"""Every activation that curvature bounds cover, as users write them."""


class MLP(nn.Module):
    """A fully connected network of the given widths, one activation between layers."""

    def __init__(self, widths: list[int], activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(widths))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


@dataclass(frozen=True)
class Case:
    """A random network and inputs for it."""

    name: str
    module: nn.Module
    x: Tensor
    y: Tensor


def random_case(seed: int, *, inputs: int | None = None, batch: int = 4) -> Case:
    """A network of 2 to 5 layers and widths 1 to 40, with dead neurons, repeats and zeros."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    depth = draw(2, 5)
    n = inputs or draw(1, 8)
    widths = [n, *(draw(1, 40) for _ in range(depth - 1)), draw(2, 4)]
    name = list(SMOOTH)[seed % len(SMOOTH)]
    module = MLP(widths, SMOOTH[name])
    scale = 10.0 ** float(torch.empty(()).uniform_(-0.5, 0.4, generator=generator))
    with torch.no_grad():
        for layer in module.layers:
            layer.weight.normal_(0.0, scale * layer.in_features**-0.5, generator=generator)
            layer.bias.normal_(0.0, 0.3, generator=generator)
            if draw(0, 3) == 0:  # a dead neuron: a zero row
                layer.weight[draw(0, layer.out_features - 1)] = 0.0
            if draw(0, 3) == 0 and layer.out_features > 1:  # a repeated row
                layer.weight[0] = layer.weight[-1]
            if draw(0, 3) == 0:  # many zero weights
                layer.weight[torch.rand(layer.weight.shape, generator=generator) < 0.5] = 0.0
    x = torch.randn(batch, n, generator=generator)
    with torch.no_grad():
        y = module(x).argmax(1)
    return Case(f"{seed}: {name}, {'-'.join(map(str, widths))}", module, x, y)
