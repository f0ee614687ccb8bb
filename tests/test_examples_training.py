"""The examples of training: a plain loop, and Lightning's trainer where it is installed."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "training"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_plain_loop_certifies_more_with_the_penalty(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["plain_loop.py", "--epochs", "8"])
    example("plain_loop").main()
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "seed 0, 8 epochs, 450 test inputs, radius 0.5"
    pattern = r"gamma (\S+) +clean (\S+)%, certified (\S+)%, curvature at most (\S+)"
    found = [re.fullmatch(pattern, line) for line in lines]
    (_, clean, certified, curvature), (_, clean_2, certified_2, curvature_2) = (
        [float(number) for number in match.groups()] for match in found if match
    )
    assert clean_2 > clean - 3
    assert certified_2 > certified + 5
    assert curvature_2 < 0.7 * curvature


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lightning_certifies_more_with_the_callback(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lightning.pytorch", reason="needs vercomp[lightning]")
    example("with_lightning").main(8)
    pattern = r"gamma (\S+): clean (\S+)%, certified at radius 0.5 (\S+)%"
    (_, clean, certified), (_, clean_2, certified_2) = (
        map(float, numbers) for numbers in re.findall(pattern, capsys.readouterr().out)
    )
    assert clean_2 > clean - 3
    assert certified_2 > certified + 5
