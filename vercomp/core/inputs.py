"""Checks of what a user hands to the solvers: inputs, labels, targets, radii."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .methods.pairs import Classifier

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_inputs(network: Classifier, x: Tensor, y: Tensor) -> None:
    """Refuse inputs (B, *input_shape) and labels (B,) that cannot be what was meant.

    Raises:
        TypeError: x is not a tensor of float32 or float64, or y not one of integers.
        ValueError: A wrong shape, NaN or infinity in x, a label out of range, a single class.
    """
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"inputs must be a tensor of float32 or float64, got {kind}")
    if network.classes < 2:
        raise ValueError("a network with one class has no class to change to")
    expected = tuple(network.input_shape)
    if x.ndim != len(expected) + 1 or tuple(x.shape[1:]) != expected:
        raise ValueError(
            f"inputs must have the shape (batch, {', '.join(map(str, expected))}), "
            f"got {tuple(x.shape)}"
        )
    _check_classes("labels", y, network.classes)
    if y.ndim != 1 or len(y) != len(x):
        raise ValueError(f"labels must have the shape ({len(x)},), got {tuple(y.shape)}")
    finite = torch.isfinite(x.reshape(len(x), -1)).all(1) if len(x) else torch.ones(0)
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise ValueError(f"inputs must be finite: input {row} holds NaN or infinity")


def check_radius(radius: float) -> float:
    """A radius in the units of the input.

    Raises:
        TypeError: Not a number.
        ValueError: Not positive and finite.
    """
    if isinstance(radius, bool) or not isinstance(radius, int | float):
        raise TypeError(f"radius must be a number, got {type(radius).__name__}")
    if not (math.isfinite(radius) and radius > 0.0):
        raise ValueError(f"radius must be positive and finite, got {radius}")
    return float(radius)


def check_evaluations(evaluations: int) -> int:
    """A budget of gradient evaluations a pair.

    Raises:
        TypeError: Not an integer.
        ValueError: Less than one: the closed form needs one.
    """
    if isinstance(evaluations, bool) or not isinstance(evaluations, int):
        raise TypeError(f"evaluations must be an integer, got {type(evaluations).__name__}")
    if evaluations < 1:
        raise ValueError(f"evaluations must be at least 1, got {evaluations}")
    return evaluations


def target_table(network: Classifier, y: Tensor, logits: Tensor, targets: str | Tensor) -> Tensor:
    """The targets of every input, shape (B, K).

    Args:
        network: The network.
        y: Labels, shape (B,).
        logits: Logits, shape (B, C): the runner-up is the largest one that is not the label's.
        targets: ``"all"`` (every other class), ``"runner-up"``, or a tensor of one target an input,
            shape (B,), or of several, shape (B, K).

    Raises:
        TypeError: A tensor that does not hold integers.
        ValueError: An unknown word, a wrong shape, a target out of range or equal to the label.
    """
    classes = network.classes
    if isinstance(targets, Tensor):
        _check_classes("targets", targets, classes)
        if targets.ndim not in (1, 2) or len(targets) != len(y) or targets.shape[1:].numel() == 0:
            raise ValueError(
                f"targets must have the shape ({len(y)},) or ({len(y)}, K), "
                f"got {tuple(targets.shape)}"
            )
        table = targets.to(y.device, torch.long).reshape(len(y), targets.shape[1:].numel()).clone()
        if (table == y[:, None]).any():
            row = int((table == y[:, None]).any(1).nonzero()[0])
            raise ValueError(f"a target must differ from the label: see input {row}")
        return table
    if targets == "all":
        others = torch.arange(classes - 1, device=y.device).expand(len(y), -1)
        return others + (others >= y[:, None]).long()
    if targets == "runner-up":
        return logits.scatter(1, y[:, None], -torch.inf).argmax(1, keepdim=True)
    raise ValueError(f"targets must be 'all', 'runner-up' or a tensor of classes, got {targets!r}")


def _check_classes(name: str, classes: Tensor, count: int) -> None:
    if not isinstance(classes, Tensor) or classes.dtype not in _INTEGERS:
        kind = classes.dtype if isinstance(classes, Tensor) else type(classes).__name__
        raise TypeError(f"{name} must be a tensor of integers, got {kind}")
    if classes.numel() and not (int(classes.min()) >= 0 and int(classes.max()) < count):
        wrong = classes.reshape(-1)
        wrong = wrong[(wrong < 0) | (wrong >= count)]
        raise ValueError(f"{name} must lie in 0..{count - 1}, got {int(wrong[0])}")
