"""All networks of the benchmarks by name, with their inputs and the radii they are asked about."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import public
from .images import CIFAR_SHAPE, cifar10, mnist
from .networks import trained, training

Radii = dict[str, float]


@dataclass(frozen=True)
class Subject:
    """A network and the inputs that it is asked about.

    Args:
        name: Of the network.
        module: In evaluation mode, pixels in [0, 1] to logits.
        x: Test images that it classifies correctly, the first of them, (N, *shape) float32.
        y: Their labels, (N,).
        others: Correctly classified images after them: where attacks look for other classes.
        has_peer: Whether auto_LiRPA relaxes its activation: it knows no line for softplus.
    """

    name: str
    module: nn.Module
    x: Tensor
    y: Tensor
    others: tuple[Tensor, Tensor]
    has_peer: bool


PLAIN: Radii = {"linf": 0.01, "l1": 1.0, "l2": 0.25}
RADII: dict[str, Radii] = {
    "resnet_2b": {"linf": 0.008, "l1": 0.5, "l2": 0.1},
    "colt_mnist_0.1": {"linf": 0.1, "l1": 2.0, "l2": 0.4},
    "Convnet_avgpool": {"linf": 0.02, "l1": 1.0, "l2": 0.25},
    "cifar_conv_small_sigmoid": {"linf": 0.004, "l1": 0.5, "l2": 0.1},
    "logsig_200_100_50": {"linf": 0.001, "l1": 0.1, "l2": 0.02},
    "tansig_200_100_50": {"linf": 0.001, "l1": 0.1, "l2": 0.02},
    "wongkolter_mnist": {"linf": 0.1, "l1": 2.0, "l2": 0.4},
    "wongkolter_scaled_mnist_small_0_3": {"linf": 0.1, "l1": 2.0, "l2": 0.4},
}
TRAINED = (
    "sigmoid-3x1024-5epochs",
    "relu-3x256-5epochs",
    "relu-2x1024-5epochs",
    "tanh-3x1024-5epochs",
    "gelu-3x1024-5epochs",
    "softplus-3x1024-5epochs",
    "sigmoid-2x1024-5epochs",
    "tanh-2x1024-5epochs",
    "gelu-2x1024-5epochs",
    "softplus-2x1024-5epochs",
    "sigmoid-4x1024-5epochs",
    "tanh-4x1024-5epochs",
    "gelu-4x1024-5epochs",
    "softplus-4x1024-5epochs",
    "relu-3x1024-5epochs",
    "relu-4x1024-5epochs",
    "sigmoid-3x1024-20epochs",
    "softplus-3x1024-20epochs",
    "sigmoid-3x1024-40epochs",
    "saturated-6x256-30epochs",
    "residual-20epochs",
)
NAMES = (*public.NAMES, *TRAINED)


def subject(name: str, count: int) -> Subject:
    """The network of a name (it is trained if it is not at hand) and its first correct inputs."""
    if name in public.NAMES:
        module, shape = public.public(name)
    else:
        module = trained(name)
        shape = (784,) if training(name).data == "mnist" else CIFAR_SHAPE
    images, labels = cifar10("test") if shape == CIFAR_SHAPE else mnist("test")
    x, y = correct(module, images.reshape(-1, *shape), labels)
    has_peer = not any(isinstance(layer, nn.Softplus) for layer in module.modules())
    return Subject(name, module, x[:count], y[:count], (x[count:], y[count:]), has_peer)


def radii_of(name: str) -> Radii:
    """A radius by norm, at which margins are bounded."""
    if name in RADII:
        return RADII[name]
    return PLAIN if training(name).data == "mnist" else RADII["cifar_conv_small_sigmoid"]


def correct(module: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs that the network classifies as their labels say."""
    with torch.no_grad():
        right = torch.cat([module(part).argmax(1) for part in torch.split(x, 500)]) == y
    return x[right], y[right]
