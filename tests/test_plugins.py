"""A plugin that brings maps, front-end rules, an activation, a pass, a domain, a method, a ball."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from distributions import install

PLUGIN = (Path(__file__).parent / "plugin" / "rolling.py").read_text(encoding="utf-8")

MODEL = """
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
        return self.fc2(torch.cumsum(h / torch.sqrt(1 + h**2), 1))


def compiled(model, shape):
    if sys.argv[1] == "torch":
        return vercomp.compile(model, input_shape=shape)
    torch.onnx.export(
        model, (torch.zeros(1, *shape),), "net.onnx", dynamo=False, verbose=False,
        dynamic_axes={"x": {0: "batch"}}, input_names=["x"],
    )
    return vercomp.compile("net.onnx")


torch.manual_seed(0)
model = Net()
x = torch.randn(5, 6)
y = model(x).argmax(1)
"""

CERTIFY = """
net = compiled(model, (6,))
source = net.files["net.py"].decode()
imported = "from rolling import Roll, RunningSumOperator, SensitivityBounds"
# The exporter spells a roll as a concatenation; forward is printed as the source has it.
rolled = ".roll(2, 1)" if sys.argv[1] == "torch" else "torch.cat("
for line in ("Roll(6, 2)", "RunningSumOperator(6)", rolled, ".cumsum(1)", imported):
    assert line in source, (line, source)
assert torch.allclose(net.network(x), model(x), atol=1e-6)

curved = net.certify(x, y, methods=["curvature"])
intervals = net.certify(x, y, methods=["interval"])
backward = net.certify(x, y, methods=["sensitivity"])
for found in (curved, intervals, backward):
    assert (found.radius > 0).all()
assert set(backward.method) == {"sensitivity"}
stretched = net.certify(x, y, norm="stretched", methods=["interval"])
assert torch.allclose(stretched.radius, 2.0 * intervals.radius, rtol=3e-3)
every = net.certify(x, y)
assert (every.radius >= torch.maximum(curved.radius, backward.radius)).all()

C = torch.eye(3)
for norm in ("l2", "linf", "stretched"):
    for radius in (0.0, 1e-3, 0.3):
        region = vercomp.Ball(x, radius, norm)
        lower = net.bound(region, C, methods=["sensitivity"])
        points = region.sample(200, torch.Generator().manual_seed(0))
        outputs = net.network.double()(points.reshape(-1, 6)).reshape(5, -1, 3)
        net.network.float()
        assert (lower <= outputs.amin(1)).all(), (norm, radius)
        assert (lower >= outputs.amin(1) - 50.0 * radius - 1e-9).all(), (norm, radius)

net.save("package")
again = vercomp.load_package("package")
assert torch.equal(again.certify(x, y).radius, every.radius)
print("done")
"""

REFUSALS = """
class Images(torch.nn.Module):
    def forward(self, x):
        return torch.cumsum(x, 2).flatten(1)


try:
    compiled(Images(), (2, 3))
except vercomp.VercompError as error:
    print(str(error).replace("aten.cumsum.default", "CumSum"))
net = compiled(model, (6,))
try:
    net.certify(x, y, methods=["nothing"])
except vercomp.VercompError as error:
    print(error)
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
    code, text, error = run(tmp_path, MODEL + CERTIFY, source, plugins=True)
    assert code == 0, error
    assert text.splitlines()[-1] == "done"
    load = "import vercomp; vercomp.load_package('package')"
    code, _, error = run(tmp_path, load, plugins=False)
    assert code == 1
    assert error.splitlines()[-1] == (
        "vercomp.errors.ModelFileError: at package: the package needs the module 'rolling', which "
        "is not installed. Install the plugin with which it was compiled"
    )


@pytest.mark.parametrize("source", ["torch", "onnx"])
def test_what_a_plugin_refuses_is_refused_as_everything_is(tmp_path: Path, source: str) -> None:
    install(tmp_path / "site", "rolling", PLUGIN)
    code, text, error = run(tmp_path, MODEL + REFUSALS, source, plugins=True)
    assert code == 0, error
    first, second = text.splitlines()
    assert "(CumSum)" in first
    assert "running sums are along vectors only" in first
    assert "no method 'nothing'. Choose from curvature, interval" in second
    assert "sensitivity" in second


def test_without_the_plugin_its_operator_is_refused(tmp_path: Path) -> None:
    script = MODEL + "compiled(model, (6,))"
    code, _, error = run(tmp_path, script, "onnx", plugins=False)
    assert code == 1
    assert "(CumSum)" in error
    assert "vercomp has no rule for this operator" in error
