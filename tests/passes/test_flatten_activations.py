"""Reshapes move past activations where they cancel, and nowhere else."""

from __future__ import annotations

import torch

from passes.flatten_activations import FlattenActivations
from vercomp.activations import BUILTIN
from vercomp.ir.graph import Activate, Affine, Graph, Input, Offset, Term
from vercomp.ir.linear_maps import Dense, Parameter, Reshape, Scale, compose, identity
from vercomp.ir.printer import to_text
from vercomp.ir.reference import evaluate
from vercomp.pass_manager import run_passes


def graph(*, between: bool = False) -> Graph:
    """Two layers with a (4, 1, 1) activation between them, as 1×1 convolutions leave it."""
    generator = torch.Generator().manual_seed(0)

    def parameter(name: str, *shape: int) -> Parameter:
        return Parameter(name, torch.randn(shape, generator=generator))

    tall = Reshape((4,), (4, 1, 1))
    reading = Dense(parameter("w2", 2, 4))
    scale = Scale((4, 1, 1), parameter("s", 4, 1, 1))
    inner = compose(Reshape((4, 1, 1), (4,)), scale) if between else Reshape((4, 1, 1), (4,))
    return Graph(
        (
            Input("x", (3,)),
            Affine(
                "conv1",
                (4, 1, 1),
                (Term(compose(tall, Dense(parameter("w1", 4, 3))), "x"),),
                (Offset(identity((4, 1, 1)), parameter("b1", 4, 1, 1)),),
            ),
            Activate("act1", (4, 1, 1), "conv1", BUILTIN.build("tanh")),
            Affine("conv2", (2,), (Term(compose(reading, inner), "act1"),)),
        ),
        "conv2",
    )


def test_reshapes_that_cancel_go() -> None:
    before = graph()
    after = run_passes(before, [FlattenActivations()])
    assert to_text(after) == (
        "input x : 3\n"
        "affine conv1 : 4 = dense[w1] · x + b1\n"
        "activation act1 : 4 = tanh(conv1)\n"
        "affine conv2 : 2 = dense[w2] · act1\n"
        "output conv2"
    )
    x = torch.randn(5, 3)
    torch.testing.assert_close(evaluate(after, x)["conv2"], evaluate(before, x)["conv2"])


def test_a_map_that_needs_the_shape_keeps_it() -> None:
    before = graph(between=True)
    assert FlattenActivations().run(before) is before
