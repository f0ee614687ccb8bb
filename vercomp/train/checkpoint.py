"""One file that a training goes on from: everything that its next step depends on."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vercomp.errors import OutputFolderError
from vercomp.outputs import write_atomically

FORMAT = 1
CHECKPOINT = "checkpoint.pt"


def write(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the checkpoint, atomically. State is tensors and plain data: nothing is pickled."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(folder / CHECKPOINT, buffer.getvalue())


def read(folder: Path) -> dict[str, Any] | None:
    """The state that was written, on the CPU; None where there is none.

    Raises:
        OutputFolderError: It cannot be read, or is of another version.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        known = state["format"] == FORMAT
    except Exception as error:  # whatever torch makes of the bytes
        raise OutputFolderError(
            "the checkpoint cannot be read",
            location=str(path),
            remedy="Remove the file to begin anew",
        ) from error
    if not known:
        raise OutputFolderError(
            f"the checkpoint has format {state['format']}, not {FORMAT}",
            location=str(path),
            remedy="Remove the file to begin anew",
        )
    return dict(state)
