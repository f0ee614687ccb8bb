"""Validation: a graph that computes something else than its source is an error."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from vercomp.activations import BUILTIN
from vercomp.errors import ValidationError
from vercomp.frontends.fx import from_torch
from vercomp.frontends.validate import validate
from vercomp.ir.graph import Affine, Graph

pytestmark = pytest.mark.filterwarnings("default:::torch", "default::DeprecationWarning")


def translation():
    torch.manual_seed(0)
    return from_torch(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)), (4,), BUILTIN)


def test_a_faithful_translation_passes():
    validate(translation())


def test_a_lost_bias_is_found():
    good = translation()
    nodes = tuple(
        replace(n, offsets=()) if isinstance(n, Affine) and n.name == "2" else n
        for n in good.graph.nodes
    )
    bad = replace(good, graph=Graph(nodes, good.graph.output))
    with pytest.raises(ValidationError) as error:
        validate(bad)
    assert str(error.value).startswith("the translation differs from the model by 0.")
    assert "on inputs in [0, 1] in float32, where the largest logit is 0.69, in 24 of 24" in str(
        error.value
    )


def test_a_difference_that_only_double_precision_sees_is_found():
    good = translation()
    wrong = replace(good, source=lambda x: good.source(x) * (1 + 1e-7))
    with pytest.raises(ValidationError, match="in float64"):
        validate(wrong)


def test_a_model_that_gives_nan():
    good = translation()
    with pytest.raises(ValidationError) as error:
        validate(replace(good, source=lambda x: good.source(x) * float("nan")))
    assert str(error.value) == "the model itself gives NaN on inputs in [0, 1] in float32"


def test_a_random_model():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(nn.functional.dropout(x, 0.5, training=True))

    with pytest.raises(ValidationError) as error:
        validate(from_torch(Noisy(), (4,), BUILTIN))
    assert str(error.value) == (
        "the model gives two different answers to one input (inputs in [0, 1] in float32). "
        "It is random or changes itself; switch dropout off in evaluation"
    )


def test_a_model_that_counts_its_calls():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.calls = nn.Linear(4, 3), 0

        def forward(self, x):
            self.calls += 1
            return self.fc(x) * self.calls

    with pytest.raises(ValidationError):
        validate(from_torch(Counting(), (4,), BUILTIN))


def test_another_shape():
    good = translation()
    with pytest.raises(ValidationError) as error:
        validate(replace(good, source=lambda x: good.source(x)[:, :2]))
    assert str(error.value) == "the translation gives shape (8, 3), the model (8, 2)"
