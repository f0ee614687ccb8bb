"""What the nodes of an exported graph and their arguments are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from vercomp.errors import UnsupportedError
from vercomp.frontends.fx_call import Results, Size
from vercomp.frontends.values import Constant, Signal


@dataclass(frozen=True)
class Several:
    """The results of an operator that gives several: each is made when it is taken.

    Those without a rule become opaque.
    """

    signals: tuple[Signal, ...]
    run: Callable[..., Any]
    results: Results
    reason: str


class Lost:
    """A value without a batch axis of its own: no node can hold it, nor what is made of it."""


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


def flat(values: Any) -> list[Any]:
    """Arguments, with lists among them laid out."""
    found: list[Any] = []
    for value in values:
        found.extend(flat(value) if isinstance(value, list | tuple) else [value])
    return found


def over_classes(args: dict[str, Any], signal: Signal) -> bool:
    """Whether a softmax is over the only dimension of each result."""
    return len(signal.shape) == 1 and signal.batch == 0 and args.get("dim") in (1, -1)


def sole_input(program: ExportedProgram, location: str) -> fx.Node:
    """The one input of a program: a batch of tensors of a fixed shape.

    Raises:
        UnsupportedError: There are several, or another dimension than the batch is dynamic.
    """
    user_inputs = program.graph_signature.user_inputs
    if len(user_inputs) != 1:
        raise UnsupportedError(
            f"the model takes {len(user_inputs)} inputs",
            node=location,
            remedy="Wrap it in a module that takes one",
        )
    name = str(user_inputs[0])
    node: fx.Node = next(node for node in program.graph.nodes if node.name == name)
    value = node.meta["val"]
    if value.ndim == 0:
        raise UnsupportedError("its input has no batch dimension", node=location)
    for axis, size in enumerate(value.shape[1:], start=1):
        if isinstance(size, torch.SymInt):
            raise UnsupportedError(
                f"dimension {axis} of its input is dynamic",
                node=location,
                remedy="Only the batch (dimension 0) may be: export it with fixed sizes",
            )
    return node


def runner(
    node: fx.Node,
    args: Mapping[str, Any],
    signals: Sequence[Signal],
    own_batch: int,
    *,
    symbolic: bool,
) -> Callable[..., Any]:
    """An operator as a function of the values of its signals, in order.

    Args:
        node: The operator.
        args: Its arguments by the names of its schema.
        signals: Those that depend on the input.
        own_batch: The batch of the constants among them.
        symbolic: Whether that stands for any size.
    """
    target: Any = node.target
    schema = target._schema.arguments

    def run(*values: Tensor) -> Any:
        rest = iter(values)
        batch = values[0].shape[signals[0].batch] if values else own_batch

        def fill(value: Any) -> Any:
            if isinstance(value, Signal):
                return next(rest)
            if isinstance(value, list | tuple):
                return [fill(item) for item in value]
            if isinstance(value, Size):
                return value.of(batch)
            if isinstance(value, Constant):
                held = for_batch(value.value, own_batch, batch) if symbolic else value.value
                held = held.clone() if target._schema.is_mutable else held
                real = held.is_floating_point() and len(values) > 0
                return held.to(values[0].dtype) if real else held
            return value

        filled = {a.name: fill(args[a.name]) for a in schema if a.name in args}
        positional = [filled.pop(a.name) for a in schema if not a.kwarg_only]
        return target(*positional, **filled)

    return run


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
