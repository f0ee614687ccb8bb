"""Binding: the graph over operators computes what the graph over symbols means."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from graph_table import GRAPHS
from graphs import branching, chain, decorated, plain, residual
from torch import Tensor

from vercomp.activations import constants
from vercomp.core import graph as core
from vercomp.ir.binding import bias, bind
from vercomp.ir.check import check
from vercomp.ir.graph import Activate, Affine, Graph, Input, Offset, Opaque, Term
from vercomp.ir.linear_maps import Parameter, Scale, compose, identity
from vercomp.ir.reference import stored, stored_as

DOUBLE = stored_as(torch.float64)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_node_is_bound_and_called_after_its_own(name: str) -> None:
    graph = GRAPHS[name]()
    found = bind(graph, DOUBLE)
    assert found.output == graph.output
    assert [node.name for node in found.nodes] == [node.name for node in graph.nodes]
    terms: list[str] = []
    for node, bound in zip(graph.nodes, found.nodes, strict=True):
        assert bound.shape == node.shape
        assert bound.parents == node.parents
        if isinstance(node, Affine):
            assert isinstance(bound, core.Affine)
            terms += [term.name for term in bound.terms]
            assert (bound.bias is None) == (not node.offsets)
            for k, (term, operator) in enumerate(zip(node.terms, bound.terms, strict=True)):
                assert operator.name == f"{node.name}.{k}"
                x = torch.randn(2, *term.map.in_shape, dtype=torch.float64).flatten(1)
                expected = term.map.bind(DOUBLE).apply(x)
                assert torch.equal(operator.map.apply(x), expected)
        if isinstance(node, Activate):
            assert isinstance(bound, core.Activate)
            assert bound.function is node.function
    assert len(set(terms)) == len(terms)


def test_names_terms_and_functions_are_as_asked() -> None:
    graph = residual(1, ["tanh", "silu"])
    found = bind(
        graph,
        DOUBLE,
        names=str.upper,
        term_name=lambda node, k: f"{k} of {node.name}",
        function=constants,
        biased=False,
    )
    logits = found.node("LOGITS")
    assert isinstance(logits, core.Affine)
    assert found.output == "LOGITS"
    assert logits.parents == ("A0", "A1")
    assert [term.name for term in logits.terms] == ["0 of logits", "1 of logits"]
    assert logits.bias is None
    a0, source = found.node("A0"), graph.node("a0")
    assert isinstance(a0, core.Activate)
    assert isinstance(source, Activate)
    assert a0.function == constants(source.function)
    assert a0.parent == "Z0"
    assert found.nodes[0] == Input("X", (5,))


def test_concatenations_are_marked() -> None:
    found = bind(branching(), DOUBLE)
    marked = [node.name for node in found.nodes if isinstance(node, core.Affine) and node.disjoint]
    assert marked == ["cat"]
    assert not any(
        node.disjoint for node in bind(decorated(), DOUBLE).nodes if isinstance(node, core.Affine)
    )


def test_opaque_nodes_stay_as_they_are() -> None:
    opaque = Opaque("o", (2,), ("z", "x"), "Mul", torch.mul, reason="a product")
    z = Affine("z", (2,), (Term(identity((2,)), "x"),))
    found = bind(check(Graph((Input("x", (2,)), z, opaque), "o")), stored, names=str.upper)
    assert found.node("O") == replace(opaque, name="O", parents=("Z", "X"))


def test_parameters_are_read_in_the_type_that_is_asked_for() -> None:
    asked: list[str] = []

    def read(parameter: Parameter) -> Tensor:
        asked.append(parameter.name)
        return parameter.value.double()

    graph = chain(2, [3, 4, 2], ["tanh"])
    bind(graph, read)
    assert set(asked) == {parameter.name for parameter in graph.parameters()}
    asked.clear()
    bind(graph, read, biased=False)
    assert set(asked) == {"0.weight", "2.weight"}


def test_biases() -> None:
    p, q = Parameter("p", torch.tensor([2.0])), Parameter("q", torch.tensor([1.0, 2.0]))
    half = Scale((2,), Parameter("two", torch.tensor(2.0), False), divide=True)
    both = Affine(
        "z", (2,), (Term(identity((2,)), "x"),), (Offset(half, p), Offset(identity((2,)), q, True))
    )
    found = bias(both, DOUBLE)
    assert found is not None
    assert found.value.tolist() == [[0.0, -1.0]]
    assert found.error.shape == (1,)
    assert 0.0 < float(found.error) < 1e-14
    assert bias(replace(both, offsets=()), DOUBLE) is None


def test_a_bias_that_nothing_is_done_to_is_exact() -> None:
    """Identities are no operation, nor is a change of sign: their rounding error is zero."""
    q = Parameter("q", torch.tensor([0.1, -0.2]))
    through_nothing = Offset(compose(identity((2,)), identity((2,))), q)
    for offset, sign in ((plain(q), 1.0), (plain(q, negate=True), -1.0), (through_nothing, 1.0)):
        found = bias(Affine("z", (2,), (Term(identity((2,)), "x"),), (offset,)), DOUBLE)
        assert found is not None
        assert torch.equal(found.value, sign * q.value.double()[None])
        assert found.error.tolist() == [0.0]
