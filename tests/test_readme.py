"""The README's Python session is true, and its other claims about names are too."""

from __future__ import annotations

import doctest
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import vercomp
import vercomp.registry as registry_module
from vercomp.cli import cli

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")

PYTHON = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)

DECIMALS = r"-?\d+\.(\d+)"


class Rounded(doctest.OutputChecker):
    """Numbers with decimals may differ by two in the last: processors round differently."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if not super().check_output(
            re.sub(DECIMALS, "#", want), re.sub(DECIMALS, "#", got), optionflags
        ):
            return False
        pairs = zip(re.finditer(DECIMALS, want), re.finditer(DECIMALS, got), strict=True)
        return all(abs(float(w[0]) - float(g[0])) <= 2.5 * 10.0 ** -len(w[1]) for w, g in pairs)


def test_the_python_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    sessions = re.findall(r"```pycon\n(.*?)```", TEXT, flags=re.DOTALL)
    assert sessions
    runner = doctest.DocTestRunner(Rounded(), optionflags=doctest.REPORT_NDIFF)
    for session in sessions:
        runner.run(doctest.DocTestParser().get_doctest(session, {}, "README", "README.md", 0))
    assert runner.summarize(verbose=False).failed == 0


def test_the_saved_package_and_the_regulariser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    saved, regulariser = PYTHON[:2]
    net = vercomp.compile(ROOT / "examples" / "digits" / "digits.onnx")
    net.save(tmp_path / "build" / "digits")
    assert f"wrote build/digits ({len(net.files)} files)" in TEXT
    x, y = torch.rand(3, 64), torch.zeros(3, dtype=torch.long)
    names: dict[str, Any] = {"x": x, "y": y}
    exec(saved, names)  # noqa: S102 - the README's own code
    torch.testing.assert_close(names["certificates"].radius, net.certify(x, y).radius)
    names = {
        "vercomp": vercomp,
        "cross_entropy": torch.nn.functional.cross_entropy,
        "model": torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(784, 5), torch.nn.Tanh(), torch.nn.Linear(5, 10)
        ),
        "x": torch.rand(3, 1, 28, 28),
        "y": y,
        "t": y + 1,
        "gamma": 0.1,
    }
    exec(regulariser, names)  # noqa: S102
    names["loss"].backward()
    assert names["model"][1].weight.grad.abs().sum() > 0


def test_the_emitted_code_is_what_is_emitted() -> None:
    shown = PYTHON[2]
    net = vercomp.compile(ROOT / "examples" / "residual" / "residual.onnx")
    emitted = net.files["net.py"].decode()
    forward, maps = shown.split("\n\n\n")
    assert forward in emitted
    assert maps in emitted
    x = torch.rand(2, 1, 8, 8)
    assert (net.certify(x, net.network(x).argmax(1)).radius > 0).all()


def test_the_training_loop_trains() -> None:
    loop = PYTHON[3]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(32, 64, generator=generator)
    names: dict[str, Any] = {
        "vercomp": vercomp,
        "torch": torch,
        "nn": torch.nn,
        "cross_entropy": torch.nn.functional.cross_entropy,
        "batches": [(x, x[:, :10].argmax(1))] * 30,
        "gamma": 0.01,
    }
    exec(loop, names)  # noqa: S102
    assert names["loss"] < 0.8 * torch.tensor(10.0).log()


def test_linear_bounds_are_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    block = PYTHON[4]
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    compile_it = vercomp.compile
    monkeypatch.setattr(vercomp, "compile", lambda file, emit: compile_it(model, (4,), emit=emit))
    x = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    names: dict[str, Any] = {
        "vercomp": vercomp,
        "cross_entropy": torch.nn.functional.cross_entropy,
        "x": x,
        "y": model(x).argmax(1),
    }
    exec(block, names)  # noqa: S102
    assert names["lower"].shape == (5, 3)
    assert all(p.grad is not None for p in names["network"].parameters())


def test_the_questions_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (asked,) = [block for block in PYTHON if "controller.onnx" in block]
    shutil.copy(ROOT / "examples" / "digits" / "digits.onnx", tmp_path / "controller.onnx")
    monkeypatch.chdir(tmp_path)
    x = torch.rand(3, 64)
    names: dict[str, Any] = {
        "vercomp": vercomp,
        "torch": torch,
        "x": x,
        "y": torch.zeros(3, dtype=torch.long),
        "C": torch.eye(10)[:2] - torch.eye(10)[2:4],
        "d": torch.zeros(2),
        "s": torch.rand(64),
    }
    exec(asked, names)  # noqa: S102 - the README's own code
    assert (names["lower"] <= names["net"].network(x)).all()


def test_the_activation_of_five_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    (five,) = [block for block in PYTHON if "bell" in block]
    monkeypatch.setattr(registry_module, "_REGISTERED_HERE", [])
    try:
        exec(five, {"__name__": "script"})  # noqa: S102 - the README's own code

        class Bells(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.one, self.two = torch.nn.Linear(4, 6), torch.nn.Linear(6, 3)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                z = self.one(x)
                return self.two(torch.exp(-z * z))

        x = torch.rand(3, 4)
        net = vercomp.compile(Bells(), input_shape=(4,))
        assert "bell" in net.files["net.py"].decode().lower()
        assert (net.certify(x, net.network(x).argmax(1)).radius > 0).all()
    finally:
        registry_module.registry.cache_clear()


def test_no_block_of_python_is_left_out() -> None:
    """Five are taken by their places above, and two by what is in them."""
    assert len(PYTHON) == 7


def test_it_begins_with_the_two_commands() -> None:
    commands = re.findall(r"^make \S+", TEXT, flags=re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_option_is_in_the_synopsis_or_the_text(command: str) -> None:
    for option in cli.commands[command].params:
        if option.opts[0].startswith("--"):
            assert option.opts[0] in TEXT, f"{command} {option.opts[0]} is not described"
