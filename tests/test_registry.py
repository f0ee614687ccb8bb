"""Plugins: a real third-party distribution, a script, and the ways in which both go wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sympy
import torch
from distributions import install
from torch import nn

import vercomp
from vercomp.core.methods.interval import IntervalBounds
from vercomp.errors import PluginError
from vercomp.features import METHODS
from vercomp.ir.activation import X
from vercomp.registry import Options, Registry, register, registry

PLUGIN = """
import sympy
import torch
import vercomp
from vercomp.ir.activation import X


def register(registry):
    formula = X / sympy.sqrt(1 + X**2)
    registry.add_activation(
        vercomp.define_activation("isru", formula, lambda x: x / torch.sqrt(1 + x**2))
    )
"""

USER = """
import torch
import vercomp


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(3, 5)
        self.fc2 = torch.nn.Linear(5, 2)

    def forward(self, x):
        h = self.fc1(x)
        return self.fc2(h / torch.sqrt(1 + h**2))


net = vercomp.compile(Net(), input_shape=(3,))
row = net.analysis().layers[0]
print(row.activation, round(row.g, 12))
"""


@pytest.fixture
def fresh_registry() -> Iterator[None]:
    """Leave the registry as it was, whatever a test registers."""
    from vercomp import registry as module

    before = list(module._REGISTERED_HERE)
    registry.cache_clear()
    yield
    module._REGISTERED_HERE[:] = before
    registry.cache_clear()


def run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_third_party_activation_compiles(tmp_path: Path) -> None:
    install(tmp_path, "isru_plugin", PLUGIN)
    result = run(tmp_path, USER)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "isru 1.0\n"


def test_two_owners_of_one_activation_are_both_named(tmp_path: Path) -> None:
    install(tmp_path, "first_plugin", PLUGIN)
    install(tmp_path, "second_plugin", PLUGIN)
    result = run(tmp_path, USER)
    assert (
        "the activation 'isru' is registered by both first_plugin (first_plugin:register) and "
        "second_plugin (second_plugin:register). Rename or uninstall one of them" in result.stderr
    )


def test_a_plugin_that_fails_is_named(tmp_path: Path) -> None:
    install(tmp_path, "broken_plugin", "def register(registry):\n    raise KeyError('x')\n")
    result = run(tmp_path, "from vercomp.registry import registry; registry()")
    assert (
        "the plugin broken_plugin (broken_plugin:register) cannot be loaded: KeyError('x'). "
        "Repair or uninstall it" in result.stderr
    )


@pytest.mark.usefixtures("fresh_registry")
def test_a_script_registers_an_activation() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(3, 4)
            self.fc2 = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.fc1(x)
            return self.fc2(h * torch.exp(-h * h))

    @register
    def add(found: Registry) -> None:
        found.add_activation(
            vercomp.define_activation(
                "gauss_slope", X * sympy.exp(-(X**2)), lambda x: x * torch.exp(-x * x)
            )
        )

    net = vercomp.compile(Net(), input_shape=(3,))
    (row, _) = net.analysis().layers
    assert row.activation == "gauss_slope"
    assert row.g == pytest.approx(1.0, rel=1e-8)  # σ′(0) = 1, and −2e^{−3/2} on the other side


@pytest.mark.usefixtures("fresh_registry")
def test_a_builtin_name_is_taken() -> None:
    @register
    def add(found: Registry) -> None:
        found.add_activation(vercomp.define_activation("tanh", sympy.tanh(X), torch.tanh))

    with pytest.raises(PluginError, match="tanh"):
        registry()


def test_passes_and_methods_come_in_by_the_door() -> None:
    names = [current.name for current in registry().make_passes(Options())]
    assert names == ["strip-head", "merge-affine", "flatten-activations"]
    with_mean = registry().make_passes(Options(mean=0.5, std=0.5))
    assert "normalize-input" in [current.name for current in with_mean]
    assert [method.name for method in registry().methods] == list(METHODS)
    asked = [method.name for method in registry().methods if method.on_request]
    assert asked == ["local", "coap", "coap-projected", "lipschitz", "alpha", "quadratic"]


def test_a_method_has_one_owner() -> None:
    found = Registry()
    found.owner = "mine"
    found.add_method(replace_name(IntervalBounds(), "finer"))
    found.owner = "yours"
    with pytest.raises(PluginError) as caught:
        found.add_method(replace_name(IntervalBounds(), "finer"))
    assert str(caught.value) == (
        "the method 'finer' is registered by both mine and yours. Rename or uninstall one of them"
    )
    with pytest.raises(PluginError, match="registered by both vercomp and yours"):
        found.add_method(IntervalBounds())


def replace_name(method: IntervalBounds, name: str) -> IntervalBounds:
    return type("Finer", (IntervalBounds,), {"name": name})()


@pytest.mark.parametrize("framework", ["torch", "ONNX"])
def test_an_operator_has_one_plugin(framework: str) -> None:
    """vercomp's own rules are no claim: a plugin's goes before them."""
    found = Registry()
    add = found.add_torch_operator if framework == "torch" else found.add_onnx_operator
    found.owner = "mine"
    add("aten::roll", lambda call: "no")
    found.owner = "yours"
    with pytest.raises(PluginError) as caught:
        add("aten::roll", lambda call: "no")
    assert str(caught.value) == (
        f"the {framework} operator 'aten::roll' is registered by both mine and yours. "
        "Rename or uninstall one of them"
    )


@pytest.mark.usefixtures("fresh_registry")
def test_a_rule_that_fails_is_the_plugins_fault() -> None:
    @register
    def add(found: Registry) -> None:
        found.add_torch_operator("aten::tanh", lambda call: call.args["nothing"])

    with pytest.raises(PluginError) as caught:
        vercomp.compile(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), input_shape=(3,))
    assert str(caught.value) == (
        "the rule for 'aten::tanh' of the plugin test_registry."
        "test_a_rule_that_fails_is_the_plugins_fault.<locals>.add failed: KeyError('nothing'). "
        "Repair or uninstall it"
    )
