"""ONNX graphs that take one input, without a batch axis: each operator with one more axis in front.

Every value of the network is given a batch axis before all others. An operator that counts axes
from the front counts one further then; what it reads besides (a shape, pads, an order of axes) is
made to fit. So the rules for graphs with a batch serve these too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import helper

from vercomp.frontends.broadcasting import mapped
from vercomp.frontends.builder import Builder
from vercomp.frontends.onnx_call import RefusalError
from vercomp.frontends.values import Constant, Signal, Site, Value
from vercomp.ir.linear_maps import Reshape

IMAGES = frozenset(
    (
        *("Conv", "ConvTranspose", "BatchNormalization", "DepthToSpace", "SpaceToDepth"),
        *("AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool"),
    )
)
"""Operators that have a batch axis of their own, which must be of length 1."""


@dataclass(frozen=True)
class Lifted:
    """A node over values with one more axis.

    Args:
        node: The node.
        inputs: What it reads.
        single: Whether its results lack an axis of length 1 behind the new one.
    """

    node: onnx.NodeProto
    inputs: Sequence[Value | None]
    single: bool = False


def lifted(
    node: onnx.NodeProto,
    inputs: Sequence[Value | None],
    build: Builder,
    site: Site,
    opset: int,
) -> Lifted:
    """The node that does for a batch what a node does for one input.

    Raises:
        RefusalError: There is none of its kind.
    """
    if node.domain not in ("", "ai.onnx"):
        return Lifted(node, inputs)
    work = _Work(node, list(inputs), build, site, opset)
    if node.op_type in IMAGES:
        return work.of_images()
    lift = _LIFTS.get(node.op_type)
    if lift is None:
        work.align()
    else:
        lift(work)
    return Lifted(work.node, work.inputs)


def unsqueezed(build: Builder, site: Site, found: Mapping[str, Value]) -> dict[str, Value]:
    """Results by name with the axis of length 1 put back behind the batch."""
    return {
        name: mapped(build, site, value, Reshape(value.shape, (1, *value.shape)))
        if isinstance(value, Signal)
        else value
        for name, value in found.items()
    }


class _Work:
    """One node, changed step by step."""

    def __init__(
        self,
        node: onnx.NodeProto,
        inputs: list[Value | None],
        build: Builder,
        site: Site,
        opset: int,
    ) -> None:
        self.node = onnx.NodeProto()
        self.node.CopyFrom(node)
        self.inputs, self.build, self.site, self.opset = inputs, build, site, opset

    @property
    def signal(self) -> Signal:
        """The first input that depends on the network's."""
        return next(value for value in self.inputs if isinstance(value, Signal))

    @property
    def rank(self) -> int:
        """Its axes, as the source counts them."""
        return len(self.signal.shape)

    def get(self, name: str) -> Any:
        """An attribute, None where it is absent."""
        found = (a for a in self.node.attribute if a.name == name)
        return next((helper.get_attribute_value(a) for a in found), None)

    def set(self, name: str, value: Any) -> None:
        """Give an attribute another value."""
        others = [a for a in self.node.attribute if a.name != name]
        del self.node.attribute[:]
        self.node.attribute.extend([*others, helper.make_attribute(name, value)])

    def listed(self, name: str, index: int) -> list[int] | None:
        """Integers that are an attribute or an input, None where they are neither."""
        if self.get(name) is not None:
            return [int(value) for value in self.get(name)]
        value = self.inputs[index] if index < len(self.inputs) else None
        if isinstance(value, Signal):
            raise RefusalError(f"its {name} depend on the input")
        return None if value is None else [int(v) for v in value.value.reshape(-1).tolist()]

    def put(self, name: str, index: int, values: Sequence[int], *, attribute: bool) -> None:
        """Integers where the operator looks for them."""
        if attribute:
            self.set(name, list(values))
            return
        while len(self.inputs) <= index:
            self.inputs.append(None)
        while len(self.node.input) <= index:
            self.node.input.append("")
        self.inputs[index] = Constant(torch.tensor(list(values), dtype=torch.int64))
        self.node.input[index] = self.node.input[index] or f"{self.node.output[0]}.{name}"

    def align(self) -> None:
        """Operands that broadcast, with equally many axes behind the batch."""
        signals = [value for value in self.inputs if isinstance(value, Signal)]
        constants = [value for value in self.inputs if isinstance(value, Constant)]
        rank = max(
            *(len(signal.shape) for signal in signals),
            *(constant.value.ndim for constant in constants),
            0,
        )
        for index, value in enumerate(self.inputs):
            if isinstance(value, Signal) and len(value.shape) < rank:
                shape = (1,) * (rank - len(value.shape)) + value.shape
                wide = mapped(self.build, self.site, value, Reshape(value.shape, shape))
                self.inputs[index] = wide

    def of_images(self) -> Lifted:
        """The node over a signal without the axis that was its batch."""
        signal = self.inputs[0]
        if not isinstance(signal, Signal) or signal.shape[:1] != (1,):
            raise RefusalError("its input has no batch axis of length 1")
        narrow = Reshape(signal.shape, signal.shape[1:])
        self.inputs[0] = mapped(self.build, self.site, signal, narrow)
        return Lifted(self.node, self.inputs, single=True)


def _further(axes: Sequence[int]) -> list[int]:
    return [axis + 1 if axis >= 0 else axis for axis in axes]


def _axis(default: int) -> Callable[[_Work], None]:
    def lift(work: _Work) -> None:
        axis = work.get("axis")
        (further,) = _further([default if axis is None else int(axis)])
        work.set("axis", further)

    return lift


def _softmax(work: _Work) -> None:
    _axis(-1 if work.opset >= 13 else 1)(work)


def _reduction(work: _Work) -> None:
    axes = work.listed("axes", 1)
    if axes is None and work.get("noop_with_empty_axes"):
        return
    since = 13 if work.node.op_type == "ReduceSum" else 18
    everything = list(range(work.rank))
    work.put("axes", 1, _further(axes or everything), attribute=work.opset < since)


def _squeeze(work: _Work) -> None:
    axes = work.listed("axes", 1)
    if axes is None:
        axes = [axis for axis, size in enumerate(work.signal.shape) if size == 1]
    work.put("axes", 1, _further(axes), attribute=work.opset < 13)


def _unsqueeze(work: _Work) -> None:
    work.put("axes", 1, _further(work.listed("axes", 1) or []), attribute=work.opset < 13)


def _slice(work: _Work) -> None:
    starts = work.listed("starts", 1) or []
    axes = work.listed("axes", 3)
    chosen = list(range(len(starts))) if axes is None else axes
    work.put("axes", 3, _further(chosen), attribute=work.opset < 10)


def _pad(work: _Work) -> None:
    axes, pads = work.listed("axes", 3), work.listed("pads", 1) or []
    if axes is not None:
        work.put("axes", 3, _further(axes), attribute=False)
        return
    half = len(pads) // 2
    work.put("pads", 1, [0, *pads[:half], 0, *pads[half:]], attribute=work.opset < 11)


def _transpose(work: _Work) -> None:
    order = work.get("perm") or list(reversed(range(work.rank)))
    work.set("perm", [0, *(axis + 1 for axis in order)])


def _reshape(work: _Work) -> None:
    target = work.listed("shape", 1) or []
    work.put("shape", 1, [work.build.batch, *target], attribute=False)


def _flatten(work: _Work) -> None:
    axis = work.get("axis")
    axis = 1 if axis is None else int(axis) % (work.rank + 1)
    shape = work.signal.shape
    sides = [math.prod(shape[:axis]), math.prod(shape[axis:])]
    work.node.op_type = "Reshape"
    del work.node.attribute[:]
    work.put("shape", 1, [work.build.batch, *sides], attribute=False)


def _in_front(name: str, index: int) -> Callable[[_Work], None]:
    """One more entry, for the batch, in a list with an entry for each axis."""

    def lift(work: _Work) -> None:
        listed = work.listed(name, index) or []
        if len(listed) > work.rank:
            raise RefusalError("it adds axes in front of its input")
        ones = [1] * (work.rank + 1 - len(listed))
        work.put(name, index, [*ones, *listed], attribute=False)

    return lift


def _shape(work: _Work) -> None:
    start, end = (work.get(name) for name in ("start", "end"))
    work.set("start", _further([int(start or 0)])[0])
    if end is not None:
        work.set("end", _further([int(end)])[0])


def _matmul(work: _Work) -> None:
    """W x for a vector x is x Wᵀ for a row."""
    a, b = work.inputs[:2]
    if isinstance(a, Constant) and isinstance(b, Signal) and len(b.shape) == 1:
        turned = a.swapped() if a.value.ndim == 2 else a
        work.inputs = [b, turned]


def _gemm(work: _Work) -> None:
    if work.get("transA"):
        raise RefusalError("it transposes its input")


def _refused(work: _Work) -> None:
    raise RefusalError("it has no meaning here without a batch axis")


_LIFTS: dict[str, Callable[[_Work], None]] = {
    **dict.fromkeys(("Concat", "Gather", "Split", "ArgMax", "ArgMin"), _axis(0)),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), _reduction),
    **dict.fromkeys(("GatherND", "Resize", "Size", "Upsample"), _refused),
    "Expand": _in_front("shape", 1),
    "Flatten": _flatten,
    "Gemm": _gemm,
    "LayerNormalization": _axis(-1),
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Tile": _in_front("repeats", 1),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""What becomes of operators that count axes; others act entry by entry and broadcast."""
