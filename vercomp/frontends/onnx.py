"""The ONNX front end: opset 7 and later, one input, one output, any batch size.

Shape arithmetic is folded with a stand-in for the batch, so that ``Reshape(x, [Shape(x)[0], -1])``
becomes what it means. Names in the file may be any string; nodes get readable ones. What cannot be
translated does not stop the walk: all of it is refused at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper

from vercomp.activations import ActivationTable
from vercomp.errors import ModelFileError, UnsupportedError, UsageError
from vercomp.frontends.builder import Builder
from vercomp.frontends.onnx_call import Call, RefusalError, Rule
from vercomp.frontends.onnx_constants import folded
from vercomp.frontends.onnx_file import load, operator_name, sparse_tensor, to_tensor
from vercomp.frontends.onnx_nodes import SingleNode, integral_values
from vercomp.frontends.onnx_opaque import OpaqueNode
from vercomp.frontends.onnx_operators import HEADS, REASONS, RULES
from vercomp.frontends.onnx_source import OnnxSource
from vercomp.frontends.translation import Offence, Translation, unsupported
from vercomp.frontends.values import Constant, Signal, Site, Value
from vercomp.ir.graph import Graph
from vercomp.ir.linear_maps import Shape

STAND_IN = 7919
"""Stands for a symbolic batch in the source's shapes: a prime that is no layer's width."""

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators whose second and third inputs are a weight and a bias."""

_DTYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
}


def from_onnx(
    path: str | Path,
    table: ActivationTable,
    output: str | None = None,
    operators: Mapping[str, Rule] = MappingProxyType({}),
) -> Translation:
    """Translate an ONNX file.

    Args:
        path: The file.
        table: The activations to recognise.
        output: The result that holds the logits, where the model has several.
        operators: Rules of plugins by the operator's name, ``"CumSum"``, with its domain where that
            is not the standard's: ``"com.microsoft::FusedGemm"``. They go before the rules in
            :mod:`vercomp.frontends.onnx_operators`.

    Raises:
        ModelFileError: It cannot be read, see :func:`vercomp.frontends.onnx_file.load`.
        UnsupportedError: Several inputs, or outputs none of which is named, dynamic dimensions
            other than the batch, operators that not even the reference interpreter can run for
            any batch; the message lists them all, with all others that cannot be analysed.
        UsageError: The model has no such output.
        WeightError: A weight is NaN or infinite.
    """
    path = Path(path)
    model = load(path, frozenset(operators))
    translator = _Translator(model, path, table, output, operators)
    graph = translator.translate()
    source = OnnxSource(model, translator.dtype, translator.fixed, str(path), translator.output)
    return Translation(graph, source, "onnx", translator.dtype)


def readable(name: str) -> str:
    """A name for people: letters, digits, dots and dashes of what a file says."""
    return re.sub(r"[^\w.\-]+", "_", name)[:60].strip("_.")


class _Translator:
    """Walks an ONNX graph once."""

    def __init__(
        self,
        model: onnx.ModelProto,
        path: Path,
        table: ActivationTable,
        output: str | None,
        operators: Mapping[str, Rule],
    ) -> None:
        self.model = model
        self.path = path
        self.operators = operators
        domains = {entry.domain: entry.version for entry in model.opset_import}
        self.opset = domains.get("", domains.get("ai.onnx", 0))
        initializers = {tensor.name for tensor in model.graph.initializer}
        initializers |= {sparse.values.name for sparse in model.graph.sparse_initializer}
        inputs = [value for value in model.graph.input if value.name not in initializers]
        if len(inputs) != 1:
            raise self._refuse(f"the model takes {len(inputs)} inputs", "It must take exactly one")
        self.output = self._output(output)
        self.dtype, self.fixed, shape = self._input(inputs[0])
        self.build = Builder(
            table,
            shape,
            batch=STAND_IN if self.fixed is None else self.fixed,
            location=path.name,
            reserved=(*initializers, *_results(model.graph)),
            input_name=readable(inputs[0].name) or "input",
        )
        self.values: dict[str, Value] = {inputs[0].name: self.build.input}
        self.lost: dict[str, Offence] = {}
        self.offences: list[Offence] = []

    def translate(self) -> Graph:
        """The graph.

        Raises:
            UnsupportedError: See :func:`from_onnx`.
        """
        self._initialise(self.model.graph)
        for node in self._living():
            with np.errstate(all="ignore"):
                self._node(node)
        if self.output in self.lost:
            self._note(self.output)
            raise unsupported(self._found())
        if self.output not in self.values:
            raise ModelFileError(
                "no node computes the output", node=self.output, location=str(self.path)
            )
        output = self.values[self.output]
        try:
            return self.build.graph(output)
        except UnsupportedError:  # no vector of logits, for a reason perhaps
            self._settle(output)
            if found := self._found():
                raise unsupported(found) from None
            raise

    def _initialise(self, graph: onnx.GraphProto) -> None:
        named = self._folded(graph)
        for tensor in graph.initializer:
            value = to_tensor(tensor, self.path)
            name = named.get(tensor.name, tensor.name)
            self.values[tensor.name] = Constant.of(name, value, None)
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            self.values[name] = Constant.of(name, sparse_tensor(sparse, self.path), None)

    def _folded(self, graph: onnx.GraphProto) -> dict[str, str]:
        """Names for the weights that an exporter has folded and numbered: ``onnx::Conv_27``.

        The first layer that reads one gives its own: ``stem.weight``.
        """
        taken = {tensor.name for tensor in graph.initializer}
        named: dict[str, str] = {}
        for node in (node for node in graph.node if node.op_type in LAYERS):
            for name, kind in zip(node.input[1:], ("weight", "bias"), strict=False):
                wanted = f"{self._site(node).name}.{kind}"
                if name in taken and name.startswith("onnx::") and name not in named:
                    named[name] = name if wanted in taken else wanted
                    taken.add(wanted)
        return named

    def _found(self) -> list[Offence]:
        """What is opaque, and what is lost."""
        opaque = [
            Offence(node.name, node.operator, node.origin, node.reason)
            for node in self.build.opaque_nodes()
        ]
        return [*opaque, *self.offences]

    def _note(self, name: str) -> None:
        """Something reads a lost value."""
        if self.lost[name] not in self.offences:
            self.offences.append(self.lost[name])

    def _living(self) -> list[onnx.NodeProto]:
        """The nodes on which the output depends, in order."""
        needed = {self.output}
        living = []
        for node in reversed(self.model.graph.node):
            if needed.intersection(name for name in node.output if name):
                living.append(node)
                needed.update(_reads(node))
        return living[::-1]

    def _output(self, chosen: str | None) -> str:
        names = [value.name for value in self.model.graph.output]
        listed = ", ".join(repr(name) for name in names)
        if chosen is not None and chosen not in names:
            raise UsageError(
                f"the model has no output {chosen!r}",
                location=str(self.path),
                remedy=f"It has {listed}",
            )
        if chosen is None and len(names) != 1:
            raise self._refuse(
                f"the model returns {len(names)} results: {listed}",
                "Export the logits alone, or name them as the output",
            )
        return names[0] if chosen is None else chosen

    def _input(self, value: onnx.ValueInfoProto) -> tuple[torch.dtype, int | None, Shape]:
        """Precision, fixed batch size and shape of the input."""
        tensor = value.type.tensor_type
        dtype = _DTYPES.get(tensor.elem_type)
        if tensor.elem_type == onnx.TensorProto.BFLOAT16:
            raise self._refuse(
                f"the input {value.name!r} is of type BFLOAT16, in which onnxruntime does not run",
                "Export it in float32; the weights may stay as they are",
            )
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
        reads = [name for name in node.input if name]
        for name in reads:
            if name not in self.values and name not in self.lost:
                raise ModelFileError(
                    f"nothing computes its input {name!r}",
                    node=site.name,
                    operator=site.operator,
                    location=str(self.path),
                )
        lost = [name for name in reads if name in self.lost]
        for name in lost:
            self._note(name)
        inputs = [self.values.get(name) if name else None for name in node.input]
        if lost and self._rule(node) is not None:
            self._lose(node, inputs, self.lost[lost[0]])
            return
        try:
            if lost:
                raise RefusalError(_reason(node))
            self._translate(node, site, inputs)
        except RefusalError as error:
            offence = Offence(site.name, site.operator, site.origin, str(error))
            self._lose(node, inputs, offence)

    def _lose(self, node: onnx.NodeProto, inputs: Sequence[Value | None], offence: Offence) -> None:
        """Its results are unknown, and what depends on them; the walk goes on."""
        for value in inputs:
            self._settle(value)
        self.lost.update(dict.fromkeys((name for name in node.output if name), offence))

    def _settle(self, value: Value | None) -> None:
        """Make a node of a formula, so that an unknown one is found."""
        if isinstance(value, Signal):
            self.build.materialise(value)

    def _translate(self, node: onnx.NodeProto, site: Site, inputs: Sequence[Value | None]) -> None:
        """Find the results of a node.

        Raises:
            RefusalError: They cannot even be run for any batch.
        """
        if node.op_type == "If" and isinstance(inputs[0], Constant):
            self._branch(node, bool(inputs[0].value.reshape(-1)[0]))
            return
        if _subgraphs(node):
            raise RefusalError("control flow is not supported")
        single = SingleNode(node, self.model.opset_import)
        if not any(isinstance(value, Signal) for value in inputs):
            self.values.update(folded(single, inputs))
            return
        reason = self._apply_rule(node, site, inputs)
        if reason is None:
            return
        if node.op_type in HEADS and self._over_classes(node, inputs[0]):
            site = Site(site.name, HEADS[node.op_type], site.origin)
        stand_in = STAND_IN if self.fixed is None else None
        opaque = OpaqueNode(single, inputs, self.dtype, self._integral, stand_in)
        self.values.update(opaque.insert(self.build, site, reason))

    def _apply_rule(
        self, node: onnx.NodeProto, site: Site, inputs: Sequence[Value | None]
    ) -> str | None:
        """Find the results by the operator's rule, or say why there is none."""
        attributes = {a.name: _attribute(helper.get_attribute_value(a)) for a in node.attribute}
        rule = self._rule(node)
        if rule is None:
            return _reason(node)
        names = list(node.output)
        count = sum(bool(name) for name in names)
        try:
            result = rule(Call(self.build, site, self.opset, inputs, attributes, count))
        except RefusalError as error:
            return str(error)
        if isinstance(result, str):
            return result
        results = result if isinstance(result, tuple) else (result,)
        self.values.update(zip(names, results, strict=False))
        only = Offence(site.name, site.operator, site.origin, "only its first result is supported")
        self.lost.update(dict.fromkeys(filter(None, names[len(results) :]), only))
        return None

    def _rule(self, node: onnx.NodeProto) -> Rule | None:
        """The rule of the node's operator: a plugin's where it has one."""
        return self.operators.get(operator_name(node)) or RULES.get(node.op_type)

    def _branch(self, node: onnx.NodeProto, condition: bool) -> None:
        """The branch of an If that is always taken."""
        wanted = "then_branch" if condition else "else_branch"
        (branch,) = (attribute.g for attribute in node.attribute if attribute.name == wanted)
        self._initialise(branch)
        for inner in branch.node:
            self._node(inner)
        for name, result in zip(node.output, branch.output, strict=True):
            if result.name in self.lost:
                self.lost[name] = self.lost[result.name]
            else:
                self.values[name] = self.values[result.name]

    @cached_property
    def _integral(self) -> dict[str, np.dtype[Any]]:
        return integral_values(self.model)

    def _over_classes(self, node: onnx.NodeProto, value: Value | None) -> bool:
        """Whether a softmax is over the only dimension of each result."""
        default = -1 if self.opset >= 13 else 1
        axis = next((a.i for a in node.attribute if a.name == "axis"), default)
        if not isinstance(value, Signal) or len(value.shape) != 1:
            return False
        return value.batch == 0 and axis in (1, -1)

    def _site(self, node: onnx.NodeProto) -> Site:
        """``/fc1/Gemm`` is fc1 to its reader; a node without a name has that of its result."""
        parts = [part for part in node.name.removeprefix("node_").split("/") if part]
        if len(parts) > 1 and parts[-1].startswith(node.op_type):
            parts.pop()
        name = readable(".".join(parts)) or readable(node.output[0] if node.output else "")
        if not name or name.isdigit():
            name = node.op_type.lower()
        origin = str(self.path.name)
        if node.name and name != node.name.strip("/").replace("/", "."):
            origin += f", node {node.name!r}"
        return Site(name, node.op_type, origin)


def _attribute(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _reason(node: onnx.NodeProto) -> str:
    return REASONS.get(node.op_type, "vercomp has no rule for this operator")


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    single = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return [*single, *(graph for attribute in node.attribute for graph in attribute.graphs)]


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, and what its subgraphs read."""
    yield from node.input
    for graph in _subgraphs(node):
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from _reads(inner)


def _results(graph: onnx.GraphProto) -> Iterator[str]:
    """The names of everything that is computed: a folded constant may be a parameter."""
    for node in graph.node:
        yield from node.output
        for inner in _subgraphs(node):
            yield from _results(inner)
