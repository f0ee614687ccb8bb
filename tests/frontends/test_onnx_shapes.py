"""Shapes, selections and arithmetic of ONNX, in several opsets, against onnxruntime."""

from __future__ import annotations

import re

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import agrees, ints, node, save, weights

from vercomp.activations import BUILTIN
from vercomp.errors import UnsupportedError
from vercomp.frontends.onnx import from_onnx
from vercomp.frontends.translation import refuse_opaque

SHAPE = (3, 4, 5)

INT_MAX, INT_MIN = 2**63 - 1, -(2**63)

ONE_NODE = {
    # name: operator, opset, attributes, constants in order of the inputs
    "pad, attributes": ("Pad", 10, {"pads": [0, 1, 0, 2, 0, 0, 3, 0]}, {}),
    "pad, value": ("Pad", 10, {"pads": [0, 0, 1, 0, 0, 0, 0, 2], "value": 0.7}, {}),
    "pad, inputs": ("Pad", 11, {}, {"p": ints(0, 0, 1, 1, 0, 0, 0, 2)}),
    "pad, constant": (
        "Pad", 13, {"mode": "constant"}, {"p": ints(0, 0, 1, 1, 0, 0, 0, 2), "v": np.float32(-2)}
    ),
    "pad, axes": (
        "Pad", 18, {}, {"p": ints(1, 2, 0, 1), "v": np.float32(0.5), "a": ints(-1, 1)}
    ),
    "pad, negative": ("Pad", 11, {}, {"p": ints(0, 0, -1, 1, 0, 0, 0, -2)}),
    "pad, reflect": ("Pad", 11, {"mode": "reflect"}, {"p": ints(0, 0, 2, 1, 0, 0, 1, 2)}),
    "pad, edge": ("Pad", 11, {"mode": "edge"}, {"p": ints(0, 1, 2, 1, 0, 0, 1, 2)}),
    "pad, wrap": ("Pad", 19, {"mode": "wrap"}, {"p": ints(0, 0, 2, 1, 0, 0, 1, 2)}),
    "pad, nothing": ("Pad", 9, {"pads": [0] * 8}, {}),
    "slice, attributes": ("Slice", 9, {"starts": [1, -3], "ends": [3, -1], "axes": [2, 3]}, {}),
    "slice, all axes": ("Slice", 9, {"starts": [0, 1, 0, 0], "ends": [INT_MAX, 3, 9, 4]}, {}),
    "slice, inputs": ("Slice", 10, {}, {"s": ints(1, 0), "e": ints(INT_MAX, -1), "a": ints(1, -1)}),
    "slice, steps": (
        "Slice", 13, {}, {"s": ints(0, 3), "e": ints(5, 0), "a": ints(3, 2), "t": ints(2, -1)}
    ),
    "slice, reversed": (
        "Slice", 11, {}, {"s": ints(-1), "e": ints(INT_MIN), "a": ints(3), "t": ints(-1)}
    ),
    "gather, scalar": ("Gather", 13, {"axis": 2}, {"i": np.array(1)}),
    "gather, vector": ("Gather", 11, {"axis": -1}, {"i": ints(3, 0, -1, 3)}),
    "gather, matrix": ("Gather", 9, {"axis": 1}, {"i": np.array([[0, 2], [1, 1]])}),
    "gather, everything": ("Gather", 11, {"axis": 1}, {"i": ints(0, 1, 2)}),
    "expand": ("Expand", 13, {}, {"s": ints(1, 3, 1, 1)}),
    "tile": ("Tile", 13, {}, {"r": ints(1, 2, 1, 3)}),
    "upsample, attribute": ("Upsample", 7, {"scales": [1.0, 1.0, 2.0, 3.0]}, {}),
    "upsample": ("Upsample", 9, {}, {"s": np.array([1, 1, 2, 3], np.float32)}),
    "resize, old": ("Resize", 10, {}, {"s": np.array([1, 1, 3, 2], np.float32)}),
    "resize": (
        "Resize", 13, {}, {"": None, "s": np.array([1, 1, 3, 2], np.float32)}
    ),
    "resize, asymmetric": (
        "Resize",
        11,
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        {"r": np.zeros(0, np.float32), "s": np.array([1, 1, 4, 2], np.float32)},
    ),
    "resize, aligned": (
        "Resize",
        13,
        {"coordinate_transformation_mode": "align_corners", "nearest_mode": "ceil"},
        {"": None, "s": np.array([1, 1, 2, 3], np.float32)},
    ),
    "resize, sizes": ("Resize", 13, {}, {"": None, " ": None, "s": ints(3, 3, 8, 15)}),
    "resize, axes": (
        "Resize", 18, {"axes": [3, 2]}, {"": None, "s": np.array([3, 2], np.float32)}
    ),
    "depth to space": ("DepthToSpace", 13, {"blocksize": 2}, {}),
    "depth to space, CRD": ("DepthToSpace", 13, {"blocksize": 2, "mode": "CRD"}, {}),
    "space to depth": ("SpaceToDepth", 13, {"blocksize": 2}, {}),
    "transpose": ("Transpose", 13, {"perm": [0, 3, 1, 2]}, {}),
    "flatten": ("Flatten", 11, {"axis": -3}, {}),
    "reshape": ("Reshape", 13, {}, {"s": ints(0, -1, 2)}),
    "reshape, zero": ("Reshape", 14, {"allowzero": 1}, {"s": ints(-1, 12, 5)}),
    "mask": ("Mul", 13, {}, {"m": (weights(1, 4, 5) > 0).astype(np.float32)}),
    "channels": ("Div", 13, {}, {"m": weights(3, 1, 1)}),
    "columns": ("Mul", 13, {}, {"m": weights(5)}),
    "every entry but columns": ("Mul", 13, {}, {"m": weights(1, 3, 4, 1)}),
    "a constant of every input": ("Add", 13, {}, {"m": weights(1, 3, 4, 5)}),
    "matrix": ("MatMul", 13, {}, {"m": weights(5, 2)}),
    "vector": ("MatMul", 13, {}, {"m": weights(5)}),
    "stack of one": ("MatMul", 13, {}, {"m": weights(1, 1, 5, 2)}),
}  # fmt: skip


@pytest.mark.parametrize("case", ONE_NODE)
def test_one_node(tmp_path, case):
    operator, opset, attributes, constants = ONE_NODE[case]
    tensors = {name: value for name, value in constants.items() if name.strip()}
    shape = {"space to depth": (3, 4, 6), "expand": (1, 4, 5)}.get(case, SHAPE)
    shape = (8, 3, 2) if case.startswith("depth") else shape
    nodes = [node(operator, ["x", *map(str.strip, constants)], ["y"], **attributes)]
    batch = 3 if case == "resize, sizes" else "N"
    agrees(save(tmp_path / "m.onnx", nodes, tensors, shape=(batch, *shape), opset=opset))


def test_a_matrix_from_the_left(tmp_path):
    nodes = [node("MatMul", ["m", "x"], ["y"])]
    tensors = {"m": weights(2, 4)}
    agrees(save(tmp_path / "m.onnx", nodes, tensors, shape=("N", 3, 4, 5)))


def test_quotients_and_differences_from_the_left(tmp_path):
    nodes = [
        node("Sub", ["c", "x"], ["a"]),
        node("Mul", ["d", "a"], ["b"]),
        node("Sub", ["b", "x"], ["y"]),
    ]
    tensors = {"c": weights(3, 1, 1), "d": weights(4, 1, seed=1)}
    agrees(save(tmp_path / "m.onnx", nodes, tensors, shape=("N", *SHAPE)))


def test_sums_of_branches_that_broadcast(tmp_path):
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[2, 3]),
        node("ReduceMean", ["x"], ["r"], axes=[3], keepdims=1),
        node("Sum", ["m", "x", "c", "r"], ["s"]),
        node("Sub", ["r", "s"], ["y"]),
    ]
    agrees(save(tmp_path / "m.onnx", nodes, {"c": weights(4, 1)}, shape=("N", *SHAPE)))


@pytest.mark.parametrize("index", [[0, -1], [[1, 2], [-2, 0], [1, 2]], [[[0], [1]], [[1], [1]]]])
def test_gathers_of_several_axes(tmp_path, index):
    """As torch's dynamo exporter writes x[..., 0, -1]."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[2, 3, 0, 1]),
        node("GatherND", ["t", "i"], ["g"]),
        node(
            "Transpose",
            ["g"],
            ["y"],
            perm=_batch_first(np.ndim(index) - 1 + 4 - np.shape(index)[-1]),
        ),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"i": np.array(index)}, shape=("N", *SHAPE))
    agrees(path)


def _batch_first(rank):
    return [rank - 2, rank - 1, *range(rank - 2)]


SPLITS = [
    (11, {"split": [1, 3]}, None, 2),
    (11, {}, None, 2),
    (13, {}, (3, 1), 2),
    (18, {"num_outputs": 3}, None, 3),
]


@pytest.mark.parametrize(("opset", "attributes", "sizes", "count"), SPLITS)
def test_split_and_concatenate(tmp_path, opset, attributes, sizes, count):
    """Pieces, uneven ones too, reversed, with a constant between them."""
    tensors = {"c": weights(1, 3, 2, 5)} | ({} if sizes is None else {"sizes": ints(*sizes)})
    inputs = ["x"] if sizes is None else ["x", "sizes"]
    pieces = [f"p{i}" for i in range(count)]
    nodes = [
        node("Split", inputs, pieces, axis=2, **attributes),
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "first"], ["n"]),
        node("Concat", ["n", "behind"], ["t"], axis=0),
        node("Expand", ["c", "t"], ["k"]),
        node("Concat", [*pieces[::-1], "k"], ["y"], axis=-2),
    ]
    tensors |= {"first": ints(0), "behind": ints(3, 2, 5)}
    height = 5 if opset == 18 else 4  # cut into 2, 2 and 1
    agrees(save(tmp_path / "m.onnx", nodes, tensors, shape=("N", 3, height, 5), opset=opset))


def arithmetic(opset):
    """A shape computed as exporters do: cast, divided, rounded, joined, and a range."""
    axes = {"axes": [0]} if opset < 13 else {}
    zero = [] if opset < 13 else ["zero"]
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "i0"], ["n"]),
        node("Gather", ["s", "i2"], ["h"]),
        node("Cast", ["h"], ["hf"], to=TensorProto.FLOAT),
        node("Div", ["hf", "two"], ["half"]),
        node("Floor", ["half"], ["floor"]),
        node("Cast", ["floor"], ["hi"], to=TensorProto.INT64),
        node("Mul", ["hi", "i2"], ["again"]),
        node("Unsqueeze", ["n", *zero], ["n1"], **axes),
        node("Unsqueeze", ["again", *zero], ["h1"], **axes),
        node("Concat", ["n1", "minus", "h1"], ["target"], axis=0),
        node("Equal", ["target", "minus"], ["free"]),
        node("ConstantOfShape", ["three"], ["ones"], value=helper.make_tensor("v", 7, [1], [-1])),
        node("Where", ["free", "ones", "target"], ["t"]),
        node("Reshape", ["x", "t"], ["r"]),
        node("Range", ["i0", "again", "i1"], ["places"]),
        node("Gather", ["r", "places"], ["y"], axis=2),
    ]
    tensors = {
        "i0": np.array(0),
        "i1": np.array(1),
        "i2": np.array(2),
        "two": np.float32(2),
        "minus": ints(-1),
        "three": ints(3),
        "zero": ints(0),
    }
    return nodes, tensors


@pytest.mark.parametrize("batch", [1, 2, 3, 4, "N", None])
@pytest.mark.parametrize("opset", [11, 13, 17, 21])
def test_shape_arithmetic_folds_away(tmp_path, batch, opset):
    nodes, tensors = arithmetic(opset)
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=(batch, 3, 4, 5), opset=opset)
    agrees(path)


def test_the_number_of_entries(tmp_path):
    nodes = [
        node("Size", ["x"], ["all"]),
        node("Shape", ["x"], ["batch"], start=0, end=1),
        node("Div", ["all", "batch"], ["rest"]),
        node("Concat", ["batch", "rest"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["y"]),
    ]
    agrees(save(tmp_path / "m.onnx", nodes, shape=("N", 3, 4)))


@pytest.mark.parametrize("opset", [9, 13])
def test_one_input_at_a_time_among_other_axes_of_length_one(tmp_path, opset):
    """Any axis of length 1 may be the batch, whichever the operators leave alone."""
    old = opset < 13
    squeeze, a0, a01 = {"axes": [0]} if old else {}, [] if old else ["a0"], [] if old else ["a01"]
    nodes = [
        node("Unsqueeze", ["x", *a0], ["u"], **squeeze),  # (1, 1, 1, 4)
        node("Squeeze", ["u", *a01], ["s"], **({"axes": [0, 1]} if old else {})),  # (1, 4)
        node("Unsqueeze", ["s", *a0], ["v"], **squeeze),  # (1, 1, 4)
        node("Concat", ["v", "x"], ["c"], axis=0),  # (2, 1, 4): the batch is in the middle
        node("Gather", ["c", "first"], ["g"], axis=0),  # (1, 4)
        node("Add", ["g", "x"], ["y"]),
    ]
    tensors = {"a0": ints(0), "a01": ints(0, 1), "first": np.array(0)}
    agrees(save(tmp_path / "m.onnx", nodes, tensors, shape=(1, 1, 4), opset=opset))


def test_a_fixed_batch_equal_to_other_axes(tmp_path):
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("MatMul", ["t", "m"], ["u"]),
        node("Transpose", ["u"], ["v"], perm=[1, 2, 0]),
        node("Reshape", ["v", "s"], ["y"]),
    ]
    tensors = {"m": weights(3, 3), "s": ints(3, 9)}
    agrees(save(tmp_path / "m.onnx", nodes, tensors, shape=(3, 3, 3)))


def test_masks(tmp_path):
    """A choice by a constant mask is affine."""
    nodes = [
        node("Less", ["r", "limit"], ["m"]),
        node("Where", ["m", "x", "c"], ["a"]),
        node("Where", ["m", "zero", "a"], ["b"]),
        node("Where", ["m", "b", "x"], ["y"]),
    ]
    tensors = {
        "r": np.arange(5, dtype=np.float32),
        "limit": np.float32(2.5),
        "c": weights(4, 1),
        "zero": np.float32(0),
    }
    agrees(save(tmp_path / "m.onnx", nodes, tensors, shape=("N", *SHAPE)))


BATCH = {
    "ReduceSum": ([node("ReduceSum", ["x", "i"], ["y"])], "it adds up the batch dimension"),
    "Slice": ([node("Slice", ["x", "i", "j"], ["y"])], "it slices the batch dimension"),
    "Gather": ([node("Gather", ["x", "i"], ["y"])], "it picks entries of the batch dimension"),
    "Concat": ([node("Concat", ["x", "x"], ["y"], axis=0)], "it joins the batch dimension"),
    "Split": ([node("Split", ["x"], ["y", "z"])], "it splits the batch dimension"),
    "Squeeze": ([node("Squeeze", ["x"], ["y"])], "it drops the batch dimension"),
    "Pad": ([node("Pad", ["x", "p"], ["y"])], "it pads the batch dimension"),
    "Tile": ([node("Tile", ["x", "t"], ["y"])], "it repeats the batch dimension"),
}


@pytest.mark.parametrize("operator", BATCH)
def test_what_mixes_the_inputs_is_refused(tmp_path, operator):
    nodes, reason = BATCH[operator]
    tensors = {
        "i": ints(0),
        "j": ints(1),
        "p": ints(1, 0, 0, 0, 0, 0),
        "t": ints(2, 1, 1),
    }
    batch = 1 if operator == "Squeeze" else "N"
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=(batch, 3, 4), flat=False)
    with pytest.raises(UnsupportedError) as error:
        from_onnx(path, BUILTIN)
    assert str(error.value) == (
        f"node 'y' ({operator}) at m.onnx: {reason}. "
        "Only affine operators and elementwise activations can be analysed"
    )


UNSUPPORTED = {
    "GatherElements": (
        [node("GatherElements", ["x", "i"], ["y"], axis=2)],
        "entries can only be picked along whole axes, by Gather and GatherND",
    ),
    "GatherND": (
        [node("GatherND", ["x", "i"], ["y"], batch_dims=1)],
        "its indices are given for every input of a batch",
    ),
    "Einsum": (
        [node("Einsum", ["x", "x"], ["y"], equation="bij,bij->bi")],
        "products written as Einsum are not supported; MatMul is",
    ),
    "Resize": (
        [node("Resize", ["x", "", "s"], ["y"], mode="linear")],
        "only resizing to the nearest neighbour by whole constant factors is supported",
    ),
    "Div": (
        [node("ReduceMax", ["x"], ["m"], axes=[1, 2]), node("Div", ["x", "m"], ["y"])],
        "a quotient of two results of the network is neither affine nor an activation",
    ),
}


@pytest.mark.parametrize("operator", UNSUPPORTED)
def test_operators_without_a_rule(tmp_path, operator):
    nodes, reason = UNSUPPORTED[operator]
    tensors = {"i": np.zeros((1, 1), np.int64), "s": np.array([1, 2, 1], np.float32)}
    path = save(tmp_path / "m.onnx", nodes, tensors, shape=(1, 3, 4))
    with pytest.raises(UnsupportedError, match=re.escape(f"({operator}) at m.onnx: {reason}")):
        refuse_opaque(from_onnx(path, BUILTIN).graph)
