"""The activations of emitted files: what is printed is what was proved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from graphs import activation, chain, emit
from rows import user
from sympy import sin

from vercomp.activations import pieces
from vercomp.ir.activation import X

PROJECT = str(Path(__file__).parents[3] / "pyproject.toml")
NAMES = ["softplus", "elu", "softsign", "sin"]


def test_printed_pieces_are_the_proved_ones() -> None:
    made = emit(chain(0, [3, 4, 4, 4, 4, 3], NAMES))
    for name in NAMES:
        constant = getattr(made.module.net, name.upper())
        proved = pieces(activation(name))
        assert len(constant.pieces) == len(proved)
        for printed, derived in zip(constant.pieces, proved, strict=True):
            assert repr(printed) == repr(derived)
        low, high = constant.range(1, torch.tensor([-1.0]).double(), torch.tensor([2.0]).double())
        assert low < constant.first(torch.tensor([0.5]).double()) < high + 1e-12


def test_what_is_not_proved_is_said() -> None:
    made = emit(chain(0, [3, 4, 3], [user(X + 2 * sin(X), "wobble")]))
    assert (
        "# Without pieces: the monotone pieces of wobble are not proved: σ may turn" in made.source
    )
    with pytest.raises(ValueError, match="are not proved"):
        made.module.net.WOBBLE.range(0, torch.zeros(1).double(), torch.ones(1).double())


def test_the_section_is_formatted(tmp_path: Path) -> None:
    made = emit(chain(0, [3, 4, 4, 4, 4, 3], NAMES), ("certify",))
    path = tmp_path / "net.py"
    path.write_text(made.source, encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "format", "--check", "--config", PROJECT, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
