"""The graph: its queries, its specification, its text, and its reference interpreter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from graphs import activation, chain, decorated, plain, residual

from vercomp.errors import InternalError
from vercomp.ir.check import broadcasts, check
from vercomp.ir.graph import Activate, Affine, Graph, Input, Offset, Opaque, Term
from vercomp.ir.linear_maps import Dense, Parameter, Reshape, compose, identity
from vercomp.ir.printer import to_text
from vercomp.ir.reference import evaluate, result, stored_as

SMALL = chain(0, [2, 3, 2], ["tanh"])


def test_queries() -> None:
    graph = residual(0, ["tanh", "silu"])
    assert graph.input.name == "x"
    assert graph.outputs == 3
    assert [node.name for node in graph.activations()] == ["a0", "a1"]
    assert [node.name for node in graph.affine()] == ["z0", "z1", "logits"]
    assert [node.name for node in graph.children("a0")] == ["z1", "logits"]
    assert graph.children("logits") == ()
    names = [parameter.name for parameter in graph.parameters()]
    assert len(set(names)) == len(names)
    assert names[0] == "w0"
    assert graph.node("logits").parents == ("a0", "a1")
    assert graph.ancestors("z1") == {"x", "z0", "a0"}


def test_a_parent_that_is_read_twice_has_the_child_once() -> None:
    w = Parameter("w", torch.ones(2, 2))
    twice = Affine("z", (2,), (Term(Dense(w), "x"), Term(Dense(w), "x")))
    graph = check(Graph((Input("x", (2,)), twice), "z"))
    assert graph.children("x") == (twice,)
    assert graph.parameters() == (w,)


def test_nodes_are_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        SMALL.nodes[0].name = "y"  # type: ignore[misc]


def test_outputs_are_the_entries_of_any_shape() -> None:
    assert Graph((Input("x", (2, 3)),), "x").outputs == 6


def test_the_first_node_must_be_the_input() -> None:
    with pytest.raises(InternalError, match="first node must be its input"):
        _ = Graph((SMALL.nodes[1],), "layer0").input


def node(name: str) -> Affine:
    found = SMALL.node(name)
    assert isinstance(found, Affine)
    return found


W = Parameter("w", torch.zeros(3, 2))
BROKEN: dict[str, tuple[Callable[[], Graph], str]] = {
    "a name twice": (
        lambda: Graph((*SMALL.nodes, replace(node("layer1"), name="a0")), "layer1"),
        "node 'a0': ill-formed graph: its name is taken",
    ),
    "no input": (lambda: Graph(SMALL.nodes[1:], "layer1"), "the input must be the first node"),
    "two inputs": (
        lambda: Graph((*SMALL.nodes, Input("y", (1,))), "layer1"),
        "node 'y': .* the input must be the first node",
    ),
    "out of order": (
        lambda: Graph((*SMALL.nodes[:1], *SMALL.nodes[:0:-1]), "layer1"),
        "its parent 'a0' does not come before it",
    ),
    "no terms": (
        lambda: Graph((Input("x", (2,)), Affine("z", (2,), ())), "z"),
        "an affine node needs a term",
    ),
    "wrong input shape": (
        lambda: Graph((Input("x", (5,)), Affine("z", (3,), (Term(Dense(W), "x"),))), "z"),
        r"dense\[w\] takes \(2,\), but 'x' has shape \(5,\)",
    ),
    "wrong output shape": (
        lambda: Graph((Input("x", (2,)), Affine("z", (4,), (Term(Dense(W), "x"),))), "z"),
        r"dense\[w\] gives \(3,\), not \(4,\)",
    ),
    "offset of another shape": (
        lambda: Graph(
            (
                Input("x", (2,)),
                Affine("z", (3,), (Term(Dense(W), "x"),), (Offset(identity((2,)), W),)),
            ),
            "z",
        ),
        r"the offset 'w' arrives as \(2,\)",
    ),
    "offset that does not broadcast": (
        lambda: Graph(
            (
                Input("x", (2,)),
                Affine(
                    "z",
                    (3,),
                    (Term(Dense(W), "x"),),
                    (Offset(identity((3,)), Parameter("p", torch.zeros(2))),),
                ),
            ),
            "z",
        ),
        r"the offset 'p' does not broadcast to \(3,\)",
    ),
    "activation that changes the shape": (
        lambda: Graph((Input("x", (2,)), Activate("a", (3,), "x", activation("tanh"))), "a"),
        "an activation must keep the shape",
    ),
    "one name, two parameters": (
        lambda: Graph(
            (
                Input("x", (2,)),
                Affine(
                    "z",
                    (3,),
                    (Term(Dense(W), "x"), Term(Dense(Parameter("w", torch.ones(3, 2))), "x")),
                ),
                Affine(
                    "y", (3,), (Term(identity((3,)), "z"),), (plain(Parameter("w", torch.ones(3))),)
                ),
            ),
            "y",
        ),
        "two parameters share one name",
    ),
    "no output": (lambda: Graph(SMALL.nodes, "nowhere"), "'nowhere': the output is not a node"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_ill_formed_graphs(name: str) -> None:
    make, message = BROKEN[name]
    with pytest.raises(InternalError, match=message):
        check(make())


def test_broadcasting_is_numpys() -> None:
    shapes = [(), (1,), (3,), (2, 3), (1, 3), (2, 1), (2, 2, 3), (1, 1, 1), (3, 1)]
    for shape in shapes:
        for target in shapes:
            try:
                expected = torch.zeros(shape).expand(target).shape == torch.Size(target)
            except RuntimeError:
                expected = False
            assert broadcasts(shape, target) == expected, (shape, target)


def test_text() -> None:
    assert to_text(decorated()).splitlines() == [
        "input image : 2×2×3",
        "affine conv : 7 = dense[conv.weight] · reshape(12) · permute(2, 0, 1) · scale[1/std]"
        " · image - dense[conv.weight] · reshape(12) · permute(2, 0, 1) · scale[1/std] · mean"
        " + conv.bias",
        "activation act1 : 7 = softplus(beta=2)(conv)",
        "affine norm : 6 = scale[norm.weight] · dense[matmul.weightᵀ] · act1"
        " - scale[norm.weight] · running_mean + norm.bias - extra",
        "activation act2 : 6 = tanh(norm)",
        "affine head : 4 = dense[head.weight] · act2 + dense[skip.weight] · scale[s] · act1"
        " + dense[direct.weight] · reshape(12) · image + head.bias + scale[two] · p",
        "output head",
    ]
    opaque = Opaque("o", (), ("x",), "Softmax", torch.softmax)
    assert to_text(Graph((Input("x", (2,)), opaque), "o")).splitlines()[1] == (
        "opaque o : scalar = Softmax(x)"
    )


def test_the_reference_interpreter_by_hand() -> None:
    graph = decorated(3, torch.float64)
    p = {parameter.name: parameter.value.double() for parameter in graph.parameters()}
    x = torch.randn(5, 2, 2, 3, dtype=torch.float64)
    values = evaluate(graph, x, stored_as(torch.float64))
    image = ((x - p["mean"]) / p["std"]).permute(0, 3, 1, 2)
    conv = torch.nn.functional.conv2d(image, p["conv.weight"], p["conv.bias"]).flatten(1)
    assert torch.allclose(values["conv"], conv)
    act1 = torch.log1p(torch.exp(2 * conv)) / 2
    norm = (act1 @ p["matmul.weight"] - p["running_mean"]) * p["norm.weight"]
    norm = norm + p["norm.bias"] - p["extra"]
    assert torch.allclose(values["norm"], norm, atol=1e-7)
    act2 = torch.tanh(norm)
    head = act2 @ p["head.weight"].T + (act1 * p["s"]) @ p["skip.weight"].T
    head = head + x.flatten(1) @ p["direct.weight"].T + p["head.bias"] + 2 * p["p"]
    assert torch.allclose(values["head"], head, atol=1e-7)


def test_opaque_nodes_run() -> None:
    w = Parameter("w", torch.eye(2))
    graph = check(
        Graph(
            (
                Input("x", (2,)),
                Affine("z", (2,), (Term(Dense(w), "x"),)),
                Opaque("o", (2,), ("z", "x"), "Mul", torch.mul, reason="a product"),
            ),
            "o",
        )
    )
    x = torch.randn(3, 2)
    assert torch.equal(evaluate(graph, x)["o"], x * x)
    assert torch.equal(result(graph, x), x * x)
    assert [found.reason for found in graph.opaque()] == ["a product"]


def test_shaped_affine_nodes_keep_their_shape() -> None:
    w = Parameter("w", torch.randn(6, 4))
    linear = compose(Reshape((6,), (2, 3)), Dense(w))
    graph = check(Graph((Input("x", (4,)), Affine("z", (2, 3), (Term(linear, "x"),))), "z"))
    x = torch.randn(5, 4)
    assert torch.allclose(evaluate(graph, x)["z"], (x @ w.value.T).reshape(5, 2, 3), atol=1e-6)
