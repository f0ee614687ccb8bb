"""Spelling of maps that slide a window: convolutions, their transposes, average pooling."""

from __future__ import annotations

from vercomp.backends.torch.spelling import Read, atom, call, each, unless
from vercomp.core.maps.convolution import Pads
from vercomp.ir.convolutions import AveragePool, Convolution, TransposedConvolution


def convolution(part: Convolution, x: str, read: Read, bias: str | None = None) -> str:
    """F.conv1d, F.conv2d, F.conv3d; uneven padding by F.pad."""
    window = part.window
    even = _even(window.pads)
    return call(
        f"F.conv{len(window.size)}d",
        x if even else _padded(x, window.pads),
        read(part.weight),
        *([] if bias is None else [bias]),
        stride=unless(1, window.stride),
        padding=unless(0, [before for before, _ in window.pads]) if even else None,
        dilation=unless(1, window.dilation),
        groups=unless(1, [part.groups]),
    )


def channels(part: Convolution | TransposedConvolution) -> int | None:
    """A bias has one entry for each channel."""
    return 0


def transposed(part: TransposedConvolution, x: str, read: Read, bias: str | None = None) -> str:
    """F.conv_transpose1d, 2d or 3d; uneven padding is taken off by a negative F.pad."""
    window = part.window
    even = _even(window.pads)
    expression = call(
        f"F.conv_transpose{len(window.size)}d",
        x,
        read(part.weight),
        *([] if bias is None else [bias]),
        stride=unless(1, window.stride),
        padding=unless(0, [before for before, _ in window.pads]) if even else None,
        output_padding=unless(0, part.output_padding),
        groups=unless(1, [part.groups]),
        dilation=unless(1, window.dilation),
    )
    if even:
        return expression
    return _padded(expression, tuple((-before, -behind) for before, behind in window.pads))


def average_pool(part: AveragePool, x: str, read: Read) -> str:
    """F.avg_pool1d and its kin, which pad by themselves where they count alike."""
    window, axes = part.window, len(part.window.size)
    own = _own_padding(part)
    mean = call(
        f"F.avg_pool{axes}d",
        x if own is not None else _padded(x, window.pads),
        each(window.size),
        stride=None if window.stride == window.size else each(window.stride),
        **(own or {}),
        divisor_override=str(part.divisor) if part.divisor is not None and axes > 1 else None,
    )
    if part.divisor is not None and axes == 1:
        return f"{mean} * {window.size[0]} / {part.divisor}"
    if own is not None or part.is_plain:
        return mean
    # Divided by the share of the entries that count: the mean of ones in their place.
    counted = part.counted or window.pads
    lengths = [n + b + e for n, (b, e) in zip(part.source[1:], counted, strict=True)]
    ones = f"{atom(x)}.new_ones(1, {', '.join(map(str, lengths))})"
    pairs = zip(window.pads, counted, strict=True)
    rest = tuple((b - cb, e - ce) for (b, e), (cb, ce) in pairs)
    share = call(
        f"F.avg_pool{axes}d",
        _padded(ones, rest),
        each(window.size),
        stride=None if window.stride == window.size else each(window.stride),
    )
    return f"torch.div({mean}, {share})"


def _own_padding(part: AveragePool) -> dict[str, str | None] | None:
    """The options of torch's pooling for this padding; None where it divides by other counts."""
    window, nothing = part.window, ((0, 0),) * len(part.window.size)
    around = [before for before, _ in window.pads]
    even = tuple((before, before) for before in around)
    counted = window.pads if part.counted is None else part.counted
    if any(2 * p > k for p, k in zip(around, window.size, strict=True)):
        return None
    if part.divisor is None and counted not in (even, nothing):
        return None
    beyond = window.pads != even
    if beyond and (_ceiling(part) != part.out_shape[1:] or (part.divisor and len(around) == 1)):
        return None
    partly = part.divisor is None and counted != even
    return {
        "padding": unless(0, around),
        "ceil_mode": "True" if beyond else None,
        "count_include_pad": "False" if partly else None,
    }


def _ceiling(part: AveragePool) -> tuple[int, ...]:
    """Lengths of the result with ``ceil_mode``: windows may end beyond, but must begin inside."""
    window = part.window
    lengths = []
    for n, k, s, (p, _) in zip(
        part.source[1:], window.size, window.stride, window.pads, strict=True
    ):
        places = -(-(n + 2 * p - k) // s) + 1
        lengths.append(places - ((places - 1) * s >= n + p))
    return tuple(lengths)


def _even(pads: Pads) -> bool:
    return all(before == behind for before, behind in pads)


def _padded(x: str, pads: Pads) -> str:
    amounts = [amount for pair in reversed(pads) for amount in pair]
    return f"F.pad({x}, {tuple(amounts)!r})" if any(amounts) else x
