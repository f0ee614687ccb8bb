"""ONNX operators that leave the entries and change their shape or order."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import torch

from vercomp.frontends import algebra, shaping
from vercomp.frontends.broadcasting import mapped
from vercomp.frontends.onnx_call import MIXES, Call, RefusalError, Result, Rule, or_reason
from vercomp.frontends.values import Constant, Signal, Value
from vercomp.ir.linear_maps import Reshape, Shape


def relabelled(call: Call, signal: Signal, full_shape: Sequence[int], batch: int) -> Signal:
    """The same entries in the same order under another shape, the batch at a known axis."""
    shape = (*full_shape[:batch], *full_shape[batch + 1 :])
    return mapped(call.build, call.site, signal, Reshape(signal.shape, shape), batch=batch)


def apart(call: Call, signal: Signal, axes: Collection[int], verb: str) -> Signal:
    """The signal with its batch at none of these axes, which the operator changes.

    In a model for one input at a time any axis of length 1 may be taken for the batch.
    """
    if signal.batch not in axes:
        return signal
    if call.build.batch == 1:
        full = signal.full(1)
        for axis, size in enumerate(full):
            if size == 1 and axis not in axes:
                return relabelled(call, signal, full, axis)
    raise RefusalError(f"it {verb} the batch dimension")


def aligned(call: Call, values: Sequence[Value]) -> list[Value]:
    """Operands with their batches at the same axis, counted from the last, where that can be.

    Only a model for one input at a time leaves a choice.
    """
    signals = [value for value in values if isinstance(value, Signal)]
    places = {signal.batch - signal.rank for signal in signals}
    if call.build.batch != 1 or len(places) < 2:
        return list(values)
    for place in sorted(places):
        if all(signal.full(1)[place:][:1] == (1,) and -place <= signal.rank for signal in signals):
            return [
                relabelled(call, value, value.full(1), place + value.rank)
                if isinstance(value, Signal)
                else value
                for value in values
            ]
    return list(values)


def _reshaped(call: Call, full_shape: Sequence[int]) -> Result:
    result = algebra.reshape(call.build, call.site, call.signal(), call.reshaped(full_shape))
    return or_reason(result, MIXES)


def _reshape(call: Call) -> Result:
    full = call.full()
    target = call.integers("shape", 1) or []
    if not call.attributes.get("allowzero"):
        target = [full[i] if size == 0 and i < len(full) else size for i, size in enumerate(target)]
    if target.count(-1) == 1:
        known = -math.prod(target)
        if known <= 0 or math.prod(full) % known:
            return "its shape does not fit its input"
        target = [math.prod(full) // known if size == -1 else size for size in target]
    return _reshaped(call, target)


def _flatten(call: Call) -> Result:
    full = call.full()
    axis = int(call.attributes.get("axis", 1))
    axis = axis + len(full) if axis < 0 else axis
    return _reshaped(call, (math.prod(full[:axis]), math.prod(full[axis:])))


def _squeeze(call: Call) -> Result:
    full = call.full()
    axes = call.integers("axes", 1)
    if axes is None:
        dropped = {axis for axis, size in enumerate(full) if size == 1}
    else:
        dropped = {axis % len(full) for axis in axes}
    signal = apart(call, call.signal(), dropped, "drops")
    kept = [axis for axis in range(len(full)) if axis not in dropped]
    shape = call.reshaped([full[axis] for axis in kept])
    return relabelled(call, signal, shape, kept.index(signal.batch))


def _unsqueeze(call: Call) -> Result:
    full = call.full()
    axes = call.integers("axes", 1) or []
    rank = len(full) + len(axes)
    places = {axis % rank for axis in axes}
    old = [axis for axis in range(rank) if axis not in places]
    shape = [1 if axis in places else full[old.index(axis)] for axis in range(rank)]
    return relabelled(call, call.signal(), shape, old[call.signal().batch])


def _transpose(call: Call) -> Result:
    signal = call.signal()
    axes = call.attributes.get("perm") or list(reversed(range(signal.rank)))
    return algebra.permute(call.build, call.site, signal, axes)


def _depth_to_space(call: Call) -> Result:
    channels, height, width = _image(call)
    b = int(call.attributes["blocksize"])
    if channels % (b * b):
        return "its channels do not fit its block size"
    rest = channels // (b * b)
    if call.attributes.get("mode", "DCR") == "DCR":
        split, axes = (b, b, rest, height, width), (2, 3, 0, 4, 1)
    else:
        split, axes = (rest, b, b, height, width), (0, 3, 1, 4, 2)
    result = (rest, height * b, width * b)
    return shaping.shuffled(call.build, call.site, call.signal(), split, axes, result)


def _space_to_depth(call: Call) -> Result:
    channels, height, width = _image(call)
    b = int(call.attributes["blocksize"])
    if height % b or width % b:
        return "its image does not fit its block size"
    split, axes = (channels, height // b, b, width // b, b), (2, 4, 0, 1, 3)
    result = (channels * b * b, height // b, width // b)
    return shaping.shuffled(call.build, call.site, call.signal(), split, axes, result)


def _image(call: Call) -> Shape:
    signal = call.signal()
    if signal.rank != 4 or signal.batch != 0:
        raise RefusalError("its input is not of shape (batch, channels, height, width)")
    return signal.shape


def _expand(call: Call) -> Result:
    target = call.integers("shape", 1) or []
    try:
        full = np.broadcast_shapes(call.full(), tuple(target))
    except ValueError:
        return "its shape does not fit its input"
    return shaping.expand(call.build, call.site, call.signal(), full)


def _shape(call: Call) -> Result:
    full = call.full()
    start, end = call.attributes.get("start", 0), call.attributes.get("end", len(full))
    return Constant(torch.tensor(full[start:end], dtype=torch.int64))


def _size(call: Call) -> Result:
    return Constant(torch.tensor(math.prod(call.full()), dtype=torch.int64))


RULES: dict[str, Rule] = {
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "SpaceToDepth": _space_to_depth,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""What leaves even the order of the entries."""
