"""Linear maps that slide a window: convolution, its transpose, average pooling."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vercomp.core.maps.convolution import Convolution as ConvolutionOperator
from vercomp.core.maps.convolution import Pads
from vercomp.core.maps.sums import Transposed
from vercomp.ir.expressions import Call, Reading, call
from vercomp.ir.linear_maps import LinearMap, Parameter, Shape
from vercomp.ir.selections import Pad


@dataclass(frozen=True)
class Window:
    """How a kernel slides along the spatial axes.

    Args:
        size: Entries of the kernel, for each axis.
        stride: Steps between two places.
        pads: Zeros (before, behind).
        dilation: Steps between two entries of the kernel.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    pads: Pads
    dilation: tuple[int, ...]

    @staticmethod
    def of(
        size: Shape,
        stride: Shape | None = None,
        pads: Pads | None = None,
        dilation: Shape | None = None,
    ) -> Window:
        """A window with what torch takes where nothing is said: no padding, steps of one."""
        ones = (1,) * len(size)
        return Window(size, stride or ones, pads or ((0, 0),) * len(size), dilation or ones)

    @property
    def reach(self) -> tuple[int, ...]:
        """Entries from the first to the last that the kernel meets."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.size, self.dilation, strict=True))

    def places(self, lengths: Shape) -> Shape:
        """Lengths of the result."""
        return tuple(
            (n + before + behind - reach) // stride + 1
            for n, (before, behind), reach, stride in zip(
                lengths, self.pads, self.reach, self.stride, strict=True
            )
        )

    def padded(self, pads: Pads) -> Window:
        """The same window with more zeros around what it slides over."""
        both = zip(self.pads, pads, strict=True)
        return replace(self, pads=tuple((a + c, b + d) for (a, b), (c, d) in both))

    def __str__(self) -> str:
        parts = ["×".join(map(str, self.size))]
        if any(s != 1 for s in self.stride):
            parts.append(f"stride {_short(self.stride)}")
        if any(pair != (0, 0) for pair in self.pads):
            parts.append(f"padding {_short(p if p[0] != p[1] else p[0] for p in self.pads)}")
        if any(d != 1 for d in self.dilation):
            parts.append(f"dilation {_short(self.dilation)}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Convolution(LinearMap):
    """``F.conv1d``, ``conv2d`` or ``conv3d`` of x (C, *n), without the bias.

    Args:
        source: Shape of x.
        weight: The kernel, shape (C_out, C / groups, *k).
        window: How it slides; its size is that of the kernel.
        groups: Groups of channels.
    """

    source: Shape
    weight: Parameter
    window: Window
    groups: int = 1

    @property
    def in_shape(self) -> Shape:
        """(C, *n)."""
        return self.source

    @property
    def out_shape(self) -> Shape:
        """(C_out, *m)."""
        return (self.weight.shape[0], *self.window.places(self.source[1:]))

    def operator(self) -> Call:
        """A convolution."""
        return _sliding(self.weight, self.source, self.window, self.groups)

    def parameters(self) -> tuple[Parameter, ...]:
        """The kernel."""
        return (self.weight,)

    def after(self, inner: LinearMap) -> LinearMap | None:
        """Zeros put around the image before are padding."""
        pads = _zeros_around(inner)
        if pads is None:
            return None
        return replace(self, source=inner.in_shape, window=self.window.padded(pads))

    def __str__(self) -> str:
        groups = f", groups {self.groups}" if self.groups > 1 else ""
        return f"conv[{self.weight.name}; {self.window}{groups}]"


@dataclass(frozen=True)
class TransposedConvolution(LinearMap):
    """``F.conv_transpose1d``, ``2d`` or ``3d`` of x (C, *n), without the bias.

    The adjoint of the convolution with the same kernel from ``target`` to the shape of x.

    Args:
        source: Shape of x.
        target: Shape of the result (C_out, *m): of what output padding allows, the one meant.
        weight: The kernel, shape (C, C_out / groups, *k).
        window: That of the convolution.
        groups: Groups of channels.
    """

    source: Shape
    target: Shape
    weight: Parameter
    window: Window
    groups: int = 1

    @property
    def in_shape(self) -> Shape:
        """(C, *n)."""
        return self.source

    @property
    def out_shape(self) -> Shape:
        """(C_out, *m)."""
        return self.target

    @property
    def output_padding(self) -> Shape:
        """What torch calls the rows and columns that the convolution does not reach."""
        return tuple(
            m + before + behind - reach - stride * (n - 1)
            for m, n, (before, behind), reach, stride in zip(
                self.target[1:],
                self.source[1:],
                self.window.pads,
                self.window.reach,
                self.window.stride,
                strict=True,
            )
        )

    def operator(self) -> Call:
        """The adjoint of a convolution."""
        return call(Transposed, _sliding(self.weight, self.target, self.window, self.groups))

    def parameters(self) -> tuple[Parameter, ...]:
        """The kernel."""
        return (self.weight,)

    def __str__(self) -> str:
        groups = f", groups {self.groups}" if self.groups > 1 else ""
        return f"convᵀ[{self.weight.name}; {self.window}{groups}]"


@dataclass(frozen=True)
class AveragePool(LinearMap):
    """The mean of every window of every channel of x (C, *n).

    Args:
        source: Shape of x.
        window: Its size is that of the windows; dilation 1.
        divisor: What sums are divided by; None is the size of the window.
        counted: Per axis, the zeros (before, behind) that count as entries where ``divisor`` is
            None; None where all of ``window.pads`` count. Where not all count, a window at the rim
            is divided by the number of the entries that do.
    """

    source: Shape
    window: Window
    divisor: int | None = None
    counted: Pads | None = None

    @property
    def in_shape(self) -> Shape:
        """(C, *n)."""
        return self.source

    @property
    def out_shape(self) -> Shape:
        """(C, *m)."""
        return (self.source[0], *self.window.places(self.source[1:]))

    @property
    def is_plain(self) -> bool:
        """Whether every window is divided by the same number."""
        return self.divisor is not None or self.counted is None or self.counted == self.window.pads

    def operator(self) -> Call:
        """A convolution of every channel by itself, divided by counts where those differ."""
        window = self.window
        counted = None if self.is_plain else _short_pads(self.counted or window.pads) or 0
        return call(
            ConvolutionOperator.averaging,
            self.source,
            _each(window.size),
            stride=None if window.stride == window.size else _each(window.stride),
            padding=_short_pads(window.pads),
            divisor=self.divisor,
            counted=counted,
        )

    def after(self, inner: LinearMap) -> LinearMap | None:
        """Zeros put around the image before are padding, and they count."""
        pads = _zeros_around(inner)
        if pads is None or not self.is_plain:
            return None
        return replace(self, source=inner.in_shape, window=self.window.padded(pads), counted=None)

    def __str__(self) -> str:
        return f"mean({self.window})"


def _zeros_around(inner: LinearMap) -> Pads | None:
    """The zeros that a map puts around an image, and nothing else."""
    if not isinstance(inner, Pad) or inner.mode != "zeros" or inner.pads[0] != (0, 0):
        return None
    return inner.pads[1:]


def _short(values: object) -> str:
    """One number where all are equal."""
    listed = list(values)  # type: ignore[call-overload]
    if len(set(listed)) == 1:
        return str(listed[0])
    return "×".join(str(value) for value in listed)


def _sliding(kernel: Parameter, of: Shape, window: Window, groups: int) -> Call:
    """The convolution of a tensor, without what is torch's default."""
    ones = (1,) * len(window.size)
    return call(
        ConvolutionOperator.sliding,
        Reading(kernel),
        of,
        stride=None if window.stride == ones else _each(window.stride),
        padding=_short_pads(window.pads),
        dilation=None if window.dilation == ones else _each(window.dilation),
        groups=None if groups == 1 else groups,
    )


def _each(values: Shape) -> int | Shape:
    """One number where all are equal."""
    return values[0] if len(set(values)) == 1 else values


def _short_pads(pads: Pads) -> int | tuple[int | tuple[int, int], ...] | None:
    """Zeros for each axis, one number where all are alike; None where there are none."""
    short = tuple(before if before == behind else (before, behind) for before, behind in pads)
    if len(set(short)) == 1 and isinstance(short[0], int):
        return short[0] or None
    return short
