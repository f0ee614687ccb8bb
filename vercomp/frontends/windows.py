"""Operators that slide a window, as linear maps: both frameworks have them.

Every function gives the signal, or a sentence that says why no linear map of ours expresses the
operation. Inputs are (batch, C, *n).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from vercomp.core.maps.convolution import Pads
from vercomp.frontends import algebra
from vercomp.frontends.broadcasting import MIXES, channel_offset, mapped
from vercomp.frontends.builder import Builder
from vercomp.frontends.values import Constant, Signal, Site
from vercomp.ir.axis_maps import AlongAxis, Total
from vercomp.ir.convolutions import AveragePool, Convolution, TransposedConvolution, Window
from vercomp.ir.linear_maps import LinearMap, Parameter, Reshape, Scale, Shape, compose
from vercomp.ir.selections import Pad

DIMENSIONS = "only convolutions in one to three dimensions are supported"


def convolution(
    build: Builder,
    site: Site,
    signal: Signal,
    weight: Constant,
    bias: Constant | None,
    window: Window,
    groups: int = 1,
) -> Signal | str:
    """A convolution with a kernel (C_out, C / groups, *k)."""
    refused = _refused(signal, weight)
    if refused is not None:
        return refused
    slides = any(pair != (0, 0) for pair in window.pads)
    if groups == 1 and not slides and tuple(weight.value.shape[1:]) == signal.shape:
        covering = algebra.convolution(build, site, signal, weight, bias)
        if covering is not None:
            return covering
    kernel = _kernel(build, weight, f"{site.name}.weight")
    return _with_bias(
        build, site, signal, weight, bias, Convolution(signal.shape, kernel, window, groups)
    )


def transposed_convolution(
    build: Builder,
    site: Site,
    signal: Signal,
    weight: Constant,
    bias: Constant | None,
    window: Window,
    output_padding: tuple[int, ...],
    groups: int = 1,
) -> Signal | str:
    """The adjoint of a convolution, with a kernel (C, C_out / groups, *k).

    Output padding adds places at the end which are cut from the padding behind, where there is
    any, and hold the bias alone where there is none.
    """
    refused = _refused(signal, weight)
    if refused is not None:
        return refused
    pads, lengths, rest = [], [], []
    for n, (before, behind), extra, reach, stride in zip(
        signal.shape[1:], window.pads, output_padding, window.reach, window.stride, strict=True
    ):
        beyond = extra if extra >= stride else 0  # more than the convolution could leave over
        cut = min(beyond, behind)
        pads.append((before, behind - cut))
        rest.append((0, beyond - cut))
        lengths.append((n - 1) * stride + reach - before - behind + cut + extra - beyond)
    kernel = _kernel(build, weight, f"{site.name}.weight")
    target = (weight.value.shape[1] * groups, *lengths)
    linear: LinearMap = TransposedConvolution(
        signal.shape, target, kernel, replace(window, pads=tuple(pads)), groups
    )
    if any(pair != (0, 0) for pair in rest):
        linear = compose(Pad(target, ((0, 0), *rest)), linear)
    return _with_bias(build, site, signal, weight, bias, linear)


def _refused(signal: Signal, weight: Constant) -> str | None:
    """What a convolution cannot be over; without a batch axis the batch would be the channels."""
    if signal.batch != 0 or weight.value.ndim != signal.rank:
        return MIXES
    return None if 3 <= signal.rank <= 5 else DIMENSIONS


def _kernel(build: Builder, weight: Constant, hint: str) -> Parameter:
    """The source's own kernel, or a copy of it as it is seen."""
    kernel = build.parameter(weight, hint)
    if kernel.shape == tuple(weight.value.shape) and not weight.transposed:
        return kernel
    return build.copy(f"{kernel.name}.view", weight)


def _with_bias(
    build: Builder,
    site: Site,
    signal: Signal,
    weight: Constant,
    bias: Constant | None,
    linear: LinearMap,
) -> Signal:
    offsets = []
    if bias is not None:
        offsets.append(channel_offset(build, bias, linear.out_shape, f"{site.name}.bias"))
    named = algebra.layer_name(weight)
    site = replace(site, name=named) if named else site
    return mapped(build, site, signal, linear, offsets)


def average_pool(
    build: Builder,
    site: Site,
    signal: Signal,
    window: Window,
    divisor: int | None = None,
    counted: Pads | None = None,
) -> Signal | str:
    """Means over windows of the last axes, see :class:`~vercomp.ir.convolutions.AveragePool`."""
    shape, dimensions = signal.shape, len(window.size)
    if signal.batch >= signal.rank - dimensions:
        return MIXES
    images = (math.prod(shape[: len(shape) - dimensions]), *shape[len(shape) - dimensions :])
    pooled = AveragePool(images, window, divisor, counted)
    linear = compose(pooled, Reshape(shape, images))
    result = (*shape[: len(shape) - dimensions], *pooled.out_shape[1:])
    return mapped(build, site, signal, compose(Reshape(pooled.out_shape, result), linear))


def adaptive_average_pool(
    build: Builder, site: Site, signal: Signal, sizes: tuple[int, ...]
) -> Signal | str:
    """Means over windows of the last axes such that ``sizes`` of them fit.

    Window i of s over n entries is [⌊i n / s⌋, ⌈(i + 1) n / s⌉). Where s divides n all are equal;
    else they overlap: sums by a matrix of zeros and ones along each axis, divided by the counts.
    """
    shape, dimensions = signal.shape, len(sizes)
    if signal.batch >= signal.rank - dimensions:
        return MIXES
    lengths = shape[len(shape) - dimensions :]
    if set(sizes) == {1}:
        mean = Total(shape, tuple(range(len(shape) - dimensions, len(shape))), mean=True)
        kept = (*mean.out_shape, *sizes)
        return mapped(build, site, signal, compose(Reshape(mean.out_shape, kept), mean))
    if all(n % size == 0 for n, size in zip(lengths, sizes, strict=True)):
        steps = tuple(n // size for n, size in zip(lengths, sizes, strict=True))
        return average_pool(build, site, signal, Window.of(steps, steps))
    return _uneven(build, site, signal, sizes, lengths)


def _uneven(
    build: Builder, site: Site, signal: Signal, sizes: Shape, lengths: Shape
) -> Signal | str:
    linear: LinearMap = Reshape(signal.shape, signal.shape)
    counts = torch.ones((), dtype=torch.float64)
    first = len(signal.shape) - len(sizes)
    for axis, (n, size) in enumerate(zip(lengths, sizes, strict=True), start=first):
        windows = torch.zeros(size, n, dtype=torch.float64)
        for i in range(size):
            windows[i, i * n // size : -(-(i + 1) * n // size)] = 1.0
        counts = counts[..., None] * windows.sum(1)
        if n != size:
            sums = build.fresh(f"{site.name}.windows", windows)
            linear = compose(AlongAxis(linear.out_shape, axis, sums), linear)
    divisor = build.fresh(f"{site.name}.counts", counts)
    linear = compose(Scale(linear.out_shape, divisor, divide=True), linear)
    return mapped(build, site, signal, linear)
