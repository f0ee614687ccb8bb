"""Convolutions as operators: applied by torch, never written out as matrices.

In one to three dimensions, with the real padding (before and behind each axis), stride, dilation
and groups. Average pooling is the convolution of every channel by itself with equal weights; a
transposed convolution is the adjoint of a convolution (:class:`.sums.Transposed`).

Sums of products in float64 are computed directly: torch's kernels for float64 multiply matrices of
patches. Where cuDNN could choose a Winograd or a Fourier algorithm, whose rounding errors are not
bounded entry by entry, it is switched off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from ..arithmetic.outward import UNIT_ROUNDOFF
from .monomials import Diagonal, together
from .operators import Operator, RowSize, product_error

_CONVOLVE: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED: tuple[Callable[..., Tensor], ...] = (
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
)
_BLOCK_ENTRIES = 2**24
"""Rows are convolved in blocks whose patches have at most this many entries."""

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Convolution(Operator):
    """y[o, p] = Σ_{i, k} W[o, i, k] · x[i, stride·p + dilation·k − before], zero outside of x.

    Args:
        kernel: W, shape (C_out, C_in / groups, *k).
        of: Shape of x: (C_in, *n).
        stride: For each axis.
        pads: Zeros (before, behind) for each axis.
        dilation: For each axis.
        groups: Groups of channels.
        error: Bound of ‖A − Â‖₂.
    """

    kernel: Tensor
    of: tuple[int, ...]
    stride: tuple[int, ...]
    pads: Pads
    dilation: tuple[int, ...]
    groups: int = 1
    error: float = 0.0

    @staticmethod
    def sliding(
        kernel: Tensor,
        of: Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int | tuple[int, int]] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Convolution:
        """The convolution of a tensor of shape ``of``, with torch's defaults.

        Args:
            kernel: W, shape (C_out, C_in / groups, *k).
            of: Shape of x: (C_in, *n).
            stride: For each axis, or one number for all of them; so are the others.
            padding: Zeros on both sides of an axis, or (before, behind).
            dilation: Steps between two entries of the kernel.
            groups: Groups of channels.
        """
        axes = len(of) - 1
        pads = _pads(padding, axes)
        return Convolution(
            kernel, tuple(of), _each(stride, axes), pads, _each(dilation, axes), groups
        )

    @staticmethod
    def averaging(
        of: Sequence[int],
        size: int | Sequence[int],
        *,
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int | tuple[int, int]] = 0,
        divisor: int | None = None,
        counted: int | Sequence[int | tuple[int, int]] | None = None,
    ) -> Operator:
        """The mean of every window of every channel of a tensor of shape ``of``.

        Args:
            of: Shape of x: (C, *n).
            size: Of the windows, for each axis or one number for all of them.
            stride: The stride along each axis; None is the size.
            padding: Zeros on both sides of an axis, or (before, behind).
            divisor: What sums are divided by; None is the size of the window.
            counted: The zeros that count as entries where ``divisor`` is None, like ``padding``;
                None where all do. Elsewhere sums are divided by how many entries they are of.
        """
        axes = len(of) - 1
        window = _each(size, axes)
        strides = window if stride is None else _each(stride, axes)
        pads = _pads(padding, axes)
        counts = None if divisor is not None or counted is None else _pads(counted, axes)
        if counts is not None and counts != pads:
            total = Convolution.averaging(of, window, stride=strides, padding=pads, divisor=1)
            entries = _counts(of, window, strides, pads, counts)
            return Diagonal.scaling(entries, (of[0], *entries.shape), divide=True) @ total
        count = math.prod(window) if divisor is None else divisor
        kernel = torch.full((of[0], 1, *window), 1.0 / count, dtype=torch.float64)
        result = Convolution(kernel, tuple(of), strides, pads, (1,) * axes, of[0])
        if count & (count - 1):  # not a power of two: 1/count is rounded
            return replace(result, error=2.0 * UNIT_ROUNDOFF * result.absolute_norm)
        return result

    @property
    def dimensions(self) -> int:
        """The number of axes that the kernel slides along."""
        return len(self.of) - 1

    @cached_property
    def reach(self) -> tuple[int, ...]:
        """Entries from the first to the last that the kernel meets, for each axis."""
        sizes = self.kernel.shape[2:]
        return tuple(d * (k - 1) + 1 for k, d in zip(sizes, self.dilation, strict=True))

    @cached_property
    def to(self) -> tuple[int, ...]:
        """Shape of the result: (C_out, *m)."""
        lengths = (
            (n + before + behind - reach) // stride + 1
            for n, (before, behind), reach, stride in zip(
                self.of[1:], self.pads, self.reach, self.stride, strict=True
            )
        )
        return (self.kernel.shape[0], *lengths)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return math.prod(self.to), math.prod(self.of)

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The kernel."""
        return (self.kernel,)

    def apply(self, x: Tensor) -> Tensor:
        """A x for x of shape (..., n)."""
        return self._forward(x, self._typed(x))

    def adjoint(self, s: Tensor) -> Tensor:
        """Aᵀ s for s of shape (..., m): the transposed convolution."""
        return self._backward(s, self._typed(s))

    def abs_apply(self, x: Tensor) -> Tensor:
        """|A| x: the convolution with |W|."""
        return self._forward(x, self._typed(x).abs())

    def abs_adjoint(self, s: Tensor) -> Tensor:
        """|A|ᵀ s."""
        return self._backward(s, self._typed(s).abs())

    def row_sizes(self, size: RowSize) -> Tensor:
        """The size of every row: of the weights of its channel that do not meet the padding.

        Few sets of such weights differ, because only places at the border meet the padding.
        """
        kept, place = self._kept()
        kernel = self.kernel.flatten(2)
        sizes = [size((kernel * one.to(kernel)).flatten(1)) for one in kept]
        return torch.stack(sizes, 1)[:, place.to(kernel.device)].flatten()

    def _kept(self) -> tuple[Tensor, Tensor]:
        """The different sets of weights that meet entries of x, and which of them each place has.

        Returns:
            For each set, whether it has each weight of a window, shape (S, weights); and for each
            place the number of its set, shape (places,).
        """
        kept, place = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
        axes = zip(
            self.of[1:], self.to[1:], self.kernel.shape[2:], self.stride, self.pads, self.dilation,
            strict=True,
        )  # fmt: skip
        for n, m, k, stride, (before, _), dilation in axes:
            met = stride * torch.arange(m)[:, None] + dilation * torch.arange(k) - before
            sets, which = torch.unique((met >= 0) & (met < n), dim=0, return_inverse=True)
            kept = (kept[:, None, :, None] & sets[None, :, None, :]).flatten(2).flatten(0, 1)
            place = (place[:, None] * len(sets) + which).flatten()
        return kept, place

    @property
    def fan_in(self) -> int:
        """Weights of one output."""
        return math.prod(self.kernel.shape[1:])

    @property
    def fan_out(self) -> int:
        """Weights that read one input, at most."""
        places = (
            min(k, -(-reach // stride))
            for k, reach, stride in zip(self.kernel.shape[2:], self.reach, self.stride, strict=True)
        )
        return math.prod(places) * (self.kernel.shape[0] // self.groups)

    @cached_property
    def absolute_norm(self) -> float:
        """√(‖|A|‖_∞ ‖|A|‖_1), the largest sums of |W| over what an output and an input meet."""
        size = self.kernel.detach().abs()
        rows = float(size.flatten(1).sum(1).max())
        grouped = size.reshape(self.groups, -1, *size.shape[1:])
        columns = float(grouped.flatten(3).sum(3).sum(1).max())
        guard = 1.0 + 2.0 * (self.kernel.numel() + 8) * UNIT_ROUNDOFF
        return math.sqrt(rows) * math.sqrt(columns) * guard + 1e-300 + self.error

    @property
    def channels(self) -> tuple[int, int]:
        """(C_out, C_in)."""
        return self.kernel.shape[0], self.of[0]

    def _after(self, inner: Operator) -> Operator | None:
        """A factor for each input channel goes into the kernel."""
        if not isinstance(inner, Diagonal) or inner.of != self.of:
            return None
        factor = channel_factor(inner)
        if factor is None:
            return None
        grouped = factor.reshape(self.groups, -1).repeat_interleave(
            self.kernel.shape[0] // self.groups, 0
        )
        kernel, grouped = together(self.kernel, grouped)
        kernel = kernel * grouped.reshape(*kernel.shape[:2], *(1,) * self.dimensions)
        return replace(self, kernel=kernel, error=product_error(self, inner, 1))

    def _before(self, outer: Operator) -> Operator | None:
        """So does a factor for each output channel."""
        if not isinstance(outer, Diagonal) or outer.of != self.to:
            return None
        factor = channel_factor(outer)
        if factor is None:
            return None
        kernel, factor = together(self.kernel, factor)
        kernel = kernel * factor.reshape(-1, *(1,) * (self.dimensions + 1))
        return replace(self, kernel=kernel, error=product_error(outer, self, 1))

    def _typed(self, x: Tensor) -> Tensor:
        """The kernel in the type and on the device of x, which the weights of pooling follow."""
        return self.kernel.to(x)

    def _forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        rows = x.reshape(-1, *self.of)
        symmetric = all(before == behind for before, behind in self.pads)
        around = tuple(before for before, _ in self.pads) if symmetric else 0

        def convolve(block: Tensor) -> Tensor:
            if not symmetric:
                block = F.pad(block, [p for pair in reversed(self.pads) for p in pair])
            return _CONVOLVE[self.dimensions - 1](
                block, kernel, None, self.stride, around, self.dilation, self.groups
            )

        result = self._in_blocks(rows, convolve)
        return result.reshape(*x.shape[:-1], self.shape[0])

    def _backward(self, s: Tensor, kernel: Tensor) -> Tensor:
        rows = s.reshape(-1, *self.to)
        # Transposed with no padding the result has all of the padded input that is met; what is
        # not met is zero, and the padding is cut off.
        rest = tuple(
            (n + before + behind - reach) % stride
            for n, (before, behind), reach, stride in zip(
                self.of[1:], self.pads, self.reach, self.stride, strict=True
            )
        )
        spatial = (slice(b, b + n) for n, (b, _) in zip(self.of[1:], self.pads, strict=True))
        window = (slice(None), slice(None), *spatial)

        def transpose(block: Tensor) -> Tensor:
            # (input, weight, bias, stride, padding, output_padding, groups, dilation)
            full = _TRANSPOSED[self.dimensions - 1](
                block, kernel, None, self.stride, 0, rest, self.groups, self.dilation
            )
            return full[window]

        result = self._in_blocks(rows, transpose)
        return result.reshape(*s.shape[:-1], self.shape[1])

    def _in_blocks(self, rows: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """Torch unfolds all patches of a batch at once: a few rows at a time keep memory small."""
        patches = max(1, self.fan_in * self.groups * math.prod(self.to[1:]))
        size = max(1, _BLOCK_ENTRIES // patches)
        with _direct_sums(rows):
            if len(rows) <= size or rows.requires_grad or self.kernel.requires_grad:
                return run(rows)
            return torch.cat([run(block) for block in torch.split(rows, size)])


def _each(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """One number for each axis."""
    return (value,) * axes if isinstance(value, int) else tuple(value)


def _pads(padding: int | Sequence[int | tuple[int, int]], axes: int) -> Pads:
    """(before, behind) for each axis."""
    each = (padding,) * axes if isinstance(padding, int) else padding
    return tuple((p, p) if isinstance(p, int) else p for p in each)


def _counts(
    of: Sequence[int], size: Sequence[int], stride: Sequence[int], pads: Pads, counted: Pads
) -> Tensor:
    """How many entries count in each window, shape (*m)."""
    counts = torch.ones((), dtype=torch.float64)
    for n, (b, e), (cb, ce), k, s in zip(of[1:], pads, counted, size, stride, strict=True):
        start = torch.arange((n + b + e - k) // s + 1, dtype=torch.float64) * s - b
        inside = (start + k).clamp(max=n + ce) - start.clamp(min=-cb)
        counts = counts[..., None] * inside
    return counts


def channel_factor(diagonal: Diagonal) -> Tensor | None:
    """The factor of each channel (C,), where it does not depend on the place."""
    factor = diagonal.factor
    missing = len(diagonal.of) - factor.ndim
    if math.prod(factor.shape[max(0, 1 - missing) :]) != 1 and any(
        size != 1 for size in factor.shape[max(0, 1 - missing) :]
    ):
        return None
    leading = factor.reshape(-1)
    return leading.expand(diagonal.of[0]) if leading.numel() == 1 else leading


@contextmanager
def _direct_sums(x: Tensor) -> Iterator[None]:
    """A context in which float64 convolutions are direct sums.

    cuDNN's other algorithms can have larger errors than a direct sum.
    """
    if x.is_cuda and x.dtype == torch.float64:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    else:
        yield
