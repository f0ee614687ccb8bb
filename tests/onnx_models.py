"""ONNX models by hand, and whether a translation computes what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from vercomp.activations import BUILTIN
from vercomp.frontends.onnx import from_onnx
from vercomp.frontends.translation import Translation, refuse_opaque
from vercomp.ir.reference import evaluate, stored_as

node = helper.make_node


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """Reproducible float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    """A vector of int64."""
    return np.array(values, dtype=np.int64)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    tensors: Mapping[str, Any] | None = None,
    *,
    shape: Sequence[Any],
    opset: int = 17,
    flat: bool = True,
    domains: Sequence[str] = (),
) -> Path:
    """A model over the input ``x``; its result ``y`` is flattened to (batch, …) unless told."""
    nodes = list(nodes)
    if flat:
        nodes.append(node("Flatten", ["y"], ["flat"]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("flat" if flat else "y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (tensors or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def agrees(path: Path, *, affine: bool = True) -> Translation:
    """Translate a model, all of it, and compare it with onnxruntime on three inputs at a time."""
    translation = from_onnx(path, BUILTIN)
    refuse_opaque(translation.graph)
    if affine:
        assert not list(translation.graph.activations())
    graph = translation.graph
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, *graph.input.shape, generator=generator)
    expected = translation.source(x)
    found = evaluate(graph, x.double(), stored_as(torch.float64))[graph.output]
    torch.testing.assert_close(found, expected.double(), rtol=1e-4, atol=1e-5)
    return translation
