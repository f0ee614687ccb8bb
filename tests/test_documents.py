"""Every block of code in the documents runs, and every session prints what it is said to print."""

from __future__ import annotations

import doctest
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from documents import EXECUTED, ROOT, SHOWN, alike, blocks, documents, script, sessions
from test_readme import Rounded

LOOSE = 0.35
"""How far numbers of a training, epochs too, may differ between processors, relatively."""

PAGES = [path for path in documents() if path.name != "README.md"]


def named(path: Path) -> str:
    return path.stem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with the examples in it."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def run(folder: Path, *command: str) -> tuple[int, str, str]:
    environment = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize("path", documents(), ids=named)
def test_every_block_says_what_it_is(path: Path) -> None:
    for block in blocks(path):
        assert block.language in (*EXECUTED, *SHOWN, "setup"), f"{path.name}:{block.line}"
        if block.language in SHOWN:
            assert not block.text.startswith(("$ ", ">>> ")), (
                f"{path.name}:{block.line}: a session is marked console or pycon, and runs"
            )


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PAGES if script(path)], ids=named)
def test_the_python_of_a_page_runs(path: Path, folder: Path) -> None:
    (folder / "page.py").write_text(script(path), encoding="utf-8")
    code, _, error = run(folder, sys.executable, "-W", "error::SyntaxWarning", "page.py")
    assert code == 0, error


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in PAGES if any(b.language == "pycon" for b in blocks(p))], ids=named
)
def test_the_sessions_of_a_page_are_true(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    runner = doctest.DocTestRunner(Rounded(), optionflags=doctest.REPORT_NDIFF)
    names: dict[str, object] = {}
    for block in blocks(path):
        if block.language == "pycon":
            text, name = block.text, path.name
            session = doctest.DocTestParser().get_doctest(text, names, name, name, block.line)
            runner.run(session, clear_globs=False)
            names = session.globs
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in documents() if sessions(path)], ids=named)
def test_commands_print_what_is_shown(path: Path, folder: Path) -> None:
    for session in sessions(path):
        for command, said in session:
            words = shlex.split(command)
            if words[0] == "vercomp":
                words = ["python", "-m", *words]
            assert words[0] == "python", command
            code, printed, error = run(folder, sys.executable, *words[1:])
            assert code == 0, error
            trained = "train" in " ".join(part for part, _ in session)
            assert said == "" or alike(said, printed, LOOSE if trained else 0.0), (
                f"{command}\n{printed}"
            )


def test_outputs_compare_as_a_reader_would() -> None:
    said = "inputs        450\nmean  0.6201\nseconds an input  0.0003\n"
    assert alike(said, said.replace("0.6201", "0.6203").replace("0.0003", "0.02"), 0.0)
    assert not alike(said, said.replace("0.6201", "0.6241"), 0.0)
    assert alike(said, said.replace("0.6201", "0.6241"), 0.05)
    assert not alike(said, said.replace("450", "449"), 0.0)
    assert not alike(said, said.replace("mean", "median"), 0.0)
    assert not alike(said, said + "more\n", 0.0)
    assert alike("inputs 450\n…\n", said, 0.0)
    table = "epoch  seconds\n──────\n   15        5\n"
    assert alike(table, table.replace("5\n", "18\n"), 0.0)
    assert not alike(table, table.replace("15 ", "10 "), 0.0)
