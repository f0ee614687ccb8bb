"""A normalisation in front of the graph, in the units of the user's input."""

from __future__ import annotations

import pytest
import torch

from passes.merge_affine import MergeAffine
from passes.normalize_input import NormalizeInput
from vercomp.core.maps.convolution import Convolution as ConvolutionOperator
from vercomp.errors import UsageError
from vercomp.ir.convolutions import Convolution, Window
from vercomp.ir.graph import Affine, Graph, Input, Term
from vercomp.ir.linear_maps import Dense, Parameter, Reshape, compose
from vercomp.ir.printer import to_text
from vercomp.ir.reference import evaluate, stored
from vercomp.pass_manager import run_passes

W = Parameter("W", torch.randn(2, 12, dtype=torch.float64))
FC = Affine("fc", (2,), (Term(compose(Dense(W), Reshape((3, 2, 2), (12,))), "x"),))
GRAPH = Graph((Input("x", (3, 2, 2)), FC), "fc")


def normalized(*options):
    return run_passes(GRAPH, [NormalizeInput(*options), MergeAffine()])


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


def test_tensors_and_arrays():
    x = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    values = [0.5, 1.0, 2.0]
    expected = evaluate(normalized(values, values), x)
    for given in (torch.tensor(values, requires_grad=True), torch.tensor(values).numpy()):
        found = evaluate(normalized(given, given), x)
        assert torch.equal(found[GRAPH.output], expected[GRAPH.output])


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
            "0.5",
            1.0,
            "node 'mean': '0.5' is neither a number nor a list of numbers. "
            "Give one number, or one for each channel (the first dimension of an input)",
        ),
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


@pytest.mark.parametrize("std", [0.5, [0.2, 0.3, 0.4]])
def test_a_convolution_takes_up_the_deviation_of_each_channel(std):
    window = Window.of((3, 3), pads=((1, 1), (1, 1)))
    weight = Parameter("K", torch.randn(4, 3, 3, 3, dtype=torch.float64))
    conv = Affine("conv", (4, 5, 5), (Term(Convolution((3, 5, 5), weight, window), "x"),))
    graph = Graph((Input("x", (3, 5, 5)), conv), "conv")
    mean = (0.1, 0.2, 0.3)
    result = run_passes(graph, [NormalizeInput(mean, std), MergeAffine()])
    (node,) = result.affine()
    assert isinstance(node.terms[0].map.bind(stored), ConvolutionOperator)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)

    def channels(values):
        return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)

    expected = evaluate(graph, (x - channels(mean)) / channels(std))["conv"]
    assert torch.allclose(evaluate(result, x)[result.output], expected, atol=1e-12)


def test_features_without_a_shape_are_channels():
    weight = Parameter("W", torch.randn(2, 3, dtype=torch.float64))
    graph = Graph((Input("x", (3,)), Affine("fc", (2,), (Term(Dense(weight), "x"),))), "fc")
    mean, std = [1.0, 2.0, 3.0], [0.5, 1.0, 2.0]
    result = run_passes(graph, [NormalizeInput(mean, std), MergeAffine()])
    x = torch.randn(4, 3, dtype=torch.float64)
    expected = ((x - torch.tensor(mean)) / torch.tensor(std)) @ weight.value.T
    assert torch.allclose(evaluate(result, x)["fc"], expected, atol=1e-12)


def test_an_image_that_a_convolution_pads_is_padded_after_the_normalisation():
    """Zeros around the normalised image are not zeros of the input: the offset knows."""
    window = Window.of((1,), pads=((1, 0),))
    weight = Parameter("K", torch.ones(1, 1, 1, dtype=torch.float64))
    conv = Affine("conv", (1, 3), (Term(Convolution((1, 2), weight, window), "x"),))
    graph = Graph((Input("x", (1, 2)), conv), "conv")
    result = run_passes(graph, [NormalizeInput(1.0, 2.0), MergeAffine()])
    x = torch.tensor([[[3.0, 5.0]]], dtype=torch.float64)
    assert evaluate(result, x)["conv"].tolist() == [[[0.0, 1.0, 2.0]]]
