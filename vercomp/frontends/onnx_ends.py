"""The ends of an ONNX graph: which result holds the logits, and what the input's axes are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import onnx
import torch

from vercomp.errors import UnsupportedError, UsageError
from vercomp.frontends.onnx_cone import may_be_logits
from vercomp.ir.linear_maps import Shape

_DTYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
}


@dataclass(frozen=True)
class Reading:
    """One way to read the axes of an input.

    Args:
        batch: The batch size to which the file is fixed, or None.
        shape: Shape of one input.
        unbatched: Whether the file takes one input at a time, without a batch axis.
    """

    batch: int | None
    shape: Shape
    unbatched: bool = False

    def __str__(self) -> str:
        shape = "×".join(map(str, self.shape))
        return f"one input of shape {shape}" if self.unbatched else f"a batch of inputs of {shape}"


@dataclass(frozen=True)
class InputEnd:
    """The input of a graph.

    Args:
        name: Its name.
        dtype: Its precision.
        readings: What its axes can be, the likeliest first.
    """

    name: str
    dtype: torch.dtype
    readings: tuple[Reading, ...]


def chosen_output(model: onnx.ModelProto, location: str, chosen: str | None) -> str:
    """The result that holds the logits.

    Raises:
        UsageError: The model has no such result.
        UnsupportedError: It has several that may hold logits, and none is named.
    """
    names = [str(value.name) for value in model.graph.output]
    listed = ", ".join(repr(name) for name in names)
    if chosen is not None and chosen not in names:
        raise UsageError(
            f"the model has no output {chosen!r}", location=location, remedy=f"It has {listed}"
        )
    logits = [str(value.name) for value in model.graph.output if may_be_logits(value)]
    if chosen is None and len(logits) == 1:
        return logits[0]
    if chosen is None and len(names) != 1:
        raise UnsupportedError(
            f"the model returns {len(names)} results: {listed}",
            location=location,
            remedy="Export the logits alone, or name them as the output",
        )
    return names[0] if chosen is None else chosen


def sole_input(model: onnx.ModelProto, location: str, held: Collection[str]) -> InputEnd:
    """The input, other than tensors that the file holds.

    Raises:
        UnsupportedError: There are several, it is not of real numbers, or its sizes are not fixed.
    """
    inputs = [value for value in model.graph.input if value.name not in held]
    if len(inputs) != 1:
        raise UnsupportedError(
            f"the model takes {len(inputs)} inputs",
            location=location,
            remedy="It must take exactly one",
        )
    (value,) = inputs
    kind = value.type.tensor_type.elem_type
    what = f"the input {value.name!r}"
    if kind == onnx.TensorProto.BFLOAT16:
        raise UnsupportedError(
            f"{what} is of type BFLOAT16, in which onnxruntime does not run",
            location=location,
            remedy="Export it in float32; the weights may stay as they are",
        )
    if kind not in _DTYPES:
        name = onnx.TensorProto.DataType.Name(kind)
        raise UnsupportedError(f"{what} is of type {name}, not of real numbers", location=location)
    return InputEnd(value.name, _DTYPES[kind], tuple(_readings(value, what, location)))


def _readings(value: onnx.ValueInfoProto, what: str, location: str) -> Iterator[Reading]:
    """What the axes can be: all of one input, or those of a batch of inputs.

    A first axis of open length is that of the batch; a single one of fixed length is none.
    """
    dimensions = list(value.type.tensor_type.shape.dim)
    sizes = tuple(max(d.dim_value, 0) if d.HasField("dim_value") else 0 for d in dimensions)
    if not sizes:
        raise UnsupportedError(
            f"the shape of {what} is not known, or it is a single number",
            location=location,
            remedy="Export it with its shape",
        )
    open_axes = [axis for axis, size in enumerate(sizes) if size == 0]
    wrong = [axis for axis in open_axes if axis > 0]
    if wrong:
        label = dimensions[wrong[0]].dim_param
        raise UnsupportedError(
            f"dimension {wrong[0]}{f' ({label!r})' if label else ''} of {what} is dynamic",
            location=location,
            remedy="Only the batch (dimension 0) may be: export with fixed sizes",
        )
    if len(sizes) == 1 and open_axes:
        raise UnsupportedError(
            f"{what} has one dimension, which is dynamic: it may be the batch, or the features",
            location=location,
            remedy="Export it with a fixed size, or with two dimensions",
        )
    if len(sizes) > 1:
        yield Reading(sizes[0] or None, sizes[1:])
    if len(sizes) == 1 or sizes[0] > 1:
        yield Reading(None, sizes, unbatched=True)
