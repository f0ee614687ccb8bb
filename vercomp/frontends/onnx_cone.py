"""The part of an ONNX model that one of its results depends on: nothing else is looked at."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence

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
    needed = {output}
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if needed.intersection(name for name in node.output if name):
            needed.update(reads(node))
        else:
            del graph.node[index]
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
