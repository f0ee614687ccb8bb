"""Forward passes of convolutional networks read as one would write them, biases in their places."""

from __future__ import annotations

import copy

import pytest
import torch
from graphs import (
    Draw,
    Emitted,
    activation,
    batch_norm,
    branching,
    channelwise,
    convolutional,
    emit,
)
from torch import nn

from vercomp.ir.check import check
from vercomp.ir.convolutions import Convolution, Window
from vercomp.ir.graph import Activate, Affine, Graph, Input, Offset, Term
from vercomp.ir.linear_maps import (
    Dense,
    LinearMap,
    Parameter,
    Reshape,
    Scale,
    Sum,
    compose,
    identity,
)
from vercomp.ir.printer import to_text
from vercomp.ir.selections import Pad

IMAGE, SHAPE = (2, 4, 4), (3, 4, 4)
DRAW = Draw(0)
KERNEL = Convolution(
    IMAGE, DRAW("conv.weight", 3, 2, 3, 3), Window.of((3, 3), pads=((1, 1), (1, 1)))
)
BIAS, SHIFT, FACTOR = DRAW("conv.bias", 3), DRAW("shift", 3), DRAW("factor", 3)


def network(linear: LinearMap, *offsets: Offset, skip: LinearMap | None = None) -> Emitted:
    """One affine node over the image, an activation, and a head."""
    shape = linear.out_shape
    size = int(torch.tensor(shape).prod())
    head = compose(Dense(Draw(1)("head.weight", 2, size)), Reshape(shape, (size,)))
    terms = [Term(linear, "image"), *([] if skip is None else [Term(skip, "act")])]
    nodes = (
        Input("image", IMAGE),
        Activate("act", IMAGE, "image", activation("tanh")),
        Affine("layer", shape, tuple(terms), offsets),
        Activate("squashed", shape, "layer", activation("tanh")),
        Affine("head", (2,), (Term(head, "squashed"),)),
    )
    made = emit(check(Graph(nodes if skip is not None else nodes[:1] + nodes[2:], "head")))
    x = torch.randn(3, *IMAGE, dtype=torch.float64)
    double = copy.deepcopy(made.network).double()
    torch.testing.assert_close(double(x), made.reference(x))
    c = torch.eye(2, dtype=torch.float64)[0]
    value = made.network.linearize(x.flatten(1), c).value
    torch.testing.assert_close(value, made.reference(x)[:, 0])
    return made


def layer(made: Emitted) -> list[str]:
    """The statements that make up the node called layer."""
    body = made.source.split('"""The outputs."""\n')[1].split("squashed =")[0]
    return [line.strip() for line in body.splitlines() if line.strip() and "act =" not in line]


def on_channels(vector: Parameter, through: LinearMap | None = None, *, minus: bool = False):
    return Offset(channelwise(vector, SHAPE, through), vector, minus)


CONV = "F.conv2d(x, self.conv_weight, self.conv_bias, padding=1)"
TIMES = Scale(SHAPE, FACTOR, view=(3, 1, 1))


def test_a_bias_of_channels_is_an_argument() -> None:
    assert layer(network(KERNEL, on_channels(BIAS))) == [f"layer = {CONV}"]
    flat = compose(Reshape(SHAPE, (48,)), KERNEL)
    flattened = compose(Reshape(SHAPE, (48,)), channelwise(BIAS, SHAPE))
    assert layer(network(flat, Offset(flattened, BIAS))) == [f"layer = {CONV}.flatten(1)"]


def test_what_is_no_bias_of_the_layer_is_added() -> None:
    assert layer(network(KERNEL, on_channels(BIAS), on_channels(SHIFT, minus=True))) == [
        f"layer = {CONV} - self.shift[:, None, None]"
    ]
    row = DRAW("row", 4)
    assert layer(network(KERNEL, Offset(identity(SHAPE), row))) == [
        "layer = F.conv2d(x, self.conv_weight, padding=1) + self.row"
    ]


def test_offsets_before_a_factor() -> None:
    made = network(
        compose(TIMES, KERNEL), on_channels(BIAS, TIMES), on_channels(SHIFT, TIMES, minus=True)
    )
    assert layer(made) == [
        f"layer = {CONV}",
        "layer = (layer - self.shift[:, None, None]) * self.factor[:, None, None]",
    ]
    assert "    M = Diagonal.scaling(net.factor[:, None, None], (3, 4, 4))\n" in made.source
    offset = "rounding.offset(net.shift[:, None, None].expand(3, 4, 4), M, negate=True)"
    assert f"    layer_1 = {offset}\n" in made.source


def test_a_batch_norm_is_one_function() -> None:
    norm, offsets = batch_norm(DRAW, "norm", SHAPE, 0.1)
    assert layer(network(compose(norm, KERNEL), *offsets)) == [
        "layer = F.conv2d(x, self.conv_weight, padding=1)",
        "layer = F.batch_norm(",
        "layer,",
        "self.norm_running_mean,",
        "self.norm_running_var,",
        "self.norm_weight,",
        "self.norm_bias,",
        "eps=0.1,",
        ")",
    ]
    parts = norm.maps  # type: ignore[attr-defined]
    center = Offset(channelwise(offsets[0].vector, SHAPE, parts[0]), offsets[0].vector, True)
    assert layer(network(compose(parts[0], KERNEL), center))[1:] == [
        "layer = F.batch_norm(layer, self.norm_running_mean, self.norm_running_var, eps=0.1)"
    ]
    # Without its mean, or with something else in its place, it is spelled out.
    root = "(self.norm_running_var[:, None, None] + 0.1).sqrt()"
    assert layer(network(compose(parts[0], KERNEL))) == [
        "layer = F.conv2d(x, self.conv_weight, padding=1)",
        f"layer = layer / {root}",
    ]
    other = on_channels(SHIFT, parts[0], minus=True)
    assert layer(network(compose(parts[0], KERNEL), center, other))[-1] == f"layer = layer / {root}"


def test_a_mean_before_a_padded_convolution() -> None:
    mean = Parameter("mean", torch.tensor([0.1, 0.2]).reshape(2, 1, 1), False)
    std = Parameter("std", torch.tensor([0.5, 2.0], dtype=torch.float64).reshape(2, 1, 1), False)
    first = compose(KERNEL, Scale(IMAGE, std, divide=True))
    made = network(first, Offset(first, mean, True), on_channels(BIAS))
    # A constant in the network's own type needs no conversion; this one is in float64.
    assert layer(made) == [
        "layer = (x - self.mean) / self.std.to(x)",
        f"layer = {CONV.replace('x,', 'layer,')}",
    ]
    offset = "rounding.offset(net.mean.expand(2, 4, 4), A.layer, negate=True)"
    assert f"    layer_0 = {offset}\n" in made.source


@pytest.mark.parametrize(
    ("leading", "read"),
    [((), "mean"), ((1,), "mean[0]"), ((1, 1), "mean.reshape(2, 1, 1)")],
)
def test_constants_that_are_stored_with_an_axis_for_the_batch(
    leading: tuple[int, ...], read: str
) -> None:
    mean = Parameter("mean", torch.tensor([0.1, 0.2]).reshape(*leading, 2, 1, 1), False)
    spread = channelwise(mean, IMAGE, KERNEL)
    made = network(KERNEL, Offset(spread, mean, True), on_channels(BIAS))
    assert f"rounding.offset(net.{read}.expand(2, 4, 4), A.layer, negate=True)\n" in made.source
    std = Parameter("std", torch.tensor([0.5, 2.0]).reshape(*leading, 2, 1, 1), False)
    view = (2, 1, 1) if leading else None
    made = network(Scale(IMAGE, std, divide=True, view=view))
    operator = f"Diagonal.scaling(net.{read.replace('mean', 'std')}, (2, 4, 4), divide=True)"
    assert operator in made.source


def test_skips_and_sums() -> None:
    small = Convolution(IMAGE, DRAW("small.weight", 3, 2, 1, 1), Window.of((1, 1)))
    both = Sum((KERNEL, small))
    assert layer(network(both, on_channels(BIAS))) == [
        f"layer_0 = {CONV}",
        "layer_1 = F.conv2d(x, self.small_weight)",
        "layer = layer_0 + layer_1",
    ]
    assert layer(network(KERNEL, skip=small)) == [
        "layer = F.conv2d(x, self.conv_weight, padding=1) + F.conv2d(act, self.small_weight)"
    ]


def test_an_offset_that_went_through_one_path_of_a_sum_only() -> None:
    vector = DRAW("means", 2)
    small = Convolution(IMAGE, DRAW("small.weight", 3, 2, 1, 1), Window.of((1, 1)))
    total = Sum((KERNEL, small))
    assert layer(network(total, Offset(compose(KERNEL, channelwise(vector, IMAGE)), vector))) == [
        "layer_0 = F.conv2d(x + self.means[:, None, None], self.conv_weight, padding=1)",
        "layer_1 = F.conv2d(x, self.small_weight)",
        "layer = layer_0 + layer_1",
    ]


def test_an_offset_that_goes_through_other_maps_is_moved_by_itself() -> None:
    vector = DRAW("means", 2)
    other = Convolution(IMAGE, DRAW("other.weight", 3, 2, 1, 1), Window.of((1, 1)))
    assert layer(network(KERNEL, Offset(compose(other, channelwise(vector, IMAGE)), vector))) == [
        "layer = F.conv2d(x, self.conv_weight, padding=1)",
        "layer = layer + F.conv2d(self.means[:, None, None].expand(1, 2, 4, 4), self.other_weight)",
    ]


def test_concatenations() -> None:
    source = emit(branching()).source
    assert "cat = torch.cat([cat_0, cat_1, a1, cat_3], 1) - self.shift[:, None, None]\n" in source
    assert "cat_0 = F.conv2d(a1, self.one_weight, self.one_bias)\n" in source
    assert "cat_2 = rounding.offset(net.right_bias.expand(1, 5, 5), M)\n" in source
    small = Convolution(IMAGE, DRAW("small.weight", 1, 2, 1, 1), Window.of((1, 1)))
    places = [Pad((3, 4, 4), ((0, 1), (0, 0), (0, 0))), Pad((1, 4, 4), ((3, 0), (0, 0), (0, 0)))]
    bias = Offset(channelwise(BIAS, SHAPE, places[0]), BIAS)
    made = network(compose(places[0], KERNEL), bias, skip=compose(places[1], small))
    assert layer(made) == [
        f"layer_0 = {CONV}",
        "layer_1 = F.conv2d(act, self.small_weight)",
        "layer = torch.cat([layer_0, layer_1], 1)",
    ]
    assert to_text(made.graph).splitlines()[2] == (
        "affine layer : 4×4×4 = concat(conv[conv.weight; 3×3, padding 1] · image + conv.bias,"
        " conv[small.weight; 1×1] · act; axis 0)"
    )


def test_printed_convolutions() -> None:
    norm = "scale[bn1.weight] · scale[1/√(bn1.running_var + 1e-05)]"
    lines = to_text(convolutional()).splitlines()
    assert lines[1] == (
        f"affine conv1 : 4×6×6 = {norm} · conv[conv1.weight; 3×3, padding 1] · image"
        f" + {norm} · conv1.bias - {norm} · bn1.running_mean + bn1.bias"
    )
    assert "· act2 + act1 -" in lines[5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_emitted_batch_norm_is_torchs(dtype: torch.dtype) -> None:
    made = emit(convolutional(2, dtype))
    values = {p.name: p.value for p in made.graph.parameters()}
    norm = nn.BatchNorm2d(4).eval().to(dtype)
    norm.load_state_dict(
        {k.removeprefix("bn1."): v for k, v in values.items() if k.startswith("bn1.")},
        strict=False,
    )
    x = torch.randn(2, 2, 6, 6, dtype=dtype)
    inside = nn.functional.conv2d(x, values["conv1.weight"], values["conv1.bias"], padding=1)
    maps, biases = made.module.net.maps(made.network), made.module.net.biases(made.network)
    found = maps.conv1.apply(x.flatten(1)) + biases.conv1.value
    torch.testing.assert_close(found, norm(inside).flatten(1).detach())
