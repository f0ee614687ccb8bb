"""Convolutions, poolings, means and normalisation of ONNX, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import agrees, ints, node, save, weights

from vercomp.activations import BUILTIN
from vercomp.frontends.onnx import from_onnx

CONVOLUTIONS = {
    "one axis": ((3, 11), (4, 3, 3), {"strides": [2], "pads": [1, 0]}),
    "three axes": ((2, 4, 5, 6), (3, 2, 2, 1, 3), {"pads": [1, 0, 1, 0, 0, 2]}),
    "asymmetric": ((3, 7, 8), (4, 3, 3, 2), {"pads": [0, 1, 2, 0], "strides": [2, 3]}),
    "dilated": ((3, 9, 9), (4, 3, 3, 3), {"dilations": [2, 3], "pads": [1, 2, 3, 4]}),
    "groups": ((4, 6, 6), (6, 2, 3, 3), {"group": 2}),
    "depthwise": ((4, 6, 6), (4, 1, 3, 3), {"group": 4, "kernel_shape": [3, 3]}),
    "valid": ((3, 7, 8), (4, 3, 3, 2), {"auto_pad": "VALID", "strides": [2, 2]}),
    "same upper": ((3, 7, 8), (4, 3, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    "same lower": ((3, 7, 8), (4, 3, 4, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    "not set": ((3, 5, 5), (2, 3, 3, 3), {"auto_pad": "NOTSET", "pads": [1, 1, 1, 1]}),
    "whole": ((3, 4, 4), (5, 3, 4, 4), {}),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(tmp_path, case, bias):
    shape, kernel, attributes = CONVOLUTIONS[case]
    tensors = {"w": weights(*kernel)} | ({"b": weights(kernel[0], seed=1)} if bias else {})
    nodes = [node("Conv", ["x", *tensors], ["y"], **attributes)]
    agrees(save(tmp_path / "m.onnx", nodes, tensors, shape=("N", *shape), opset=11))


TRANSPOSED = {
    "one axis": ((3, 5), (3, 4, 3), {"strides": [2], "pads": [1, 0]}),
    "three axes": ((2, 3, 2, 3), (2, 3, 2, 1, 3), {"strides": [2, 1, 1]}),
    "output padding": (
        (3, 4, 5),
        (3, 2, 3, 3),
        {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 2]},
    ),
    "output shape": ((3, 4, 5), (3, 2, 3, 3), {"strides": [2, 2], "output_shape": [8, 10]}),
    "output shape, odd": (
        (3, 4, 5),
        (3, 2, 4, 4),
        {"strides": [2, 2], "output_shape": [9, 11], "auto_pad": "SAME_UPPER"},
    ),
    "same upper": ((3, 4, 5), (3, 2, 3, 4), {"strides": [2, 3], "auto_pad": "SAME_UPPER"}),
    "same lower": ((3, 4, 5), (3, 2, 4, 3), {"strides": [3, 2], "auto_pad": "SAME_LOWER"}),
    "valid": ((3, 4, 5), (3, 2, 3, 3), {"strides": [2, 2], "auto_pad": "VALID"}),
    "groups, dilated": ((4, 4, 5), (4, 3, 3, 2), {"group": 2, "dilations": [2, 3]}),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution(tmp_path, case):
    shape, kernel, attributes = TRANSPOSED[case]
    outputs = kernel[1] * attributes.get("group", 1)
    tensors = {"w": weights(*kernel), "b": weights(outputs, seed=1)}
    nodes = [node("ConvTranspose", ["x", *tensors], ["y"], **attributes)]
    agrees(save(tmp_path / "m.onnx", nodes, tensors, shape=("N", *shape), opset=11))


POOLS = {
    "plain": (7, {"kernel_shape": [3, 2]}),
    "strides": (7, {"kernel_shape": [2, 2], "strides": [2, 3]}),
    "padded, uncounted": (7, {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1], "strides": [2, 2]}),
    "padded, counted": (
        7,
        {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1], "count_include_pad": 1},
    ),
    "ceil": (10, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "ceil, padded": (
        10,
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
    ),
    "ceil, counted": (
        19,
        {
            "kernel_shape": [3, 3],
            "strides": [2, 3],
            "ceil_mode": 1,
            "pads": [1, 1, 1, 1],
            "count_include_pad": 1,
        },
    ),
    "same": (7, {"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "dilated": (19, {"kernel_shape": [2, 3], "dilations": [2, 2], "strides": [2, 1]}),
    "dilated, padded": (
        19,
        {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 1, 2, 1]},
    ),
    "dilated, counted": (
        19,
        {
            "kernel_shape": [3, 2],
            "dilations": [2, 3],
            "pads": [1, 1, 2, 1],
            "count_include_pad": 1,
        },
    ),
}


@pytest.mark.parametrize("case", POOLS)
def test_average_pool(tmp_path, case):
    opset, attributes = POOLS[case]
    nodes = [node("AveragePool", ["x"], ["y"], **attributes)]
    agrees(save(tmp_path / "m.onnx", nodes, shape=("N", 2, 6, 8), opset=opset))


@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 5), (2, 3, 4, 5)])
def test_global_average_pool(tmp_path, shape):
    nodes = [node("GlobalAveragePool", ["x"], ["y"])]
    agrees(save(tmp_path / "m.onnx", nodes, shape=("N", *shape)))


REDUCTIONS = [
    ("ReduceMean", 11, {"axes": [2, 3]}, None),
    ("ReduceMean", 13, {"axes": [-1], "keepdims": 0}, None),
    ("ReduceMean", 18, {"keepdims": 0}, (1, -1)),
    ("ReduceMean", 18, {"noop_with_empty_axes": 1}, ()),
    ("ReduceSum", 11, {"axes": [1], "keepdims": 0}, None),
    ("ReduceSum", 13, {}, (3, 1)),
    ("ReduceSum", 13, {"noop_with_empty_axes": 1}, None),
]


@pytest.mark.parametrize(("operator", "opset", "attributes", "axes"), REDUCTIONS)
def test_reductions(tmp_path, operator, opset, attributes, axes):
    tensors = {} if axes is None else {"axes": ints(*axes)}
    nodes = [node(operator, ["x", *tensors], ["y"], **attributes)]
    agrees(save(tmp_path / "m.onnx", nodes, tensors, shape=("N", 3, 4, 5), opset=opset))


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 3, 5), (4, 2, 3, 2)])
@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_batch_normalisation_of_any_rank(tmp_path, shape, opset):
    tensors = {name: weights(4, seed=i) for i, name in enumerate("gbm")}
    tensors["v"] = np.abs(weights(4, seed=5)) + 0.1
    nodes = [node("BatchNormalization", ["x", *tensors], ["y"], epsilon=0.01)]
    agrees(save(tmp_path / "m.onnx", nodes, tensors, shape=("N", *shape), opset=opset))


def test_batch_normalisation_of_every_entry(tmp_path):
    tensors = {name: weights(2, 3, 2, seed=i) for i, name in enumerate("gbm")}
    tensors["v"] = np.abs(weights(2, 3, 2, seed=5)) + 0.1
    nodes = [node("BatchNormalization", ["x", *tensors], ["y"], spatial=0)]
    agrees(save(tmp_path / "m.onnx", nodes, tensors, shape=("N", 2, 3, 2), opset=7))


REFUSED = {
    "InstanceNormalization": (
        [node("InstanceNormalization", ["x", "s", "s"], ["y"])],
        "it divides by statistics of each input, which is not affine",
    ),
    "LayerNormalization": (
        [node("LayerNormalization", ["x", "l"], ["y"])],
        "it divides by statistics of each input, which is not affine",
    ),
    "LRN": (
        [node("LRN", ["x"], ["y"], size=3)],
        "it divides by statistics of each input, which is not affine",
    ),
    "Conv": (
        [node("Reshape", ["x", "kernel"], ["w"]), node("Conv", ["k", "w"], ["y"])],
        "its kernel is not constant",
    ),
}


@pytest.mark.parametrize("operator", REFUSED)
def test_what_is_not_affine_is_opaque(tmp_path, operator):
    """Its reason is told, and the rest is translated."""
    nodes, reason = REFUSED[operator]
    tensors = {
        "s": weights(2),
        "l": weights(4),
        "kernel": ints(1, 2, 4, 4),
        "k": weights(1, 2, 5, 5),
    }
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=(1, 2, 4, 4))
    (opaque,) = from_onnx(path, BUILTIN).graph.opaque()
    assert (opaque.operator, opaque.reason) == (operator, reason)
