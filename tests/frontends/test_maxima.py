"""Max pooling, maxima and minima: affine maps and ReLU that compute what the framework computes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from onnx_models import agrees, ints, node, save, weights
from torch import nn
from torch.nn import functional as F

import vercomp
from vercomp.activations import BUILTIN
from vercomp.errors import UnsupportedError
from vercomp.frontends.fx import from_torch
from vercomp.frontends.onnx import from_onnx
from vercomp.frontends.translation import refuse_opaque
from vercomp.ir.printer import to_text
from vercomp.ir.reference import evaluate, stored_as

# torch.export warns about its own internals
pytestmark = pytest.mark.filterwarnings("default:::torch", "default::DeprecationWarning")

IMAGE, LINE, SOLID = (4, 6, 8), (4, 9), (2, 4, 5, 6)


class Of(nn.Module):
    """A function of the input, flattened."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.bounds = nn.Parameter(torch.linspace(-1, 1, 8))

    def forward(self, x):
        if isinstance(self.function, nn.Module):
            return self.function(x).flatten(1)
        return self.function(self, x).flatten(1)


TORCH = {
    "1d": (nn.MaxPool1d(2), LINE),
    "1d, of seven": (nn.MaxPool1d(7, stride=1, padding=3), LINE),
    "2d": (nn.MaxPool2d(2), IMAGE),
    "2d, overlapping": (nn.MaxPool2d(3, 2, 1), IMAGE),
    "2d, one place": (nn.MaxPool2d((6, 8)), IMAGE),
    "2d, rectangular": (nn.MaxPool2d((3, 2), (1, 2), (1, 1)), IMAGE),
    "2d, dilated": (nn.MaxPool2d((2, 3), 1, (1, 1), dilation=(3, 2)), IMAGE),
    "2d, ceil": (nn.MaxPool2d(3, 2, 1, ceil_mode=True), IMAGE),
    "2d, ceil, dilated": (nn.MaxPool2d(3, (3, 2), 1, dilation=2, ceil_mode=True), IMAGE),
    "2d, large": (nn.MaxPool2d(5, 1, 2), IMAGE),
    "2d, odd steps": (nn.MaxPool2d(7, 3, 3), IMAGE),
    "2d, functional": (lambda net, x: F.max_pool2d(x, (2, 4)), IMAGE),
    "2d, first of two results": (lambda net, x: F.max_pool2d_with_indices(x, 2)[0], IMAGE),
    "2d, without channels": (lambda net, x: F.max_pool2d(x, 2), (6, 8)),
    "3d": (nn.MaxPool3d(2, 1), SOLID),
    "adaptive": (nn.AdaptiveMaxPool2d((2, 4)), IMAGE),
    "adaptive, to one": (nn.AdaptiveMaxPool2d(1), IMAGE),
    "adaptive, along one axis": (nn.AdaptiveMaxPool2d((None, 2)), IMAGE),
    "amax": (lambda net, x: x.amax((2, 3)), IMAGE),
    "amax, kept": (lambda net, x: x.amax(-1, keepdim=True), IMAGE),
    "amin": (lambda net, x: x.amin(1), IMAGE),
    "max along an axis": (lambda net, x: x.max(1)[0], IMAGE),
    "min along an axis": (lambda net, x: torch.min(x, 2, keepdim=True).values, IMAGE),
    "both ends": (lambda net, x: torch.cat(x.aminmax(dim=1, keepdim=True), 1), IMAGE),
    "maxout": (lambda net, x: x.view(-1, 2, 2, 6, 8).amax(2), IMAGE),
    "maximum": (lambda net, x: torch.maximum(x[:, 0], x[:, 1]), IMAGE),
    "minimum that broadcasts": (lambda net, x: torch.minimum(x, x[:, :1, :, 2:3]), IMAGE),
    "max of two": (lambda net, x: torch.max(x[:, ::2], x[:, 1::2]), IMAGE),
    "fmin": (lambda net, x: torch.fmin(x[:, ::2], x[:, 1::2]), IMAGE),
    "maximum with a parameter": (lambda net, x: torch.maximum(x, net.bounds), IMAGE),
    "minimum with a parameter": (lambda net, x: torch.minimum(net.bounds, x), IMAGE),
    "maximum of functions of one node": (
        lambda net, x: torch.maximum(torch.tanh(x) - 0.1, torch.minimum(x, 0.3 * torch.sin(x))),
        IMAGE,
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_maxima_of_torch(name):
    """In float64, at entries that are equal as well, for positive and negative inputs."""
    function, shape = TORCH[name]
    model = Of(function)
    graph = from_torch(model, shape, BUILTIN).graph
    refuse_opaque(graph)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    x = torch.cat([x, -x.abs(), x.round(), torch.zeros_like(x)])
    found = evaluate(graph, x, stored_as(torch.float64))[graph.output]
    with torch.no_grad():
        expected = model.double()(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


POOLS = {
    "plain": (8, {"kernel_shape": [3, 2]}),
    "strides": (12, {"kernel_shape": [2, 2], "strides": [2, 3]}),
    "padded on one side": (12, {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1], "strides": [2, 2]}),
    "ceil": (12, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "ceil, padded": (
        12,
        {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
    ),
    "same upper": (12, {"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": (12, {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER"}),
    "dilated": (12, {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 1, 1, 1]}),
}


@pytest.mark.parametrize("case", POOLS)
def test_max_pool_of_onnx(tmp_path, case):
    opset, attributes = POOLS[case]
    nodes = [node("MaxPool", ["x"], ["y"], **attributes)]
    path = save(tmp_path / "m.onnx", nodes, shape=("N", 2, 6, 8), opset=opset)
    agrees(path, affine=False)


def test_the_maximum_of_padding_alone_is_refused(tmp_path):
    """It is −∞: of a dilated window whose entries lie on both sides of a short axis."""
    nodes = [node("MaxPool", ["x"], ["y"], kernel_shape=[2], pads=[1, 1], dilations=[4])]
    path = save(tmp_path / "m.onnx", nodes, shape=("N", 2, 3), opset=12)
    (opaque,) = from_onnx(path, BUILTIN).graph.opaque()
    assert opaque.reason == "a window of it lies in the padding alone, where a maximum is −∞"


@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 5)])
def test_global_max_pool(tmp_path, shape):
    nodes = [node("GlobalMaxPool", ["x"], ["y"])]
    agrees(save(tmp_path / "m.onnx", nodes, shape=("N", *shape)), affine=False)


REDUCTIONS = [
    ("ReduceMax", 11, {"axes": [2, 3]}, None),
    ("ReduceMin", 13, {"axes": [-1], "keepdims": 0}, None),
    ("ReduceMax", 18, {"keepdims": 0}, (1, -1)),
]


@pytest.mark.parametrize(("operator", "opset", "attributes", "axes"), REDUCTIONS)
def test_reductions(tmp_path, operator, opset, attributes, axes):
    tensors = {} if axes is None else {"axes": ints(*axes)}
    nodes = [node(operator, ["x", *tensors], ["y"], **attributes)]
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=("N", 3, 4, 5), opset=opset)
    agrees(path, affine=False)


@pytest.mark.parametrize("operator", ["Max", "Min"])
@pytest.mark.parametrize("inputs", ["x", "x a", "a x b", "x a b c v", "u x v"])
def test_max_and_min_of_several_inputs(tmp_path, operator, inputs):
    """Signals in a balanced tree, constants folded into one."""
    tensors = {
        "w": weights(4, 4),
        "v": weights(4, seed=1),
        "u": np.array([[0.1]], np.float32),
        "k": weights(4, 4, seed=2),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Tanh", ["a"], ["b"]),
        node("MatMul", ["x", "k"], ["c"]),
        node(operator, inputs.split(), ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=("N", 4), opset=13)
    agrees(path, affine=False)


def test_a_window_of_four_takes_two_levels():
    """The sizes double: no entry is compared twice where windows lie side by side."""
    model = nn.Sequential(nn.MaxPool1d(4), nn.Flatten())
    assert to_text(from_torch(model, (1, 8), BUILTIN).graph) == "\n".join(
        [
            "input input : 1×8",
            "affine 0.difference : 1×4 = slice(0:7:2, axis 1) · input "
            "+ scale[minus_one] · slice(1:8:2, axis 1) · input",
            "activation 0.relu : 1×4 = relu(0.difference)",
            "affine 0 : 1×4 = slice(1:8:2, axis 1) · input + 0.relu",
            "affine 0.difference_2 : 1×2 = slice(0:3:2, axis 1) · 0 "
            "+ scale[minus_one] · slice(1:4:2, axis 1) · 0",
            "activation 0.relu_2 : 1×2 = relu(0.difference_2)",
            "affine 0_2 : 1×2 = slice(1:4:2, axis 1) · 0 + 0.relu_2",
            "affine 1 : 2 = reshape(2) · 0_2",
            "output 1",
        ]
    )


def pooled() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(3, 4, 2),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(),
            nn.Linear(4, 3),
        )


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_a_network_with_max_pooling_is_certified(norm):
    """It compiles like a ReLU network, and no step downhill enters a certified ball."""
    model = pooled()
    net = vercomp.compile(model, (1, 6, 6))
    assert net.manifest["methods"][0] == "interval"
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5, 1, 6, 6, generator=generator)
    y = model(x).argmax(1)
    radius = net.certify(x, y, norm=norm).radius
    assert (radius > 0).all()
    reach = (radius * (1 - 1e-9))[:, None, None, None]
    double = pooled().double()
    lengths = {"l1": 1.0, "l2": 2.0, "linf": math.inf}
    for _ in range(200):
        step = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        point = (x.double() + step * 0.01 * reach).requires_grad_()
        z = double(point)
        others = z.scatter(1, y[:, None], -torch.inf).amax(1)
        (gradient,) = torch.autograd.grad((z.gather(1, y[:, None])[:, 0] - others).sum(), point)
        move = gradient.sign() if norm == "linf" else gradient
        size = move.flatten(1).norm(lengths[norm], dim=1)[:, None, None, None]
        assert (double(x - reach * move / size.clamp_min(1e-300)).argmax(1) == y).all()


def test_features_that_need_curvature_say_which_node_has_none():
    with pytest.raises(UnsupportedError, match=r"the first derivative of relu jumps at x = 0"):
        vercomp.compile(pooled(), (1, 6, 6), emit=("hessian",))
