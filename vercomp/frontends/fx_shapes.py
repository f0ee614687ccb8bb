"""The rules of the torch front end for what moves, joins, repeats or adds up entries."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from vercomp.frontends import algebra, fx_positions, shaping
from vercomp.frontends.broadcasting import MIXES, own_axis
from vercomp.frontends.fx_call import Call, Result, Results, Rule, Size, known
from vercomp.frontends.values import Constant, Signal

INDICES = "its indices depend on the input"
ENDS = "its ends depend on the batch size"


def reshape(call: Call) -> Result:
    """Views, and what else keeps the order of the entries."""
    result = algebra.reshape(call.build, call.site, call.signal(), call.out)
    return known(result, "it mixes the batch with another dimension")


def permute(call: Call) -> Result:
    """Permutations of axes, under all their names."""
    signal = call.signal()
    axes = list(range(signal.rank))
    if "dims" in call.args:
        axes = list(call.args["dims"])
    elif "dim0" in call.args or "axis0" in call.args:
        i, j = (call.args.get(f"dim{k}", call.args.get(f"axis{k}")) for k in (0, 1))
        axes[i], axes[j] = axes[j], axes[i]
    elif call.args.get("destination") is not None:
        axes = _moved(signal.rank, call.args["source"], call.args["destination"])
    else:  # t, T, mT: of a stack of matrices the last two
        whole = call.site.operator.startswith(("aten.numpy_T", "aten.t."))
        axes = axes[::-1] if whole else [*axes[:-2], axes[-1], axes[-2]]
    return algebra.permute(call.build, call.site, signal, axes)


def _moved(rank: int, source: Any, destination: Any) -> list[int]:
    """The permutation that ``movedim`` is."""
    sources = [a % rank for a in (source if isinstance(source, list) else [source])]
    targets = [a % rank for a in (destination if isinstance(destination, list) else [destination])]
    axes = [axis for axis in range(rank) if axis not in sources]
    for target, axis in sorted(zip(targets, sources, strict=True)):
        axes.insert(target, axis)
    return axes


def _slice(call: Call) -> Result:
    signal, axis = call.signal(), int(call.args["dim"])
    start, stop, step = (call.args.get(name) for name in ("start", "end", "step"))
    if axis % signal.rank == signal.batch:
        start, stop = (
            end.of(call.build.batch) if isinstance(end, Size) else end for end in (start, stop)
        )
    elif isinstance(start, Size) or isinstance(stop, Size):
        return ENDS
    return shaping.slice_axis(call.build, call.site, signal, axis, start, stop, step or 1)


def _select(call: Call) -> Result:
    index = call.args["index"]
    if not isinstance(index, int):
        return INDICES
    return shaping.gather(
        call.build, call.site, call.signal(), int(call.args["dim"]), [index], drop=True
    )


def _narrow(call: Call) -> Result:
    start, length = call.args["start"], call.args["length"]
    if isinstance(start, Constant):
        start = int(start.value)
    if not isinstance(start, int) or not isinstance(length, int):
        return ENDS
    signal, axis = call.signal(), int(call.args["dim"])
    start += 0 if start >= 0 else signal.full(call.build.batch)[axis]
    return shaping.slice_axis(call.build, call.site, signal, axis, start, start + length)


def _index_select(call: Call) -> Result:
    indices = call.constant("index")
    if indices is None:
        return INDICES
    axis = int(call.args["dim"])
    return shaping.gather(
        call.build, call.site, call.signal(), axis, [int(i) for i in indices.reshape(-1)]
    )


def _index(call: Call) -> Result:
    """``x[:, i]``: along one axis; several index tensors at once are taken by position."""
    signal, listed = call.args["self"], call.args["indices"]
    used = [(axis, index) for axis, index in enumerate(listed) if index is not None]
    if not isinstance(signal, Signal) or any(isinstance(index, Signal) for _, index in used):
        return INDICES
    axis, first = used[0]
    if axis == signal.batch:
        return MIXES
    if len(used) > 1 or first.value.ndim != 1:
        return fx_positions.moves(call)
    picks = first.value.nonzero()[:, 0] if first.value.dtype == torch.bool else first.value
    return shaping.gather(call.build, call.site, signal, axis, [int(i) for i in picks])


def _repeat_interleave(call: Call) -> Result:
    repeats, axis = call.args["repeats"], call.args.get("dim")
    if isinstance(repeats, Constant):
        repeats = repeats.value
    if axis is None:
        return MIXES
    signal = call.signal()
    own = own_axis(signal, axis)
    if own is None or isinstance(repeats, Signal | Size):
        return MIXES
    picks = torch.arange(signal.shape[own]).repeat_interleave(repeats)
    return shaping.gather(call.build, call.site, signal, axis, [int(i) for i in picks])


def _flip(call: Call) -> Result:
    result: Signal | str = call.signal()
    for axis in call.args["dims"]:
        if isinstance(result, Signal):
            result = shaping.slice_axis(call.build, call.site, result, axis, None, None, -1)
    return result


def _roll(call: Call) -> Result:
    result: Signal | str = call.signal()
    shifts, axes = call.args["shifts"], call.args["dims"]
    if not axes:
        return MIXES
    for shift, axis in zip(shifts, axes, strict=True):
        own = own_axis(result, axis) if isinstance(result, Signal) else None
        if own is None or not isinstance(result, Signal):
            return MIXES
        length = result.shape[own]
        picks = [(i - shift) % length for i in range(length)]
        result = shaping.gather(call.build, call.site, result, axis, picks)
    return result


def _concatenate(call: Call) -> Result:
    return _joined(call, int(call.args.get("dim", 0)))


def _joined(call: Call, axis: int) -> Result:
    values = call.args["tensors"]
    if not all(isinstance(value, Constant | Signal) for value in values):
        return "its operands are no tensors"
    return shaping.concatenate(call.build, call.site, values, axis)


def _stack(call: Call) -> Result:
    axis = int(call.args.get("dim", 0)) % len(call.out)
    single = (*call.out[:axis], 1, *call.out[axis + 1 :])
    apart = []
    for value in call.args["tensors"]:
        part: Any = value.reshaped(single) if isinstance(value, Constant) else None
        if isinstance(value, Signal):
            part = algebra.reshape(call.build, call.site, value, single)
        if part is None:
            return MIXES
        apart.append(part)
    return shaping.concatenate(call.build, call.site, apart, axis)


def _expand(call: Call) -> Result:
    return shaping.expand(call.build, call.site, call.signal(), call.out)


def _repeat(call: Call) -> Result:
    times = list(call.args.get("repeats", call.args.get("dims")))
    if not all(isinstance(count, int) for count in times):
        return MIXES
    times = [1] * (call.signal().rank - len(times)) + times
    return shaping.repeat(call.build, call.site, call.signal(), times)


def _total(mean: bool) -> Rule:
    def rule(call: Call) -> Result:
        signal = call.signal()
        axes = call.args.get("dim")
        axes = list(range(signal.rank)) if axes in (None, []) else axes
        keepdim = bool(call.args.get("keepdim", False))
        dtype = call.args.get("dtype")
        if dtype is not None and not dtype.is_floating_point:
            return f"a cast to {dtype} rounds"
        return shaping.total(
            call.build, call.site, signal, [axes] if isinstance(axes, int) else axes, keepdim, mean
        )

    return rule


def _pixel_shuffle(call: Call) -> Result:
    signal, r = call.signal(), int(call.args["upscale_factor"])
    if signal.batch != 0 or signal.rank != 4:
        return MIXES
    c, h, w = signal.shape
    split, result = (c // r**2, r, r, h, w), (c // r**2, h * r, w * r)
    return shaping.shuffled(call.build, call.site, signal, split, (0, 3, 1, 4, 2), result)


def _pixel_unshuffle(call: Call) -> Result:
    signal, r = call.signal(), int(call.args["downscale_factor"])
    if signal.batch != 0 or signal.rank != 4:
        return MIXES
    c, h, w = signal.shape
    split, result = (c, h // r, r, w // r, r), (c * r**2, h // r, w // r)
    return shaping.shuffled(call.build, call.site, signal, split, (0, 2, 4, 1, 3), result)


def _channel_shuffle(call: Call) -> Result:
    signal, groups = call.signal(), int(call.args["groups"])
    if signal.batch != 0:
        return MIXES
    c, *rest = signal.shape
    split = (groups, c // groups, math.prod(rest))
    return shaping.shuffled(call.build, call.site, signal, split, (1, 0, 2), signal.shape)


def split(call: Call) -> Results | str:
    """Pieces side by side along an axis, whatever says how long they are."""
    signal = call.args.get("self")
    axis = int(call.args.get("dim", 0))
    if not isinstance(signal, Signal):
        return INDICES
    results: list[Callable[[], Result]] = []
    start = 0
    for out in call.outs:
        stop = start + out[axis]
        results.append(_piece(call, signal, axis, start, stop))
        start = stop
    return results


def _piece(call: Call, signal: Signal, axis: int, start: int, stop: int) -> Callable[[], Result]:
    return lambda: shaping.slice_axis(call.build, call.site, signal, axis, start, stop)


def unbind(call: Call) -> Results | str:
    """The entries along an axis, one by one."""
    signal, axis = call.signal(), int(call.args.get("dim", 0))
    return [_entry(call, signal, axis, index) for index in range(len(call.outs))]


def _entry(call: Call, signal: Signal, axis: int, index: int) -> Callable[[], Result]:
    return lambda: shaping.gather(call.build, call.site, signal, axis, [index], drop=True)


def only_first(rule: Rule) -> Callable[[Call], Results | str]:
    """A rule for the first of several results; the others have none."""

    def several(call: Call) -> Results:
        return [lambda: rule(call)]

    return several


def _named(rule: Rule, names: Sequence[str]) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


RESHAPES: tuple[str, ...] = (
    "flatten",
    "view",
    "reshape",
    "_unsafe_view",
    "unflatten",
    "squeeze",
    "unsqueeze",
    "ravel",
    "view_as",
    "reshape_as",
)
TRANSPOSES: tuple[str, ...] = (
    "permute",
    "transpose",
    "swapaxes",
    "swapdims",
    "t",
    "numpy_T",
    "mT",
    "movedim",
    "moveaxis",
)

#: Rules by the operator's name, as in :mod:`vercomp.frontends.fx_operators`.
RULES: dict[str, Rule] = {
    **_named(reshape, RESHAPES),
    **_named(permute, TRANSPOSES),
    "slice": _slice,
    "select": _select,
    "narrow": _narrow,
    "index_select": _index_select,
    "index": _index,
    "repeat_interleave": _repeat_interleave,
    "flip": _flip,
    "roll": _roll,
    **_named(_concatenate, ("cat", "concat", "concatenate")),
    "stack": _stack,
    "hstack": lambda call: _joined(call, 1),
    "vstack": lambda call: MIXES,
    **_named(_expand, ("expand", "expand_as", "broadcast_to")),
    **_named(_repeat, ("repeat", "tile")),
    "mean": _total(mean=True),
    "sum": _total(mean=False),
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
}

#: Rules of operators that give several results.
SEVERAL: dict[str, Callable[[Call], Results | str]] = {
    **dict.fromkeys(
        (
            "split",
            "split_with_sizes",
            "unsafe_split",
            "chunk",
            "unsafe_chunk",
            "tensor_split",
        ),
        split,
    ),
    "unbind": unbind,
}
