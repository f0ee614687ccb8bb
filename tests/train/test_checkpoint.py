"""Checkpoints: they come back as they were, and what is no checkpoint is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vercomp.errors import OutputFolderError
from vercomp.train import checkpoint


def test_round_trip(tmp_path: Path) -> None:
    assert checkpoint.read(tmp_path) is None
    state = {"a": torch.rand(3).half(), "b": [{"c": 0.1, "d": None}], "e": {2: "f"}}
    checkpoint.write(tmp_path, state)
    found = checkpoint.read(tmp_path)
    assert found is not None
    assert torch.equal(found.pop("a"), state.pop("a"))
    assert found == {"format": checkpoint.FORMAT, **state}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_truncated_one_is_refused(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, {"a": torch.rand(100)})
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(OutputFolderError, match="cannot be read"):
        checkpoint.read(tmp_path)


class Code:
    """What a pickle could run."""


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    torch.save({"format": checkpoint.FORMAT, "a": Code()}, tmp_path / "checkpoint.pt")
    with pytest.raises(OutputFolderError, match="cannot be read"):
        checkpoint.read(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 0}, tmp_path / "checkpoint.pt")
    with pytest.raises(OutputFolderError, match="has format 0, not 1"):
        checkpoint.read(tmp_path)
