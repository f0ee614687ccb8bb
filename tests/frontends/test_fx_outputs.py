"""Models that return several things: one of them is named, or all are refused."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export, register_dataclass

import vercomp
from vercomp.activations import BUILTIN
from vercomp.errors import UnsupportedError, UsageError
from vercomp.frontends.fx import from_torch
from vercomp.frontends.validate import validate

# torch.export warns about its own internals
pytestmark = pytest.mark.filterwarnings(
    "default:::torch", "default::DeprecationWarning", "ignore:`isinstance:FutureWarning"
)


Pair = namedtuple("Pair", ["logits", "features"])


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None


register_dataclass(Output)


class Heads(nn.Module):
    def __init__(self, pack):
        super().__init__()
        self.fc, self.head, self.pack = nn.Linear(4, 4), nn.Linear(4, 3), pack

    def forward(self, x):
        h = torch.tanh(self.fc(x))
        return self.pack(self.head(h), h)


PACKS = {
    "dict": (lambda z, h: {"features": h, "logits": z}, "logits"),
    "tuple": (lambda z, h: (h, z), 1),
    "list": (lambda z, h: [z, h], 0),
    "named tuple": (lambda z, h: Pair(z, h), "logits"),
    "dataclass": (lambda z, h: Output(z), "logits"),
    "one in a tuple": (lambda z, h: (z,), 0),
}


@pytest.mark.parametrize("name", PACKS)
def test_an_output_that_is_named(name):
    pack, output = PACKS[name]
    model = Heads(pack).eval()
    alone = Heads(lambda z, h: z).eval()
    alone.load_state_dict(model.state_dict())
    x = torch.randn(5, 4)
    for given in (model, export(model, (x,), dynamic_shapes=({0: Dim("n")},))):
        translation = from_torch(given, (4,), BUILTIN, output=output)
        validate(translation)
        assert torch.allclose(translation.source(x), alone(x), atol=1e-6)
        assert translation.graph.node(translation.graph.output).shape == (3,)


def test_the_named_output_is_compiled_and_regularised():
    model = Heads(PACKS["dict"][0])
    net = vercomp.compile(model, (4,), output="logits")
    _, high = net.curvature()
    assert high.shape == (3, 3)
    x = torch.randn(5, 4)
    assert torch.allclose(net.network(x), model.eval()(x)["logits"], atol=1e-6)
    loss = float(vercomp.regularizer(model, (4,), output="logits")().detach())
    assert 0.0 < loss <= 1.001 * float(high.sum()) / 6


@pytest.mark.parametrize(
    ("pack", "output", "kind", "message"),
    [
        (
            PACKS["dict"][0],
            None,
            UnsupportedError,
            "the model returns a dict with the outputs 'features', 'logits', not one tensor of "
            "logits. Name one of them, as in output='features'",
        ),
        (
            PACKS["tuple"][0],
            None,
            UnsupportedError,
            "the model returns a tuple with the outputs 0, 1, not one tensor of logits. Name one "
            "of them, as in output=0",
        ),
        (
            PACKS["dict"][0],
            "logit",
            UsageError,
            "the model has no output 'logit'. It has the outputs 'features', 'logits'",
        ),
        (
            lambda z, h: z,
            0,
            UsageError,
            "the model has no output 0. It has one; leave the name out",
        ),
        (
            lambda z, h: (z, (h, h)),
            1,
            UnsupportedError,
            "its output 1 is a tuple, not a tensor of logits. Wrap it in a module that returns the "
            "logits alone",
        ),
        (
            lambda z, h: None,
            None,
            UnsupportedError,
            "the model returns a NoneType, not one tensor of logits. Wrap it in a module that "
            "returns the logits alone",
        ),
    ],
)
def test_outputs_that_are_refused(pack, output, kind, message):
    with pytest.raises(kind) as error:
        from_torch(Heads(pack), (4,), BUILTIN, output)
    assert str(error.value) == f"node 'Heads': {message}"


def test_an_exported_program_with_several_outputs():
    program = export(Heads(PACKS["dict"][0]), (torch.zeros(2, 4),))
    with pytest.raises(UnsupportedError) as error:
        from_torch(program, None, BUILTIN)
    assert str(error.value) == (
        "node 'ExportedProgram': the model returns a dict with the outputs 'features', 'logits', "
        "not one tensor of logits. Name one of them, as in output='features'"
    )
