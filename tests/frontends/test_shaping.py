"""What both front ends share: maps of one signal against torch, and what they refuse."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from vercomp.activations import BUILTIN
from vercomp.frontends import algebra, shaping, windows
from vercomp.frontends.broadcasting import MIXES
from vercomp.frontends.builder import Builder
from vercomp.frontends.fx_windows import _behind
from vercomp.frontends.values import Constant, Signal, Site
from vercomp.ir.check import check
from vercomp.ir.convolutions import Window
from vercomp.ir.graph import Graph
from vercomp.ir.reference import result, stored_as

IMAGE = (4, 7, 8)
SITE = Site("op", "op")
STAND_IN = 7919


def constant(name, *shape):
    return Constant.of(name, torch.randn(*shape, dtype=torch.float64), True)


def agrees(shape, function, reference):
    """Whether a function of a builder and its input computes the same as one of tensors."""
    build = Builder(BUILTIN, shape, batch=STAND_IN, location="test")
    signal = function(build, build.input)
    assert isinstance(signal, Signal), signal
    node = build.materialise(signal)
    graph = check(Graph(tuple(build._nodes.values()), node))
    x = torch.randn(3, *shape, dtype=torch.float64)
    found = result(graph, x, stored_as(x.dtype)).movedim(0, signal.batch)
    expected = reference(x)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


KERNEL, BIAS = constant("kernel", 6, 2, 3, 2), constant("bias", 6)
MATRIX, LEFT = constant("matrix", 8, 5), constant("left", 5, 7)
WIDE = constant("wide", 3, 1, 4, 1, 1)
BESIDE = constant("beside", 1, 2, 7, 8)
WINDOW = Window((3, 2), (2, 1), ((1, 0), (2, 2)), (1, 2))

MAPS = {
    "convolution with uneven padding": (
        lambda b, s: windows.convolution(b, SITE, s, KERNEL, BIAS, WINDOW, 2),
        lambda x: F.conv2d(F.pad(x, (2, 2, 1, 0)), KERNEL.value, BIAS.value, (2, 1), 0, (1, 2), 2),
    ),
    "slice, negative step": (
        lambda b, s: shaping.slice_axis(b, SITE, s, 2, -1, None, -2),
        lambda x: x[:, :, torch.arange(6, -1, -2)],
    ),
    "slice, ends out of range": (
        lambda b, s: shaping.slice_axis(b, SITE, s, -1, -100, 100, 3),
        lambda x: x[..., ::3],
    ),
    "slice of the whole batch": (
        lambda b, s: shaping.slice_axis(b, SITE, s, 0, 0, 2**63 - 1),
        lambda x: x,
    ),
    "gather, dropping the axis": (
        lambda b, s: shaping.gather(b, SITE, s, 1, [-1], drop=True),
        lambda x: x[:, -1],
    ),
    "gather, repeating": (
        lambda b, s: shaping.gather(b, SITE, s, 1, [3, 0, 0]),
        lambda x: x[:, [3, 0, 0]],
    ),
    "pad and crop by a value": (
        lambda b, s: shaping.pad(b, SITE, s, [(0, 0), (0, 0), (1, -2), (2, 3)], value=2.5),
        lambda x: F.pad(x, (2, 3, 1, -2), value=2.5),
    ),
    "pad, reflecting": (
        lambda b, s: shaping.pad(b, SITE, s, [(0, 0), (0, 0), (1, 2), (2, 3)], "reflect"),
        lambda x: F.pad(x, (2, 3, 1, 2), mode="reflect"),
    ),
    "concatenation with a constant": (
        lambda b, s: shaping.concatenate(b, SITE, [s, BESIDE, s], 1),
        lambda x: torch.cat([x, BESIDE.value.expand(3, -1, -1, -1), x], 1),
    ),
    "expansion to new axes": (
        lambda b, s: shaping.expand(b, SITE, s, (2, STAND_IN, *IMAGE)),
        lambda x: x.expand(2, 3, *IMAGE),
    ),
    "repetition with new axes": (
        lambda b, s: shaping.repeat(b, SITE, s, (2, 1, 3, 1, 2)),
        lambda x: x.repeat(2, 1, 3, 1, 2),
    ),
    "mean": (
        lambda b, s: shaping.total(b, SITE, s, (1, -1), False, True),
        lambda x: x.mean((1, -1)),
    ),
    "sum, axes kept": (
        lambda b, s: shaping.total(b, SITE, s, (1, -1), True, False),
        lambda x: x.sum((1, -1), keepdim=True),
    ),
    "sum over no axes": (lambda b, s: shaping.total(b, SITE, s, (), False, False), lambda x: x),
    "matrix on the right": (
        lambda b, s: algebra.matmul(b, SITE, s, MATRIX),
        lambda x: x @ MATRIX.value,
    ),
    "matrix on the left": (
        lambda b, s: algebra.matmul(b, SITE, LEFT, s),
        lambda x: LEFT.value @ x,
    ),
    "minus a constant of higher rank": (
        lambda b, s: algebra.add(b, SITE, s, WIDE, subtract=True),
        lambda x: x - WIDE.value,
    ),
    "divided by a constant of higher rank": (
        lambda b, s: algebra.multiply(b, SITE, s, WIDE, divide=True),
        lambda x: x / WIDE.value,
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_shared_operation_is_that_of_torch(name):
    agrees(IMAGE, *MAPS[name])


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (1, 0)])
@pytest.mark.parametrize(
    ("extra", "stride", "dilation"),
    [((1, 0), (2, 1), (1, 1)), ((2, 2), (2, 1), (3, 3)), ((0, 1), (1, 2), (1, 2))],
)
def test_output_padding_may_exceed_the_stride(padding, extra, stride, dilation):
    kernel, pads = constant("kernel", 4, 3, 3, 2), tuple((p, p) for p in padding)
    window = Window((3, 2), stride, pads, dilation)
    agrees(
        (4, 5, 6),
        lambda b, s: windows.transposed_convolution(b, SITE, s, kernel, BIAS, window, extra, 2),
        lambda x: F.conv_transpose2d(
            x, kernel.value, BIAS.value, stride, padding, extra, 2, dilation
        ),
    )


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("n", [7, 8, 11])
def test_the_last_window_of_ceil_mode_is_that_of_torch(n, counted):
    for size, stride in itertools.product((2, 3, 4), (1, 2, 3, 5)):
        for padding in range(size // 2 + 1):
            pads = ((padding, _behind(n, size, stride, padding)),)
            rim = ((padding, padding),) if counted else ((0, 0),)
            window = Window.of((size,), (stride,), pads)
            agrees(
                (2, n),
                lambda b, s, w=window, r=rim: windows.average_pool(b, SITE, s, w, counted=r),
                lambda x, k=size, t=stride, p=padding: F.avg_pool1d(x, k, t, p, True, counted),
            )


@pytest.mark.parametrize("n", [1, 5, 6])
def test_uneven_windows_are_those_of_torch(n):
    for size in range(1, 8):
        agrees(
            (2, n, 6),
            lambda b, s, k=size: windows.adaptive_average_pool(b, SITE, s, (k, 4)),
            lambda x, k=size: F.adaptive_avg_pool2d(x, (k, 4)),
        )


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda b, s: shaping.slice_axis(b, SITE, s, 0, 1, None), MIXES),
        (lambda b, s: shaping.slice_axis(b, SITE, s, 0, 0, 3), MIXES),
        (lambda b, s: shaping.slice_axis(b, SITE, s, 1, 3, 2), "its result is empty"),
        (lambda b, s: shaping.gather(b, SITE, s, -4, [0]), MIXES),
        (
            lambda b, s: shaping.gather(b, SITE, s, 1, [4]),
            "an index is out of range for an axis of length 4",
        ),
        (lambda b, s: shaping.pad(b, SITE, s, [(1, 0), (0, 0), (0, 0), (0, 0)]), MIXES),
        (
            lambda b, s: shaping.pad(b, SITE, s, [(0, 0), (-4, 0), (0, 0), (0, 0)]),
            "its result is empty",
        ),
        (
            lambda b, s: shaping.pad(b, SITE, s, [(0, 0), (-1, 0), (0, 0), (0, 0)], "circular"),
            "circular padding by a negative number of entries",
        ),
        (lambda b, s: shaping.concatenate(b, SITE, [s, s], 0), MIXES),
        (lambda b, s: shaping.expand(b, SITE, s, (2, *IMAGE)), MIXES),
        (lambda b, s: shaping.repeat(b, SITE, s, (2, 1, 1, 1)), MIXES),
        (lambda b, s: shaping.total(b, SITE, s, (0, 1), False, True), MIXES),
        (
            lambda b, s: windows.convolution(b, SITE, s, MATRIX, None, Window.of((1,))),
            MIXES,
        ),
        (
            lambda b, s: windows.average_pool(
                b, SITE, algebra.permute(b, SITE, s, (1, 2, 3, 0)), Window.of((2,))
            ),
            MIXES,
        ),
    ],
)
def test_what_is_not_linear_over_each_input_says_why(function, reason):
    build = Builder(BUILTIN, IMAGE, batch=STAND_IN, location="test")
    assert function(build, build.input) == reason
