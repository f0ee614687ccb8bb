"""A normalisation in front of the graph, in the units of the user's input."""

from __future__ import annotations

import pytest
import torch

from passes.merge_affine import MergeAffine
from passes.normalize_input import NormalizeInput
from vercomp.errors import UsageError
from vercomp.ir.graph import Affine, Graph, Input, Term
from vercomp.ir.linear_maps import Dense, Parameter, Reshape, compose
from vercomp.ir.printer import to_text
from vercomp.ir.reference import evaluate
from vercomp.pass_manager import State, run_passes

W = Parameter("W", torch.randn(2, 12, dtype=torch.float64))
FC = Affine("fc", (2,), (Term(compose(Dense(W), Reshape((3, 2, 2), (12,))), "x"),))
GRAPH = Graph((Input("x", (3, 2, 2)), FC), "fc")


def normalized(*options):
    return run_passes(State(GRAPH), [NormalizeInput(*options), MergeAffine()]).graph


@pytest.mark.parametrize("mean", [None, 0.5, [0.1, 0.2, 0.3]])
@pytest.mark.parametrize("std", [None, [0.25], (0.5, 1.0, 2.0)])
def test_the_values(mean, std):
    def as_tensor(option, default):
        values = torch.tensor(default if option is None else option, dtype=torch.float64)
        return values.reshape(-1, 1, 1)

    x = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    moved = (x - as_tensor(mean, 0.0)) / as_tensor(std, 1.0)
    expected = moved.flatten(1) @ W.value.T
    graph = normalized(mean, std)
    assert torch.allclose(evaluate(graph, x)[graph.output], expected, atol=1e-12)
    assert all(not p.trainable for p in graph.parameters() if p.name.startswith("input."))


def test_the_text():
    first = "dense[W] · reshape(12) · scale[1/input.std]"
    assert to_text(normalized(0.1, (0.2, 0.3, 0.4))) == "\n".join(
        ["input x : 3×2×2", f"affine fc : 2 = {first} · x - {first} · input.mean", "output fc"]
    )
    assert normalized(0.0, 1.0) is GRAPH


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (0.0, 0.0, "node 'std': the standard deviation must be positive and finite"),
        (0.0, [1.0, -1.0, 1.0], "node 'std': the standard deviation must be positive and finite"),
        (0.0, float("nan"), "node 'std': the standard deviation must be positive and finite"),
        (float("inf"), 1.0, "node 'mean': the mean must be finite"),
        (
            [0.1, 0.2],
            1.0,
            "node 'mean': 2 values for an input of 3 channels. "
            "Give one number, or one for each channel (the first dimension of an input)",
        ),
    ],
)
def test_what_cannot_be_meant(mean, std, message):
    with pytest.raises(UsageError) as error:
        normalized(mean, std)
    assert str(error.value) == message
