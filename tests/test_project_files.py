"""What stands beside the code agrees with it: hooks, citation, changelog, pins, a picture."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_hooks_are_the_commands_of_make_check() -> None:
    make = read("Makefile")
    (sources,) = re.findall(r"^SOURCES := (.+)$", make, flags=re.MULTILINE)
    (check,) = re.findall(r"^check:.*\n((?:\t.+\n)+)", make, flags=re.MULTILINE)
    commands = [line.strip() for line in check.splitlines()]
    said = [c.replace("$(BIN)", ".venv/bin").replace("$(SOURCES)", sources) for c in commands]
    assert re.findall(r"entry: (.+)", read(".pre-commit-config.yaml")) == said


def test_the_version_is_said_once() -> None:
    version = PROJECT["project"]["version"]
    assert f"version: {version}\n" in read("CITATION.cff")
    assert f"## {version}\n" in read("CHANGELOG.md")


def test_every_extra_is_pinned() -> None:
    """The set-up installs with constraints: what they leave open would be another one tomorrow."""
    pins = {line.partition("==")[0] for line in read("constraints.txt").splitlines()}
    for extra in PROJECT["project"]["optional-dependencies"].values():
        for requirement in extra:
            assert re.split(r"[<>=\[]", requirement)[0].lower() in pins, requirement


@pytest.mark.slow
def test_the_picture_of_methods_is_drawn(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples/digits/methods.py"), "methods.svg", "12"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    drawn, shown = (
        re.findall(r"proved by (\w+) \(mean radius ([\d.]+)\)", path.read_text(encoding="utf-8"))
        for path in (tmp_path / "methods.svg", ROOT / "examples/digits/methods.svg")
    )
    assert [name for name, _ in drawn] == [name for name, _ in shown]
    radii = {name: float(radius) for name, radius in drawn}
    assert radii["interval"] < radii["crown"] < radii["quadratic"] <= radii["curvature"] + 0.01
