"""The wheel holds all that the package needs, and works where nothing of the source tree is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"

pytestmark = pytest.mark.slow


def call(*command: object, folder: Path) -> str:
    """Standard output of a command that must succeed, run in a folder outside of the source."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    call(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", ".", ROOT, folder=folder
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that has the wheel.

    Its other packages are those of the environment that runs the tests: a file there names their
    folder, whose own .pth files, the one of an editable vercomp among them, are then not read.
    """
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    found = folder / "bin" / "python"
    arguments = ("install", "--quiet", "--no-deps", "--force-reinstall", wheel)
    call(sys.executable, "-m", "pip", "--python", found, *arguments, folder=folder)
    return found


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    here = {
        path.relative_to(ROOT).as_posix()
        for package in ("vercomp", "passes")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        there = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert there == here
    assert {"vercomp/py.typed", "passes/py.typed", "vercomp/report/page.css"} <= there


def test_the_commands_work_from_another_folder(python: Path, tmp_path: Path) -> None:
    vercomp = python.parent / "vercomp"
    where = call(python, "-c", "import vercomp; print(vercomp.__file__)", folder=tmp_path)
    assert where.startswith(str(python.parent.parent))
    assert "vercomp 0" in call(python, "-m", "vercomp", "--version", folder=tmp_path)
    call(vercomp, "compile", DIGITS, "--out", "digits", folder=tmp_path)
    call(vercomp, "analyze", "digits", "--html", "digits.html", folder=tmp_path)
    assert (tmp_path / "digits.html").stat().st_size > 10_000
    said = call(vercomp, "certify", "digits", "--data", "digits", "--limit", 20, folder=tmp_path)
    assert re.search(r"inputs +20\n", said)
    few = ("--epochs", 1, "--limit", 100, "--method", "plain", "--radius", 0.5)
    call(
        *(vercomp, "train", "mlp:8:softplus", "--data", "digits:train", "--out", "trained", *few),
        folder=tmp_path,
    )
    assert (tmp_path / "trained" / "report.html").exists()


def test_the_emitted_package_needs_no_vercomp(python: Path, tmp_path: Path) -> None:
    """Its runtime is a copy of files that the wheel must hold as sources."""
    call(python.parent / "vercomp", "compile", DIGITS, "--out", "digits", folder=tmp_path)
    script = """
import sys
sys.modules["vercomp"] = None  # an import of it fails
import torch
from digits import load
x = torch.full((1, 64), 0.5)
network = load()
print(network.certify(x, network(x).argmax(1)).radius)
"""
    assert "tensor([" in call(python, "-c", script, folder=tmp_path)


def test_types_are_seen_from_the_wheel(python: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import vercomp\n"
        "net = vercomp.compile('model.onnx')\n"
        "reveal_type(net)\n"
        "net.certify(radius='far')\n",
        encoding="utf-8",
    )
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\n[mypy-torch.*]\nfollow_imports = skip\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "mypy", "--python-executable", python, "script.py"]
    result = subprocess.run(
        list(map(str, command)), cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
    )
    assert 'Revealed type is "vercomp.compiled.CompiledNetwork"' in result.stdout
    assert "script.py:4: error: " in result.stdout
    assert "[call-arg]" in result.stdout
    assert "[import-untyped]" not in result.stdout
