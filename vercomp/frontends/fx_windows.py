"""The rules of the torch front end for what slides a window, and for normalisation."""

from __future__ import annotations

from dataclasses import replace

from vercomp.frontends import algebra, maxima, shaping, windows
from vercomp.frontends.fx_call import Call, Result, Rule, known
from vercomp.frontends.values import Constant, Signal
from vercomp.ir.convolutions import Window

KERNEL = "a convolution with a kernel that depends on the input is not linear"
STATISTICS = "it divides by statistics of its input, which is neither affine nor elementwise"
COUPLES = "batch normalisation by the statistics of the batch couples the inputs"


def _convolution(call: Call, *, transposed: bool = False) -> Result:
    signal, weight, bias = call.args["input"], call.args["weight"], call.args.get("bias")
    if not isinstance(signal, Signal) or not isinstance(weight, Constant):
        return KERNEL
    if isinstance(bias, Signal):
        return KERNEL
    size = tuple(weight.value.shape[2:])
    count = len(size)
    dilation = call.integers("dilation", count, 1)
    if call.args.get("padding") == "same":
        beyond = [d * (k - 1) for d, k in zip(dilation, size, strict=True)]
        pads = tuple((total // 2, total - total // 2) for total in beyond)
    elif call.args.get("padding") == "valid":
        pads = ((0, 0),) * count
    else:
        pads = tuple((p, p) for p in call.integers("padding", count, 0))
    window = Window(size, call.integers("stride", count, 1), pads, dilation)
    groups = int(call.args.get("groups", 1))
    if transposed or call.args.get("transposed"):
        extra = call.integers("output_padding", count, 0)
        return windows.transposed_convolution(
            call.build, call.site, signal, weight, bias, window, extra, groups
        )
    return windows.convolution(call.build, call.site, signal, weight, bias, window, groups)


def _average_pool(dimensions: int) -> Rule:
    def rule(call: Call) -> Result:
        window = _window(call, dimensions)
        padding = call.integers("padding", dimensions, 0)
        included = call.args.get("count_include_pad", True)
        counted = tuple((p, p) if included else (0, 0) for p in padding)
        divisor = call.args.get("divisor_override")
        return windows.average_pool(
            call.build,
            call.site,
            call.signal(),
            window,
            None if divisor is None else int(divisor),
            None if counted == window.pads else counted,
        )

    return rule


def _max_pool(dimensions: int) -> Rule:
    def rule(call: Call) -> Result:
        return maxima.pool(call.build, call.site, call.signal(), _window(call, dimensions))

    return rule


def _window(call: Call, dimensions: int) -> Window:
    """The window of a pooling."""
    size = call.integers("kernel_size", dimensions, 1)
    stride = call.integers("stride", dimensions, 1) if call.args.get("stride") else size
    padding = call.integers("padding", dimensions, 0)
    window = Window.of(size, stride, dilation=call.integers("dilation", dimensions, 1))
    pads = tuple((p, p) for p in padding)
    if call.args.get("ceil_mode"):
        lengths = call.signal().full(call.build.batch)[-dimensions:]
        numbers = zip(lengths, window.reach, stride, padding, strict=True)
        pads = tuple((p, _behind(n, k, s, p)) for n, k, s, p in numbers)
    return window.padded(pads)


def _behind(n: int, size: int, stride: int, padding: int) -> int:
    """Padding behind such that the last window of torch's ceil_mode fits.

    A window more than fits is taken where it starts within the input or the padding before it.
    """
    beyond = n + 2 * padding - size
    places = -(-beyond // stride) + 1
    if (places - 1) * stride >= n + padding:
        places -= 1
    return max(padding, (places - 1) * stride + size - n - padding)


def _adaptive(dimensions: int, *, largest: bool = False) -> Rule:
    def rule(call: Call) -> Result:
        sizes = call.integers("output_size", dimensions, 1)
        pool = maxima.adaptive_pool if largest else windows.adaptive_average_pool
        return pool(call.build, call.site, call.signal(), sizes)

    return rule


def _pad(call: Call) -> Result:
    """Pairs from the last axis on, as ``F.pad`` has them."""
    listed = call.args.get("pad", call.args.get("padding"))
    if not all(isinstance(number, int) for number in listed):
        return "its padding depends on the batch size"
    signal = call.signal()
    pairs = [(listed[i], listed[i + 1]) for i in range(0, len(listed), 2)]
    pads = [(0, 0)] * (signal.rank - len(pairs)) + pairs[::-1]
    mode = call.args.get("mode", "constant")
    value = call.args.get("value")
    return shaping.pad(
        call.build,
        call.site,
        signal,
        pads,
        "zeros" if mode == "constant" else mode,
        0.0 if value is None else float(value),
    )


def _pad_as(mode: str) -> Rule:
    def rule(call: Call) -> Result:
        return _pad(replace(call, args={**call.args, "mode": mode}))

    return rule


def batch_norm(call: Call) -> Result:
    """By frozen statistics; instance norm by its running ones is the same."""
    mean, variance = call.args["running_mean"], call.args["running_var"]
    weight, bias = call.args["weight"], call.args["bias"]
    if call.args.get("training"):
        return COUPLES
    if call.args.get("use_input_stats"):
        return STATISTICS
    if not all(isinstance(v, Constant | None) for v in (mean, variance, weight, bias)):
        return "its statistics are not constant"
    if mean is None or variance is None:
        return "batch normalisation without frozen statistics couples the inputs"
    result = algebra.batch_norm(
        call.build,
        call.site,
        call.signal("input"),
        weight,
        bias,
        mean,
        variance,
        float(call.args["eps"]),
    )
    return known(result, "only batch normalisation of (batch, channels, …) is supported")


#: Rules by the operator's name, as in :mod:`vercomp.frontends.fx_operators`.
RULES: dict[str, Rule] = {
    "convolution": _convolution,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "_pad_circular": _pad_as("circular"),
    "batch_norm": batch_norm,
    "_native_batch_norm_legit_no_training": batch_norm,
    "instance_norm": batch_norm,
}

#: Rules for the first of two results, the other one being the places of the maxima.
MAXIMA: dict[str, Rule] = {}

for _d in (1, 2, 3):
    RULES[f"max_pool{_d}d"] = MAXIMA[f"max_pool{_d}d_with_indices"] = _max_pool(_d)
    MAXIMA[f"adaptive_max_pool{_d}d"] = _adaptive(_d, largest=True)
    RULES[f"conv{_d}d"] = _convolution
    RULES[f"conv_transpose{_d}d"] = lambda call: _convolution(call, transposed=True)
    RULES[f"avg_pool{_d}d"] = _average_pool(_d)
    RULES[f"adaptive_avg_pool{_d}d"] = RULES[f"_adaptive_avg_pool{_d}d"] = _adaptive(_d)
    RULES[f"reflection_pad{_d}d"] = _pad_as("reflect")
    RULES[f"replication_pad{_d}d"] = _pad_as("replicate")
