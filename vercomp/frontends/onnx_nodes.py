"""Runs single nodes of an ONNX graph: to fold what is constant, and for what no rule covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper
from onnx.reference import ReferenceEvaluator

RANDOM = frozenset(
    (
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    )
)


@dataclass(frozen=True)
class SingleNode:
    """A node as a model of its own.

    Args:
        node: The node.
        opsets: Versions of the operators, by domain.
    """

    node: onnx.NodeProto
    opsets: Sequence[onnx.OperatorSetIdProto]

    def fold(self, arrays: Mapping[str, np.ndarray]) -> list[Any]:
        """Its results for constants, first of all as ONNX's own reference interpreter has them.

        Raises:
            Exception: Whatever an operator may raise.
        """
        try:
            return self._interpret(arrays)
        except Exception:  # an operator, or an old version of one, that the interpreter lacks
            return self._runtime(arrays)

    def run(self, arrays: Mapping[str, np.ndarray]) -> list[Any]:
        """Its results for inputs of any precision, first of all as onnxruntime has them.

        Raises:
            Exception: Whatever an operator may raise.
        """
        try:
            return self._runtime(arrays)
        except Exception:  # onnxruntime lacks many operators in float64
            return self._interpret(arrays)

    def _interpret(self, arrays: Mapping[str, np.ndarray]) -> list[Any]:
        return list(ReferenceEvaluator(self._model(arrays)).run(None, dict(arrays)))

    def _runtime(self, arrays: Mapping[str, np.ndarray]) -> list[Any]:
        session = _session(self._model(arrays).SerializeToString())
        return list(session.run(None, dict(arrays)))

    def _model(self, arrays: Mapping[str, np.ndarray]) -> onnx.ModelProto:
        nameless = onnx.NodeProto()
        nameless.CopyFrom(self.node)
        nameless.name = ""
        inputs = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim
            )
            for name, array in arrays.items()
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in self.node.output if name]
        graph = helper.make_graph([nameless], "node", inputs, outputs)
        return helper.make_model(graph, opset_imports=self.opsets, ir_version=8)


@lru_cache(maxsize=64)
def _session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def integral_values(model: onnx.ModelProto) -> dict[str, np.dtype[Any]]:
    """Types of the truth values and integers of a model, by name."""
    found = {}
    for value in onnx.shape_inference.infer_shapes(model).graph.value_info:
        kind = value.type.tensor_type.elem_type
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind)) if kind else np.dtype(np.float32)
        if dtype.kind in "biu":
            found[value.name] = dtype
    return found
