"""Linear algebra over the values of a translation: what operators of both frameworks do.

Every function gives the signal, or None where no linear map of ours expresses the operation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import sympy

from vercomp.errors import WeightError
from vercomp.frontends import elementwise
from vercomp.frontends.broadcasting import (
    channel_offset,
    expanded,
    expansion,
    factor,
    joint_shape,
    mapped,
    offset,
    own_axis,
)
from vercomp.frontends.builder import Builder
from vercomp.frontends.values import Constant, Signal, Site, Value
from vercomp.ir.axis_maps import AlongAxis
from vercomp.ir.graph import Term
from vercomp.ir.linear_maps import Dense, LinearMap, Permute, Reshape, Scale, Shape, compose
from vercomp.ir.normalisation import DivideByDeviation


def add(build: Builder, site: Site, a: Value, b: Value, *, subtract: bool = False) -> Signal | None:
    """a + b or a − b; None where shapes broadcast in a way that no map expresses."""
    sign = -1 if subtract else 1
    lazy = build.apply(site, lambda x, y: x + sign * y, a, b)
    if lazy is not None:
        return lazy
    full = joint_shape(build, a, b)
    if full is None:
        return None
    if isinstance(a, Signal) and isinstance(b, Signal):
        plus = _term(build, a, site, full)
        minus = _term(build, b, site, full, negative=subtract)
        if plus is None or minus is None:
            return None
        batch = a.batch + len(full) - a.rank
        return build.affine(site, plus.map.out_shape, (plus, minus), batch=batch)
    signal, constant = (a, b) if isinstance(a, Signal) else (b, a)
    if not isinstance(signal, Signal) or not isinstance(constant, Constant):
        return None
    wide = expanded(build, site, signal, full)
    if wide is None:
        return None
    signal = wide
    negate_constant = subtract and isinstance(b, Constant)
    negate_signal = subtract and isinstance(a, Constant)
    shift = offset(build, constant, signal, f"{site.name}.bias", negate=negate_constant)
    if shift is None:
        return None
    signed = _sign(build, signal.shape, site, negate_signal)
    return mapped(build, site, signal, signed, (shift,))


def _term(
    build: Builder, signal: Signal, site: Site, full: Shape, *, negative: bool = False
) -> Term | None:
    """A summand; the sign of a difference goes into the map rather than into a node."""
    widening = expansion(signal, full, build.batch)
    if widening is None:
        return None
    sign = _sign(build, widening.out_shape, site, negative)
    return Term(compose(sign, widening), build.materialise(signal))


def _sign(build: Builder, shape: Shape, site: Site, negative: bool) -> LinearMap:
    return build.times(sympy.Integer(-1 if negative else 1), shape, site.name)


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
    full = joint_shape(build, signal, constant)
    wide = None if full is None else expanded(build, site, signal, full)
    found = None if wide is None else factor(build, constant, wide, f"{site.name}.factor")
    if wide is None or found is None:
        return None
    parameter, view = found
    return mapped(build, site, wide, Scale(wide.shape, parameter, divide, view))


def leaky_relu(build: Builder, site: Site, signal: Signal, slopes: Constant) -> Signal | None:
    """x where x > 0, else a ⊙ x: one formula for one slope, a ⊙ x + (1 − a) ⊙ max(x, 0) else."""
    if slopes.value.numel() == 1:
        slope = float(slopes.value)
        return build.apply(site, lambda x: elementwise.leaky_relu(x, slope), signal)
    named = replace(site, name=f"{site.name}.relu")
    hinge = build.apply(named, lambda x: sympy.Max(x, 0), build.plain(signal))
    rest = build.derive(1.0 - slopes.value.double(), slopes)
    parts = (
        None if hinge is None else multiply(build, site, hinge, rest),
        multiply(build, site, signal, slopes),
    )
    above, all_over = parts
    return None if above is None or all_over is None else add(build, site, all_over, above)


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

    One matrix for the whole of x where it has no other entries, else the same for every place.
    ``out_full`` is the shape of the result where it is not that of a matrix product.
    """
    inputs, outputs = tuple(weight.value.shape)
    if signal.batch == signal.rank - 1 and out_full is None:
        return None
    named = layer_name(weight)
    hint = f"{site.name}.weight"
    if math.prod(signal.shape) == inputs:
        if out_full is None:
            shape = (*signal.shape[:-1], outputs)
        else:
            shape = (*out_full[: signal.batch], *out_full[signal.batch + 1 :])
        matrix = _dense_map(build, weight, hint)
        inner = Reshape(signal.shape, matrix.in_shape)
        linear = compose(Reshape(matrix.out_shape, shape), compose(matrix, inner))
    elif signal.shape[-1] == inputs:
        linear = _along(signal.shape, len(signal.shape) - 1, _dense_map(build, weight, hint))
        if out_full is not None:
            shape = (*out_full[: signal.batch], *out_full[signal.batch + 1 :])
            linear = compose(Reshape(linear.out_shape, shape), linear)
    else:
        return None
    result = Signal(signal.node, linear.out_shape, batch=signal.batch)
    offsets = []
    if bias is not None:
        shift = offset(build, bias, result, f"{site.name}.bias")
        if shift is None:
            return None
        offsets.append(shift)
    site = replace(site, name=named) if named else site
    return mapped(build, site, signal, linear, offsets)


def _along(shape: Shape, axis: int, matrix: Dense) -> AlongAxis:
    return AlongAxis(shape, axis, matrix.weight, matrix.transposed, matrix.view)


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


def layer_name(weight: Constant) -> str | None:
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
    """(z − mean)/√(variance + eps) · weight + bias with frozen statistics, on (batch, C, *n).

    Raises:
        WeightError: Some variance + eps is not positive.
    """
    if signal.batch != 0 or not signal.shape:
        return None
    shape = signal.shape
    view = (shape[0], *(1,) * (len(shape) - 1)) if len(shape) > 1 else None
    spread = build.parameter(variance, f"{site.name}.variance", weight=False)
    wrong = int((~(variance.value.double() + eps > 0.0)).sum())
    if wrong:
        raise WeightError(
            f"{wrong} of its {variance.value.numel()} variances are not positive",
            node=site.name,
            operator=site.operator,
            location=site.origin or build.location,
            remedy="Repair the running statistics",
        )
    linear: LinearMap = DivideByDeviation(shape, spread, eps, view)
    if weight is not None:
        scale = build.parameter(weight, f"{site.name}.weight")
        linear = compose(Scale(shape, scale, view=view), linear)
    hint = f"{site.name}.mean"
    offsets = [channel_offset(build, mean, shape, hint, negate=True, weight=False, through=linear)]
    if bias is not None:
        offsets.append(channel_offset(build, bias, shape, f"{site.name}.bias"))
    return mapped(build, site, signal, linear, offsets)


def matmul(build: Builder, site: Site, a: Value, b: Value) -> Signal | None:
    """a b for one signal and one constant matrix (or vector), on either side."""
    if isinstance(a, Signal) and isinstance(b, Constant):
        b = _matrix(b, a.rank)
        full = a.full(build.batch)
        if a.batch == a.rank - 1 or b.value.ndim not in (1, 2):
            return None
        if b.value.ndim == 1:
            return dense(build, site, a, b.reshaped((-1, 1)), out_full=full[:-1])
        return dense(build, site, a, b, out_full=(*full[:-1], b.value.shape[1]))
    if isinstance(a, Constant) and isinstance(b, Signal) and b.rank > 1:
        a = _matrix(a, b.rank)
        if a.value.ndim != 2 or b.batch == b.rank - 2:
            return None
        full, rows = b.full(build.batch), a.value.shape[0]
        if math.prod(b.shape) == a.value.shape[1]:
            return dense(build, site, b, a.swapped(), out_full=(*full[:-2], rows, full[-1]))
        axis = own_axis(b, b.rank - 2)
        assert axis is not None  # noqa: S101 - that is not the batch
        matrix = _dense_map(build, a.swapped(), f"{site.name}.weight")
        return mapped(build, site, b, _along(b.shape, axis, matrix))
    return None


def _matrix(constant: Constant, rank: int) -> Constant:
    """One matrix out of a stack of one."""
    shape = tuple(constant.value.shape)
    if 2 < len(shape) <= rank and math.prod(shape[:-2]) == 1:
        return constant.reshaped(shape[-2:])
    return constant


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
