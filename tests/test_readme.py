"""The README's Python session is true, and its other claims about names are too."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from vercomp.cli import cli

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    sessions = re.findall(r"```pycon\n(.*?)```", TEXT, flags=re.DOTALL)
    assert sessions
    runner = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF)
    for session in sessions:
        runner.run(doctest.DocTestParser().get_doctest(session, {}, "README", "README.md", 0))
    assert runner.summarize(verbose=False).failed == 0


def test_it_begins_with_the_two_commands() -> None:
    commands = re.findall(r"^make \S+", TEXT, flags=re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_option_is_in_the_synopsis_or_the_text(command: str) -> None:
    for option in cli.commands[command].params:
        if option.opts[0].startswith("--"):
            assert option.opts[0] in TEXT, f"{command} {option.opts[0]} is not described"
