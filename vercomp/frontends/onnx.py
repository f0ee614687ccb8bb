"""The ONNX front end: opset 7 and later, one input, one output, any batch size.

Shape arithmetic is folded with a stand-in for the batch, so that ``Reshape(x, [Shape(x)[0], -1])``
becomes what it means. Names in the file may be any string; nodes get readable ones. What cannot be
translated does not stop the walk: all of it is refused at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import helper

from vercomp.activations import ActivationTable
from vercomp.errors import ModelFileError, UnsupportedError
from vercomp.frontends import onnx_learn
from vercomp.frontends.broadcasting import mapped
from vercomp.frontends.builder import Builder
from vercomp.frontends.onnx_call import Call, RefusalError, Rule
from vercomp.frontends.onnx_cone import ML, restricted, subgraphs
from vercomp.frontends.onnx_constants import folded
from vercomp.frontends.onnx_ends import InputEnd, Reading, chosen_output, sole_input
from vercomp.frontends.onnx_file import (
    check_operators,
    load,
    operator_name,
    sparse_tensor,
    to_tensor,
)
from vercomp.frontends.onnx_learn import LABEL
from vercomp.frontends.onnx_nodes import SingleNode, integral_values
from vercomp.frontends.onnx_opaque import OpaqueNode
from vercomp.frontends.onnx_operators import HEADS, REASONS, RULES
from vercomp.frontends.onnx_source import OnnxSource
from vercomp.frontends.onnx_unbatched import lifted, unsqueezed
from vercomp.frontends.translation import Offence, Translation, unsupported
from vercomp.frontends.values import Constant, Signal, Site, Value
from vercomp.ir.graph import Graph
from vercomp.ir.linear_maps import Reshape

STAND_IN = 7919
"""Stands for a symbolic batch in the source's shapes: a prime that is no layer's width."""

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators whose second and third inputs are a weight and a bias."""


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
    model = load(path)
    output = restricted(model, chosen_output(model, str(path), output))
    check_operators(model, path, operators)
    end = sole_input(model, str(path), _held(model))
    failures: list[UnsupportedError] = []
    doubtful: list[Translation] = []
    for reading in end.readings:
        translator = _Translator(model, path, table, output, end, reading, operators)
        try:
            graph = translator.translate()
        except UnsupportedError as error:
            failures.append(error)
            continue
        source = OnnxSource(
            model, end.dtype, reading.batch, str(path), output, unbatched=reading.unbatched
        )
        found = Translation(graph, source, "onnx", end.dtype)
        if all(node.operator in HEADS.values() for node in graph.opaque()):
            return found
        doubtful.append(found)
    if doubtful:
        return doubtful[0]
    if len(failures) == 1:
        raise failures[0]
    tried = "".join(
        f"\n  as {reading}: {error}" for reading, error in zip(end.readings, failures, strict=True)
    )
    raise UnsupportedError(
        f"its input cannot be read as a batch, nor as one input:{tried}", location=str(path)
    )


def _held(model: onnx.ModelProto) -> set[str]:
    """The names of the tensors that a file holds."""
    held = {tensor.name for tensor in model.graph.initializer}
    return held | {sparse.values.name for sparse in model.graph.sparse_initializer}


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
        output: str,
        end: InputEnd,
        reading: Reading,
        operators: Mapping[str, Rule],
    ) -> None:
        self.model = model
        self.path = path
        self.operators = operators
        self.output = output
        self.dtype, self.reading = end.dtype, reading
        domains = {entry.domain: entry.version for entry in model.opset_import}
        self.opset = domains.get("", domains.get("ai.onnx", 0))
        self.build = Builder(
            table,
            reading.shape,
            batch=STAND_IN if reading.batch is None else reading.batch,
            location=path.name,
            reserved=(*_held(model), *_results(model.graph)),
            input_name=readable(end.name) or "input",
        )
        self.values: dict[str, Value] = {end.name: self.build.input}
        self.lost: dict[str, Offence] = {}
        self.offences: list[Offence] = []

    def translate(self) -> Graph:
        """The graph.

        Raises:
            UnsupportedError: See :func:`from_onnx`.
        """
        self._initialise(self.model.graph)
        for node in self.model.graph.node:
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
        if self.reading.unbatched and isinstance(output, Signal):
            flat = Reshape(output.shape, (math.prod(output.shape),))
            output = mapped(self.build, output.site, output, flat)
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
        return [*self.build.offences(), *self.offences]

    def _note(self, name: str) -> None:
        """Something reads a lost value."""
        if self.lost[name] not in self.offences:
            self.offences.append(self.lost[name])

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
        if subgraphs(node):
            raise RefusalError("control flow is not supported")
        single = SingleNode(node, self.model.opset_import)
        if not any(isinstance(value, Signal) for value in inputs):
            self.values.update(folded(single, inputs))
            return
        alone = False
        if self.reading.unbatched:
            larger = lifted(node, inputs, self.build, site, self.opset)
            node, inputs, alone = larger.node, larger.inputs, larger.single
            single = SingleNode(node, self.model.opset_import)
        reason = self._apply_rule(node, site, inputs)
        if reason is None:
            if alone:
                found = {name: self.values[name] for name in node.output if name in self.values}
                self.values.update(unsqueezed(self.build, site, found))
            return
        if alone:
            raise RefusalError(reason)
        if _is_head(node) and self._over_classes(node, inputs[0]):
            site = Site(site.name, HEADS[node.op_type], site.origin)
        stand_in = STAND_IN if self.reading.batch is None else None
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
        known = {n: r for n, r in zip(names, results, strict=False) if r is not None}
        self.values.update(known)
        reason = "only its first result is supported" if names[0] in known else LABEL
        only = Offence(site.name, site.operator, site.origin, reason)
        self.lost.update((name, only) for name in names if name and name not in known)
        return None

    def _rule(self, node: onnx.NodeProto) -> Rule | None:
        """The rule of the node's operator: a plugin's where it has one."""
        return self.operators.get(operator_name(node)) or _table(node)[0].get(node.op_type)

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
    return _table(node)[1].get(node.op_type, "vercomp has no rule for this operator")


def _table(node: onnx.NodeProto) -> tuple[Mapping[str, Rule], Mapping[str, str]]:
    """The rules of a node's domain, and the reasons for what has none."""
    return (onnx_learn.RULES, onnx_learn.REASONS) if node.domain == ML else (RULES, REASONS)


def _is_head(node: onnx.NodeProto) -> bool:
    """Whether an operator over the classes leaves their order."""
    if (node.domain, node.op_type) == (ML, "Normalizer"):
        norm = next((a.s.decode() for a in node.attribute if a.name == "norm"), "MAX")
        return norm in onnx_learn.ORDERLY
    return node.op_type in HEADS


def _results(graph: onnx.GraphProto) -> Iterator[str]:
    """The names of everything that is computed: a folded constant may be a parameter."""
    for node in graph.node:
        yield from node.output
        for inner in subgraphs(node):
            yield from _results(inner)
