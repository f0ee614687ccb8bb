"""Affine chains merge as symbols: graph text in, graph text out, the same function."""

from __future__ import annotations

import pytest
import torch

from passes.merge_affine import AFFINE_CHAINS_MERGED, MergeAffine
from vercomp.activations import BUILTIN
from vercomp.ir.graph import Activate, Affine, Graph, Input, Offset, Opaque, Term
from vercomp.ir.linear_maps import Dense, Parameter, Permute, Reshape, Scale, identity
from vercomp.ir.printer import to_text
from vercomp.ir.reference import evaluate
from vercomp.pass_manager import run_passes

TANH = BUILTIN.build("tanh")


def parameter(name, *shape):
    generator = torch.Generator().manual_seed(len(name))
    return Parameter(name, torch.randn(shape, generator=generator, dtype=torch.float64))


def dense(name, rows, columns):
    return Dense(parameter(name, rows, columns))


def affine(name, linear, parent, *offsets):
    return Affine(name, linear.out_shape, (Term(linear, parent),), offsets)


def merged(*nodes):
    """The text of the merged graph, once it is known to compute the same."""
    graph = Graph(nodes, nodes[-1].name)
    result = run_passes(graph, [MergeAffine()])
    x = torch.randn(3, *graph.input.shape, dtype=torch.float64)
    before, after = evaluate(graph, x)[graph.output], evaluate(result, x)[result.output]
    assert torch.allclose(before, after, atol=1e-12)
    assert merge_again(result) is result
    return to_text(result).splitlines()


def merge_again(graph):
    return MergeAffine().run(graph)


def test_a_chain_carries_its_biases_through():
    b1, b2 = parameter("b1", 3), parameter("b2b", 2)
    assert merged(
        Input("x", (4,)),
        affine("one", dense("W1", 3, 4), "x", Offset(identity((3,)), b1, negate=True)),
        affine("two", dense("W2", 2, 3), "one", Offset(identity((2,)), b2)),
    ) == [
        "input x : 4",
        "affine two : 2 = dense[W2] · dense[W1] · x - dense[W2] · b1 + b2b",
        "output two",
    ]


def test_what_follows_a_dense_layer_takes_its_name():
    s = parameter("s", 3)
    lines = merged(
        Input("x", (2, 2)),
        affine("flat", Reshape((2, 2), (4,)), "x"),
        affine("fc1", dense("W1", 3, 4), "flat"),
        affine("norm", Scale((3,), s), "fc1"),
        Activate("act", (3,), "norm", TANH),
        affine("same", identity((3,)), "act"),
        affine("fc2", dense("W22", 2, 3), "same"),
        affine("out", identity((2,)), "fc2"),
    )
    assert lines == [
        "input x : 2×2",
        "affine fc1 : 3 = scale[s] · dense[W1] · reshape(4) · x",
        "activation act : 3 = tanh(fc1)",
        "affine fc2 : 2 = dense[W22] · act",
        "output fc2",
    ]


def test_a_node_that_several_read_is_merged_into_each():
    b = parameter("b", 3)
    assert merged(
        Input("x", (4,)),
        affine("fc1", dense("W1", 3, 4), "x", Offset(identity((3,)), b)),
        affine("fc2", dense("W22", 3, 3), "fc1"),
        Activate("act", (3,), "fc2", TANH),
        Affine("sum", (3,), (Term(identity((3,)), "fc1"), Term(identity((3,)), "act"))),
    ) == [
        "input x : 4",
        "affine fc2 : 3 = dense[W22] · dense[W1] · x + dense[W22] · b",
        "activation act : 3 = tanh(fc2)",
        "affine fc1 : 3 = dense[W1] · x + act + b",
        "output fc1",
    ]


def test_a_node_that_an_activation_reads_too_stays():
    assert merged(
        Input("x", (4,)),
        affine("fc1", dense("W1", 3, 4), "x"),
        Activate("act", (3,), "fc1", TANH),
        Affine("sum", (3,), (Term(identity((3,)), "fc1"), Term(identity((3,)), "act"))),
    ) == [
        "input x : 4",
        "affine fc1 : 3 = dense[W1] · x",
        "activation act : 3 = tanh(fc1)",
        "affine sum : 3 = dense[W1] · x + act",
        "output sum",
    ]


def test_identities_vanish_but_for_one_over_the_input():
    assert merged(
        Input("x", (4,)),
        affine("a", identity((4,)), "x"),
        Activate("act", (4,), "a", TANH),
        affine("b", identity((4,)), "act"),
        affine("c", identity((4,)), "b"),
    ) == ["input x : 4", "activation act : 4 = tanh(x)", "output act"]
    assert merged(Input("x", (4,)), affine("a", identity((4,)), "x")) == [
        "input x : 4",
        "affine a : 4 = x",
        "output a",
    ]


def test_opaque_nodes_follow_renamed_parents():
    s = parameter("s", 3)
    softmax = Opaque("soft", (3,), ("norm",), "softmax", lambda z: z.softmax(1))
    assert merged(
        Input("x", (4,)),
        affine("fc1", dense("W1", 3, 4), "x"),
        affine("norm", Scale((3,), s), "fc1"),
        softmax,
    )[1:] == [
        "affine fc1 : 3 = scale[s] · dense[W1] · x",
        "opaque soft : 3 = softmax(fc1)",
        "output soft",
    ]


def test_permutations_and_dead_nodes():
    assert merged(
        Input("x", (2, 3)),
        affine("turn", Permute((2, 3), (1, 0)), "x"),
        affine("dead", Reshape((3, 2), (2, 3)), "turn"),
        affine("flat", Reshape((3, 2), (6,)), "turn"),
        affine("fc", dense("W1", 2, 6), "flat"),
    ) == [
        "input x : 2×3",
        "affine fc : 2 = dense[W1] · reshape(6) · permute(1, 0) · x",
        "output fc",
    ]


def test_the_contract_tells_what_breaks_it():
    nodes = (
        Input("x", (4,)),
        affine("one", dense("W1", 3, 4), "x"),
        affine("two", dense("W2", 2, 3), "one"),
    )
    graph = Graph(nodes, "two")
    assert AFFINE_CHAINS_MERGED.violation(graph) == (
        "the affine node 'two' reads the affine node 'one'"
    )
    assert AFFINE_CHAINS_MERGED.violation(MergeAffine().run(graph)) is None


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_keep_their_function(seed):
    generator = torch.Generator().manual_seed(seed)

    def pick(n):
        return int(torch.randint(n, (1,), generator=generator))

    nodes = [Input("x", (3,))]
    for index in range(10):
        parents = [nodes[pick(len(nodes))].name for _ in range(1 + pick(2))]
        name = f"n{index}"
        if pick(3) == 0:
            nodes.append(Activate(name, (3,), parents[0], TANH))
            continue
        terms = tuple(
            Term(dense(f"W{index}{k}", 3, 3) if pick(2) else identity((3,)), parent)
            for k, parent in enumerate(parents)
        )
        nodes.append(Affine(name, (3,), terms, (Offset(identity((3,)), parameter(name, 3)),)))
    merged(*nodes)
