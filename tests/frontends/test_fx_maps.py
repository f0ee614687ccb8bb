"""Every affine operator of torch: its translation computes what the module computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vercomp.activations import BUILTIN
from vercomp.frontends.fx import from_torch
from vercomp.ir.graph import Affine
from vercomp.ir.reference import evaluate, stored_as

# torch.export warns about its own internals
pytestmark = pytest.mark.filterwarnings(
    "default:::torch", "default::DeprecationWarning", "ignore:Using padding:UserWarning"
)

IMAGE, LINE, SOLID = (4, 6, 8), (4, 9), (2, 4, 5, 6)


class Flat(nn.Module):
    """A function or a module between the input and a vector of outputs, with some tensors."""

    def __init__(self, function, outputs=None):
        super().__init__()
        self.function = function
        self.matrix = nn.Parameter(torch.randn(5, 4))
        self.kernel = nn.Parameter(torch.randn(3, 4, 2, 3))
        self.channel = nn.Parameter(torch.rand(4, 1, 1) + 0.5)
        self.wide = nn.Parameter(torch.rand(8) + 0.5)
        self.register_buffer("picks", torch.tensor([2, 0, -1]))
        self.register_buffer("mask", torch.tensor([True, False, True, False]))

    def forward(self, x):
        if isinstance(self.function, nn.Module):
            return self.function(x).flatten(1)
        return self.function(self, x).flatten(1)


def statistics(norm: nn.Module) -> nn.Module:
    for buffer in norm.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2.0)
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 2.0)
    return norm


def split_and_join(net, x):
    a, b, c = x.split([1, 2, 1], 1)
    return torch.cat([c, b, a], 1)


def halves(net, x):
    a, b = x.chunk(2, 1)
    return a - 2 * b


CASES = {
    # convolutions
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1), LINE),
    "conv2d": (nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)), IMAGE),
    "conv3d": (nn.Conv3d(2, 3, 3, padding=1, bias=False), SOLID),
    "conv2d, groups": (nn.Conv2d(4, 8, 3, groups=2), IMAGE),
    "conv2d, depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4), IMAGE),
    "conv2d, same": (nn.Conv2d(4, 3, (2, 3), padding="same", dilation=(1, 2)), IMAGE),
    "conv2d, valid": (nn.Conv2d(4, 3, 2, padding="valid"), IMAGE),
    "conv2d, reflect": (nn.Conv2d(4, 3, 3, padding=2, padding_mode="reflect"), IMAGE),
    "conv2d, replicate": (nn.Conv2d(4, 3, 3, padding=1, padding_mode="replicate"), IMAGE),
    "conv2d, circular": (nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"), IMAGE),
    "conv2d, circular, same": (
        nn.Conv2d(4, 3, 2, padding="same", padding_mode="circular"),
        IMAGE,
    ),
    "conv2d, functional": (lambda net, x: F.conv2d(x, net.kernel, net.wide[:3]), IMAGE),
    "conv2d, its whole input": (nn.Conv2d(4, 3, (6, 8)), IMAGE),
    "conv1d of a transposed kernel": (
        lambda net, x: F.conv1d(x, net.matrix.t()[:, :4].unsqueeze(-1)),
        LINE,
    ),
    "conv_transpose1d": (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1), LINE),
    "conv_transpose2d": (
        nn.ConvTranspose2d(4, 6, 3, 2, padding=1, output_padding=1, groups=2),
        IMAGE,
    ),
    "conv_transpose2d, dilation": (
        nn.ConvTranspose2d(4, 2, 2, stride=2, dilation=3, output_padding=2),
        IMAGE,
    ),
    "conv_transpose3d": (nn.ConvTranspose3d(2, 3, 2, stride=2, bias=False), SOLID),
    # pooling
    "avg_pool1d": (nn.AvgPool1d(2), LINE),
    "avg_pool2d": (nn.AvgPool2d(3, 2, padding=1), IMAGE),
    "avg_pool2d, rim not counted": (
        nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        IMAGE,
    ),
    "avg_pool2d, ceil": (nn.AvgPool2d(3, (2, 3), padding=1, ceil_mode=True), IMAGE),
    "avg_pool2d, ceil, rim not counted": (
        nn.AvgPool2d(4, 3, padding=2, ceil_mode=True, count_include_pad=False),
        IMAGE,
    ),
    "avg_pool2d, divisor": (
        lambda net, x: F.avg_pool2d(x, 2, ceil_mode=True, divisor_override=3),
        IMAGE,
    ),
    "avg_pool3d": (nn.AvgPool3d(2, stride=1, padding=1), SOLID),
    "avg_pool of a vector": (lambda net, x: F.avg_pool1d(x.flatten(1), 4), LINE),
    "adaptive_avg_pool1d, 1": (nn.AdaptiveAvgPool1d(1), LINE),
    "adaptive_avg_pool1d, uneven": (nn.AdaptiveAvgPool1d(4), LINE),
    "adaptive_avg_pool2d, global": (nn.AdaptiveAvgPool2d(1), IMAGE),
    "adaptive_avg_pool2d, even": (nn.AdaptiveAvgPool2d((2, 4)), IMAGE),
    "adaptive_avg_pool2d, uneven": (nn.AdaptiveAvgPool2d((4, 3)), IMAGE),
    "adaptive_avg_pool2d, one axis": (nn.AdaptiveAvgPool2d((None, 3)), IMAGE),
    "adaptive_avg_pool2d, larger": (nn.AdaptiveAvgPool2d((9, 8)), IMAGE),
    "adaptive_avg_pool3d": (nn.AdaptiveAvgPool3d((3, 5, 2)), SOLID),
    # normalisation by frozen statistics
    "batch_norm1d": (statistics(nn.BatchNorm1d(4)), LINE),
    "batch_norm2d": (statistics(nn.BatchNorm2d(4)), IMAGE),
    "batch_norm2d, plain": (statistics(nn.BatchNorm2d(4, affine=False)), IMAGE),
    "batch_norm3d": (statistics(nn.BatchNorm3d(2)), SOLID),
    "instance_norm by running statistics": (
        statistics(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)),
        IMAGE,
    ),
    # padding
    "pad": (lambda net, x: F.pad(x, (1, 2, 0, 3)), IMAGE),
    "pad by a value": (lambda net, x: F.pad(x, (1, 0, 2, 1), value=-1.5), IMAGE),
    "pad channels by a value": (lambda net, x: F.pad(x, (0, 0, 0, 0, 1, 1), value=2.0), IMAGE),
    "pad, cropping": (lambda net, x: F.pad(x, (1, -2, -1, 2), value=0.5), IMAGE),
    "pad, reflect": (nn.ReflectionPad2d((1, 2, 3, 0)), IMAGE),
    "pad, replicate": (nn.ReplicationPad3d(1), SOLID),
    "pad, circular": (nn.CircularPad1d((2, 3)), LINE),
    "pad, by its other names": (
        lambda net, x: torch.constant_pad_nd(
            torch.ops.aten.reflection_pad2d(
                torch.ops.aten.replication_pad2d(x, [1, 0, 0, 1]), [1, 1, 1, 1]
            ),
            (0, 1),
            2.0,
        ),
        IMAGE,
    ),
    # picking
    "slice": (lambda net, x: x[:, 1:-1, ::2, -3:], IMAGE),
    "select": (lambda net, x: x[:, -1], IMAGE),
    "ellipsis and new axis": (lambda net, x: x[..., None, 2:], IMAGE),
    "narrow": (lambda net, x: x.narrow(2, 1, 3), IMAGE),
    "index_select": (lambda net, x: x.index_select(1, net.picks.abs()), IMAGE),
    "index": (lambda net, x: x[:, net.picks], IMAGE),
    "index by a list": (lambda net, x: x[:, :, [3, 3, 0]], IMAGE),
    "index by a mask": (lambda net, x: x[:, net.mask], IMAGE),
    "index by two tensors": (lambda net, x: x[:, net.picks, net.picks], IMAGE),
    "index by tensors apart": (
        lambda net, x: x[:, net.picks, :, net.picks].movedim(1, 0),
        IMAGE,
    ),
    "index by a matrix": (lambda net, x: x[:, net.picks.reshape(1, 3).expand(2, 3)], IMAGE),
    "gather": (
        lambda net, x: x.gather(1, net.picks.abs()[:, None, None].expand(x.shape[0], 3, 6, 8)),
        IMAGE,
    ),
    "split": (split_and_join, IMAGE),
    "chunk": (halves, IMAGE),
    "tensor_split": (lambda net, x: x.tensor_split(3, 1)[1], IMAGE),
    "unbind": (lambda net, x: (lambda a, b, c, d: a - d)(*x.unbind(1)), IMAGE),
    "flip": (lambda net, x: x.flip(1, 3), IMAGE),
    "fliplr": (lambda net, x: x.fliplr(), IMAGE),
    "rot90": (lambda net, x: x.rot90(1, (2, 3)), IMAGE),
    "roll": (lambda net, x: x.roll((1, -3), (1, 3)), IMAGE),
    "diagonal": (lambda net, x: x.diagonal(1, 2, 3), IMAGE),
    "triangle": (lambda net, x: x.tril(1), IMAGE),
    "windows": (lambda net, x: x.unfold(2, 3, 2), IMAGE),
    "unfold": (nn.Unfold((2, 3), padding=1), IMAGE),
    "pixel_shuffle": (nn.PixelShuffle(2), IMAGE),
    "pixel_unshuffle": (nn.PixelUnshuffle(2), IMAGE),
    "channel_shuffle": (nn.ChannelShuffle(2), IMAGE),
    "upsample": (nn.Upsample(scale_factor=2), IMAGE),
    "upsample to a size": (nn.Upsample(size=(9, 5)), IMAGE),
    "upsample, nearest-exact": (nn.Upsample(size=(4, 11), mode="nearest-exact"), IMAGE),
    "upsample, linear": (nn.Upsample(size=13, mode="linear"), LINE),
    "upsample, bilinear": (nn.Upsample(scale_factor=1.5, mode="bilinear"), IMAGE),
    "upsample, bicubic": (nn.Upsample(size=(5, 9), mode="bicubic", align_corners=True), IMAGE),
    "upsample, trilinear": (nn.Upsample(scale_factor=2, mode="trilinear"), SOLID),
    "area": (lambda net, x: F.interpolate(x, size=(3, 5), mode="area"), IMAGE),
    # joining and repeating
    "cat": (lambda net, x: torch.cat([x, -x[:, :2], x], 1), IMAGE),
    "cat along the last axis": (lambda net, x: torch.cat([x, x.flip(3)], -1), IMAGE),
    "cat with zeros": (
        lambda net, x: torch.cat([x.new_zeros(x.shape[0], 2, 6, 8), x], 1),
        IMAGE,
    ),
    "cat with a parameter": (
        lambda net, x: torch.cat([x, net.wide.expand(x.shape[0], 1, 6, 8)], 1),
        IMAGE,
    ),
    "stack": (lambda net, x: torch.stack([x, 2 * x], 2), IMAGE),
    "stack in front": (lambda net, x: torch.stack([x, 2 * x])[1], IMAGE),
    "hstack": (lambda net, x: torch.hstack([x, x]), IMAGE),
    "expand": (lambda net, x: x[:, :1].expand(-1, 3, -1, -1), IMAGE),
    "expand_as": (lambda net, x: x[:, :, :1].expand_as(x), IMAGE),
    "broadcast_to": (lambda net, x: torch.broadcast_to(x[:, :1], x.shape), IMAGE),
    "repeat": (lambda net, x: x.repeat(1, 2, 1, 3), IMAGE),
    "tile": (lambda net, x: x.tile(2), IMAGE),
    "repeat_interleave": (lambda net, x: x.repeat_interleave(2, 1), IMAGE),
    "repeat_interleave by a tensor": (
        lambda net, x: x.repeat_interleave(torch.tensor([1, 0, 2, 1]), 1),
        IMAGE,
    ),
    # sums and products
    "mean": (lambda net, x: x.mean((2, 3)), IMAGE),
    "mean, kept": (lambda net, x: x - x.mean(1, keepdim=True), IMAGE),
    "sum": (lambda net, x: x.sum(-1), IMAGE),
    "cumsum": (lambda net, x: x.cumsum(1), IMAGE),
    "cumsum before the batch": (lambda net, x: x.movedim(0, 1).cumsum(0).movedim(1, 0), IMAGE),
    "diff": (lambda net, x: x.diff(2, dim=2), IMAGE),
    "linear over the last axis": (nn.Linear(8, 3), IMAGE),
    "linear without bias": (nn.Linear(9, 3, bias=False), LINE),
    "matmul on the left": (lambda net, x: net.matrix @ x, LINE),
    "matmul on the right": (lambda net, x: x.mT @ net.matrix.t(), LINE),
    "matmul with a vector": (lambda net, x: x @ net.wide, IMAGE),
    "einsum": (lambda net, x: torch.einsum("bchw,oc->bohw", x, net.matrix), IMAGE),
    "einsum, several axes": (
        lambda net, x: torch.einsum("bchw,ockw->bko", x[..., :3], net.kernel),
        IMAGE,
    ),
    "einsum, the constant first": (lambda net, x: torch.einsum("oc,bct->bot", net.matrix, x), LINE),
    "tensordot": (lambda net, x: torch.tensordot(x, net.matrix, ([1], [1])), IMAGE),
    "inner": (lambda net, x: torch.inner(x.mT, net.matrix), LINE),
    # constants that broadcast
    "plus a channel": (lambda net, x: x + net.channel, IMAGE),
    "times a channel": (lambda net, x: x * net.channel[None] - 1, IMAGE),
    "divided by a channel": (lambda net, x: (x - net.channel) / net.channel, IMAGE),
    "plus a row": (lambda net, x: net.wide - x, IMAGE),
    "a row of channels": (lambda net, x: x.movedim(1, -1) * net.channel.flatten(), IMAGE),
    "growing": (lambda net, x: x[:, :1] * net.channel + net.channel, IMAGE),
    "signals that broadcast": (lambda net, x: x - x.mean((2, 3), keepdim=True), IMAGE),
    "signals of different ranks": (
        lambda net, x: (x.movedim(0, -1) + x.movedim(0, -1).mean(0)).movedim(-1, 0),
        LINE,
    ),
    "add with alpha": (lambda net, x: torch.add(x, x.flip(1), alpha=-2), IMAGE),
    "sub with alpha": (lambda net, x: torch.sub(x, net.channel, alpha=3), IMAGE),
    "lerp": (lambda net, x: torch.lerp(x, x.flip(1), 0.3), IMAGE),
    "addcmul": (lambda net, x: torch.addcmul(x, x.flip(1), net.channel, value=2), IMAGE),
    "addcdiv": (lambda net, x: torch.addcdiv(net.channel, x, net.channel), IMAGE),
    "masked": (lambda net, x: x.masked_fill(net.mask[:, None, None], 2.0), IMAGE),
    "chosen": (lambda net, x: torch.where(net.mask[:, None, None], x, -x.flip(2)), IMAGE),
    "times zeros and ones": (lambda net, x: x * torch.tril(torch.ones(6, 8)), IMAGE),
    "plus ones like it": (lambda net, x: x + torch.ones_like(x[:, :1]), IMAGE),
    "plus positions": (lambda net, x: x + torch.arange(8), IMAGE),
    "times a number for each input": (
        lambda net, x: x * torch.full((x.shape[0], 1, 1, 1), 2.5),
        IMAGE,
    ),
    # axes and shapes
    "permute": (lambda net, x: x.permute(0, 3, 1, 2), IMAGE),
    "movedim": (lambda net, x: x.movedim((1, 3), (-1, 1)), IMAGE),
    "mT": (lambda net, x: x.mT, IMAGE),
    "swapaxes": (lambda net, x: x.swapaxes(-1, 1), IMAGE),
    "unflatten": (lambda net, x: x.unflatten(1, (2, 2)).flatten(2), IMAGE),
    "shape arithmetic": (
        lambda net, x: x.view(x.size(0), -1, x.shape[2] // 2)[:, : x.shape[3] // 2],
        IMAGE,
    ),
    "dropout": (nn.Dropout2d(0.5), IMAGE),
}


def translated(model, shape):
    """The graph, after it was seen to compute what the model computes, in float64."""
    translation = from_torch(model, shape, BUILTIN)
    graph = translation.graph
    x = torch.randn(3, *shape, dtype=torch.float64)
    with torch.no_grad():
        found = evaluate(graph, x, stored_as(x.dtype))[graph.output]
    expected = translation.source(x)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)
    return graph


@pytest.mark.parametrize("name", CASES)
def test_an_affine_operator_is_a_linear_map(name):
    torch.manual_seed(0)
    function, shape = CASES[name]
    graph = translated(Flat(function).double(), shape)
    assert all(isinstance(node, Affine) for node in graph.nodes[1:])
