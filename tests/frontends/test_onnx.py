"""The ONNX front end: hand-built graphs and both exporters, against onnxruntime."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from passes.merge_affine import MergeAffine
from passes.strip_head import StripHead
from vercomp.activations import BUILTIN
from vercomp.frontends.onnx import from_onnx
from vercomp.frontends.validate import validate
from vercomp.ir.printer import to_text
from vercomp.ir.reference import evaluate, stored_as
from vercomp.pass_manager import run_passes

RNG = np.random.default_rng(0)


def weights(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def save(
    path,
    nodes,
    initializers,
    *,
    shape=("batch", 4),
    out=("batch", 3),
    opset=17,
    dtype=TensorProto.FLOAT,
    listed=False,
):
    """A model of nodes over the input ``x`` with the output ``y``."""
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in initializers.items()]
    inputs = [helper.make_tensor_value_info("x", dtype, shape)]
    if listed:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    output = helper.make_tensor_value_info("y", dtype, out)
    graph = helper.make_graph(nodes, "net", inputs, [output], tensors)
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    onnx.save(model, path)
    return path


def translate(path):
    translation = from_onnx(path, BUILTIN)
    assert all("softmax" in node.operator for node in translation.graph.opaque())
    validate(translation)
    # What is stripped but a softmax becomes the graph's tail, and is not in its values.
    head = [StripHead()] if any(translation.graph.opaque()) else []
    graph = run_passes(translation.graph, [*head, MergeAffine()])
    # A batch of another size than the model's, after all passes
    x = torch.rand(5, *graph.input.shape).to(torch.float64)
    if not any(translation.graph.opaque()):
        found = evaluate(graph, x.float(), stored_as(torch.float32))[graph.output]
        tolerance = 1e-2 if translation.dtype == torch.float16 else 1e-4
        assert torch.allclose(found, translation.source(x.float()), atol=tolerance)
    return graph


node = helper.make_node


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 20])
@pytest.mark.parametrize("flags", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0, "transB": 1}])
def test_gemm(tmp_path, opset, flags):
    shape = (3, 4) if flags.get("transB") else (4, 3)
    nodes = [node("Gemm", ["x", "w", "b"], ["h"], **flags), node("Tanh", ["h"], ["y"])]
    tensors = {"w": weights(*shape), "b": weights(3)}
    graph = translate(save(tmp_path / "m.onnx", nodes, tensors, opset=opset))
    assert [n.function.name for n in graph.activations()] == ["tanh"]


def test_gemm_of_a_transposed_input(tmp_path):
    nodes = [
        node("Transpose", ["x"], ["t"]),
        node("Gemm", ["t", "w"], ["y"], transA=1),
    ]
    graph = translate(save(tmp_path / "m.onnx", nodes, {"w": weights(4, 3)}))
    assert to_text(graph) == "input x : 4\naffine y : 3 = dense[wᵀ] · x\noutput y"


def test_matmul_add_and_initialisers_listed_as_inputs(tmp_path):
    nodes = [
        node("MatMul", ["x", "fc1.weight"], ["a"], name="/fc1/MatMul"),
        node("Add", ["fc1.bias", "a"], ["b"], name="/fc1/Add"),
        node("Sigmoid", ["b"], ["c"], name="/act/Sigmoid"),
        node("MatMul", ["c", "onnx::MatMul_7"], ["d"], name="/fc2/MatMul"),
        node("Sub", ["d", "shift"], ["e"]),
        node("Softmax", ["e"], ["y"], axis=1),
    ]
    tensors = {
        "fc1.weight": weights(4, 5),
        "fc1.bias": weights(5),
        "onnx::MatMul_7": weights(5, 3),
        "shift": weights(1, 3),
    }
    graph = translate(save(tmp_path / "m.onnx", nodes, tensors, listed=True, opset=9))
    assert to_text(graph) == "\n".join(
        [
            "input x : 4",
            "affine fc1 : 5 = dense[fc1.weightᵀ] · x + fc1.bias",
            "activation act : 5 = sigmoid(fc1)",
            "affine fc2 : 3 = dense[fc2.weightᵀ] · act - shift",
            "output fc2",
        ]
    )
    trainable = {p.name: p.trainable for p in graph.parameters()}
    assert trainable == {
        "fc1.weight": True, "fc1.bias": True, "fc2.weight": True, "shift": False
    }  # fmt: skip


def one(values):
    return np.asarray(values, dtype=np.float32)


SPELLED = {
    "sigmoid": ([node("Sigmoid", ["h"], ["a"])], {}),
    "tanh": ([node("Tanh", ["h"], ["a"])], {}),
    "softplus": ([node("Softplus", ["h"], ["a"])], {}),
    "arctan": ([node("Atan", ["h"], ["a"])], {}),
    "erf": ([node("Erf", ["h"], ["a"])], {}),
    "sin": ([node("Sin", ["h"], ["a"])], {}),
    "softsign": ([node("Softsign", ["h"], ["a"])], {}),
    "elu": ([node("Elu", ["h"], ["a"])], {}),
    "celu": ([node("Celu", ["h"], ["a"], alpha=2.0)], {}),
    "mish": ([node("Mish", ["h"], ["a"])], {}),
    "gelu": ([node("Gelu", ["h"], ["a"])], {}),
    "gelu_tanh": ([node("Gelu", ["h"], ["a"], approximate="tanh")], {}),
    "relu": ([node("Relu", ["h"], ["a"])], {}),
    "abs": ([node("Abs", ["h"], ["a"])], {}),
    "leaky_relu": ([node("LeakyRelu", ["h"], ["a"], alpha=0.1)], {}),
    "leaky_relu ": ([node("PRelu", ["h", "slope"], ["a"])], {"slope": one([0.25])}),
    "hardtanh": ([node("Clip", ["h", "low", "high"], ["a"])], {"low": one(-2), "high": one(3)}),
    "clamp_min": ([node("Clip", ["h", "low"], ["a"])], {"low": one(-0.5)}),
    "clamp_max": ([node("Clip", ["h", "", "high"], ["a"])], {"high": one(1.5)}),
    "clamp_min ": ([node("Max", ["h", "low"], ["a"])], {"low": one(0.5)}),
    "hardtanh ": ([node("HardSigmoid", ["h"], ["a"])], {}),
    "hardtanh  ": ([node("HardSigmoid", ["h"], ["a"], alpha=1 / 6, beta=0.5)], {}),
    "hardswish": ([node("HardSwish", ["h"], ["a"])], {}),
    "silu": ([node("Sigmoid", ["h"], ["s"]), node("Mul", ["h", "s"], ["a"])], {}),
    "gelu ": (
        [
            node("Div", ["h", "root"], ["i"]),
            node("Erf", ["i"], ["j"]),
            node("Add", ["j", "one"], ["k"]),
            node("Mul", ["h", "k"], ["l"]),
            node("Mul", ["l", "half"], ["a"]),
        ],
        {"root": one(2**0.5), "one": one(1), "half": one([0.5])},
    ),
    "softplus ": (
        [
            node("Exp", ["h"], ["i"]),
            node("Add", ["i", "one"], ["j"]),
            node("Log", ["j"], ["k"]),
            node("Softplus", ["h"], ["l"]),
            node("Greater", ["h", "limit"], ["m"]),
            node("Where", ["m", "h", "k"], ["a"]),
        ],
        {"one": one(1), "limit": one(20)},
    ),
    "mish ": (
        [
            node("Softplus", ["h"], ["i"]),
            node("Tanh", ["i"], ["j"]),
            node("Mul", ["h", "j"], ["a"]),
        ],
        {},
    ),
    "sigmoid ": (
        [
            node("Neg", ["h"], ["i"]),
            node("Exp", ["i"], ["j"]),
            node("Add", ["j", "one"], ["k"]),
            node("Reciprocal", ["k"], ["a"]),
        ],
        {"one": one(1)},
    ),
}


@pytest.mark.parametrize("name", SPELLED)
def test_activations_are_recognised(tmp_path, name):
    middle, constants = SPELLED[name]
    nodes = [node("Gemm", ["x", "w", "b"], ["h"]), *middle, node("MatMul", ["a", "v"], ["y"])]
    tensors = {"w": weights(4, 5), "b": weights(5), "v": weights(5, 3), **constants}
    graph = translate(save(tmp_path / "m.onnx", nodes, tensors, opset=20))
    (activation,) = graph.activations()
    assert activation.function.name.split("_")[0] == name.strip().split("_")[0]


@pytest.mark.parametrize("batch", [1, 3, "N", None])
@pytest.mark.parametrize("opset", [9, 13])
def test_reshapes_with_any_batch(tmp_path, batch, opset):
    axes = {"axes": [1]} if opset < 13 else {}
    extra, first = ([], []) if opset < 13 else (["one"], ["zeros"])
    fixed = batch if isinstance(batch, int) else 0
    nodes = [
        node("Unsqueeze", ["x", *extra], ["a"], **axes),
        node("Squeeze", ["a", *extra], ["b"], **axes),
        node("Transpose", ["b"], ["c"], perm=[0, 2, 1]),
        node("Shape", ["c"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", *first], ["m"], **({"axes": [0]} if axes else {})),
        node("Concat", ["m", "minus"], ["t"], axis=0),
        node("Reshape", ["c", "t"], ["d"]),
        node("Reshape", ["d", "again"], ["e"]),
        node("Flatten", ["e"], ["f"]),
        node("Identity", ["f"], ["g"]),
        node("Dropout", ["g"], ["h", "mask"]),
        node("Cast", ["h"], ["i"], to=TensorProto.FLOAT),
        node("MatMul", ["i", "w"], ["y"]),
    ]
    tensors = {
        "one": np.array([1], np.int64),
        "zero": np.array(0, np.int64),
        "zeros": np.array([0], np.int64),
        "minus": np.array([-1], np.int64),
        "again": np.array([fixed, -1, 3], np.int64),
        "w": weights(6, 3),
    }
    path = save(
        tmp_path / "m.onnx", nodes, tensors, shape=(batch, 2, 3), out=(batch, 3), opset=opset
    )
    graph = translate(path)
    assert to_text(graph).splitlines()[1] == (
        "affine y : 3 = dense[wᵀ] · reshape(6) · permute(1, 0) · x"
    )


def test_a_convolution_that_covers_its_input_and_a_mean_image(tmp_path):
    nodes = [
        node("Sub", ["x", "mean"], ["a"]),
        node("Conv", ["a", "w", "b"], ["c"], kernel_shape=[1, 6]),
        node("Sigmoid", ["c"], ["d"]),
        node("Conv", ["d", "v"], ["e"], kernel_shape=[1, 1]),
        node("Flatten", ["e"], ["f"]),
        node("LogSoftmax", ["f"], ["y"]),
    ]
    tensors = {
        "mean": weights(1, 1, 1, 6),
        "w": weights(5, 1, 1, 6),
        "b": weights(5),
        "v": weights(3, 5, 1, 1),
    }
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=(1, 1, 1, 6), out=(1, 3), opset=9)
    graph = translate(path)
    assert {p.name: p.shape for p in graph.parameters()} == {
        "w": (5, 6), "mean": (1, 1, 6), "b": (5, 1, 1), "v": (3, 5)
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions(tmp_path, dtype):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Tanh", ["h"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"w": weights(4, 3, dtype=dtype)}, dtype=kind)
    translate(path)


def test_constants_in_half_precision_are_rounded_as_the_model_rounds_them(tmp_path):
    """A product of half-precision constants is one of them; cast first, it is one in single."""
    a, b = weights(4, 3, dtype=np.float16), weights(4, 3, dtype=np.float16)
    nodes = [
        node("Mul", ["a", "b"], ["w"]),
        node("Cast", ["w"], ["w32"], to=TensorProto.FLOAT),
        node("Cast", ["a"], ["a32"], to=TensorProto.FLOAT),
        node("Cast", ["b"], ["b32"], to=TensorProto.FLOAT),
        node("Mul", ["a32", "b32"], ["v"]),
        node("MatMul", ["x", "w32"], ["h"]),
        node("MatMul", ["x", "v"], ["k"]),
        node("MatMul", ["x", "a32"], ["l"]),
        node("Sum", ["h", "k", "l"], ["y"]),
    ]
    translation = from_onnx(save(tmp_path / "m.onnx", nodes, {"a": a, "b": b}), BUILTIN)
    found = {p.name: p.value for p in translation.graph.parameters()}
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert torch.equal(found["a"], torch.tensor(a).float())
    assert torch.equal(found["w"], torch.tensor(a * b).float())
    assert torch.equal(found["v"], torch.tensor(a.astype(np.float32) * b.astype(np.float32)))
    assert not torch.equal(found["w"], found["v"])


@pytest.mark.parametrize("batch", ["batch", 2])
def test_convolutions_of_float64_for_which_onnxruntime_has_no_kernel(tmp_path, batch):
    nodes = [
        node("Conv", ["x", "w", "b"], ["h"], pads=[1, 1, 1, 1]),
        node("Tanh", ["h"], ["a"]),
        node("Flatten", ["a"], ["y"]),
    ]
    tensors = {"w": weights(2, 1, 3, 3, dtype=np.float64), "b": weights(2, dtype=np.float64)}
    shape, out = (batch, 1, 3, 3), (batch, 18)
    path = tmp_path / "m.onnx"
    translate(save(path, nodes, tensors, shape=shape, out=out, dtype=TensorProto.DOUBLE))


def test_batch_normalisation(tmp_path):
    nodes = [node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"], epsilon=0.1)]
    tensors = {"g": weights(4), "b": weights(4), "m": weights(4), "v": np.abs(weights(4))}
    graph = translate(save(tmp_path / "m.onnx", nodes, tensors, out=("batch", 4)))
    assert to_text(graph).splitlines()[1] == (
        "affine y : 4 = scale[g] · scale[1/√(v + 0.1)] · x - scale[g] · scale[1/√(v + 0.1)] · m + b"
    )


def test_constants_of_every_kind(tmp_path):
    constant = numpy_helper.from_array(weights(3), "c")
    nodes = [
        node("Constant", [], ["c"], value=constant),
        node("Constant", [], ["two"], value_float=2.0),
        node("Constant", [], ["shape"], value_ints=[-1, 4]),
        node("Reshape", ["x", "shape"], ["r"]),
        node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        node("Mul", ["wt", "two"], ["w2"]),
        node("MatMul", ["r", "w2"], ["a"]),
        node("Add", ["a", "c"], ["b"]),
        node("Pow", ["b", "two"], ["p"]),
        node("Sub", ["p", "p"], ["z"]),
        node("Max", ["b", "b"], ["m"]),
        node("Add", ["m", "z"], ["s"]),
        node("Clip", ["s"], ["t"]),
        node("Sum", ["t", "c", "c"], ["y"]),
    ]
    graph = translate(save(tmp_path / "m.onnx", nodes, {"w": weights(3, 4)}))
    assert not list(graph.activations())


NAMES = ["a'\"b", "line\nbreak", "class", "ünï", "x y", "{}", "\\", "y.weight", "..", "'''"]


def test_any_name_gives_unique_node_names(tmp_path):
    nodes, value = [], "x"
    for index, name in enumerate([*NAMES, *NAMES]):
        out = "y" if index == 2 * len(NAMES) - 1 else f"{name}{index}"
        nodes.append(node("Gemm", [value, f"w{name}"], [f"{name}h{index}"], name=name))
        nodes.append(node("Tanh", [f"{name}h{index}"], [out], name=name))
        value = out
    tensors = {f"w{name}": weights(4, 4) for name in NAMES}
    path = save(tmp_path / "m.onnx", nodes, tensors, out=("batch", 4))
    graph = translate(path)
    names = [n.name for n in graph.nodes]
    assert len(set(names)) == len(names) == 1 + 4 * len(NAMES)
    assert all(name.strip() and name.isprintable() for name in names)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(12, 6)
        self.norm = nn.BatchNorm1d(6)
        self.norm.running_mean.uniform_()
        self.fc2 = nn.Linear(6, 6)
        self.fc3 = nn.Linear(6, 3)

    def forward(self, x):
        h = nn.functional.softplus(self.norm(self.fc1((x.flatten(1) - 0.5) / 0.25)))
        h = h + nn.functional.gelu(self.fc2(h))
        return self.fc3(nn.functional.silu(h).view(h.size(0), -1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_both_exporters(tmp_path, dynamo, dynamic, capsys):
    torch.manual_seed(0)
    model, path = Small().eval(), tmp_path / "m.onnx"
    options = {"dynamic_axes": {"x": {0: "batch"}}} if dynamic else {}
    if dynamic and dynamo:
        options = {"dynamic_shapes": {"x": {0: torch.export.Dim("batch")}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(2 if dynamic else 1, 3, 2, 2),),
            path,
            input_names=["x"],
            dynamo=dynamo,
            **options,
        )
    capsys.readouterr()
    graph = translate(path)
    assert [n.function.name for n in graph.activations()] == ["softplus", "gelu", "silu"]
    x = torch.rand(7, 3, 2, 2)
    found = evaluate(graph, x, stored_as(x.dtype))[graph.output]
    assert torch.allclose(found, model(x), atol=1e-5)


def test_external_data_beside_the_model(tmp_path):
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"w": weights(4, 3)})
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    translate(path)


def test_dead_branches_and_opaque_operators(tmp_path):
    nodes = [
        node("TopK", ["x", "two"], ["values", "indices"]),
        node("ReduceSum", ["x"], ["unused"], keepdims=1),
        node("MatMul", ["values", "w"], ["y"]),
    ]
    tensors = {"two": np.array([2], np.int64), "w": weights(2, 3)}
    path = save(tmp_path / "m.onnx", nodes, tensors)
    translation = from_onnx(path, BUILTIN)
    validate(translation)
    assert [n.operator for n in translation.graph.opaque()] == ["TopK"]
