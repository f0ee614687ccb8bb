"""The part of an ONNX model that one of its results depends on: nothing else is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableSequence

import onnx

ML = "ai.onnx.ml"
"""The domain of scikit-learn's operators."""

_REALS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.UNDEFINED,
)


def may_be_logits(value: onnx.ValueInfoProto) -> bool:
    """Whether a result can hold logits: labels (integers, texts) cannot."""
    kind = value.type.WhichOneof("value")
    return kind != "tensor_type" or value.type.tensor_type.elem_type in _REALS


def restricted(model: onnx.ModelProto, output: str) -> str:
    """Take everything out of a model that a result does not depend on.

    A map from class to probability is read as the tensor that it is made of.

    Returns:
        The name of that tensor, or of the result itself.
    """
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output if name}
    while output in made_by and _is_a_map(made_by[output]):
        output = made_by[output].input[0]
    order = _ordered(output, made_by)
    needed = {output, *(name for node in order for name in reads(node))}
    if order != list(graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in order]
        del graph.node[:]
        graph.node.extend(copies)
    kept = [value for value in graph.output if value.name == output]
    del graph.output[:]
    graph.output.extend(kept or [onnx.ValueInfoProto(name=output)])
    _keep(graph.initializer, [tensor.name for tensor in graph.initializer], needed)
    _keep(
        graph.sparse_initializer,
        [sparse.values.name for sparse in graph.sparse_initializer],
        needed,
    )
    _keep(graph.value_info, [value.name for value in graph.value_info], needed)
    if any(value.name in needed for value in graph.input):
        _keep(graph.input, [value.name for value in graph.input], needed)
    return output


def _ordered(output: str, made_by: Mapping[str, onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes behind a result, each after those that it reads: not every file is written so."""
    order: list[onnx.NodeProto] = []
    placed: set[int] = set()
    stack = [(output, False)]
    open_names: set[str] = set()
    while stack:
        name, done = stack.pop()
        node = made_by.get(name)
        if node is None or id(node) in placed:
            continue
        if done:
            placed.add(id(node))
            order.append(node)
        elif name not in open_names:  # a cycle is left for whoever looks for its values
            open_names.add(name)
            stack.append((name, True))
            stack.extend((read, False) for read in reversed(list(reads(node))) if read)
    return order


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, and what its subgraphs read."""
    yield from node.input
    for graph in subgraphs(node):
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from reads(inner)


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs in the attributes of a node: branches, bodies of loops."""
    single = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return [*single, *(graph for attribute in node.attribute for graph in attribute.graphs)]


def _is_a_map(node: onnx.NodeProto) -> bool:
    return (node.domain, node.op_type) == (ML, "ZipMap")


def _keep(held: MutableSequence[object], names: list[str], needed: set[str]) -> None:
    for index in reversed(range(len(names))):
        if names[index] not in needed:
            del held[index]
