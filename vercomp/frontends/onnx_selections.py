"""ONNX operators that pick, repeat and join entries."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from vercomp.frontends import shaping
from vercomp.frontends.onnx_call import Call, RefusalError, Result, Rule
from vercomp.frontends.onnx_shapes import aligned, apart, relabelled
from vercomp.frontends.values import Constant, Signal, Value
from vercomp.ir.linear_maps import Shape


def _slice(call: Call) -> Result:
    full = call.full()
    starts, ends = call.integers("starts", 1) or [], call.integers("ends", 2) or []
    axes = call.integers("axes", 3) or list(range(len(starts)))
    steps = call.integers("steps", 4) or [1] * len(starts)
    result = call.signal()
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis %= len(full)
        chosen = range(*slice(start, end, step).indices(full[axis]))
        if chosen == range(full[axis]):
            continue
        result = _taken(call, apart(call, result, {axis}, "slices"), axis, chosen)
    return result


def _taken(
    call: Call, signal: Signal, axis: int, indices: Sequence[int], *, drop: bool = False
) -> Signal:
    found = shaping.gather(call.build, call.site, signal, axis, indices, drop)
    if isinstance(found, str):
        raise RefusalError(found)
    return found


def _split(call: Call) -> Result:
    axis = call.axis()
    length = call.full()[axis]
    sizes = call.integers("split", 1)
    if sizes is None:
        pieces = int(call.attributes.get("num_outputs", call.outputs))
        chunk = -(-length // pieces)
        sizes = [chunk] * (pieces - 1)
        sizes.append(length - sum(sizes))
    if sum(sizes) != length or min(sizes) <= 0:
        return "its sizes do not fit its input"
    if sizes == [length]:
        return call.signal()
    signal = apart(call, call.signal(), {axis}, "splits")
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return tuple(
        _taken(call, signal, axis, range(end - size, end))
        for size, end in zip(sizes, ends, strict=True)
    )


def _concatenate(call: Call) -> Result:
    axis = call.axis()
    values = [call.value(index) for index in range(len(call.inputs))]
    if len(values) == 1:
        return values[0]
    moved: list[Value] = [
        apart(call, value, {axis}, "joins") if isinstance(value, Signal) else value
        for value in values
    ]
    return shaping.concatenate(call.build, call.site, aligned(call, moved), axis)


def _gather(call: Call) -> Result:
    index = call.constant(1, "indices")
    if index is None or isinstance(call.value(0), Constant):
        return INDICES
    axis = call.axis()
    length = call.full()[axis]
    places = _within(index.value.reshape(-1).tolist(), length)
    if index.value.ndim == 1 and places == list(range(length)):
        return call.signal()
    signal = apart(call, call.signal(), {axis}, "picks entries of")
    return _put(call, signal, axis, places, tuple(index.value.shape))


def _gather_several(call: Call) -> Result:
    """GatherND with constant indices: of the first axes together, none of them the batch."""
    index = call.constant(1, "indices")
    if index is None or isinstance(call.value(0), Constant):
        return INDICES
    if call.attributes.get("batch_dims"):
        return "its indices are given for every input of a batch"
    full, depth = call.full(), index.value.shape[-1]
    signal = apart(call, call.signal(), range(depth), "picks entries of")
    places = [0] * (index.value.numel() // depth)
    for axis, listed in enumerate(index.value.reshape(-1, depth).T.tolist()):
        within = _within(listed, full[axis])
        places = [at * full[axis] + place for at, place in zip(places, within, strict=True)]
    joined = (math.prod(full[:depth]), *full[depth:])
    signal = relabelled(call, signal, joined, signal.batch - depth + 1)
    return _put(call, signal, 0, places, tuple(index.value.shape[:-1]))


def _within(places: Sequence[int], length: int) -> list[int]:
    """Indices of an axis, counted from its first entry."""
    if not all(-length <= place < length for place in places):
        raise RefusalError(f"an index lies outside the axis of length {length}")
    return [place % length for place in places]


def _put(call: Call, signal: Signal, axis: int, places: Sequence[int], shape: Shape) -> Signal:
    """Entries along an axis, which the axes of the indices replace."""
    taken = _taken(call, signal, axis, places, drop=not shape)
    if len(shape) < 2:
        return taken
    full = taken.full(call.build.batch)
    batch = taken.batch + (len(shape) - 1 if taken.batch > axis else 0)
    return relabelled(call, taken, (*full[:axis], *shape, *full[axis + 1 :]), batch)


def _tile(call: Call) -> Result:
    repeats = call.integers("repeats", 1) or []
    changed = {axis for axis, times in enumerate(repeats) if times != 1}
    signal = apart(call, call.signal(), changed, "repeats")
    return shaping.repeat(call.build, call.site, signal, repeats)


_PADDINGS = {"constant": "zeros", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _pad(call: Call) -> Result:
    rank = call.signal().rank
    mode = call.attributes.get("mode", "constant")
    pads, value = call.integers("pads", 1) or [], call.number("value", 2, 0.0)
    axes = call.integers("axes", 3) or list(range(rank))
    if mode not in _PADDINGS or len(pads) != 2 * len(axes):
        return f"padding of mode {mode!r} is not supported"
    if value is None:
        return "the value that it pads with depends on the input"
    pairs = [(0, 0)] * rank
    for axis, before, behind in zip(axes, pads, pads[len(axes) :], strict=False):
        pairs[axis % rank] = before, behind
    changed = {axis for axis, pair in enumerate(pairs) if pair != (0, 0)}
    signal = apart(call, call.signal(), changed, "pads")
    return shaping.pad(call.build, call.site, signal, pairs, _PADDINGS[mode], value)


INDICES = "its indices depend on the input"
RESIZE = "only resizing to the nearest neighbour by whole constant factors is supported"


def _resize(call: Call) -> Result:
    """Upsample of opsets 7 and 9, Resize of 10 and later."""
    full = call.full()
    old = call.opset < 11
    axes = call.attributes.get("axes", range(len(full)))
    if call.attributes.get("mode", "nearest") != "nearest":
        return RESIZE
    scales = call.constant(1 if old else 2, "scales")
    sizes = None if old else call.integers("sizes", 3)
    factors = [Fraction(1)] * len(full)
    listed: Sequence[float] | None = call.attributes.get("scales")
    if listed is None and scales is not None and scales.value.numel():
        listed = scales.value.reshape(-1).tolist()
    if listed is not None:
        given = [Fraction(factor) for factor in listed]
    elif sizes and "keep_aspect_ratio_policy" not in call.attributes:
        lengths = [full[axis] for axis in axes]
        given = [Fraction(a, b) for a, b in zip(sizes, lengths, strict=True)]
    else:
        return RESIZE
    for axis, factor in zip(axes, given, strict=True):
        factors[axis] = factor
    result = call.signal()
    for axis, factor in enumerate(factors):
        if factor.denominator != 1 or factor < 1:
            return RESIZE
        if factor > 1:
            result = apart(call, result, {axis}, "resizes")
            places = _nearest(call, full[axis], int(factor))
            result = _taken(call, result, axis, places)
    return result


_HALF = Fraction(1, 2)

_COORDINATES: dict[str, Callable[[int, int, int], Fraction]] = {
    "align_corners": lambda x, n, s: Fraction(x * (n - 1), max(n * s - 1, 1)),
    "asymmetric": lambda x, n, s: Fraction(x, s),
    "half_pixel": lambda x, n, s: (x + _HALF) / s - _HALF,
    "half_pixel_symmetric": lambda x, n, s: (x + _HALF) / s - _HALF,
    "pytorch_half_pixel": lambda x, n, s: (x + _HALF) / s - _HALF,
    "tf_half_pixel_for_nn": lambda x, n, s: (x + _HALF) / s,
}
"""Where place x of an axis of length n, made s times as long, lies in the original."""

_ROUNDINGS: dict[str, Callable[[Fraction], int]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "round_prefer_ceil": lambda x: math.floor(x + _HALF),
    "round_prefer_floor": lambda x: math.ceil(x - _HALF),
}


def _nearest(call: Call, length: int, factor: int) -> list[int]:
    """The neighbour of each place of an axis; opsets before 11 do not say which it is."""
    old = call.opset < 11
    way = call.attributes.get(
        "coordinate_transformation_mode", "asymmetric" if old else "half_pixel"
    )
    rounding = call.attributes.get("nearest_mode", "floor" if old else "round_prefer_floor")
    if way not in _COORDINATES or rounding not in _ROUNDINGS:
        raise RefusalError(RESIZE)
    places = (
        _ROUNDINGS[rounding](_COORDINATES[way](x, length, factor)) for x in range(length * factor)
    )
    return [min(max(place, 0), length - 1) for place in places]


RULES: dict[str, Rule] = {
    "Concat": _concatenate,
    "Gather": _gather,
    "GatherND": _gather_several,
    "Pad": _pad,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Tile": _tile,
    "Upsample": _resize,
}
