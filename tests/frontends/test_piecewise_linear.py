"""The ReLU family from both doors: what each computes, and that it is certified like ReLU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx_models import agrees, node, save, weights
from torch import nn

import vercomp
from vercomp.activations import BUILTIN
from vercomp.errors import UnsupportedError
from vercomp.frontends.fx import from_torch
from vercomp.frontends.translation import refuse_opaque
from vercomp.frontends.validate import validate
from vercomp.ir.reference import result, stored_as

# torch.export warns about its own internals
pytestmark = pytest.mark.filterwarnings("default:::torch", "default::DeprecationWarning")


class Net(nn.Module):
    """A function between two layers."""

    def __init__(self, function):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3, 5), nn.Linear(5, 3)
        self.function = function

    def forward(self, x):
        return self.fc2(self.function(self.fc1(x)))


FAMILY = {
    "relu": (torch.relu, "relu"),
    "leaky relu": (nn.LeakyReLU(0.2), "leaky_relu"),
    "prelu": (nn.PReLU(), "leaky_relu"),
    "prelu, a slope a channel": (nn.PReLU(5), "relu"),
    "rrelu": (nn.RReLU(), "leaky_relu"),
    "relu6": (nn.ReLU6(), "relu6"),
    "hardtanh": (nn.Hardtanh(-2, 3), "hardtanh"),
    "hardsigmoid": (nn.Hardsigmoid(), "hardsigmoid"),
    "hardswish": (nn.Hardswish(), "hardswish"),
    "abs": (torch.abs, "abs"),
    "clamp below": (lambda x: x.clamp(min=-0.5), "clamp_min"),
    "clamp above": (lambda x: x.clamp(max=0.5), "clamp_max"),
    "clamp far above": (lambda x: x.clamp(max=1e4), "clamp_max"),
    "clamp at the largest number": (
        lambda x: x.clamp(-3.4028234663852886e38, 3.4028234663852886e38),
        "hardtanh",
    ),
    "softshrink": (nn.Softshrink(), "relu"),
    "threshold without a jump": (nn.Threshold(0.1, 0.1), "clamp_min"),
}


@pytest.mark.parametrize("name", FAMILY)
def test_the_relu_family_of_torch(name):
    function, expected = FAMILY[name]
    torch.manual_seed(0)
    model = Net(function).eval()
    if isinstance(function, nn.PReLU):
        nn.init.uniform_(function.weight, 0.1, 0.9)
    translation = from_torch(model, (3,), BUILTIN)
    validate(translation)
    assert {a.function.name for a in translation.graph.activations()} == {expected}
    net = vercomp.compile(model, (3,))
    assert net.manifest["methods"][0] == "interval"
    x = torch.randn(4, 3)
    y = model(x).argmax(1)
    radius = net.certify(x, y, norm="linf").radius
    assert (radius > 0).all()
    corners = x + 0.999 * radius[:, None].float() * torch.randn(400, 1, 3).sign()
    assert (model(corners.flatten(0, 1)).argmax(1) == y.repeat(400)).all()


ONNX = {
    "Relu": ("Relu", {}, "relu"),
    "LeakyRelu": ("LeakyRelu", {"alpha": 0.2}, "leaky_relu"),
    "PRelu": ("PRelu s", {}, "leaky_relu"),
    "PRelu, a slope a channel": ("PRelu t", {}, "relu"),
    "Clip": ("Clip l u", {}, "hardtanh"),
    "Clip below": ("Clip l", {}, "clamp_min"),
    "Clip above": ("Clip . u", {}, "clamp_max"),
    "Clip of relu6": ("Clip zero six", {}, "relu6"),
    "HardSigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, "relu6"),
    "HardSwish": ("HardSwish", {}, "hardswish"),
    "Abs": ("Abs", {}, "abs"),
    "Shrink": ("Shrink", {"lambd": 0.5, "bias": 0.5}, "relu"),
}


@pytest.mark.parametrize("name", ONNX)
def test_the_relu_family_of_onnx(tmp_path, name):
    spelled, attributes, expected = ONNX[name]
    operator, *constants = spelled.split()
    tensors = {
        "w": weights(3, 5),
        "v": weights(5, 3, seed=1),
        "s": np.float32(0.3),
        "t": np.linspace(0.1, 0.9, 5, dtype=np.float32),
        "l": np.float32(-0.5),
        "u": np.float32(0.5),
        "zero": np.float32(0),
        "six": np.float32(6),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node(operator, ["a", *(c.strip(".") for c in constants)], ["b"], **attributes),
        node("MatMul", ["b", "v"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=("N", 3), opset=16)
    graph = agrees(path, affine=False).graph
    found = {activation.function.name for activation in graph.activations()}
    assert found <= {expected, "hardtanh"}
    assert vercomp.compile(path).manifest["methods"][0] == "interval"


@pytest.mark.parametrize("end", [1000.0, 1e4, 1e6])
def test_a_clip_on_one_side_rounds_nothing(end):
    """c − relu(c − u) would keep multiples of 2⁻²⁴ c alone."""
    torch.manual_seed(0)
    model = Net(lambda x: x.clamp(max=end))
    graph = from_torch(model, (3,), BUILTIN).graph
    x = torch.randn(100, 3)
    assert torch.allclose(result(graph, x, stored_as(torch.float32)), model(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (
            torch.sign,
            r"sign\(x\) jumps by 2 at x = 0 from −1 to 1, so no bound holds on both sides",
        ),
        (nn.Hardshrink(), r"jumps by 0.5 at x = -0.5 from x to 0"),
        (nn.Threshold(0.1, 0.0), r"jumps by 0.1 at x = 0.1 from 0 to x"),
        (torch.round, "it is a step function: its value jumps"),
    ],
)
def test_functions_that_jump_are_refused(function, reason):
    with pytest.raises(UnsupportedError, match=reason):
        refuse_opaque(from_torch(Net(function), (3,), BUILTIN).graph)


def test_sign_of_onnx_is_refused(tmp_path):
    nodes = [node("Sign", ["x"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, shape=("N", 3))
    with pytest.raises(UnsupportedError, match=r"sign\(x\) jumps by 2 at x = 0 from −1 to 1"):
        vercomp.compile(path)


@pytest.mark.parametrize("function", [torch.sin, lambda x: torch.cos(3 * x)])
def test_a_periodic_activation_is_bounded_over_finite_intervals(function):
    """Interval by interval, the pieces that it touches: nothing found outside, and tight."""
    torch.manual_seed(0)
    net = vercomp.compile(Net(function), (3,))
    model = net.network.double()
    center = torch.randn(5, 3, dtype=torch.float64)
    for radius in (0.01, 1.0, 30.0):
        lower = net.bound(vercomp.Ball(center, radius, "linf"), torch.eye(3, dtype=torch.float64))
        points = center + radius * (2 * torch.rand(4000, 1, 3, dtype=torch.float64) - 1)
        seen = model(points.flatten(0, 1)).reshape(4000, 5, 3).amin(0)
        assert (lower <= seen).all()
        assert lower.isfinite().all()
