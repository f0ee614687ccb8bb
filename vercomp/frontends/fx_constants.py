"""Operators of an exported graph over constants only: computed when the model is read.

The constants of one operator have the types that the source would give them in double precision:
parameters and buffers in the model's own precision are float64, a tensor that ``forward()`` makes
keeps the type it is made in, and a cast is made. So the validation, which runs the source in
float64 like this, sees the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from vercomp.frontends.fx_operators import KEEPS, RESHAPES, TRANSPOSES
from vercomp.frontends.values import Constant, Live, Tensors

Run = Callable[[Mapping[str, Any]], Any]
"""An operator as a function of its arguments by the names of its schema."""

_CANNOT = (RuntimeError, TypeError, ValueError, IndexError)  # what torch's operators raise

_MADE_HERE = frozenset(("full", "ones", "zeros"))


def evaluated(
    node: fx.Node,
    run: Run,
    args: Mapping[str, Any],
    env: Mapping[fx.Node, Any],
    state: Collection[str],
) -> Any:
    """The result of an operator over constants.

    Where types do not fit together in double precision (a float32 table beside float64 weights in
    a product), all real constants are float64, and where the operator takes no float64 or reads
    bits, each constant has the type that the source has traced.

    Args:
        node: The operator's node.
        run: The operator.
        args: Its arguments; constants are :class:`Constant`.
        env: What the graph's nodes are here.
        state: The names of parameters and buffers in the model's own precision.

    Raises:
        Exception: Whatever the operator raises for all three.
    """
    types = _traced_types(node, env)

    def traced(c: Constant) -> torch.dtype:
        return types.get(id(c), c.value.dtype)

    def as_in_double(c: Constant) -> torch.dtype:
        if c.name in state:
            return _double(c.value.dtype)
        return c.value.dtype if c.name is None else traced(c)

    def double(c: Constant) -> torch.dtype:
        return _double(c.value.dtype)

    reads_bits = node.target is torch.ops.aten.view.dtype
    first: Exception | None = None
    for kind in (traced,) if reads_bits else (as_in_double, double, traced):
        try:
            return run({key: _typed(value, kind) for key, value in args.items()})
        except _CANNOT as error:
            first = first or error
    assert first is not None  # noqa: S101 - every way through the loop but `return` sets it
    raise first


def passed_on(name: str, run: Run, args: Mapping[str, Any]) -> Constant | None:
    """The constant that an operator gives on as it is, reshaped or transposed, if it does.

    It is still the source's own tensor, and training may change it.
    """
    first = args.get("self", args.get("input"))
    if name not in KEEPS | RESHAPES | TRANSPOSES or not isinstance(first, Constant):
        return None
    try:
        result = run(args)
    except _CANNOT:
        return None
    if not isinstance(result, Tensor) or result.dtype != first.value.dtype:
        return None
    if name in KEEPS and torch.equal(first.value, result):
        return first
    if name in RESHAPES and not first.transposed:
        return first.reshaped(tuple(result.shape))
    if name in TRANSPOSES and result.ndim == 2 and torch.equal(first.value.T, result):
        return first.swapped()
    return None


def recomputed(
    run: Run, args: Mapping[str, Any], given: Collection[Any]
) -> Callable[[Tensors], Any] | None:
    """An operator over constants, as a function of the model's tensors as they are then.

    It is differentiable where the operator is, and computed once for each state of the tensors.
    None where one of its constants has not been followed back to them.
    """
    if not all(value.known for value in given if isinstance(value, Constant)):
        return None
    key = object()

    def now(tensors: Tensors) -> Any:
        if key not in tensors.memo:
            live = {name: _now(value, tensors) for name, value in args.items()}
            tensors.memo[key] = run(live)
        return tensors.memo[key]

    return now


def piece_of(live: Callable[[Tensors], Any], place: int) -> Live:
    """One of the results of an operator that gives several."""
    return lambda tensors: live(tensors)[place]


def _now(value: Any, tensors: Tensors) -> Any:
    if isinstance(value, list | tuple):
        return [_now(item, tensors) for item in value]
    return Constant(value.now(tensors)) if isinstance(value, Constant) else value


def filled_type(name: str, value: Tensor) -> torch.dtype:
    """The type of a tensor of equal numbers: its own, or float64 where it follows another one's."""
    return value.dtype if name in _MADE_HERE else _double(value.dtype)


def _traced_types(node: fx.Node, env: Mapping[fx.Node, Any]) -> dict[int, torch.dtype]:
    """The traced types of the tensors that a node reads, by the identity of what they are here."""
    traced = ((env[read], read.meta.get("val")) for read in node.all_input_nodes)
    return {id(found): value.dtype for found, value in traced if isinstance(value, Tensor)}


def _typed(value: Any, kind: Callable[[Constant], torch.dtype]) -> Any:
    """An argument with its constants in other types."""
    if isinstance(value, list | tuple):
        return [_typed(item, kind) for item in value]
    if isinstance(value, Constant):
        return Constant(value.value.to(kind(value)), sources=value.sources)
    return value


def _double(dtype: torch.dtype) -> torch.dtype:
    """The same kind of number in double precision."""
    if dtype.is_complex:
        return torch.complex128
    return torch.float64 if dtype.is_floating_point else dtype
