"""A final softmax goes; anything else stays."""

from __future__ import annotations

import pytest
import torch

from passes.strip_head import NO_SOFTMAX_HEAD, StripHead
from vercomp.activations import BUILTIN
from vercomp.ir.graph import Activate, Affine, Graph, Input, Opaque, Term
from vercomp.ir.linear_maps import Dense, Parameter, identity
from vercomp.ir.printer import to_text
from vercomp.pass_manager import run_passes

FC = Affine("fc", (3,), (Term(Dense(Parameter("W", torch.ones(3, 4))), "x"),))


def stripped(*nodes):
    graph = Graph((Input("x", (4,)), FC, *nodes), nodes[-1].name if nodes else "fc")
    return graph, run_passes(graph, [StripHead()])


def head(operator, name="head", parent="fc"):
    return Opaque(name, (3,), (parent,), operator, lambda z: z)


@pytest.mark.parametrize("operator", ["softmax", "log_softmax"])
def test_a_softmax_over_the_classes_goes(operator):
    graph, result = stripped(head(operator))
    assert NO_SOFTMAX_HEAD.violation(graph) == f"the output is the {operator} 'head'"
    assert to_text(result) == "input x : 4\naffine fc : 3 = dense[W] · x\noutput fc"


def test_also_behind_an_identity_and_twice():
    same = Affine("same", (3,), (Term(identity((3,)), "head"),))
    _, result = stripped(head("softmax"), same, head("log_softmax", "last", "same"))
    assert to_text(result) == "input x : 4\naffine fc : 3 = dense[W] · x\noutput fc"


@pytest.mark.parametrize(
    "last",
    [
        head("aten.softmax.int"),
        Activate("act", (3,), "fc", BUILTIN.build("relu")),
        Affine("double", (3,), (Term(Dense(Parameter("V", torch.eye(3))), "fc"),)),
    ],
)
def test_anything_else_stays(last):
    graph, result = stripped(last)
    assert result is graph


def test_an_increasing_function_becomes_the_tail():
    _, result = stripped(Activate("act", (3,), "fc", BUILTIN.build("sigmoid")))
    assert to_text(result) == (
        "input x : 4\naffine fc : 3 = dense[W] · x\noutput fc\ntail sigmoid(z), z the output"
    )
    assert result.tail is not None
    assert str(result.tail) == "sigmoid(z)"


def test_a_softmax_behind_it_leaves_nothing_to_bound():
    act = Activate("act", (3,), "fc", BUILTIN.build("tanh"))
    _, result = stripped(act, head("softmax", parent="act"))
    assert to_text(result) == "input x : 4\naffine fc : 3 = dense[W] · x\noutput fc"


def test_a_softmax_inside_stays():
    after = Affine("after", (3,), (Term(Dense(Parameter("V", torch.eye(3))), "head"),))
    graph, result = stripped(head("softmax"), after)
    assert result is graph
