"""Operators that move, drop, repeat or add up entries, as linear maps: both frameworks have them.

Axes are those of the source, the batch included. Every function gives the signal, or a sentence
that says why no linear map of ours expresses the operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from vercomp.frontends.broadcasting import MIXES, expanded, mapped, offset, own_axis
from vercomp.frontends.builder import Builder
from vercomp.frontends.values import Constant, Signal, Site, Value
from vercomp.ir.axis_maps import AlongAxis, Total
from vercomp.ir.graph import Offset, Term
from vercomp.ir.linear_maps import LinearMap, Permute, Reshape, Shape, compose, identity
from vercomp.ir.selections import Expand, Gather, Pad, Slice

EMPTY = "its result is empty"
UNBOUNDED = 2**31 - 1
"""Ends of slices from here on mean the end of the axis in both frameworks."""


def slice_axis(
    build: Builder,
    site: Site,
    signal: Signal,
    axis: int,
    start: int | None,
    stop: int | None,
    step: int = 1,
) -> Signal | str:
    """``x[start:stop:step]`` along one axis, with the ends as Python takes them."""
    own = own_axis(signal, axis)
    if own is None:
        whole = stop is None or stop == build.batch or stop >= UNBOUNDED
        return signal if start in (None, 0) and whole and step == 1 else MIXES
    return _picked(build, site, signal, own, range(signal.shape[own])[start:stop:step])


def gather(
    build: Builder,
    site: Site,
    signal: Signal,
    axis: int,
    indices: Sequence[int],
    drop: bool = False,
) -> Signal | str:
    """``x.index_select(axis, indices)``; negative indices count from the end.

    ``drop`` takes the axis away: there is one index.
    """
    own = own_axis(signal, axis)
    if own is None:
        return MIXES
    length = signal.shape[own]
    if any(not -length <= index < length for index in indices):
        return f"an index is out of range for an axis of length {length}"
    picked = _picked(build, site, signal, own, [index % length for index in indices], drop=drop)
    if drop and isinstance(picked, Signal):
        before = axis % signal.rank < signal.batch
        return replace(picked, batch=signal.batch - before)
    return picked


def _picked(
    build: Builder,
    site: Site,
    signal: Signal,
    own: int,
    indices: Sequence[int],
    *,
    drop: bool = False,
) -> Signal | str:
    """Entries along an axis of the node; the axis is dropped where there is one."""
    if not indices:
        return EMPTY
    shape, linear = signal.shape, selection(signal.shape, own, indices)
    if drop:
        linear = compose(Reshape(linear.out_shape, (*shape[:own], *shape[own + 1 :])), linear)
    return mapped(build, site, signal, linear)


def selection(shape: Shape, axis: int, indices: Sequence[int]) -> LinearMap:
    """``x.index_select(axis, indices)``, a slice where they are evenly spaced."""
    steps = {b - a for a, b in pairwise(indices)} or {1}
    if tuple(indices) == tuple(range(shape[axis])):
        return identity(shape)
    if len(steps) == 1 and min(steps) > 0:
        return Slice(shape, axis, indices[0], indices[-1] + 1, min(steps))
    return Gather(shape, axis, tuple(indices))


def pad(
    build: Builder,
    site: Site,
    signal: Signal,
    pads: Sequence[tuple[int, int]],
    mode: str = "zeros",
    value: float = 0.0,
) -> Signal | str:
    """More entries before and behind the axes; negative numbers of them crop.

    Args:
        build: The graph in the making.
        site: The operator.
        signal: What is padded.
        pads: (before, behind) for every axis of the source.
        mode: ``zeros``, ``reflect``, ``replicate`` or ``circular``.
        value: What is put there instead of zeros.
    """
    if pads[signal.batch] != (0, 0):
        return MIXES
    own = tuple((b, e) for axis, (b, e) in enumerate(pads) if axis != signal.batch)
    if mode == "circular" and any(min(pair) < 0 for pair in own):
        return "circular padding by a negative number of entries"
    added = tuple((max(b, 0), max(e, 0)) for b, e in own)
    linear: LinearMap = identity(signal.shape)
    if any(pair != (0, 0) for pair in added):
        linear = Pad(signal.shape, added, mode)
    offsets = []
    if value != 0 and mode == "zeros" and any(pair != (0, 0) for pair in added):
        offsets.append(_rim(build, site, signal.shape, added, value))
    for axis, (before, behind) in enumerate(own):
        shape = linear.out_shape
        start, stop = max(-before, 0), shape[axis] - max(-behind, 0)
        if stop <= start:
            return EMPTY
        if (start, stop) != (0, shape[axis]):
            crop = Slice(shape, axis, start, stop)
            linear = compose(crop, linear)
            offsets = [replace(shift, map=compose(crop, shift.map)) for shift in offsets]
    return mapped(build, site, signal, linear, offsets)


def _rim(
    build: Builder, site: Site, shape: Shape, pads: tuple[tuple[int, int], ...], value: float
) -> Offset:
    """The value around zeros; axes that are not padded are left to broadcasting."""
    inner = [n if pair != (0, 0) else 1 for n, pair in zip(shape, pads, strict=True)]
    flat = [size for pair in reversed(pads) for size in pair]
    rim = F.pad(torch.zeros(inner, dtype=torch.float64), flat, value=value)
    target = tuple(n + b + e for n, (b, e) in zip(shape, pads, strict=True))
    return Offset(identity(target), build.fresh(f"{site.name}.value", rim))


def concatenate(build: Builder, site: Site, values: Sequence[Value], axis: int) -> Signal | str:
    """Signals and constants side by side along an axis.

    A sum of terms that each end in a zero :class:`~vercomp.ir.selections.Pad`; constants go
    through the same into the bias.
    """
    first = next(value for value in values if isinstance(value, Signal))
    own = own_axis(first, axis)
    if own is None:
        return MIXES
    if any(v.batch != first.batch for v in values if isinstance(v, Signal)):
        return MIXES
    axis %= first.rank
    if any(isinstance(v, Constant) and v.value.ndim != first.rank for v in values):
        return "its operands have different numbers of axes"
    sizes = [v.shape[own] if isinstance(v, Signal) else v.value.shape[axis] for v in values]
    total, start = sum(sizes), 0
    terms, offsets = [], []
    for value, size in zip(values, sizes, strict=True):
        shape = (*first.shape[:own], size, *first.shape[own + 1 :])
        beside = (start, total - start - size)
        start += size
        if size == 0:
            continue
        pads = tuple(beside if i == own else (0, 0) for i in range(len(shape)))
        place = identity(shape) if beside == (0, 0) else Pad(shape, pads)
        if isinstance(value, Signal):
            terms.append(Term(place, build.materialise(value)))
            continue
        held = offset(build, value, Signal(first.node, shape, batch=first.batch), site.name)
        if held is None:
            return MIXES
        offsets.append(replace(held, map=compose(place, held.map)))
    if not terms:
        return EMPTY
    joint = (*first.shape[:own], total, *first.shape[own + 1 :])
    return build.affine(site, joint, terms, offsets, batch=first.batch)


def expand(build: Builder, site: Site, signal: Signal, full_shape: Shape) -> Signal | str:
    """``x.expand(full_shape)``: axes of length 1 repeated, new ones in front."""
    result = expanded(build, site, signal, full_shape)
    return MIXES if result is None else result


def repeat(build: Builder, site: Site, signal: Signal, times: Sequence[int]) -> Signal | str:
    """``x.repeat(times)``: copies side by side along every axis, new axes in front."""
    added = len(times) - signal.rank
    place = signal.batch + added
    if added < 0 or times[place] != 1:
        return MIXES
    counts = [count for axis, count in enumerate(times) if axis != place]
    if 0 in counts:
        return EMPTY
    shape = (1,) * added + signal.shape
    linear: LinearMap = Reshape(signal.shape, shape)
    if any(count != 1 for count in counts):
        pairs = list(zip(counts, shape, strict=True))
        apart = tuple(size for _, n in pairs for size in (1, n))
        copied = tuple(size for pair in pairs for size in pair)
        copies = compose(Expand(apart, copied), Reshape(signal.shape, apart))
        linear = compose(Reshape(copied, tuple(count * n for count, n in pairs)), copies)
    return mapped(build, site, signal, linear, batch=place)


def total(
    build: Builder, site: Site, signal: Signal, axes: Sequence[int], keepdim: bool, mean: bool
) -> Signal | str:
    """The sum or the mean over axes."""
    dropped = sorted({axis % signal.rank for axis in axes})
    if signal.batch in dropped:
        return MIXES
    if not dropped:
        return signal
    own = tuple(axis - (axis > signal.batch) for axis in dropped)
    linear: LinearMap = Total(signal.shape, own, mean)
    if keepdim:
        kept = tuple(1 if axis in own else n for axis, n in enumerate(signal.shape))
        return mapped(build, site, signal, compose(Reshape(linear.out_shape, kept), linear))
    batch = signal.batch - sum(axis < signal.batch for axis in dropped)
    return mapped(build, site, signal, linear, batch=batch)


def along(
    build: Builder, site: Site, signal: Signal, axis: int, matrix: Tensor, what: str
) -> Signal | str:
    """A fixed matrix along one axis: cumulative sums, interpolation.

    Args:
        build: The graph in the making.
        site: The operator.
        signal: What it acts on.
        axis: An axis of the source.
        matrix: (p, q) for q entries along the axis.
        what: Ends the name of the matrix.
    """
    own = own_axis(signal, axis)
    if own is None:
        return MIXES
    parameter = build.fresh(f"{site.name}.{what}", matrix)
    return mapped(build, site, signal, AlongAxis(signal.shape, own, parameter))


def shuffled(
    build: Builder, site: Site, signal: Signal, split: Shape, axes: Sequence[int], result: Shape
) -> Signal:
    """Reshape, permute, reshape, over the axes of the node: pixel shuffles."""
    linear = compose(Permute(split, tuple(axes)), Reshape(signal.shape, split))
    linear = compose(Reshape(linear.out_shape, result), linear)
    return mapped(build, site, signal, linear)
