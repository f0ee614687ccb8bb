"""Axes of the source against axes of a node, and shapes that broadcast against one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from vercomp.frontends.builder import Builder
from vercomp.frontends.values import Constant, Signal, Site, Value
from vercomp.ir.check import broadcasts
from vercomp.ir.graph import Offset, Term
from vercomp.ir.linear_maps import LinearMap, Parameter, Reshape, Shape, compose, identity
from vercomp.ir.selections import Expand

MIXES = "it mixes the inputs of a batch"


def own_axis(signal: Signal, axis: int) -> int | None:
    """An axis of the source as one of the node, or None for the batch."""
    axis %= signal.rank
    return None if axis == signal.batch else axis - (axis > signal.batch)


def mapped(
    build: Builder,
    site: Site,
    signal: Signal,
    linear: LinearMap,
    offsets: Sequence[Offset] = (),
    *,
    batch: int | None = None,
) -> Signal:
    """A node that is a linear map of one signal, plus offsets; the signal where that is nothing.

    ``batch`` is the source's batch axis in the result, where it is another one.
    """
    place = signal.batch if batch is None else batch
    if not offsets and isinstance(linear, Reshape) and linear.source == linear.target:
        return replace(signal, batch=place)
    term = Term(linear, build.materialise(signal))
    return build.affine(site, linear.out_shape, (term,), offsets, batch=place)


def expansion(signal: Signal, full_shape: Shape, batch: int) -> LinearMap | None:
    """x ↦ ``x.expand(full_shape)``, new axes in front; None where the batch would be repeated."""
    added = len(full_shape) - signal.rank
    if added < 0 or full_shape[signal.batch + added] != batch:
        return None
    target = _without(full_shape, signal.batch + added)
    if not broadcasts(signal.shape, target):
        return None
    aligned = (1,) * added + signal.shape
    repeated = identity(target) if aligned == target else Expand(aligned, target)
    return compose(repeated, Reshape(signal.shape, aligned))


def joint_shape(build: Builder, *values: Value) -> Shape | None:
    """The source's shape of an elementwise result, or None where the batches are not one axis."""
    shapes = [
        v.full(build.batch) if isinstance(v, Signal) else tuple(v.value.shape) for v in values
    ]
    try:
        shape = tuple(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]
    except RuntimeError:
        return None
    behind = {v.rank - v.batch for v in values if isinstance(v, Signal)}
    return shape if len(behind) == 1 else None


def expanded(build: Builder, site: Site, signal: Signal, full_shape: Shape) -> Signal | None:
    """The signal under a shape to which it broadcasts; None where the batch would be repeated."""
    linear = expansion(signal, full_shape, build.batch)
    if linear is None:
        return None
    batch = signal.batch + len(full_shape) - signal.rank
    return mapped(build, site, signal, linear, batch=batch)


def offset(
    build: Builder, constant: Constant, signal: Signal, hint: str, *, negate: bool = False
) -> Offset | None:
    """A constant that is added to a signal, as a summand of a bias."""
    seen = without_batch(constant, signal)
    if seen is None:
        return None
    vector = build.parameter(seen, hint, weight=not negate)
    if _same_broadcast(vector.shape, seen, signal):
        return Offset(identity(signal.shape), vector, negate)
    if not seen.transposed:
        viewed = (1,) * (len(signal.shape) - seen.value.ndim) + tuple(seen.value.shape)
        repeated = identity(viewed) if viewed == signal.shape else Expand(viewed, signal.shape)
        return Offset(compose(repeated, Reshape(vector.shape, viewed)), vector, negate)
    vector = build.copy(f"{vector.name}.view", seen)
    return Offset(identity(signal.shape), vector, negate)


def channel_offset(
    build: Builder,
    constant: Constant,
    shape: Shape,
    hint: str,
    *,
    negate: bool = False,
    weight: bool = True,
    through: LinearMap | None = None,
) -> Offset:
    """A vector with one entry for each channel of (C, *n), added to all entries of it.

    Args:
        build: The graph in the making.
        constant: C entries, under any shape.
        shape: (C, *n).
        hint: Name of a fresh parameter.
        negate: Subtract it.
        weight: Whether it is trained, where the source does not say.
        through: A map that it goes through then.
    """
    vector = build.parameter(constant, hint, weight=weight)
    if constant.transposed:
        vector = build.copy(f"{vector.name}.view", constant)
    channels = (shape[0], *(1,) * (len(shape) - 1))
    repeated = identity(shape) if channels == shape else Expand(channels, shape)
    linear = compose(repeated, Reshape(vector.shape, channels))
    return Offset(linear if through is None else compose(through, linear), vector, negate)


def factor(
    build: Builder, constant: Constant, signal: Signal, hint: str
) -> tuple[Parameter, Shape | None] | None:
    """A constant by which a signal is multiplied, and the view under which it broadcasts."""
    seen = without_batch(constant, signal)
    if seen is None:
        return None
    found = build.parameter(seen, hint, weight=False)
    if _same_broadcast(found.shape, seen, signal):
        return found, None
    if not seen.transposed:
        return found, tuple(seen.value.shape)
    return build.copy(f"{found.name}.view", seen), None


def without_batch(constant: Constant, signal: Signal) -> Constant | None:
    """The constant without its batch axis, if it then broadcasts to the signal's shape."""
    value = constant.value
    missing = signal.rank - value.ndim
    axis = signal.batch - missing
    if missing < 0:
        return None
    if axis >= 0:
        rows = value.movedim(axis, 0)
        alike = rows.shape[0] == 1 or rows.stride(0) == 0
        if not alike and not bool((rows == rows[:1]).all()):
            return None
        shape = tuple(rows.shape[1:])
        if rows.shape[0] == 1:
            constant = constant.reshaped(shape)
        else:
            constant = constant.seen(lambda tensor: tensor.movedim(axis, 0)[0].clone())
    return constant if broadcasts(tuple(constant.value.shape), signal.shape) else None


def _same_broadcast(stored: Shape, seen: Constant, signal: Signal) -> bool:
    """Whether a stored tensor broadcasts to the signal just as its view here does."""

    def stripped(shape: Shape) -> Shape:
        start = next((i for i, size in enumerate(shape) if size != 1), len(shape))
        return shape[start:]

    same = not seen.transposed and stripped(stored) == stripped(tuple(seen.value.shape))
    return same and broadcasts(stored, signal.shape)


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])
