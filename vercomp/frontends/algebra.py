"""Linear algebra over the values of a translation: what operators of both frameworks do.

Every function gives the signal, or None where no linear map of ours expresses the operation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import sympy

from vercomp.frontends.builder import Builder
from vercomp.frontends.values import Constant, Signal, Site, Value
from vercomp.ir.check import broadcasts
from vercomp.ir.graph import Offset, Term
from vercomp.ir.linear_maps import (
    Dense,
    LinearMap,
    Parameter,
    Permute,
    Reshape,
    Scale,
    Shape,
    compose,
    identity,
)


def add(build: Builder, site: Site, a: Value, b: Value, *, subtract: bool = False) -> Signal | None:
    """a + b or a − b; None where shapes broadcast in a way that no map expresses."""
    sign = -1 if subtract else 1
    lazy = build.apply(site, lambda x, y: x + sign * y, a, b)
    if lazy is not None:
        return lazy
    if isinstance(a, Signal) and isinstance(b, Signal):
        if (a.shape, a.batch) != (b.shape, b.batch):
            return None
        plus = _term(build, a, site)
        minus = _term(build, b, site, negative=subtract)
        return build.affine(site, a.shape, (plus, minus), batch=a.batch)
    signal, constant = (a, b) if isinstance(a, Signal) else (b, a)
    if not isinstance(signal, Signal) or not isinstance(constant, Constant):
        return None
    negate_constant = subtract and isinstance(b, Constant)
    negate_signal = subtract and isinstance(a, Constant)
    shift = offset(build, constant, signal, f"{site.name}.bias", negate=negate_constant)
    if shift is None:
        return None
    term = _term(build, signal, site, negative=negate_signal)
    return build.affine(site, signal.shape, (term,), (shift,), batch=signal.batch)


def _term(build: Builder, signal: Signal, site: Site, *, negative: bool = False) -> Term:
    """A summand; the sign of a difference goes into the map rather than into a node."""
    sign = sympy.Integer(-1 if negative else 1)
    return Term(build.times(sign, signal.shape, site.name), build.materialise(signal))


def multiply(
    build: Builder, site: Site, a: Value, b: Value, *, divide: bool = False
) -> Signal | None:
    """a ⊙ b or a ⊘ b; None for a product of two signals or shapes that no map expresses."""
    lazy = build.apply(site, lambda x, y: x / y if divide else x * y, a, b)
    if lazy is not None:
        return lazy
    if divide and isinstance(a, Constant) and isinstance(b, Signal):
        reciprocal = build.apply(site, lambda x: 1 / x, b)
        return None if reciprocal is None else multiply(build, site, reciprocal, a)
    signal, constant = (a, b) if isinstance(a, Signal) else (b, a)
    if not isinstance(signal, Signal) or not isinstance(constant, Constant):
        return None
    factor = _factor(build, constant, signal, f"{site.name}.factor")
    if factor is None:
        return None
    term = Term(Scale(signal.shape, factor, divide), build.materialise(signal))
    return build.affine(site, signal.shape, (term,), batch=signal.batch)


def offset(
    build: Builder, constant: Constant, signal: Signal, hint: str, *, negate: bool = False
) -> Offset | None:
    """A constant that is added to a signal, as a summand of a bias."""
    seen = _without_batch(build, constant, signal)
    if seen is None:
        return None
    vector = build.parameter(seen, hint, weight=not negate)
    if _same_broadcast(vector.shape, seen, signal):
        return Offset(identity(signal.shape), vector, negate)
    if not seen.transposed and tuple(seen.value.shape) == signal.shape:
        return Offset(Reshape(vector.shape, signal.shape), vector, negate)
    vector = build.fresh(f"{vector.name}.view", seen.value, seen.sources)
    return Offset(identity(signal.shape), vector, negate)


def _factor(build: Builder, constant: Constant, signal: Signal, hint: str) -> Parameter | None:
    """A constant by which a signal is multiplied."""
    seen = _without_batch(build, constant, signal)
    if seen is None:
        return None
    factor = build.parameter(seen, hint, weight=False)
    if _same_broadcast(factor.shape, seen, signal):
        return factor
    return build.fresh(f"{factor.name}.view", seen.value, seen.sources)


def _without_batch(build: Builder, constant: Constant, signal: Signal) -> Constant | None:
    """The constant without its batch axis, if it then broadcasts to the signal's shape."""
    value = constant.value
    missing = signal.rank - value.ndim
    axis = signal.batch - missing
    if missing < 0:
        return None
    if axis >= 0:
        rows = value.movedim(axis, 0)
        if rows.shape[0] != 1 and not bool((rows == rows[:1]).all()):
            return None
        shape = tuple(rows.shape[1:])
        if rows.shape[0] == 1:
            constant = constant.reshaped(shape)
        else:
            constant = Constant(rows[0].clone(), sources=constant.sources)
    return constant if broadcasts(tuple(constant.value.shape), signal.shape) else None


def dense(
    build: Builder,
    site: Site,
    signal: Signal,
    weight: Constant,
    bias: Constant | None = None,
    *,
    out_full: Shape | None = None,
) -> Signal | None:
    """x W + b for W of shape (n, m) as seen here, over the last axis of x.

    Every other axis of x but the batch must have size 1. ``out_full`` is the shape of the
    result where it is not that of a matrix product.
    """
    if math.prod(signal.shape) != weight.value.shape[0]:
        return None
    out_features = weight.value.shape[1]
    linear = _dense_map(build, weight, f"{site.name}.weight")
    if out_full is None:
        shape = (*signal.shape[:-1], out_features)
    else:
        shape = (*out_full[: signal.batch], *out_full[signal.batch + 1 :])
    inner = Reshape(signal.shape, linear.in_shape)
    outer = Reshape(linear.out_shape, shape)
    term = Term(compose(outer, compose(linear, inner)), build.materialise(signal))
    result = Signal(signal.node, shape, batch=signal.batch)
    offsets = []
    if bias is not None:
        shift = offset(build, bias, result, f"{site.name}.bias")
        if shift is None:
            return None
        offsets.append(shift)
    named = _layer_name(build, weight)
    site = replace(site, name=named) if named else site
    return build.affine(site, shape, (term,), offsets, batch=signal.batch)


def _dense_map(build: Builder, weight: Constant, hint: str) -> Dense:
    """The map of x ↦ x W, over the source's own tensor where it is one."""
    parameter = build.parameter(weight, hint)
    rows, columns = tuple(weight.value.shape)
    if weight.name is None:
        return Dense(parameter, transposed=True)
    view = (columns, rows) if weight.transposed else (rows, columns)
    return Dense(
        parameter,
        transposed=not weight.transposed,
        view=None if parameter.shape == view else view,
    )


def _layer_name(build: Builder, weight: Constant) -> str | None:
    """``fc1`` for the weight ``fc1.weight``."""
    if weight.name is None:
        return None
    module, _, last = weight.name.rpartition(".")
    return (module or None) if last == "weight" else None


def reshape(build: Builder, site: Site, signal: Signal, full_shape: Shape) -> Signal | None:
    """Another shape, row-major; None where the batch is mixed with another axis."""
    before = math.prod(signal.shape[: signal.batch])
    after = math.prod(signal.shape[signal.batch :])
    for axis, size in enumerate(full_shape):
        rest = math.prod(full_shape[axis + 1 :])
        if size == build.batch and math.prod(full_shape[:axis]) == before and rest == after:
            shape = (*full_shape[:axis], *full_shape[axis + 1 :])
            if shape == signal.shape:
                return replace(signal, batch=axis)
            term = Term(Reshape(signal.shape, shape), build.materialise(signal))
            return build.affine(site, shape, (term,), batch=axis)
    return None


def permute(build: Builder, site: Site, signal: Signal, axes: Sequence[int]) -> Signal:
    """``x.permute(axes)``, over all axes of the source, the batch included."""
    axes = [axis % signal.rank for axis in axes]
    batch = axes.index(signal.batch)
    kept = tuple(axis - (axis > signal.batch) for axis in axes if axis != signal.batch)
    if kept == tuple(range(len(kept))):
        return replace(signal, batch=batch)
    linear = Permute(signal.shape, kept)
    term = Term(linear, build.materialise(signal))
    return build.affine(site, linear.out_shape, (term,), batch=batch)


def batch_norm(
    build: Builder,
    site: Site,
    signal: Signal,
    weight: Constant | None,
    bias: Constant | None,
    mean: Constant,
    variance: Constant,
    eps: float,
) -> Signal | None:
    """(z − mean)/√(variance + eps) · weight + bias with frozen statistics, on (batch, n).

    √(variance + eps) is one derived constant, in float64.
    """
    if signal.batch != 0 or len(signal.shape) != 1:
        return None
    deviation = (variance.value.double() + eps).sqrt()
    divisor = build.fresh(f"{site.name}.std", deviation, variance.sources)
    linear: LinearMap = Scale(signal.shape, divisor, divide=True)
    if weight is not None:
        scale = Scale(signal.shape, build.parameter(weight, f"{site.name}.weight"))
        linear = compose(scale, linear)
    center = build.parameter(mean, f"{site.name}.mean", weight=False)
    offsets = [Offset(linear, center, negate=True)]
    if bias is not None:
        shift = build.parameter(bias, f"{site.name}.bias")
        offsets.append(Offset(identity(signal.shape), shift))
    term = Term(linear, build.materialise(signal))
    return build.affine(site, signal.shape, (term,), offsets)


def matmul(build: Builder, site: Site, a: Value, b: Value) -> Signal | None:
    """a b for one signal and one constant matrix (or vector), on either side."""
    if isinstance(a, Signal) and isinstance(b, Constant):
        full = a.full(build.batch)
        if a.batch == a.rank - 1 or b.value.ndim not in (1, 2):
            return None
        if b.value.ndim == 1:
            return dense(build, site, a, b.reshaped((-1, 1)), out_full=full[:-1])
        return dense(build, site, a, b, out_full=(*full[:-1], b.value.shape[1]))
    if isinstance(a, Constant) and isinstance(b, Signal) and a.value.ndim == 2 and b.rank > 1:
        full = b.full(build.batch)
        out = (*full[:-2], a.value.shape[0], full[-1])
        return None if b.batch == b.rank - 2 else dense(build, site, b, a.swapped(), out_full=out)
    return None


def convolution(
    build: Builder, site: Site, signal: Signal, weight: Constant, bias: Constant | None
) -> Signal | None:
    """A convolution whose kernel covers its whole unpadded input: a dense layer."""
    if signal.batch != 0 or tuple(weight.value.shape[1:]) != signal.shape:
        return None
    outputs, ones = weight.value.shape[0], (1,) * (len(signal.shape) - 1)
    matrix = weight.reshaped((outputs, -1)).swapped()
    shift = None if bias is None else bias.reshaped((outputs, *ones))
    out = (build.batch, outputs, *ones)
    return dense(build, site, signal, matrix, shift, out_full=out)


def _same_broadcast(stored: Shape, seen: Constant, signal: Signal) -> bool:
    """Whether a stored tensor broadcasts to the signal just as its view here does."""

    def stripped(shape: Shape) -> Shape:
        start = next((i for i, size in enumerate(shape) if size != 1), len(shape))
        return shape[start:]

    same = not seen.transposed and stripped(stored) == stripped(tuple(seen.value.shape))
    return same and broadcasts(stored, signal.shape)
