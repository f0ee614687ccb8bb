"""Every kind of graph on which emitted source is tested, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from graphs import activation, branching, chain, convolutional, decorated, renamed, residual

from vercomp.ir.check import check
from vercomp.ir.graph import Activate, Affine, Graph, Input, Term
from vercomp.ir.linear_maps import Dense, Parameter

EVERY_ACTIVATION = [
    *["sigmoid", "tanh", "softplus", "gelu", "gelu_tanh", "silu", "mish", "elu", "celu"],
    *["arctan", "erf", "sin", "softsign", "identity"],
]


def with_long_names(graph: Graph, length: int = 60) -> Graph:
    names = {
        node.name: f"{node.name}_{'of_a_very_long_layer_' * 5}"[:length] for node in graph.nodes
    }
    params = {
        p.name: f"{p.name}.{'of.a.very.long.module.' * 5}"[:length] for p in graph.parameters()
    }
    return renamed(graph, names, params)


def input_only() -> Graph:
    return check(Graph((Input("x", (3,)),), "x"))


def affine_only() -> Graph:
    weight = Parameter("w", torch.randn(3, 4))
    return check(Graph((Input("x", (4,)), Affine("z", (3,), (Term(Dense(weight), "x"),))), "z"))


def activation_last() -> Graph:
    graph = chain(4, [3, 5, 4], ["gelu"])
    last = Activate("squashed", (4,), graph.output, activation("tanh"))
    return check(Graph((*graph.nodes, last), "squashed"))


def activation_first() -> Graph:
    w = Parameter("w", torch.randn(3, 4))
    return check(
        Graph(
            (
                Input("x", (4,)),
                Activate("a", (4,), "x", activation("silu")),
                Affine("z", (3,), (Term(Dense(w), "a"), Term(Dense(w), "x"))),
            ),
            "z",
        )
    )


GRAPHS: dict[str, Callable[[], Graph]] = {
    "small": lambda: chain(0, [3, 5, 4], ["tanh"]),
    "deep": lambda: chain(1, [4, *[3 + k % 3 for k in range(14)], 3], EVERY_ACTIVATION),
    "two of one kind": lambda: chain(
        2, [3, 4, 5, 3], [activation("softplus", beta=1.5), activation("softplus", beta=1.50000001)]
    ),
    "wide": lambda: chain(3, [300, 2, 120], ["sigmoid"]),
    "one by one": lambda: chain(5, [1, 1, 2], ["silu"]),
    "skips": lambda: residual(6, ["gelu", "silu", "tanh", "softplus", "sigmoid"]),
    "one of everything": decorated,
    "one of everything in float64": lambda: decorated(1, torch.float64),
    "images": convolutional,
    "images in float64": lambda: convolutional(1, torch.float64),
    "images in branches": branching,
    "images with long names": lambda: with_long_names(branching(3)),
    "more images with long names": lambda: with_long_names(convolutional(3)),
    "images with middling names": lambda: with_long_names(branching(4), 22),
    "long names": lambda: with_long_names(decorated(2)),
    "long names and skips": lambda: with_long_names(residual(7, ["gelu", "silu", "tanh", "mish"])),
    "middling names": lambda: with_long_names(residual(8, ["gelu", "silu", "tanh"]), 22),
    "input only": input_only,
    "affine only": affine_only,
    "activation last": activation_last,
    "activation first": activation_first,
}
