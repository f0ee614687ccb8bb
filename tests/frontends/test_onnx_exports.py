"""ONNX as exporters and optimisers write it: where constants live, image layouts, precisions."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_models import agrees, ints, node, save, weights
from torch import nn
from torch.nn import functional as F

from passes.merge_affine import MergeAffine
from vercomp.activations import BUILTIN
from vercomp.errors import ModelFileError, UnsupportedError
from vercomp.frontends import algebra
from vercomp.frontends.onnx import from_onnx
from vercomp.frontends.onnx_call import Call, Result, or_reason
from vercomp.frontends.translation import refuse_opaque
from vercomp.frontends.validate import validate
from vercomp.frontends.values import Constant
from vercomp.ir.printer import to_text
from vercomp.ir.reference import evaluate, stored_as
from vercomp.pass_manager import run_passes


def merged(translation):
    return run_passes(translation.graph, [MergeAffine()])


def test_images_with_channels_last(tmp_path):
    """As tf2onnx writes a Keras model: biases by either layout, a flatten of channels last."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "k1"], ["c1"], auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Add", ["c1", "b1"], ["d1"]),  # BiasAdd, (C, 1, 1)
        node("Tanh", ["d1"], ["a1"]),
        node("Transpose", ["a1"], ["l1"], perm=[0, 2, 3, 1]),
        node("Add", ["l1", "b2"], ["m1"]),  # the same on channels last, (C,)
        node("Mul", ["m1", "s2"], ["n1"]),  # a frozen batch norm as a factor
        node("Transpose", ["n1"], ["t2"], perm=[0, 3, 1, 2]),
        node("Transpose", ["hwio"], ["k2"], perm=[3, 2, 0, 1]),
        node("Conv", ["t2", "k2", "b3"], ["c2"], pads=[1, 1, 1, 1]),
        node("Transpose", ["c2"], ["l2"], perm=[0, 2, 3, 1]),
        node("Sigmoid", ["l2"], ["a2"]),
        node("AveragePool", ["a3"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Transpose", ["p"], ["l3"], perm=[0, 2, 3, 1]),
        node("Reshape", ["l3", "flat_shape"], ["f"]),
        node("MatMul", ["f", "w"], ["g"]),
        node("Add", ["g", "b4"], ["y"]),
    ]
    nodes.insert(12, node("Transpose", ["a2"], ["a3"], perm=[0, 3, 1, 2]))
    tensors = {
        "k1": weights(4, 3, 3, 3),
        "b1": weights(4, 1, 1),
        "b2": weights(4),
        "s2": weights(4, seed=1),
        "hwio": weights(3, 3, 4, 5),
        "b3": weights(5),
        "flat_shape": ints(-1, 20),
        "w": weights(20, 3),
        "b4": weights(3),
    }
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=("N", 8, 8, 3), opset=13)
    translation = agrees(path, affine=False)
    assert {p.name for p in translation.graph.parameters()} == tensors.keys() - {
        "flat_shape", "hwio"
    } | {"k2"}  # fmt: skip
    names = [type(n).__name__ for n in merged(translation).nodes]
    assert names == ["Input", "Affine", "Activate", "Affine", "Activate", "Affine"]


def test_a_flatten_after_a_transposition(tmp_path):
    """keras2onnx flattens channels last: the order of the entries is the layout's."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        node("Reshape", ["t", "s"], ["f"]),
        node("Gemm", ["f", "w"], ["y"]),
    ]
    tensors = {"s": ints(-1, 24), "w": weights(24, 3)}
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=("N", 2, 3, 4))
    assert to_text(merged(agrees(path))) == (
        "input x : 2×3×4\naffine y : 3 = dense[wᵀ] · reshape(24) · permute(1, 2, 0) · x\noutput y"
    )


def test_one_initialiser_in_several_roles(tmp_path):
    """Twice as it is, transposed, as a kernel and as a factor."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Tanh", ["a"], ["b"]),
        node("Gemm", ["b", "w"], ["c"], transB=1),
        node("MatMul", ["c", "w"], ["d"]),
        node("Reshape", ["w", "kernel"], ["k"]),
        node("Unsqueeze", ["d", "behind"], ["e"]),
        node("Conv", ["e", "k"], ["f"]),
        node("Flatten", ["f"], ["g"]),
        node("Identity", ["w"], ["same"]),
        node("MatMul", ["g", "same"], ["h"]),
        node("Reshape", ["w", "row"], ["factor"]),
        node("Gemm", ["h", "w", "factor"], ["y"], transB=1),
    ]
    tensors = {"w": weights(4, 4), "kernel": ints(4, 4, 1), "behind": ints(2), "row": ints(1, 16)}
    nodes.insert(-1, node("Slice", ["factor", "zero", "four", "one"], ["bias"]))
    nodes[-1] = node("Gemm", ["h", "w", "bias"], ["y"], transB=1)
    tensors |= {"zero": ints(0), "four": ints(4), "one": ints(1)}
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=("N", 4))
    translation = agrees(path, affine=False)
    assert translation.graph.parameters()[0].name == "w"


def test_constants_in_nodes_are_trained_like_initialisers(tmp_path):
    held = numpy_helper.from_array(weights(4, 5), "held")
    nodes = [
        node("Constant", [], ["w"], value=held),
        node("Identity", ["w"], ["v"]),
        node("MatMul", ["x", "v"], ["a"]),
        node("Constant", [], ["b"], value_floats=[1.0, 2.0, 3.0, 4.0, 5.0]),
        node("Add", ["a", "b"], ["c"]),
        node("Constant", [], ["i"], value_ints=[0, 2]),
        node("Gather", ["c", "i"], ["d"], axis=1),
        node("Constant", [], ["j"], value_int=2),
        node("Cast", ["j"], ["k"], to=TensorProto.FLOAT),
        node("Mul", ["d", "k"], ["e"]),
        node("Constant", [], ["f"], value_float=0.5),
        node("Add", ["e", "f"], ["y"]),
    ]
    graph = agrees(save(tmp_path / "m.onnx", nodes, shape=("N", 4))).graph
    trained = {p.name for p in graph.parameters() if p.trainable}
    assert trained == {"w", "b"}


def test_quantised_and_sparse_weights(tmp_path):
    codes = np.arange(-6, 6, dtype=np.int8).reshape(4, 3)
    nodes = [
        node("DequantizeLinear", ["q", "scale"], ["w"]),
        node("MatMul", ["x", "w"], ["a"]),
        node("MatMul", ["a", "few"], ["y"]),
    ]
    tensors = {"q": codes, "scale": np.float32(0.1)}
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=("N", 4))
    model = onnx.load(path)
    values = numpy_helper.from_array(np.array([2.0, -1.0], np.float32), "few")
    places = numpy_helper.from_array(ints(1, 5), "few_indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [3, 2]))
    onnx.save(model, path)
    agrees(path)
    del model.graph.sparse_initializer[0].dims[:]
    model.graph.sparse_initializer[0].dims.extend([1, 2])
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=r"node 'few' at .*: its sparse data do not fit"):
        from_onnx(path, BUILTIN)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_weights_of_other_precisions_behind_a_cast(tmp_path, kind):
    stored = helper.make_tensor("stored", kind, [4, 3], weights(4, 3).flatten().tolist())
    nodes = [
        node("Cast", ["stored"], ["w"], to=TensorProto.FLOAT),
        node("MatMul", ["x", "w"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, shape=("N", 4))
    model = onnx.load(path)
    model.graph.initializer.append(stored)
    onnx.save(model, path)
    (weight,) = agrees(path).graph.parameters()
    assert weight.trainable
    assert weight.value.dtype == torch.float32


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_branch_that_is_always_taken(tmp_path, batch):
    """torch's exporter asks whether a dimension is 1 before it squeezes."""

    def branch(*nodes, out, tensors=()):
        result = helper.make_tensor_value_info(out, TensorProto.FLOAT, None)
        return helper.make_graph(nodes, "branch", [], [result], tensors)

    axis = numpy_helper.from_array(ints(2), "axis")
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "two"], ["n"]),
        node("Equal", ["n", "one"], ["alone"]),
        node(
            "If",
            ["alone"],
            ["z"],
            then_branch=branch(node("Squeeze", ["x", "axis"], ["a"]), out="a", tensors=[axis]),
            else_branch=branch(node("Identity", ["x"], ["b"]), out="b"),
        ),
        node("MatMul", ["z", "w"], ["y"]),
    ]
    tensors = {"two": np.array(2), "one": np.array(1), "w": weights(4, 3)}
    agrees(save(tmp_path / "m.onnx", nodes, tensors, shape=(batch, 4, 1)))


def test_one_of_several_outputs(tmp_path):
    nodes = [
        node("Tanh", ["x"], ["features"]),
        node("MatMul", ["features", "w"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"w": weights(4, 3)}, shape=("N", 4), flat=False)
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, None))
    onnx.save(model, path)
    for output, classes in (("y", 3), ("features", 4)):
        translation = from_onnx(path, BUILTIN, output)
        validate(translation)
        assert translation.graph.outputs == classes


def test_gelu_of_onnxruntime(tmp_path):
    nodes = [
        node("Gelu", ["x"], ["a"], domain="com.microsoft"),
        node("QuickGelu", ["a"], ["y"], domain="com.microsoft", alpha=1.702),
    ]
    path = save(tmp_path / "m.onnx", nodes, shape=("N", 4), domains=["com.microsoft"])
    graph = agrees(path, affine=False).graph
    assert [n.function.name for n in graph.activations()] == ["gelu", "silu"]


RANDOM = [
    node("RandomNormal", [], ["r"], shape=[1, 4]),
    node("Constant", [], ["r"], value_string="text"),
]


@pytest.mark.parametrize("source", RANDOM, ids=["random", "text"])
def test_constants_that_are_none(tmp_path, source):
    nodes = [source, node("Add", ["x", "r"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, shape=("N", 4))
    reason = "it is random" if source.op_type == "RandomNormal" else "its result cannot be computed"
    with pytest.raises(UnsupportedError, match=rf"node 'r' \({source.op_type}\) .*: {reason}"):
        from_onnx(path, BUILTIN)


class Residual(nn.Module):
    """A residual block, a strided convolution, pooling with padding, an upsampling."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean.uniform_()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.down = nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False)
        self.up = nn.ConvTranspose2d(6, 2, 2, stride=2)
        self.fc = nn.Linear(2 * 4 * 3, 3)

    def forward(self, x):
        h = F.softplus(self.norm(self.stem((x - 0.5) / 0.25)))
        h = torch.tanh(self.conv(h)) + h
        h = F.avg_pool2d(F.pad(h, (0, 1, 0, 1)), 3, stride=2, padding=1)
        h = torch.cat([self.down(h).chunk(2, 1)[i] for i in (1, 0)], 1)
        h = F.interpolate(self.up(torch.sigmoid(h)), scale_factor=2, mode="nearest")
        h = h[:, :, 1:-1, 1::2]
        mean = h.mean((1, 2, 3), keepdim=True)
        return self.fc(F.avg_pool2d(h, (3, 1), (2, 2)).flatten(1)) - mean[..., 0, 0]


EXPORTS = [(False, 11), (False, 13), (False, 17), (True, 18), (True, 20)]


@pytest.mark.parametrize(("dynamo", "opset"), EXPORTS)
@pytest.mark.parametrize("dynamic", [False, True])
def test_exporters_of_torch(tmp_path, dynamo, opset, dynamic, capsys):
    torch.manual_seed(0)
    model, path = Residual().eval(), tmp_path / "m.onnx"
    options = {"dynamic_axes": {"x": {0: "batch"}}} if dynamic else {}
    if dynamic and dynamo:
        options = {"dynamic_shapes": {"x": {0: torch.export.Dim("batch")}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(2 if dynamic else 1, 3, 8, 8),),
            path,
            input_names=["x"],
            dynamo=dynamo,
            opset_version=opset,
            **options,
        )
    capsys.readouterr()
    translation = agrees(path, affine=False)
    names = [n.function.name for n in translation.graph.activations()]
    assert names == ["softplus", "tanh", "sigmoid"]
    x = torch.rand(5, 3, 8, 8)
    graph = translation.graph
    found = evaluate(graph, x, stored_as(x.dtype))[graph.output]
    torch.testing.assert_close(found, model(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2", "INT4", "UINT4"])
def test_weights_in_types_that_numpy_lacks(tmp_path, kind):
    stored = helper.make_tensor("stored", getattr(TensorProto, kind), [6, 2], list(range(12)))
    path = tmp_path / "narrow.onnx"
    nodes = [
        node("Cast", ["stored"], ["w"], to=TensorProto.FLOAT),
        node("MatMul", ["x", "w"], ["y"]),
    ]
    model = onnx.load(save(path, nodes, shape=["batch", 6], opset=21))
    model.ir_version = 10
    model.graph.initializer.append(stored)
    onnx.save(model, path)
    agrees(path)


def test_weights_that_are_strings(tmp_path):
    nodes = [
        node("Cast", ["words"], ["w"], to=TensorProto.FLOAT),
        node("MatMul", ["x", "w"], ["y"]),
    ]
    words = np.array([["1"], ["2"]], dtype=object)
    with pytest.raises(UnsupportedError, match=r"node 'words' at .*: it holds strings"):
        from_onnx(
            save(tmp_path / "words.onnx", nodes, {"words": words}, shape=["batch", 2]), BUILTIN
        )


def test_a_rule_of_a_plugin_reads_an_operator_of_another_domain(tmp_path: Path) -> None:
    nodes = [
        node("FusedMatMul", ["x", "w"], ["h"], domain="com.microsoft", alpha=0.5),
        node("Tanh", ["h"], ["a"]),
        node("FusedMatMul", ["a", "v"], ["y"], domain="com.microsoft"),
    ]
    tensors = {"w": weights(4, 5), "v": weights(5, 3)}
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=("N", 4), domains=["com.microsoft"])

    def rule(call: Call) -> Result:
        alpha = Constant(torch.tensor(call.attributes.get("alpha", 1.0), dtype=torch.float64))
        product = algebra.matmul(call.build, call.site, call.signal(), call.value(1))
        assert product is not None
        scaled = algebra.multiply(call.build, call.site, product, alpha)
        return or_reason(scaled, "unknown")

    translation = from_onnx(path, BUILTIN, operators={"com.microsoft::FusedMatMul": rule})
    refuse_opaque(translation.graph)
    validate(translation)
    with pytest.raises(UnsupportedError, match=r"com\.microsoft::FusedMatMul"):
        from_onnx(path, BUILTIN, operators={"FusedMatMul": rule})
