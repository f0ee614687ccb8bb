"""One network, four ways in: torch, both ONNX exporters, ONNX by hand. One curvature comes out."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from dags import random_dag
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

import vercomp

SHAPE = (3, 8, 8)


class Plain(nn.Module):
    """Convolutions, a pooling with padding, functional code."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False)
        self.fc = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.softplus(self.conv1(x))
        x = torch.tanh(F.avg_pool2d(self.conv2(x), 2))
        return self.fc(x.view(x.size(0), -1))


class Normalised(nn.Module):
    """A residual block with frozen batch norms, used twice, and global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")
        self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def block(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.norm2(self.conv(x)) + x)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.norm1(self.stem((x - 0.5) / 0.25)))
        return self.fc(self.block(self.block(x)).mean((2, 3)))


class Branched(nn.Module):
    """A concatenation of branches of other sizes, and a skip over all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 2, 1)
        self.right = nn.Conv2d(3, 3, 5, padding=2)
        self.up = nn.ConvTranspose2d(5, 2, 2, stride=2)
        self.fc = nn.Linear(2 * 256, 3)
        self.skip = nn.Linear(192, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([F.silu(self.left(x)), torch.tanh(self.right(x))[:, :3]], 1)
        deep = torch.tanh(self.up(F.pad(both, (0, 0, 0, 0))))
        return self.fc(deep.flatten(1)) + self.skip(x.flatten(1))


NETWORKS: dict[str, tuple[type[nn.Module], float]] = {
    "plain": (Plain, 1e-9),
    "normalised": (Normalised, 1e-5),
    "branched": (Branched, 1e-9),
}
"""The networks, with the relative difference allowed: 1e-5 where an exporter folds batch norm."""


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    module = NETWORKS[name][0]().eval()
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif key.endswith("running_mean"):
                tensor.normal_()
    return module


def exported(module: nn.Module, shape: tuple[int, ...], path: Path, *, dynamo: bool) -> Path:
    options = {} if dynamo else {"dynamic_axes": {"x": {0: "batch"}}, "opset_version": 17}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(1, *shape),), path, input_names=["x"], dynamo=dynamo, **options
        )
    return path


def same_curvature(a: vercomp.CompiledNetwork, b: vercomp.CompiledNetwork, rtol: float) -> None:
    for found, expected in zip(a.curvature(), b.curvature(), strict=True):
        torch.testing.assert_close(found, expected, rtol=rtol, atol=0.0)


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_exporters(
    name: str, dynamo: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = made(name)
    path = exported(module, SHAPE, tmp_path / "model.onnx", dynamo=dynamo)
    capsys.readouterr()
    a, b = vercomp.compile(path), vercomp.compile(module, input_shape=SHAPE)
    same_curvature(a, b, NETWORKS[name][1])
    x = torch.rand(4, *SHAPE)
    torch.testing.assert_close(a.network(x), b.network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(2000, 2006))
def test_random_graphs(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = random_dag(seed)
    shape = tuple(case.x.shape[1:])
    path = exported(case.module, shape, tmp_path / "model.onnx", dynamo=bool(seed % 2))
    capsys.readouterr()
    a, b = vercomp.compile(path), vercomp.compile(case.module, input_shape=shape)
    same_curvature(a, b, 1e-5)
    torch.testing.assert_close(a.network(case.x), b.network(case.x), rtol=1e-4, atol=1e-4)


def test_onnx_by_hand(tmp_path: Path) -> None:
    """The plain network as another tool would write it: padding by name, shapes computed."""
    module = made("plain")
    weights = {
        key.replace(".", "_"): numpy_helper.from_array(value.numpy(), key.replace(".", "_"))
        for key, value in module.state_dict().items()
    }
    numbers = {
        "first": np.array(0),
        "zero": np.array([0]),
        "rest": np.array([-1]),
    }
    nodes = [
        helper.make_node(
            "Conv", ["x", "conv1_weight", "conv1_bias"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]
        ),
        helper.make_node("Softplus", ["c1"], ["a1"]),
        helper.make_node("Conv", ["a1", "conv2_weight"], ["c2"], auto_pad="SAME_UPPER", group=2),
        helper.make_node("AveragePool", ["c2"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Tanh", ["p"], ["a2"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["size"], axis=0),
        helper.make_node("Unsqueeze", ["size", "zero"], ["sizes"]),
        helper.make_node("Concat", ["sizes", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["a2", "target"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc_weight", "fc_bias"], ["z"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", *SHAPE])],
        [helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["N", 3])],
        [*weights.values(), *(numpy_helper.from_array(v, k) for k, v in numbers.items())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "hand.onnx"
    onnx.save(model, path)
    a, b = vercomp.compile(path), vercomp.compile(module, input_shape=SHAPE)
    same_curvature(a, b, 1e-9)
