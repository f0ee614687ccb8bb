"""The ONNX front end: opset 7 and later, one input, one output, any batch size.

Shape arithmetic is folded with a stand-in for the batch, so that ``Reshape(x, [Shape(x)[0], -1])``
becomes what it means. Names in the file may be any string; nodes get readable ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from vercomp.activations import ActivationTable
from vercomp.errors import ModelFileError, UnsupportedError
from vercomp.frontends.builder import Builder
from vercomp.frontends.onnx_file import from_numpy, load, to_tensor
from vercomp.frontends.onnx_operators import HEADS, RESHAPES, RULES, Call
from vercomp.frontends.onnx_source import OnnxSource
from vercomp.frontends.translation import Translation
from vercomp.frontends.values import Constant, Signal, Site, Value
from vercomp.ir.graph import Graph
from vercomp.ir.linear_maps import Shape

STAND_IN = 7919
"""Stands for a symbolic batch in the source's shapes: a prime that is no layer's width."""

_DTYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
}


def from_onnx(path: str | Path, table: ActivationTable) -> Translation:
    """Translate an ONNX file.

    Args:
        path: The file.
        table: The activations to recognise.

    Raises:
        ModelFileError: It cannot be read, see :func:`vercomp.frontends.onnx_file.load`.
        UnsupportedError: Several inputs or outputs, dynamic dimensions other than the batch, an
            operator for which neither a translation nor a shape is known.
        WeightError: A weight is NaN or infinite.
    """
    path = Path(path)
    model = load(path)
    translator = _Translator(model, path, table)
    graph = translator.translate()
    source = OnnxSource(model, translator.dtype, translator.fixed, str(path))
    return Translation(graph, source, "onnx", translator.dtype)


def readable(name: str) -> str:
    """A name for people: letters, digits, dots and dashes of what a file says."""
    return re.sub(r"[^\w.\-]+", "_", name)[:60].strip("_.")


class _Translator:
    """Walks an ONNX graph once."""

    def __init__(self, model: onnx.ModelProto, path: Path, table: ActivationTable) -> None:
        self.model = model
        self.path = path
        domains = {entry.domain: entry.version for entry in model.opset_import}
        self.opset = domains.get("", domains.get("ai.onnx", 0))
        initializers = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in initializers]
        if len(inputs) != 1:
            raise self._refuse(f"the model takes {len(inputs)} inputs", "It must take exactly one")
        if len(model.graph.output) != 1:
            count = len(model.graph.output)
            raise self._refuse(f"the model returns {count} results", "Export the logits alone")
        self.dtype, self.fixed, shape = self._input(inputs[0])
        self.build = Builder(
            table,
            shape,
            batch=STAND_IN if self.fixed is None else self.fixed,
            location=path.name,
            reserved=tuple(initializers),
            input_name=readable(inputs[0].name) or "input",
        )
        self.values: dict[str, Value] = {inputs[0].name: self.build.input}

    def translate(self) -> Graph:
        """The graph.

        Raises:
            UnsupportedError: See :func:`from_onnx`.
        """
        for tensor in self.model.graph.initializer:
            value = to_tensor(tensor, self.path)
            self.values[tensor.name] = Constant.of(tensor.name, value, None)
        for node in self._living():
            with np.errstate(all="ignore"):
                self._node(node)
        output = self.model.graph.output[0].name
        if output not in self.values:
            raise ModelFileError(
                "no node computes the output", node=output, location=str(self.path)
            )
        return self.build.graph(self.values[output])

    def _living(self) -> list[onnx.NodeProto]:
        """The nodes on which the output depends, in order."""
        needed = {self.model.graph.output[0].name}
        living = []
        for node in reversed(self.model.graph.node):
            if needed.intersection(name for name in node.output if name):
                living.append(node)
                needed.update(node.input)
        return living[::-1]

    def _input(self, value: onnx.ValueInfoProto) -> tuple[torch.dtype, int | None, Shape]:
        """Precision, fixed batch size and shape of the input."""
        tensor = value.type.tensor_type
        dtype = _DTYPES.get(tensor.elem_type)
        if dtype is None:
            kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
            raise self._refuse(f"the input {value.name!r} is of type {kind}, not of real numbers")
        dimensions = list(tensor.shape.dim)
        if len(dimensions) < 2:
            raise self._refuse(
                f"the input {value.name!r} has {len(dimensions)} dimensions",
                "It must have a batch dimension and at least one more",
            )
        sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in dimensions]
        for axis, (size, dimension) in enumerate(zip(sizes, dimensions, strict=True)):
            if axis > 0 and size <= 0:
                label = f" ({dimension.dim_param!r})" if dimension.dim_param else ""
                raise self._refuse(
                    f"dimension {axis}{label} of the input {value.name!r} is dynamic",
                    "Only the batch (dimension 0) may be: export with fixed sizes",
                )
        return dtype, sizes[0] if sizes[0] > 0 else None, tuple(sizes[1:])

    def _refuse(self, message: str, remedy: str | None = None) -> UnsupportedError:
        return UnsupportedError(message, location=str(self.path), remedy=remedy)

    def _node(self, node: onnx.NodeProto) -> None:
        site = self._site(node)
        missing = [name for name in node.input if name and name not in self.values]
        if missing:
            raise ModelFileError(
                f"nothing computes its input {missing[0]!r}",
                node=site.name,
                operator=site.operator,
                location=str(self.path),
            )
        attributes = {a.name: _attribute(helper.get_attribute_value(a)) for a in node.attribute}
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            raise self.build.refuse(site, "control flow is not supported")
        inputs = [self.values[name] if name else None for name in node.input]
        if not any(isinstance(value, Signal) for value in inputs):
            self._fold(node, site, inputs)
            return
        reason = "vercomp has no rule for this operator"
        rule = RULES.get(node.op_type)
        if rule is not None:
            result = rule(Call(self.build, site, self.opset, inputs, attributes))
            if not isinstance(result, str):
                self.values[node.output[0]] = result
                return
            reason = result
        self._opaque(node, site, inputs, reason)

    def _fold(self, node: onnx.NodeProto, site: Site, inputs: Sequence[Value | None]) -> None:
        """An operator over constants only: computed now, without losing whose tensor it is."""
        constants = [value for value in inputs if isinstance(value, Constant)]
        arrays = [None if v is None else v.value.numpy() for v in constants]
        results = self._evaluate(node, site, arrays)
        first = constants[0] if constants else None
        for name, array in zip(node.output, results, strict=False):
            value = self.build.derive(from_numpy(np.asarray(array)))
            if first is not None and value.value.dtype == first.value.dtype:
                if node.op_type in ("Identity", "Cast", "Dropout"):
                    value = first
                elif node.op_type in RESHAPES:
                    value = first.reshaped(tuple(value.value.shape))
                elif node.op_type == "Transpose" and _is_swap(first.value, value.value):
                    value = first.swapped()
            self.values[name] = value

    def _evaluate(self, node: onnx.NodeProto, site: Site, arrays: Sequence[Any]) -> list[Any]:
        """One node in ONNX's own reference interpreter."""
        names = [name for name in node.input if name]
        graph = helper.make_graph(
            [node],
            "node",
            [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names)],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        try:
            return list(ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True))))
        except Exception as error:  # whatever an operator of onnx may raise
            raise self._unsupported(site, "its result cannot be computed here") from error

    def _unsupported(self, site: Site, message: str) -> UnsupportedError:
        """The error where the shape of a result is unknown: it lists all that cannot be done."""
        known = {*RULES, "Constant", "ConstantOfShape"}
        unknown = {node.op_type for node in self._living() if node.op_type not in known}
        listed = ", ".join(sorted({*unknown, site.operator}))
        return self.build.refuse(
            site,
            message,
            f"Operators of this model that vercomp does not translate: {listed}",
        )

    def _opaque(
        self, node: onnx.NodeProto, site: Site, inputs: Sequence[Value | None], reason: str
    ) -> None:
        """A node that only the reference interpreter runs; shapes come from running it."""
        signals = [value for value in inputs if isinstance(value, Signal)]

        def run(*tensors: Tensor) -> list[Any]:
            rest = iter(tensors)
            arrays = [
                next(rest).numpy() if isinstance(v, Signal) else self._array(v, tensors[0])
                for v in inputs
                if v is not None
            ]
            return self._evaluate(node, site, arrays)

        def trial(size: int) -> list[Shape]:
            tensors = [torch.full(s.full(size), 0.5, dtype=torch.float32) for s in signals]
            return [tuple(np.shape(result)) for result in run(*tensors)]

        first = signals[0]
        if node.op_type in HEADS and self._over_classes(node, first):
            site = Site(site.name, HEADS[node.op_type], site.origin)
        for index, (two, three) in enumerate(zip(trial(2), trial(3), strict=True)):
            if index >= len(node.output) or not node.output[index]:
                continue
            axes = [axis for axis, size in enumerate(two) if three[axis : axis + 1] != (size,)]
            if len(two) != len(three) or [(two[i], three[i]) for i in axes] != [(2, 3)]:
                raise self._unsupported(site, "its result has no batch dimension of its own")
            (axis,) = axes
            full = (*two[:axis], self.build.batch, *two[axis + 1 :])
            self.values[node.output[index]] = self.build.opaque(
                site, signals, _pick(run, index), full, axis, reason
            )

    def _array(self, constant: Value, like: Tensor) -> Any:
        value = constant.value if isinstance(constant, Constant) else like
        return (value.to(like.dtype) if value.is_floating_point() else value).numpy()

    def _over_classes(self, node: onnx.NodeProto, signal: Signal) -> bool:
        """Whether a softmax is over the only dimension of each result."""
        default = -1 if self.opset >= 13 else 1
        axis = next((a.i for a in node.attribute if a.name == "axis"), default)
        return len(signal.shape) == 1 and signal.batch == 0 and axis in (1, -1)

    def _site(self, node: onnx.NodeProto) -> Site:
        """``/fc1/Gemm`` is fc1 to its reader; a node without a name has that of its result."""
        parts = [part for part in node.name.removeprefix("node_").split("/") if part]
        if len(parts) > 1 and parts[-1].startswith(node.op_type):
            parts.pop()
        name = readable(".".join(parts)) or readable(node.output[0] if node.output else "")
        if not name or name.isdigit():
            name = node.op_type.lower()
        origin = str(self.path.name)
        if node.name and readable(node.name) != node.name.strip("/").replace("/", "_"):
            origin += f", node {node.name!r}"
        return Site(name, node.op_type, origin)


def _attribute(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _pick(run: Callable[..., list[Any]], index: int) -> Callable[..., Tensor]:
    return lambda *tensors: from_numpy(np.asarray(run(*tensors)[index])).to(tensors[0].dtype)


def _is_swap(before: Tensor, after: Tensor) -> bool:
    return before.ndim == 2 and math.prod(before.shape) > 0 and torch.equal(before.T, after)
