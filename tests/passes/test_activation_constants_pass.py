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


def test_a_refusal_names_every_node_and_the_reason() -> None:
    graph = chain(0, [3, 4, 5, 4, 3], ["relu", "tanh", "relu"])
    with pytest.raises(UnboundedCurvatureError) as refusal:
        run_passes(State(graph), [ActivationConstantsPass()])
    assert refusal.value.node == "a0"
    assert "'a2'" in str(refusal.value)
    assert "'a1'" not in str(refusal.value)
    assert refusal.value.remedy


def test_a_graph_without_activations_has_nothing_to_derive() -> None:
    graph = chain(0, [3, 2], [])
    state = run_passes(State(graph), [ActivationConstantsPass()])
    assert not state.facts.entries
