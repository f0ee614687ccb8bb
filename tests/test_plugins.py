"""A plugin that brings a map, an activation, a pass, a method and a ball, from a distribution."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from distributions import install

PLUGIN = '''
from dataclasses import dataclass, replace
from functools import reduce
from typing import ClassVar

import sympy
import torch

import vercomp
from vercomp.backends.torch.rules import MapRule
from vercomp.core.maps.operators import Operator
from vercomp.core.methods.interval import IntervalBounds
from vercomp.core.regions.ball_kind import BallKind
from vercomp.core.regions.rounding import norm2_up
from vercomp.ir.activation import X
from vercomp.ir.expressions import call
from vercomp.ir.linear_maps import LinearMap, compose, parts
from vercomp.ir.selections import Gather


@dataclass(frozen=True)
class Roll(Operator):
    """x rolled by ``shift``."""

    size: int
    shift: int
    error: float = 0.0

    shape = property(lambda self: (self.size, self.size))
    fan_in = fan_out = property(lambda self: 1)
    absolute_norm = property(lambda self: 1.0)

    def apply(self, x):
        return x.roll(self.shift, -1)

    def adjoint(self, s):
        return s.roll(-self.shift, -1)

    abs_apply, abs_adjoint = apply, adjoint


@dataclass(frozen=True)
class Rolled(LinearMap):
    """The same as a symbol."""

    size: int
    shift: int

    in_shape = out_shape = property(lambda self: (self.size,))

    def operator(self):
        return call(Roll, self.size, self.shift)

    def __str__(self):
        return f"roll({self.shift})"


@dataclass(frozen=True)
class Recognise:
    """Gathers that roll a vector become rolls."""

    name: ClassVar[str] = "recognise-rolls"
    requires: ClassVar[tuple] = ()
    establishes: ClassVar[tuple] = ()

    def run(self, graph):
        return replace(graph, nodes=tuple(map(self._node, graph.nodes)))

    def _node(self, node):
        terms = [
            replace(term, map=reduce(lambda a, b: compose(b, a), map(self._map, parts(term.map))))
            for term in getattr(node, "terms", ())
        ]
        return replace(node, terms=tuple(terms)) if terms else node

    def _map(self, part):
        if isinstance(part, Gather) and len(part.source) == 1:
            size, shift = part.source[0], -part.indices[0] % part.source[0]
            if part.indices == tuple((i - shift) % size for i in range(size)):
                return Rolled(size, shift)
        return part


class Patient(IntervalBounds):
    """Another method: intervals again, under a name of its own."""

    name = "patient"


class Stretched(BallKind):
    """The ball of the norm 2‖y‖₂."""

    name = "stretched"
    smooth = True

    def norm(self, y):
        return 2.0 * norm2_up(y)

    def dual_norm(self, g):
        return 0.5 * norm2_up(g)

    def shrink(self, g, rho, multiplier, lower, upper):
        step = torch.where(g == 0.0, 0.0, -g / (rho + 4.0 * multiplier[:, None]))
        return torch.clamp(step, lower, upper)

    def share(self, g, y, multiplier):
        return -4.0 * multiplier[:, None] * y

    def multiplier_scale(self, g, radius):
        return self.dual_norm(g) / radius

    def draw(self, count, size, generator):
        normal = torch.randn(count, size, dtype=torch.float64, generator=generator)
        return 0.5 * torch.nn.functional.normalize(normal, dim=1)

    def extents(self, size):
        return torch.full((size,), 0.5, dtype=torch.float64)


vercomp.register_ball(Stretched())


def register(registry):
    formula = X / sympy.sqrt(1 + X**2)
    registry.add_activation(
        vercomp.define_activation("isru", formula, lambda x: x / torch.sqrt(1 + x**2))
    )
    registry.add_linear_map(Rolled, MapRule(lambda m, x, read: f"{x}.roll({m.shift}, -1)"))
    registry.add_pass("recognise-rolls", lambda options: Recognise())
    registry.add_method(Patient())
'''

USER = """
import sys

import torch
import vercomp


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(6, 6)
        self.fc2 = torch.nn.Linear(6, 3)

    def forward(self, x):
        h = self.fc1(torch.roll(x, 2, 1))
        return self.fc2(h / torch.sqrt(1 + h**2))


torch.manual_seed(0)
model = Net()
if sys.argv[1] == "onnx":
    torch.onnx.export(model, (torch.zeros(1, 6),), "net.onnx", dynamo=False, verbose=False,
                      dynamic_axes={"x": {0: "batch"}}, input_names=["x"])
    net = vercomp.compile("net.onnx")
else:
    net = vercomp.compile(model, input_shape=(6,))
source = net.files["net.py"].decode()
assert "Roll(6, 2)" in source, source
assert ".roll(2, -1)" in source, source
assert "import Patient, Roll" in source or "import Roll" in source, source
x = torch.randn(5, 6)
y = model(x).argmax(1)
assert torch.allclose(net.network(x), model(x), atol=1e-6)
one = net.certify(x, y, methods=["interval"])
other = net.certify(x, y, methods=["patient"])
assert set(other.method) == {"patient"}
assert torch.equal(one.radius, other.radius)
half = net.certify(x, y, norm="stretched", methods=["interval"])
assert torch.allclose(half.radius, 2.0 * one.radius, rtol=3e-3), (half.radius, one.radius)
curved = net.certify(x, y, methods=["curvature"])
assert (curved.radius > 0).all()
assert (net.certify(x, y, norm="stretched").radius >= half.radius).all()
try:
    net.certify(x[:, :2], y)
except vercomp.VercompError:
    pass
net.save("package")
again = vercomp.load_package("package")
assert torch.equal(again.certify(x, y).radius, net.certify(x, y).radius)
print("done")
"""


def run(folder: Path, script: str, *arguments: str, plugins: bool) -> tuple[int, str, str]:
    environment = {**os.environ, "PYTHONPATH": str(folder / "site") if plugins else ""}
    command = [sys.executable, "-c", script, *arguments]
    ran = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.parametrize("source", ["torch", "onnx"])
def test_everything_that_a_plugin_can_bring(tmp_path: Path, source: str) -> None:
    install(tmp_path / "site", "rolling", PLUGIN)
    code, text, error = run(tmp_path, USER, source, plugins=True)
    assert code == 0, error
    assert text.splitlines()[-1] == "done"
    load = "import vercomp; vercomp.load_package('package')"
    code, _, error = run(tmp_path, load, plugins=False)
    assert code == 1
    assert error.splitlines()[-1] == (
        "vercomp.errors.ModelFileError: at package: the package needs the module 'rolling', which "
        "is not installed. Install the plugin with which it was compiled"
    )
