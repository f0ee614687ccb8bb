"""One list of all linear maps, each beside what torch computes: what property tests run over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vercomp.ir.axis_maps import AlongAxis, Total
from vercomp.ir.convolutions import AveragePool, Convolution, TransposedConvolution, Window
from vercomp.ir.linear_maps import (
    Dense,
    LinearMap,
    Parameter,
    Permute,
    Reshape,
    Scale,
    Shape,
    Sum,
    compose,
    identity,
)
from vercomp.ir.normalisation import DivideByDeviation
from vercomp.ir.selections import Expand, Gather, Pad, Slice


@dataclass(frozen=True)
class MapCase:
    """A linear map and the torch function that it stands for, on batches (B, *in_shape)."""

    map: LinearMap
    torch: Callable[[Tensor], Tensor]


def parameter(name: str, *shape: int) -> Parameter:
    """A random float64 parameter; the same one for the same name and shape."""
    generator = torch.Generator().manual_seed(sum(map(ord, name)) + sum(shape))
    return Parameter(name, torch.randn(shape, generator=generator, dtype=torch.float64))


def _convolution(
    name: str,
    source: Shape,
    kernel: Shape,
    *,
    stride: int | Shape = 1,
    pads: tuple[tuple[int, int], ...] | None = None,
    dilation: int | Shape = 1,
    groups: int = 1,
) -> MapCase:
    axes = len(source) - 1
    weight = parameter(name, *kernel)
    strides = (stride,) * axes if isinstance(stride, int) else stride
    dilations = (dilation,) * axes if isinstance(dilation, int) else dilation
    around = pads or ((0, 0),) * axes
    function = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]

    def run(x: Tensor) -> Tensor:
        padded = F.pad(x, [p for pair in reversed(around) for p in pair])
        return function(padded, weight.value, None, strides, 0, dilations, groups)

    window = Window(kernel[2:], strides, around, dilations)
    return MapCase(Convolution(source, weight, window, groups), run)


def _transposed(
    name: str,
    source: Shape,
    kernel: Shape,
    *,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> MapCase:
    axes = len(source) - 1
    weight = parameter(name, *kernel)
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]

    def run(x: Tensor) -> Tensor:
        return function(x, weight.value, None, stride, padding, output_padding, groups, dilation)

    target = tuple(run(torch.zeros(1, *source, dtype=torch.float64)).shape[1:])
    window = Window(kernel[2:], (stride,) * axes, ((padding, padding),) * axes, (dilation,) * axes)
    return MapCase(TransposedConvolution(source, target, weight, window, groups), run)


def _compositions() -> dict[str, MapCase]:
    strided = _convolution("k", (3, 8, 8), (4, 3, 3, 3), stride=2, pads=((1, 1), (1, 1)))
    pool = AveragePool((4, 4, 4), Window.of((2, 2), (2, 2)))
    narrow = _convolution("n", (3, 6, 6), (3, 3, 3, 3), pads=((1, 1), (1, 1)))
    std, head = parameter("std", 3), parameter("head", 5, 16)
    scale = Scale((3, 8, 8), std, divide=True, view=(3, 1, 1))
    reflect = Pad((3, 4, 4), ((0, 0), (1, 1), (1, 1)), "reflect")
    inside = _convolution("i", (3, 6, 6), (2, 3, 3, 3))
    return {
        "mean of a convolution": MapCase(
            compose(pool, strided.map), lambda x: F.avg_pool2d(strided.torch(x), 2)
        ),
        "convolution of a normalised image": MapCase(
            compose(strided.map, scale), lambda x: strided.torch(x / std.value[:, None, None])
        ),
        "convolution after reflection": MapCase(
            compose(inside.map, reflect),
            lambda x: inside.torch(F.pad(x, (1, 1, 1, 1), mode="reflect")),
        ),
        "head of pooled features": MapCase(
            compose(Dense(head), compose(Reshape((4, 2, 2), (16,)), compose(pool, strided.map))),
            lambda x: F.avg_pool2d(strided.torch(x), 2).flatten(1) @ head.value.T,
        ),
        "two convolutions": MapCase(
            compose(narrow.map, narrow.map), lambda x: narrow.torch(narrow.torch(x))
        ),
        "residual block without activation": MapCase(
            Sum((identity((3, 6, 6)), narrow.map)), lambda x: x + narrow.torch(x)
        ),
    }


def map_cases() -> dict[str, MapCase]:
    """Every kind of linear map, with the geometries that go wrong."""
    w, v, s = parameter("w", 4, 6), parameter("v", 3, 5), parameter("s", 3)
    spread = Parameter("spread", s.value.square())
    two = ((1, 1), (1, 1))
    return {
        "dense": MapCase(Dense(w), lambda x: x @ w.value.T),
        "dense, transposed": MapCase(Dense(w, transposed=True), lambda x: x @ w.value),
        "scale": MapCase(Scale((3, 2, 2), s, view=(3, 1, 1)), lambda x: x * s.value[:, None, None]),
        "division": MapCase(Scale((2, 3), s, divide=True), lambda x: x / s.value),
        "batch norm": MapCase(
            DivideByDeviation((3, 2, 2), spread, 0.1, view=(3, 1, 1)),
            lambda x: x / (spread.value + 0.1).sqrt()[:, None, None],
        ),
        "reshape": MapCase(Reshape((2, 6), (3, 4)), lambda x: x.reshape(-1, 3, 4)),
        "permute": MapCase(Permute((2, 3, 4), (2, 0, 1)), lambda x: x.permute(0, 3, 1, 2)),
        "slice": MapCase(Slice((2, 7), 1, 1, 6, 2), lambda x: x[:, :, 1:6:2]),
        "gather": MapCase(Gather((2, 4), 1, (0, 3, 0)), lambda x: x[:, :, [0, 3, 0]]),
        "expand": MapCase(Expand((2, 1, 5), (2, 3, 5)), lambda x: x.expand(-1, 2, 3, 5)),
        "pad, zeros": MapCase(
            Pad((2, 3, 4), ((1, 0), (2, 1), (0, 3))), lambda x: F.pad(x, (0, 3, 2, 1, 1, 0))
        ),
        **{
            f"pad, {mode}": MapCase(
                Pad((2, 4, 5), ((0, 0), (2, 1), (1, 3)), mode),
                lambda x, mode=mode: F.pad(x, (1, 3, 2, 1), mode=mode),
            )
            for mode in ("reflect", "replicate", "circular")
        },
        "along an axis": MapCase(
            AlongAxis((2, 5, 4), 1, v), lambda x: torch.einsum("pq,bcqd->bcpd", v.value, x)
        ),
        "along the last axis, transposed": MapCase(
            AlongAxis((4, 3), 1, v, transposed=True), lambda x: x @ v.value
        ),
        "sum over axes": MapCase(Total((2, 3, 4), (0, 2)), lambda x: x.sum((1, 3))),
        "mean over axes": MapCase(Total((2, 3, 3), (1, 2), mean=True), lambda x: x.mean((2, 3))),
        "convolution": _convolution("a", (3, 6, 6), (4, 3, 3, 3), pads=two),
        "convolution, wide": _convolution("a", (3, 16, 16), (4, 3, 3, 3), pads=two),
        "convolution, stride 2": _convolution("b", (3, 9, 9), (4, 3, 3, 3), stride=2, pads=two),
        "convolution, stride 3 leaves a rest": _convolution("c", (2, 9, 8), (3, 2, 2, 2), stride=3),
        "convolution, uneven": _convolution(
            "d",
            (4, 7, 8),
            (6, 2, 3, 2),
            stride=(2, 1),
            pads=((1, 2), (0, 1)),
            dilation=(1, 2),
            groups=2,
        ),
        "convolution, depthwise": _convolution("e", (4, 6, 6), (4, 1, 3, 3), pads=two, groups=4),
        "convolution, 1×1": _convolution("f", (5, 4, 4), (3, 5, 1, 1)),
        "convolution, 1 axis": _convolution("g", (3, 11), (4, 3, 4), stride=2, pads=((2, 1),)),
        "convolution, 3 axes": _convolution(
            "h", (2, 4, 5, 4), (3, 2, 2, 3, 2), pads=((1, 0), (1, 1), (0, 1))
        ),
        "transposed convolution": _transposed("t", (4, 5, 6), (4, 3, 3, 3), stride=2, padding=1),
        "transposed convolution, output padding": _transposed(
            "t", (4, 5, 5), (4, 3, 3, 3), stride=2, padding=1, output_padding=1
        ),
        "transposed convolution, groups": _transposed(
            "u", (4, 5), (4, 2, 3), stride=2, dilation=2, groups=2
        ),
        "transposed convolution, 3 axes": _transposed("o", (2, 3, 3, 2), (2, 2, 2, 2, 2), stride=2),
        "average pool": MapCase(
            AveragePool((2, 7, 7), Window.of((3, 3), (2, 2), two)),
            lambda x: F.avg_pool2d(x, 3, 2, 1),
        ),
        "average pool, padding not counted": MapCase(
            AveragePool((2, 7, 7), Window.of((3, 3), (2, 2), two), counted=((0, 0), (0, 0))),
            lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        ),
        "average pool, beyond the rim": MapCase(
            AveragePool((2, 8, 8), Window.of((3, 3), (2, 2), ((1, 2), (1, 2))), counted=two),
            lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        ),
        "average pool, divisor": MapCase(
            AveragePool((2, 6), Window.of((2,), (2,)), divisor=3),
            lambda x: F.avg_pool1d(x, 2) * (2 / 3),
        ),
        **_compositions(),
    }
