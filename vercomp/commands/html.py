"""Where a report goes: a new file, or in place of a report that nobody has changed."""

from __future__ import annotations

import os
from pathlib import Path

from vercomp.errors import OutputFolderError
from vercomp.outputs import REMEDY, write_atomically
from vercomp.report.document import is_report

FILE_REMEDY = REMEDY.replace("folder", "file")


def check_html_path(path: Path, made: Path | None = None) -> None:
    """Refuse, before any work, what a report must not replace or where none can be written.

    Args:
        path: Where the report shall go.
        made: A folder that the run makes, where it is not there yet.

    Raises:
        OutputFolderError: There is something that is not an unmodified report of ours, or the
            folder is missing or not to be written to.
    """
    where = str(path)
    if path.is_dir():
        raise OutputFolderError("a folder stands there, not a file", location=where)
    if made is not None and path.parent == made and not made.exists():
        return
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise OutputFolderError(
            "its folder is not there, or cannot be written to",
            location=where,
            remedy="Make the folder, or give another one",
        )
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise OutputFolderError("no ordinary file", location=where, remedy=FILE_REMEDY)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OutputFolderError(
            f"cannot be read: {error.strerror}", location=where, remedy=FILE_REMEDY
        ) from error
    if content and not is_report(content):
        raise OutputFolderError(
            "the file there is no report of vercomp, or has been changed",
            location=where,
            remedy=FILE_REMEDY,
        )


def write_html(path: Path, content: bytes) -> None:
    """Write a report, whole or not at all; a symbolic link is followed, not replaced."""
    check_html_path(path)
    write_atomically(path.resolve(), content)
