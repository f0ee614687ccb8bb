"""Small questions about the nodes of an exported graph and about their arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from vercomp.frontends.values import Constant, Signal


def plain(tensor: Tensor) -> Tensor:
    """A tensor of the user's as we keep it: detached, on the CPU, at least in single precision."""
    value = tensor.detach().to("cpu", copy=True)
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def is_view(node: fx.Node) -> bool:
    """Whether a node's result shares the memory of what it reads."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or schema.is_mutable:
        return False
    return any(result.alias_info for result in schema.returns)


def reads_floats(node: fx.Node) -> bool:
    """Whether the first thing that a node reads is a tensor of real numbers."""
    first = node.args[0]
    value = first.meta.get("val") if isinstance(first, fx.Node) else None
    return isinstance(value, Tensor) and value.is_floating_point()


def doubled(value: Any) -> Any:
    """An argument with its real constants in float64."""
    if isinstance(value, list | tuple):
        return [doubled(item) for item in value]
    if isinstance(value, Constant) and value.value.is_floating_point():
        return Constant(value.value.double(), sources=value.sources)
    return value


def flat(values: Any) -> list[Any]:
    """Arguments, with lists among them laid out."""
    found: list[Any] = []
    for value in values:
        found.extend(flat(value) if isinstance(value, list | tuple) else [value])
    return found


def over_classes(args: dict[str, Any], signal: Signal) -> bool:
    """Whether a softmax is over the only dimension of each result."""
    return len(signal.shape) == 1 and signal.batch == 0 and args.get("dim") in (1, -1)


def for_batch(value: Tensor, stand_in: int, batch: int) -> Tensor:
    """A constant that is the same for each input of a batch, for a batch of another size."""
    for axis, size in enumerate(value.shape):
        if size == stand_in and is_repeated(value, axis):
            value = value.narrow(axis, 0, 1).expand(
                *value.shape[:axis], batch, *value.shape[axis + 1 :]
            )
    return value


def is_repeated(value: Tensor, axis: int) -> bool:
    """Whether all entries along an axis are the same; at once for what was expanded."""
    if value.stride(axis) == 0:
        return True
    return bool((value == value.narrow(axis, 0, 1)).all())
