"""The pass that derives activation constants: a fact a node, or every refusal at once."""

from __future__ import annotations

import pytest
import torch
from graphs import activation, chain

from passes.activation_constants import ActivationConstantsPass
from vercomp.activations import constants
from vercomp.errors import UnboundedCurvatureError
from vercomp.facts import CONSTANTS
from vercomp.pass_manager import State, run_passes


def test_every_activation_gets_its_own_constants() -> None:
    graph = chain(0, [3, 4, 5, 3], ["tanh", activation("softplus", beta=3.0)])
    facts = run_passes(State(graph), [ActivationConstantsPass()]).facts
    assert facts.of(CONSTANTS, "a0") == constants(activation("tanh"))
    assert facts.of(CONSTANTS, "a1").h_upper == pytest.approx(0.75)
    assert not facts.known(CONSTANTS, "layer0")


def test_constants_contain_the_derivatives() -> None:
    graph = chain(0, [3, 4, 3], ["silu"])
    found = run_passes(State(graph), [ActivationConstantsPass()]).facts.of(CONSTANTS, "a0")
    z = torch.linspace(-30, 30, 20001, dtype=torch.float64)
    slope = torch.func.grad(torch.nn.functional.silu)
    first, second = torch.func.vmap(slope)(z), torch.func.vmap(torch.func.grad(slope))(z)
    for values, low, high in (
        (first, found.g_lower, found.g_upper),
        (second, found.h_lower, found.h_upper),
    ):
        assert low <= values.min() <= low + 1e-5
        assert high - 1e-5 <= values.max() <= high


def test_one_refusal_names_the_node_and_the_reason() -> None:
    graph = chain(0, [3, 4, 5, 3], ["tanh", "relu"])
    with pytest.raises(UnboundedCurvatureError) as refusal:
        run_passes(State(graph), [ActivationConstantsPass()])
    assert refusal.value.node == "a1"
    assert refusal.value.operator == "relu"
    assert str(refusal.value).startswith(
        "node 'a1' (relu): the first derivative of relu jumps at x = 0, so curvature does not exist"
    )
    assert refusal.value.remedy


def test_several_refusals_come_at_once() -> None:
    leaky = activation("leaky_relu", slope=0.1)
    graph = chain(0, [3, 4, 5, 4, 3], ["relu", "tanh", leaky])
    with pytest.raises(UnboundedCurvatureError) as refusal:
        run_passes(State(graph), [ActivationConstantsPass()])
    first, *lines, last = str(refusal.value).splitlines()
    assert first == "2 activations without bounded curvature:"
    assert [line.partition(": ")[0] for line in lines] == [
        "  node 'a0' (relu)",
        "  node 'a2' (leaky_relu(slope=0.1))",
    ]
    assert last.startswith("Use ")


def test_a_graph_without_activations_has_nothing_to_derive() -> None:
    graph = chain(0, [3, 2], [])
    state = run_passes(State(graph), [ActivationConstantsPass()])
    assert not state.facts.entries
