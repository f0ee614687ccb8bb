"""The notebooks run from the first cell to the last, and show what they are said to show."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from documents import alike

FOLDER = Path(__file__).parent.parent / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LOOSE = 0.35
"""How far numbers of a training may differ between processors, relatively."""


def outputs(path: Path) -> list[dict[str, Any]]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [output for cell in notebook["cells"] for output in cell.get("outputs", ())]


def printed(path: Path) -> str:
    return "".join("".join(output.get("text", "")) for output in outputs(path))


def pictures(path: Path) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_are_small_and_of_no_machine(path: Path) -> None:
    assert path.stat().st_size < 150_000
    assert pictures(path) >= 2
    said = json.dumps(
        [{key: value for key, value in output.items() if key != "data"} for output in outputs(path)]
    )
    assert not re.search(r"/(home|root|tmp|work|usr|Users|var)/|Warning|Traceback", said)
    kinds = {output["output_type"] for output in outputs(path)}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert {o["name"] for o in outputs(path) if o["output_type"] == "stream"} <= {"stdout"}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="needs vercomp[notebooks]")
    pytest.importorskip("ipykernel", reason="needs vercomp[notebooks]")
    command = [sys.executable, str(FOLDER / "execute.py"), path.stem, "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert result.returncode == 0, result.stderr
    again = tmp_path / path.name
    assert pictures(again) == pictures(path)
    assert alike(printed(path), printed(again), LOOSE), printed(again)
