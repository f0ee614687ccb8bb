"""ONNX graphs without a batch axis: each operator, one input after the other in onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx_models import agrees, ints, node, save, weights

import vercomp
from vercomp.errors import UnsupportedError

TENSORS = {
    "w": weights(4, 5),
    "v": weights(5, 4, seed=1),
    "b": weights(4, seed=2),
    "wide": weights(1, 4, seed=3),
    "k": weights(2, 1, 2, 2, seed=4),
    "zero": ints(0),
    "one": ints(1),
    "two": ints(2),
    "row": ints(1, 4),
    "square": ints(1, 1, 2, 2),
    "halves": ints(2, -1),
    "pads": ints(1, 2),
    "picks": ints(3, 0, 3),
    "times": ints(2),
    "three": np.array([3, 1, 4], np.int64),
}

VECTORS = {
    "x W": [node("MatMul", ["x", "w"], ["y"])],
    "W x": [node("MatMul", ["v", "x"], ["y"])],
    "w · x": [node("MatMul", ["x", "b"], ["y"])],
    "a constant": [node("Add", ["x", "b"], ["y"])],
    "a constant with one axis more": [node("Add", ["x", "wide"], ["y"])],
    "two signals of different ranks": [
        node("Unsqueeze", ["x", "zero"], ["u"]),
        node("Sub", ["u", "x"], ["d"]),
        node("Mul", ["d", "wide"], ["p"]),
        node("Add", ["p", "x"], ["y"]),
    ],
    "a row, then Gemm": [
        node("Reshape", ["x", "row"], ["r"]),
        node("Gemm", ["r", "w"], ["y"]),
    ],
    "an image": [
        node("Reshape", ["x", "square"], ["i"]),
        node("Conv", ["i", "k"], ["c"], pads=[1, 1, 0, 0]),
        node("AveragePool", ["c"], ["p"], kernel_shape=[2, 2]),
        node("Flatten", ["p"], ["y"]),
    ],
    "slice and concat": [
        node("Slice", ["x", "one", "two"], ["s"]),
        node("Concat", ["s", "x"], ["y"], axis=0),
    ],
    "concat from behind": [node("Concat", ["x", "x"], ["y"], axis=-1)],
    "gather": [node("Gather", ["x", "picks"], ["y"])],
    "split": [
        node("Split", ["x"], ["a", "c"], axis=0),
        node("Sub", ["a", "c"], ["y"]),
    ],
    "reshape and transpose": [
        node("Reshape", ["x", "halves"], ["r"]),
        node("Transpose", ["r"], ["t"]),
        node("Flatten", ["t"], ["f"], axis=0),
        node("Squeeze", ["f", "zero"], ["s"]),
        node("Mul", ["s", "b"], ["y"]),
    ],
    "transpose by an order": [
        node("Reshape", ["x", "halves"], ["r"]),
        node("Transpose", ["r"], ["y"], perm=[1, 0]),
    ],
    "mean": [
        node("ReduceMean", ["x"], ["m"], keepdims=1),
        node("Sub", ["x", "m"], ["y"]),
    ],
    "sum over an axis": [
        node("Reshape", ["x", "halves"], ["r"]),
        node("ReduceSum", ["r", "zero"], ["y"], keepdims=0),
    ],
    "pad": [node("Pad", ["x", "pads"], ["y"])],
    "tile": [node("Tile", ["x", "times"], ["y"])],
    "expand": [
        node("Reshape", ["x", "halves"], ["r"]),
        node("ReduceSum", ["r", "one"], ["s"]),
        node("Expand", ["s", "halves_up"], ["y"]),
    ],
    "its own shape": [
        node("Shape", ["x"], ["n"]),
        node("Concat", ["one", "n"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["r"]),
        node("Gemm", ["r", "w"], ["y"]),
    ],
}


@pytest.mark.parametrize("name", VECTORS)
def test_an_input_that_is_a_vector(tmp_path, name):
    tensors = {**TENSORS, "halves_up": ints(2, 3)}
    path = save(tmp_path / "m.onnx", VECTORS[name], tensors, shape=(4,), opset=14, flat=False)
    assert agrees(path).graph.input.shape == (4,)


@pytest.mark.parametrize("opset", [9, 11])
def test_where_old_operators_have_attributes(tmp_path, opset):
    nodes = [
        node("Unsqueeze", ["x"], ["u"], axes=[0]),
        node("ReduceSum", ["u"], ["s"], axes=[1], keepdims=1),
        node("Sub", ["u", "s"], ["d"]),
        node("Squeeze", ["d"], ["q"], axes=[0]),
        node("Mul", ["q", "b"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, TENSORS, shape=(4,), opset=opset, flat=False)
    agrees(path)


def test_a_column(tmp_path):
    """W x for a matrix with one column: read as a batch of four, nothing fits."""
    nodes = [
        node("MatMul", ["v", "x"], ["h"]),
        node("Tanh", ["h"], ["a"]),
        node("MatMul", ["w", "a"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, TENSORS, shape=(4, 1), flat=False)
    translation = agrees(path, affine=False)
    assert translation.graph.input.shape == (4, 1)
    net = vercomp.compile(path)
    x = torch.randn(3, 4, 1)
    y = net.network(x).argmax(1)
    assert (net.certify(x, y).radius > 0).all()


def test_a_fixed_batch_is_still_one(tmp_path):
    """Four inputs of three features, where nothing says otherwise."""
    nodes = [node("MatMul", ["x", "u"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"u": weights(3, 2)}, shape=(4, 3), flat=False)
    assert agrees(path).graph.input.shape == (3,)


def test_a_softmax_at_the_end_is_left_out(tmp_path):
    nodes = [node("MatMul", ["x", "w"], ["z"]), node("Softmax", ["z"], ["y"], axis=0)]
    path = save(tmp_path / "m.onnx", nodes, TENSORS, shape=(4,), flat=False)
    net = vercomp.compile(path)
    x = torch.randn(5, 4)
    assert torch.allclose(net.network(x), x @ torch.tensor(TENSORS["w"]), atol=1e-5)


def test_what_fits_neither_reading_says_so_for_both(tmp_path):
    """The product of an input with itself is none of ours, whichever axis is the batch."""
    nodes = [node("Transpose", ["x"], ["t"]), node("MatMul", ["x", "t"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, shape=(4, 3), flat=False)
    with pytest.raises(UnsupportedError, match="the product of two results of the network"):
        vercomp.compile(path)
