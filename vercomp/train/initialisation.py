"""Initial weights for training on bounds by intervals."""

from __future__ import annotations

import math

import torch
from torch import nn

from vercomp.errors import UsageError


def interval_weights(model: nn.Module, seed: int) -> None:
    """Weights drawn from N(0, 2π/n²) for layers with n inputs to a unit, and biases of zero.

    Half of the mean of |w| is then 1/n: a layer with ReLU keeps the mean width of intervals as it
    is, where the usual variances of 1/n and 2/n widen them from layer to layer (Shi et al., *Fast
    Certified Robust Training with Short Warmup*, 2021, section 4.1).

    Args:
        model: A model of ``nn.Linear`` and convolutions.
        seed: Of the weights; the global generator stays.

    Raises:
        UsageError: The model has no such layers.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    ]
    if not layers:
        raise UsageError(
            "the model has no layers of torch.nn whose weights could be drawn for intervals",
            remedy="Train from the weights that are given",
        )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in layers:
            inputs = layer.weight[0].numel()
            drawn = torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64)
            layer.weight.copy_(math.sqrt(2.0 * math.pi) / inputs * drawn)
            if layer.bias is not None:
                layer.bias.zero_()
