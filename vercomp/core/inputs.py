"""The one door of the public functions: checks of what a user hands to them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .errors import InputError, InputTypeError
from .methods.pairs import Classifier

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_REAL = (torch.float32, torch.float64)


def check_inputs(network: Classifier, x: Tensor, y: Tensor) -> None:
    """Refuse inputs (B, *input_shape) and labels (B,) that cannot be what was meant.

    Raises:
        InputTypeError: x is not a tensor of float32 or float64, or y not one of integers.
        InputError: A wrong shape, NaN or infinity in x, a label out of range, a single class.
    """
    check_points(network, x)
    check_labels("labels", y, network.classes, len(x))


def check_points(network: Classifier, x: Tensor) -> None:
    """Refuse inputs (B, *input_shape) that cannot be what was meant.

    Raises:
        InputTypeError: x is not a tensor of float32 or float64.
        InputError: A wrong shape, NaN or infinity.
    """
    _check_real("inputs", x)
    expected = tuple(network.input_shape)
    if x.ndim != len(expected) + 1 or tuple(x.shape[1:]) != expected:
        raise InputError(
            f"inputs must have the shape (batch, {', '.join(map(str, expected))}), "
            f"got {tuple(x.shape)}"
        )
    _check_finite("inputs", "input", x)


def check_directions(x: Tensor, v: Tensor) -> None:
    """Refuse directions that are not shaped like the inputs x.

    Raises:
        InputTypeError: v is not a tensor of float32 or float64.
        InputError: Another shape, NaN or infinity.
    """
    _check_real("directions", v)
    if v.shape != x.shape:
        raise InputError(
            f"directions must have the shape of the inputs, {tuple(x.shape)}, got {tuple(v.shape)}"
        )
    _check_finite("directions", "direction", v)


def check_labels(name: str, labels: Tensor, classes: int, count: int | None = None) -> None:
    """Refuse labels or targets that are no vector of classes, or not as many as there must be.

    Raises:
        InputTypeError: Not a tensor of integers.
        InputError: A class out of range, a wrong shape.
    """
    _check_classes(name, labels, classes)
    if labels.ndim != 1 or (count is not None and len(labels) != count):
        wanted = "(batch,)" if count is None else f"({count},)"
        raise InputError(f"{name} must have the shape {wanted}, got {tuple(labels.shape)}")


def check_pairs(y: Tensor | None, t: Tensor | None, classes: int) -> None:
    """Refuse labels (B,) and targets (B,) over which no mean can be taken.

    Raises:
        InputTypeError: Not tensors of integers.
        InputError: A class out of range, a wrong shape, no pairs at all, targets without labels.
    """
    if y is None:
        if t is not None:
            raise InputError("there are targets without labels", remedy="Pass both, or neither")
        return
    check_labels("labels", y, classes)
    if len(y) == 0:
        raise InputError(
            "there are no labels, and so no mean over them",
            remedy="Leave them out for the mean over all pairs of classes",
        )
    if t is not None:
        check_labels("targets", t, classes, len(y))


def check_pair_weights(weights: Tensor, classes: int) -> None:
    """Refuse what are no weights (C, C) of pairs of classes.

    Raises:
        InputTypeError: Not a tensor of real numbers.
        InputError: A wrong shape; a weight that is negative, NaN or infinite.
    """
    if not isinstance(weights, Tensor) or not weights.is_floating_point():
        raise InputTypeError(f"weights must be a tensor of real numbers, got {_kind(weights)}")
    if tuple(weights.shape) != (classes, classes):
        raise InputError(
            f"weights must have the shape ({classes}, {classes}), got {tuple(weights.shape)}"
        )
    if _is_known(weights) and not ((weights >= 0.0) & weights.isfinite()).all():
        raise InputError("weights must be finite and not negative")


def check_radius(radius: float) -> float:
    """A radius in the units of the input.

    Raises:
        InputTypeError: Not a number.
        InputError: Not positive and finite.
    """
    if isinstance(radius, bool) or not isinstance(radius, int | float):
        raise InputTypeError(f"radius must be a number, got {type(radius).__name__}")
    if not (math.isfinite(radius) and radius > 0.0):
        raise InputError(f"radius must be positive and finite, got {radius}")
    return float(radius)


def check_limits(x: Tensor, box: object) -> tuple[Tensor, Tensor]:
    """The box as two tensors shaped like x, in float64, widened to hold the inputs themselves.

    A float32 input may be clipped to a number that float32 rounds: it lies inside as its own type
    sees it, and outside in float64.

    Raises:
        InputTypeError: No pair of numbers or tensors.
        InputError: Ends that do not broadcast to the inputs, lo > hi, an input outside.
    """
    if not (isinstance(box, tuple | list) and len(box) == 2):
        raise InputTypeError(f"box must be a pair (lo, hi), got {box!r}")
    if not all(isinstance(end, int | float | Tensor) for end in box):
        raise InputTypeError("the ends of the box must be numbers or tensors")
    low, high = (torch.as_tensor(end, dtype=torch.float64, device=x.device) for end in box)
    try:
        low, high = low.expand_as(x), high.expand_as(x)
    except RuntimeError as error:
        raise InputError(
            f"the ends of the box must broadcast to the inputs, {tuple(x.shape)}, got "
            f"{tuple(low.shape)} and {tuple(high.shape)}"
        ) from error
    if not bool((low <= high).all()):
        raise InputError("the lower end of the box must not exceed the upper one")
    inside = (x >= low.to(x.dtype)) & (x <= high.to(x.dtype))
    outside = ~inside.flatten(1).all(1)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise InputError(f"input {row} lies outside of the box, where nothing is asked about it")
    return torch.minimum(low, x.double()), torch.maximum(high, x.double())


def check_number(what: str, value: float) -> float:
    """A finite number; ``what`` it is, with its article, for messages.

    Raises:
        InputTypeError: Not a number.
        InputError: Not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputTypeError(f"{what} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise InputError(f"{what} must be finite, got {value}")
    return float(value)


def check_count(name: str, count: int) -> int:
    """A number of things of which there must be some.

    Raises:
        InputTypeError: Not an integer.
        InputError: Less than one.
    """
    if isinstance(count, bool) or not isinstance(count, int):
        raise InputTypeError(f"{name} must be an integer, got {type(count).__name__}")
    if count < 1:
        raise InputError(f"{name} must be at least 1, got {count}")
    return count


def target_table(network: Classifier, y: Tensor, logits: Tensor, targets: str | Tensor) -> Tensor:
    """The targets of every input, shape (B, K).

    Args:
        network: The network.
        y: Labels, shape (B,).
        logits: Logits, shape (B, C): the runner-up is the largest one that is not the label's.
        targets: ``"all"`` (every other class), ``"runner-up"``, or a tensor of one target an input,
            shape (B,), or of several, shape (B, K).

    Raises:
        InputTypeError: A tensor that does not hold integers.
        InputError: An unknown word, a wrong shape, a target out of range or equal to the label.
    """
    classes = network.classes
    if isinstance(targets, Tensor):
        _check_classes("targets", targets, classes)
        if targets.ndim not in (1, 2) or len(targets) != len(y) or targets.shape[1:].numel() == 0:
            raise InputError(
                f"targets must have the shape ({len(y)},) or ({len(y)}, K), "
                f"got {tuple(targets.shape)}"
            )
        table = targets.to(y.device, torch.long).reshape(len(y), targets.shape[1:].numel()).clone()
        if (table == y[:, None]).any():
            row = int((table == y[:, None]).any(1).nonzero()[0])
            raise InputError(f"a target must differ from the label: see input {row}")
        return table
    if targets == "all":
        others = torch.arange(classes - 1, device=y.device).expand(len(y), -1)
        return others + (others >= y[:, None]).long()
    if targets == "runner-up":
        return logits.scatter(1, y[:, None], -torch.inf).argmax(1, keepdim=True)
    raise InputError(f"targets must be 'all', 'runner-up' or a tensor of classes, got {targets!r}")


def _check_classes(name: str, classes: Tensor, count: int) -> None:
    if not isinstance(classes, Tensor) or classes.dtype not in _INTEGERS:
        raise InputTypeError(f"{name} must be a tensor of integers, got {_kind(classes)}")
    if not _is_known(classes) or classes.numel() == 0:
        return
    if not (int(classes.min()) >= 0 and int(classes.max()) < count):
        wrong = classes.reshape(-1)
        wrong = wrong[(wrong < 0) | (wrong >= count)]
        raise InputError(f"{name} must lie in 0..{count - 1}, got {int(wrong[0])}")


def _check_real(name: str, values: Tensor) -> None:
    if not isinstance(values, Tensor) or values.dtype not in _REAL:
        raise InputTypeError(f"{name} must be a tensor of float32 or float64, got {_kind(values)}")


def _check_finite(name: str, singular: str, values: Tensor) -> None:
    finite = torch.isfinite(values).flatten(1).all(1) if len(values) else torch.ones(0)
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise InputError(f"{name} must be finite: {singular} {row} holds NaN or infinity")


def _is_known(values: Tensor) -> bool:
    """Whether values can be read: not while torch.compile traces or a CUDA graph is captured."""
    if torch.compiler.is_compiling():
        return False
    return not (values.is_cuda and torch.cuda.is_current_stream_capturing())


def _kind(value: object) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
