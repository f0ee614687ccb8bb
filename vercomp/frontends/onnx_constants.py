"""ONNX operators over constants only: computed when the model is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vercomp.frontends.onnx_call import RefusalError
from vercomp.frontends.onnx_file import from_numpy
from vercomp.frontends.onnx_nodes import RANDOM, SingleNode
from vercomp.frontends.onnx_shapes import RESHAPES
from vercomp.frontends.values import Constant, Value

_SAME = ("Identity", "Cast", "Dropout")


def folded(single: SingleNode, inputs: Sequence[Value | None]) -> Mapping[str, Constant]:
    """The results of a node by name, without losing whose tensor they are.

    What is computed from others is a tensor of the model by the name of the result: exporters hold
    weights in Constant nodes, behind transpositions and dequantisation.

    Raises:
        RefusalError: They cannot be computed, are random, or no numbers.
    """
    node = single.node
    if node.op_type in RANDOM:
        raise RefusalError("it is random")
    constants = [value for value in inputs if isinstance(value, Constant)]
    named = zip((name for name in node.input if name), constants, strict=True)
    try:
        results = single.fold({name: value.value.numpy() for name, value in named})
        tensors = [from_numpy(np.asarray(result)) for result in results]
    except Exception as error:  # whatever an operator of onnx may raise, or strings and sequences
        raise RefusalError("its result cannot be computed here") from error
    names = [name for name in node.output if name]
    first = constants[0] if constants else None
    return {
        name: _kept(node.op_type, first, tensor) or _fresh(name, tensor)
        for name, tensor in zip(names, tensors, strict=True)
    }


def _kept(operator: str, first: Constant | None, tensor: Tensor) -> Constant | None:
    """The tensor that an operator passes on, where it is still that one."""
    if first is None:
        return None
    if operator == "Cast" and first.value.dtype == torch.float16 and tensor.is_floating_point():
        first = first.widened(tensor.dtype)  # exactly: it is the same weight
    if tensor.dtype != first.value.dtype:
        return None
    if operator in _SAME and torch.equal(tensor, first.value):
        return first
    if operator in RESHAPES:
        return first.reshaped(tuple(tensor.shape))
    before = first.value
    if operator == "Transpose" and before.ndim == 2 and torch.equal(before.T, tensor):
        return first.swapped()
    return None


def _fresh(name: str, tensor: Tensor) -> Constant:
    if tensor.is_floating_point() and tensor.numel() > 1:
        return Constant.of(name, tensor, None)
    return Constant(tensor)
