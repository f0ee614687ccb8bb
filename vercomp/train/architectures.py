"""Networks by name, for the shape of the data: ``mlp:1024,1024:softplus``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

from vercomp.errors import UsageError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "mish": nn.Mish,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
}
KINDS = ("mlp", "convolutional")
FORMS = (
    "mlp:WIDTHS:ACTIVATION, such as mlp:1024,1024:softplus, or "
    "convolutional:LAYERS:ACTIVATION:WIDTHS, such as convolutional:16x5s2,32x3s2:softplus:256"
)
_LAYER = re.compile(r"([1-9]\d*)x([1-9]\d*)(?:s([1-9]\d*))?")


def is_architecture(text: str) -> bool:
    """Whether a MODEL is one of these names."""
    return text.partition(":")[0] in KINDS


def architecture(text: str, input_shape: Sequence[int], classes: int, seed: int = 0) -> nn.Module:
    """A new network, in float32.

    Args:
        text: ``mlp:WIDTHS:ACTIVATION``: dense layers of these hidden widths.
            ``convolutional:LAYERS:ACTIVATION[:WIDTHS]``: convolutions CHANNELSxKERNEL with
            ``sSTRIDE`` where it is not 1, padded by half their kernel, then dense layers.
        input_shape: Of one input; (channels, height, width) for convolutions.
        classes: C.
        seed: Of the initial weights (PyTorch's own initialisation); the global generator stays.

    Raises:
        UsageError: The name cannot be read, or needs images.
    """
    kind, _, rest = text.partition(":")
    parts = rest.split(":")
    if kind not in KINDS or not (len(parts) == 2 or (kind == "convolutional" and len(parts) == 3)):
        raise UsageError(f"{text!r} is no architecture", remedy=f"Write {FORMS}")
    if parts[1] not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UsageError(f"{text!r}: no activation {parts[1]!r}", remedy=f"Known: {known}")
    activation = ACTIVATIONS[parts[1]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "mlp":
            widths = [math.prod(input_shape), *_widths(parts[0], text)]
            return nn.Sequential(nn.Flatten(), *_dense(widths, classes, activation))
        return _convolutional(text, parts, tuple(input_shape), classes, activation)


def _convolutional(
    text: str,
    parts: Sequence[str],
    shape: tuple[int, ...],
    classes: int,
    activation: Callable[[], nn.Module],
) -> nn.Module:
    if len(shape) != 3:
        raise UsageError(
            f"{text!r} takes images (channels, height, width), not inputs of shape {shape}",
            remedy="Give --input-shape 1,28,28, say, or a network of dense layers",
        )
    channels, *sizes = shape
    layers: list[nn.Module] = []
    for word in parts[0].split(","):
        found = _LAYER.fullmatch(word)
        if found is None:
            raise UsageError(f"{text!r}: {word!r} is no layer", remedy=f"Write {FORMS}")
        wide, kernel, stride = int(found[1]), int(found[2]), int(found[3] or 1)
        sizes = [(size + 2 * (kernel // 2) - kernel) // stride + 1 for size in sizes]
        layers += [nn.Conv2d(channels, wide, kernel, stride, kernel // 2), activation()]
        channels = wide
    widths = _widths(parts[2], text) if len(parts) == 3 else []
    dense = _dense([channels * math.prod(sizes), *widths], classes, activation)
    return nn.Sequential(*layers, nn.Flatten(), *dense)


def _dense(
    widths: Sequence[int], classes: int, activation: Callable[[], nn.Module]
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for wide, width in pairwise(widths):
        layers += [nn.Linear(wide, width), activation()]
    return [*layers, nn.Linear(widths[-1], classes)]


def _widths(text: str, whole: str) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"{whole!r}: {text!r} are no widths", remedy=f"Write {FORMS}")
    return [int(word) for word in words]
