"""ONNX operators that slide a window, take means or normalise: affine maps of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch

from vercomp.core.maps.convolution import Pads
from vercomp.frontends import algebra, maxima, shaping, windows
from vercomp.frontends.onnx_call import MIXES, Call, RefusalError, Result, Rule, or_reason
from vercomp.frontends.onnx_shapes import apart, relabelled
from vercomp.frontends.values import Constant, Signal
from vercomp.ir.convolutions import Window

KERNEL = "its kernel is not constant"


def _window(call: Call, size: Sequence[int]) -> Window:
    """The window as the attributes say it, with explicit padding where they name it.

    SAME gives ⌈n / stride⌉ places; what cannot be shared out evenly goes behind (UPPER) or
    before (LOWER).
    """
    ones = (1,) * len(size)
    stride = tuple(call.attributes.get("strides") or ones)
    dilation = tuple(call.attributes.get("dilations") or ones)
    plain = Window.of(tuple(size), stride, dilation=dilation)
    automatic = call.attributes.get("auto_pad", "NOTSET")
    if automatic == "NOTSET":
        pads = list(call.attributes.get("pads") or (0,) * 2 * len(size))
        return plain.padded(tuple(zip(pads[: len(size)], pads[len(size) :], strict=True)))
    if automatic == "VALID":
        return plain
    lengths = call.full()[2:]
    missing = [
        max((-(-n // s) - 1) * s + reach - n, 0)
        for n, s, reach in zip(lengths, stride, plain.reach, strict=True)
    ]
    return plain.padded(_shared(missing, upper=automatic == "SAME_UPPER"))


def _shared(missing: Sequence[int], *, upper: bool) -> Pads:
    """Padding shared out on both sides, the odd one behind or before."""
    return tuple((n // 2, n - n // 2) if upper else (n - n // 2, n // 2) for n in missing)


def _weights(call: Call) -> tuple[Constant, Constant | None]:
    weight, bias = call.value(1), call.input(2)
    if not isinstance(weight, Constant) or isinstance(bias, Signal):
        raise RefusalError(KERNEL)
    if weight.value.ndim != call.signal().rank:
        raise RefusalError("its kernel does not fit its input")
    return weight, bias


def _convolution(call: Call) -> Result:
    weight, bias = _weights(call)
    window = _window(call, weight.value.shape[2:])
    groups = int(call.attributes.get("group", 1))
    return windows.convolution(call.build, call.site, call.signal(), weight, bias, window, groups)


def _transposed_convolution(call: Call) -> Result:
    """The result has stride · (n − 1) + reach + output padding − padding entries along an axis."""
    weight, bias = _weights(call)
    size = tuple(weight.value.shape[2:])
    ones, lengths = (1,) * len(size), call.full()[2:]
    stride = tuple(call.attributes.get("strides") or ones)
    dilation = tuple(call.attributes.get("dilations") or ones)
    extra = tuple(call.attributes.get("output_padding") or (0,) * len(size))
    window = Window.of(size, stride, dilation=dilation)
    automatic = call.attributes.get("auto_pad", "NOTSET")
    wanted = call.attributes.get("output_shape")
    if wanted is None and automatic.startswith("SAME"):
        wanted = [n * s for n, s in zip(lengths, stride, strict=True)]
    if wanted is not None:
        whole = [
            s * (n - 1) + reach + more
            for n, s, reach, more in zip(lengths, stride, window.reach, extra, strict=True)
        ]
        missing = [a - b for a, b in zip(whole, wanted[-len(size) :], strict=True)]
        if min(missing) < 0:
            return "its output shape is larger than what it can reach"
        window = window.padded(_shared(missing, upper=automatic == "SAME_UPPER"))
    elif automatic == "NOTSET":
        pads = list(call.attributes.get("pads") or (0,) * 2 * len(size))
        window = window.padded(tuple(zip(pads[: len(size)], pads[len(size) :], strict=True)))
    groups = int(call.attributes.get("group", 1))
    return windows.transposed_convolution(
        call.build, call.site, call.signal(), weight, bias, window, extra, groups
    )


def _average_pool(call: Call) -> Result:
    signal = call.signal()
    window = _window(call, call.attributes["kernel_shape"])
    if signal.batch != 0 or signal.rank != len(window.size) + 2:
        return MIXES
    counted = (
        window.pads if call.attributes.get("count_include_pad") else ((0, 0),) * len(window.size)
    )
    if call.attributes.get("ceil_mode"):
        window = _to_the_end(window, signal.shape[1:])
    if max(window.dilation) > 1:
        return _dilated_pool(call, signal, window, counted)
    return windows.average_pool(call.build, call.site, signal, window, counted=counted)


def _max_pool(call: Call) -> Result:
    signal = call.signal()
    window = _window(call, call.attributes["kernel_shape"])
    if signal.batch != 0 or signal.rank != len(window.size) + 2:
        return MIXES
    if call.attributes.get("ceil_mode"):
        window = _to_the_end(window, signal.shape[1:])
    return maxima.pool(call.build, call.site, signal, window)


def _global_max_pool(call: Call) -> Result:
    signal = call.signal()
    return maxima.over_axes(call.build, call.site, signal, range(2, signal.rank), keepdim=True)


def _to_the_end(window: Window, lengths: Sequence[int]) -> Window:
    """More padding behind, so that the last window that begins in the image or the padding before
    it fits."""
    more = []
    for n, (before, behind), reach, stride in zip(
        lengths, window.pads, window.reach, window.stride, strict=True
    ):
        places = -(-(n + before + behind - reach) // stride) + 1
        if (places - 1) * stride >= n + before:
            places -= 1
        more.append((0, max((places - 1) * stride + reach - (n + before + behind), 0)))
    return window.padded(tuple(more))


def _dilated_pool(call: Call, signal: Signal, window: Window, counted: Pads) -> Result:
    """Sums over dilated windows of each channel, divided by how many entries count in each."""
    channels = signal.shape[0]
    ones = Constant(torch.ones(channels, 1, *window.size, dtype=torch.float64))
    sums = windows.convolution(call.build, call.site, signal, ones, None, window, groups=channels)
    if isinstance(sums, str):
        return sums
    counts = torch.ones((), dtype=torch.float64)
    for axis, (n, places) in enumerate(zip(signal.shape[1:], sums.shape[1:], strict=True)):
        first = torch.arange(places)[:, None] * window.stride[axis] - window.pads[axis][0]
        entries = first + torch.arange(window.size[axis]) * window.dilation[axis]
        before, behind = counted[axis]
        counts = counts[..., None] * ((entries >= -before) & (entries < n + behind)).sum(1)
    pooled = algebra.multiply(call.build, call.site, sums, Constant(counts), divide=True)
    return or_reason(pooled, MIXES)


def _global_average_pool(call: Call) -> Result:
    signal = call.signal()
    axes = range(2, signal.rank)
    if signal.batch != 0:
        return MIXES
    return shaping.total(call.build, call.site, signal, axes, keepdim=True, mean=True)


def _reduction(reduce: Callable[..., Result], verb: str) -> Rule:
    """A reduction over axes: an attribute, then an input from opset 13 (18 for some) on."""

    def rule(call: Call) -> Result:
        signal = call.signal()
        axes = call.integers("axes", 1)
        if not axes:
            if call.attributes.get("noop_with_empty_axes"):
                return signal
            axes = list(range(signal.rank))
        chosen = {axis % signal.rank for axis in axes}
        keep = bool(call.attributes.get("keepdims", 1))
        if keep and call.build.batch == 1:
            chosen.discard(signal.batch)  # one entry is its own sum, mean and maximum
        signal = apart(call, signal, chosen, verb)
        return reduce(call.build, call.site, signal, sorted(chosen), keepdim=keep)

    return rule


def _batch_norm(call: Call) -> Result:
    if call.attributes.get("training_mode") or (call.opset < 14 and call.outputs > 1):
        return "batch normalisation by the statistics of the batch couples the inputs"
    constants = [call.value(index) for index in range(1, 5)]
    if not all(isinstance(value, Constant) for value in constants):
        return "its statistics are not constant"
    parts = [v for v in constants if isinstance(v, Constant)]
    signal, shape = call.signal(), call.full()
    if signal.batch != 0 or not signal.shape:
        return MIXES
    apiece = call.attributes.get("spatial", 1) == 0 and signal.rank > 2
    if apiece:  # statistics of every entry, in opsets 7 and 8
        parts = [part.reshaped((-1,)) for part in parts]
        signal = relabelled(call, signal, (shape[0], math.prod(shape[1:])), 0)
    weight, bias, mean, variance = parts
    eps = float(call.attributes.get("epsilon", 1e-5))
    result = algebra.batch_norm(call.build, call.site, signal, weight, bias, mean, variance, eps)
    if result is None:
        return "its statistics do not fit its input"
    return relabelled(call, result, shape, 0) if apiece else result


RULES: dict[str, Rule] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
    "ReduceMax": _reduction(maxima.over_axes, "compares the entries of"),
    "ReduceMean": _reduction(partial(shaping.total, mean=True), "adds up"),
    "ReduceMin": _reduction(partial(maxima.over_axes, smaller=True), "compares the entries of"),
    "ReduceSum": _reduction(partial(shaping.total, mean=False), "adds up"),
}
