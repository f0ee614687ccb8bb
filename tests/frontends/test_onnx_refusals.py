"""ONNX files from outside that are refused: what each is told, word for word."""

from __future__ import annotations

import os
import pickle

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from vercomp.activations import BUILTIN
from vercomp.errors import (
    ModelFileError,
    UnsupportedError,
    UsageError,
    ValidationError,
    WeightError,
)
from vercomp.frontends.onnx import from_onnx
from vercomp.frontends.translation import refuse_opaque

node = helper.make_node


def model(nodes=None, *, opset=17, tensors=None, inputs=None, outputs=1, imports=()):
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    nodes = nodes or [node("MatMul", ["x", "w"], ["y"], name="layer")]
    tensors = tensors or [numpy_helper.from_array(weight, "w")]
    inputs = inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 4))]
    names = ["y", *(f"y{i}" for i in range(1, outputs))]
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names]
    graph = helper.make_graph(nodes, "net", inputs, results, tensors)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in imports)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def refusal(path, kind, content=None):
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_bytes(content.SerializeToString())
    with pytest.raises(kind) as error:
        from_onnx(path, BUILTIN)
    return str(error.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.onnx"


def test_files_that_cannot_be_read(path, tmp_path):
    assert refusal(path, ModelFileError) == f"at {path}: there is no such file"
    assert refusal(tmp_path, ModelFileError) == f"at {tmp_path}: cannot be read: is a directory"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, world, this is no model", "is not an ONNX model, or is cut short"),
        (model().SerializeToString()[:-20], "is not an ONNX model, or is cut short"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "holds no ONNX graph"),
    ],
)
def test_files_that_are_no_models(path, content, message):
    assert refusal(path, ModelFileError, content) == f"at {path}: {message}"


@pytest.mark.parametrize("new", [True, False])
def test_checkpoints_are_not_opened(path, new):
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=new)
    message = (
        f"at {path}: is a PyTorch checkpoint (a pickle), which vercomp does not open. "
        "Give a function that builds the model as package.module:callable, "
        "or export it with torch.onnx.export"
    )
    assert refusal(path, ModelFileError) == message
    assert refusal(path, ModelFileError, pickle.dumps([1])) == message


def external(location, **more):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model(tensors=[tensor])


@pytest.mark.parametrize("where", ["absolute", "above", "link", "windows", "nowhere"])
def test_external_data_outside_the_folder(path, tmp_path, where):
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(48))
    os.symlink(secret, folder / "link.bin")
    location = {
        "absolute": str(secret),
        "above": "../secret.bin",
        "link": "link.bin",
        "windows": "..\\secret.bin",
        "nowhere": "",
    }[where]
    path = folder / "net.onnx"
    assert refusal(path, ModelFileError, external(location)) == (
        f"node 'w' at {path}: its external data {location!r} lie outside the model's folder"
    )


def test_external_data_missing_or_short(path):
    prefix = f"node 'w' at {path}: its external data 'w.bin'"
    assert refusal(path, ModelFileError, external("w.bin")) == f"{prefix} are missing"
    path.with_name("w.bin").write_bytes(bytes(40))
    assert refusal(path, ModelFileError, external("w.bin", length=48)) == f"{prefix} are cut short"
    assert refusal(path, ModelFileError, external("w.bin", offset="x")) == (
        f"{prefix} have no valid offset and length"
    )
    assert refusal(path, ModelFileError, external("w.bin")) == (
        f"node 'w' at {path}: its data do not have the size of its shape 4×3"
    )


def test_tensors_whose_data_do_not_fit(path):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3], raw_data=bytes(8))
    assert refusal(path, ModelFileError, model(tensors=[tensor])) == (
        f"node 'w' at {path}: its data do not have the size of its shape 4×3"
    )


def test_weights_that_are_not_finite(path):
    weight = np.ones((4, 3), dtype=np.float32)
    weight[0], weight[1, 0] = np.nan, np.inf
    content = model(tensors=[numpy_helper.from_array(weight, "w")])
    assert refusal(path, WeightError, content) == (
        "node 'w' at net.onnx: 4 of its 12 values are NaN or infinite. "
        "Train again or repair the weights"
    )


def test_old_opsets_and_other_domains(path):
    assert refusal(path, UnsupportedError, model(opset=6)) == (
        f"at {path}: opset 6 is older than 7. Export it again, or use onnx.version_converter"
    )
    custom = [node("FusedMatMul", ["x", "w"], ["y"], name="layer", domain="com.microsoft")]
    content = model(custom, imports=["com.microsoft"])
    assert refusal(path, UnsupportedError, content) == (
        f"node 'layer' (FusedMatMul) at {path}: operators of other domains than ai.onnx: "
        "com.microsoft::FusedMatMul. "
        "Export without contrib operators (and without graph optimisation)"
    )


def test_several_inputs_or_outputs(path):
    two = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ("batch", 4)) for n in ("x", "z")]
    both = [node("Add", ["x", "z"], ["a"]), node("MatMul", ["a", "w"], ["y"])]
    assert refusal(path, UnsupportedError, model(both, inputs=two)) == (
        f"at {path}: the model takes 2 inputs. It must take exactly one"
    )
    assert refusal(path, UnsupportedError, model(outputs=2)) == (
        f"at {path}: the model returns 2 results: 'y', 'y1'. "
        "Export the logits alone, or name them as the output"
    )
    with pytest.raises(UsageError) as error:
        from_onnx(path, BUILTIN, "logits")
    assert str(error.value) == f"at {path}: the model has no output 'logits'. It has 'y', 'y1'"


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        (
            TensorProto.FLOAT,
            ("batch", "width"),
            "dimension 1 ('width') of the input 'x' is dynamic. "
            "Only the batch (dimension 0) may be: export with fixed sizes",
        ),
        (
            TensorProto.FLOAT,
            ("n",),
            "the input 'x' has one dimension, which is dynamic: it may be the batch, or the "
            "features. Export it with a fixed size, or with two dimensions",
        ),
        (TensorProto.INT64, (1, 4), "the input 'x' is of type INT64, not of real numbers"),
        (
            TensorProto.BFLOAT16,
            (1, 4),
            "the input 'x' is of type BFLOAT16, in which onnxruntime does not run. "
            "Export it in float32; the weights may stay as they are",
        ),
    ],
)
def test_inputs_of_other_kinds(path, kind, shape, message):
    content = model(inputs=[helper.make_tensor_value_info("x", kind, shape)])
    assert refusal(path, UnsupportedError, content) == f"at {path}: {message}"


def test_what_onnxruntime_refuses(path):
    content = model([node("MatMul", ["x", "w"], ["y"])], opset=999)
    message = refusal(path, ModelFileError, content)
    assert message.startswith(f"at {path}: onnxruntime does not accept the model ([ONNXRuntimeErr")
    missing = model([node("MatMul", ["x", "nothing"], ["y"], name="layer")])
    assert refusal(path, ModelFileError, missing) == (
        f"node 'layer' (MatMul) at {path}: nothing computes its input 'nothing'"
    )
    no_output = model([node("MatMul", ["x", "w"], ["z"], name="layer")])
    assert refusal(path, ModelFileError, no_output) == (
        f"node 'y' at {path}: no node computes the output"
    )


def test_opaque_operators_are_listed_at_once(path):
    nodes = [
        node("LpNormalization", ["x"], ["m"], axis=1, name="peak"),
        node("Mul", ["x", "m"], ["d"], name="/a/b'c/Mul"),
        node("MatMul", ["d", "w"], ["y"]),
    ]
    path.write_bytes(model(nodes).SerializeToString())
    graph = from_onnx(path, BUILTIN).graph
    with pytest.raises(UnsupportedError) as error:
        refuse_opaque(graph)
    assert str(error.value) == "\n".join(
        [
            "2 operators are not supported:",
            "  node 'peak' (LpNormalization) at net.onnx: it divides by statistics of each input, "
            "which is not affine",
            "  node 'a.b_c' (Mul) at net.onnx, node \"/a/b'c/Mul\": the product of two results of "
            "the network is neither affine nor an activation",
            "Only affine operators and elementwise activations can be analysed",
        ]
    )


def test_what_runs_for_no_batch_is_listed_with_the_rest(path):
    """The walk goes on behind results whose shape nobody knows, and over formulas of nothing."""
    nodes = [
        node("Pow", ["x", "two"], ["p"], name="square"),
        node("ReduceSum", ["p"], ["m"], name="total", keepdims=0),
        node("Add", ["x", "m"], ["d"]),
        node("CumSum", ["d", "axis"], ["c"], name="running"),
        node("Softmax", ["c"], ["y"], name="head"),
    ]
    tensors = [
        numpy_helper.from_array(np.array(1), "axis"),
        numpy_helper.from_array(np.float32(2), "two"),
    ]
    assert refusal(path, UnsupportedError, model(nodes, tensors=tensors)) == "\n".join(
        [
            "3 operators are not supported:",
            "  node 'square' (Pow) at net.onnx: x² cannot be bounded: "
            "the first derivative is unbounded",
            "  node 'total' (ReduceSum) at net.onnx: it adds up the batch dimension",
            "  node 'running' (CumSum) at net.onnx: vercomp has no rule for this operator",
            "Only affine operators and elementwise activations can be analysed",
        ]
    )


def test_an_output_that_is_no_vector_of_logits(path):
    """What is wrong inside says more than the shape of what comes out."""
    nodes = [
        node("Unsqueeze", ["x", "one"], ["u"], name="image"),
        node("Transpose", ["u"], ["y"], name="turned", perm=[0, 2, 1]),
    ]
    tensors = [numpy_helper.from_array(np.array([1]), "one")]
    assert refusal(path, UnsupportedError, model(nodes, tensors=tensors)) == (
        "node 'turned' (Transpose) at net.onnx: the output has shape (batch, 4, 1). "
        "A classifier gives one logit for each class: (batch, classes)"
    )
    nodes[1] = node("Mul", ["u", "u"], ["y"], name="turned")
    assert refusal(path, UnsupportedError, model(nodes, tensors=tensors)) == (
        "node 'turned' (Mul) at net.onnx: x² cannot be bounded: the first derivative is unbounded. "
        "Only affine operators and elementwise activations can be analysed"
    )


def branches():
    def branch(operator):
        out = helper.make_tensor_value_info("z" + operator, TensorProto.FLOAT, None)
        return helper.make_graph([node(operator, ["x"], [out.name])], "branch", [], [out])

    return {"then_branch": branch("Tanh"), "else_branch": branch("Exp")}


def test_control_flow(path):
    nodes = [
        node("Slice", ["x", "zero", "one", "one"], ["s"]),
        node("Greater", ["s", "half"], ["flag"]),
        node("If", ["flag"], ["i"], name="choice", **branches()),
        node("MatMul", ["i", "w"], ["y"]),
    ]
    weight = np.ones((4, 3), dtype=np.float32)
    tensors = {"zero": np.array([0]), "one": np.array([1]), "half": np.float32(0.5), "w": weight}
    content = model(
        nodes, tensors=[numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()]
    )
    assert refusal(path, UnsupportedError, content) == "\n".join(
        [
            "2 operators are not supported:",
            "  node 'flag' (Greater) at net.onnx: x > 1/2 jumps by 1 at x = 0.5 from 0 to 1, so no "
            "bound holds on both sides",
            "  node 'choice' (If) at net.onnx: control flow is not supported",
            "Only affine operators and elementwise activations can be analysed",
        ]
    )


def test_the_mixed_batch(path):
    nodes = [
        node("Reshape", ["x", "shape"], ["r"], name="mix"),
        node("MatMul", ["r", "w"], ["y"]),
    ]
    weight = numpy_helper.from_array(np.ones((2, 3), dtype=np.float32), "w")
    shape = numpy_helper.from_array(np.array([-1, 2]), "shape")
    assert refusal(path, UnsupportedError, model(nodes, tensors=[weight, shape])) == (
        "node 'mix' (Reshape) at net.onnx: it mixes the batch with another dimension. "
        "Only affine operators and elementwise activations can be analysed"
    )


def test_dropout_that_is_on_is_caught(path):
    from vercomp.frontends.validate import validate

    nodes = [
        node("Dropout", ["x", "ratio", "on"], ["d"]),
        node("MatMul", ["d", "w"], ["y"]),
    ]
    tensors = [
        numpy_helper.from_array(np.ones((4, 3), dtype=np.float32), "w"),
        numpy_helper.from_array(np.array(0.5, dtype=np.float32), "ratio"),
        numpy_helper.from_array(np.array(True), "on"),
    ]
    path.write_bytes(model(nodes, tensors=tensors).SerializeToString())
    translation = from_onnx(path, BUILTIN)
    with pytest.raises(ValidationError, match="two different answers to one input"):
        validate(translation)
