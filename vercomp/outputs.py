"""Output folders: written whole or not at all, resumed when they are this run's, else left alone.

A folder that holds anything but an unmodified package of ours, or this very run, is the user's:
it is refused, never cleared.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from vercomp.errors import InternalError, OutputFolderError

MANIFEST = "manifest.json"
CASCADE = "cascade"
"""The kind of a package that holds several networks and a rule."""
WRITTEN = (
    "attacks.npz",
    "certificates.npz",
    "checkpoint.pt",
    "history.json",
    "radii.npz",
    "report.html",
    "result.json",
    "run.json",
)
"""The files of runs, as far as a killed one may leave half of them."""
REMEDY = "Give another folder, or remove this one yourself"


def sha256(content: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def write_atomically(path: Path | str, content: bytes) -> None:
    """Write a file so that a reader, or a kill at any moment, meets the old or the new one whole.

    Raises:
        OutputFolderError: The operating system refuses.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            _as_created(temporary, 0o666)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error


def write_package(folder: Path | str, files: Mapping[str, bytes]) -> bool:
    """Write a package's files, whole, into a folder that is new, empty, or holds a package of ours.

    The files go to a sibling folder first and reach the disk there; then the sibling takes the
    folder's name. If the folder already holds the same bytes, nothing is written.

    Args:
        folder: Where; parents are made.
        files: Relative POSIX path → content.

    Returns:
        Whether anything was written.

    Raises:
        OutputFolderError: The folder holds something else, or cannot be written.
    """
    folder = Path(folder).absolute()
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise InternalError(f"a package's file is named {name!r}")
    present = check_package_folder(folder)
    if present == {name: sha256(content) for name, content in files.items()}:
        return False
    try:
        folder = folder.resolve()  # what a symbolic link points to is replaced, not the link
        folder.parent.mkdir(parents=True, exist_ok=True)
        sibling = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new-", dir=folder.parent))
        try:
            for name, content in files.items():
                write_atomically(sibling / name, content)
            _as_created(sibling, 0o777)
            _take_place(sibling, folder)
        except BaseException:
            shutil.rmtree(sibling, ignore_errors=True)
            raise
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return True


def check_package_folder(folder: Path | str) -> dict[str, str]:
    """What a package may replace: SHA-256 by relative path; empty for a new or empty folder.

    Raises:
        OutputFolderError: There is something that is not an unmodified package of ours.
    """
    folder = Path(folder)
    present = _content(folder)
    if not present:
        return {}
    if MANIFEST not in present:
        raise OutputFolderError(
            f"the folder holds {_listing(present)}, which vercomp did not write",
            location=str(folder),
            remedy=REMEDY,
        )
    promised = _promised(folder)
    if promised is None:
        raise OutputFolderError(
            f"its {MANIFEST} is not that of a package of vercomp",
            location=str(folder),
            remedy=REMEDY,
        )
    found = {name: digest for name, digest in present.items() if name != MANIFEST}
    for names, what in (
        ([n for n in found if n not in promised], "also holds"),
        ([n for n in promised if n not in found], "has lost"),
        ([n for n in found if n in promised and found[n] != promised[n]], "has changed in"),
    ):
        if names:
            raise OutputFolderError(
                f"the package there {what} {_listing(names)}", location=str(folder), remedy=REMEDY
            )
    return present


def changed_code(folder: Path | str) -> list[str] | None:
    """The Python files of a package that are not as its manifest says, or missing.

    Returns:
        Their names; None for a folder that is no package of ours.
    """
    folder = Path(folder)
    promised = _promised(folder)
    if promised is None:
        return None
    present = set(_names(folder))
    return [
        name
        for name in sorted(promised)
        if name.endswith(".py")
        and (name not in present or sha256((folder / name).read_bytes()) != promised[name])
    ]


def kind_of(folder: Path | str) -> str | None:
    """What a package's manifest says that it is: ``"cascade"``, or None for one network."""
    manifest = _read_json(Path(folder) / MANIFEST)
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    return kind if isinstance(kind, str) else None


class RunFolder:
    """The folder of a long run: what the run is, its results so far, and its summary at the end.

    Args:
        folder: New, empty, or of this same run, which is then resumed.
        description: What the run is: the command, hashes of model and data, the options. Plain
            data; a run is the same when all of it is equal.
        results: Name of the file of results within the folder.
        others: What else may lie there: names, patterns of names (``*.png``), and folders, with a
            slash behind, whatever is in them.

    Raises:
        OutputFolderError: The folder holds another run or something else, or cannot be written.
    """

    def __init__(
        self,
        folder: Path | str,
        description: Mapping[str, Any],
        results: str,
        others: Collection[str] = (),
    ) -> None:
        self.folder = Path(folder)
        self._results = self.folder / results
        # through JSON and back, so that equal descriptions compare equal (tuples become lists)
        wanted = json.loads(json.dumps(dict(description)))
        ours = {"run.json", "result.json", results, *others}
        names = {name for name in _names(self.folder) if not _is_unfinished(name, others)}
        if not names:
            content = json.dumps(wanted, indent=2, sort_keys=True).encode() + b"\n"
            write_atomically(self.folder / "run.json", content)
            return
        if "run.json" not in names:
            raise OutputFolderError(
                f"the folder holds {_listing(names)}, which is no run of vercomp",
                location=str(self.folder),
                remedy=REMEDY,
            )
        found = _read_json(self.folder / "run.json")
        if not isinstance(found, dict):
            raise OutputFolderError(
                "its run.json cannot be read", location=str(self.folder), remedy=REMEDY
            )
        if found != wanted:
            other = sorted(_differences(found, wanted))
            raise OutputFolderError(
                f"the folder holds another run: {', '.join(other)} "
                + ("differs" if len(other) == 1 else "differ"),
                location=str(self.folder),
                remedy=REMEDY,
            )
        strange = {name for name in names if not any(_matches(name, known) for known in ours)}
        if strange:
            raise OutputFolderError(
                f"the run's folder also holds {_listing(strange)}",
                location=str(self.folder),
                remedy=REMEDY,
            )

    @property
    def results(self) -> Path:
        """The file of results; it need not exist yet."""
        return self._results

    def write_results(self, content: bytes) -> None:
        """Replace the results so far, atomically."""
        write_atomically(self._results, content)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the summary of the finished run, ``result.json``."""
        content = json.dumps(dict(summary), indent=2, allow_nan=False).encode() + b"\n"
        write_atomically(self.folder / "result.json", content)


def _names(folder: Path) -> list[str]:
    """Relative POSIX paths of all that lies in a folder, but for what running code leaves there."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise OutputFolderError("a file stands there", location=str(folder), remedy=REMEDY)
    names = []
    try:
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            # what a killed write_atomically leaves begins with a dot and is of no use to anyone
            if "__pycache__" in relative.parts or _is_leftover(path):
                continue
            if path.is_symlink() or not path.is_dir():
                names.append(relative.as_posix())
    except OSError as error:
        raise OutputFolderError(f"cannot be read: {error}", location=str(folder)) from error
    return names


def _is_leftover(path: Path) -> bool:
    """A temporary file of write_atomically: '.NAME.' and eight characters, beside its file."""
    stem, _, tail = path.name.rpartition(".")
    return len(tail) == 8 and stem.startswith(".") and stem[1:] in WRITTEN


def _is_unfinished(name: str, others: Collection[str]) -> bool:
    """In what a killed write_package leaves beside one of these folders: '.FOLDER.new-…'."""
    beside, _, state = name.partition("/")[0].rpartition(".")
    folders = {other.removesuffix("/") for other in others if other.endswith("/")}
    return state.startswith(("new-", "old-")) and beside.startswith(".") and beside[1:] in folders


def _matches(name: str, known: str) -> bool:
    """Whether a path is the one that is known, matches it, or lies in that folder."""
    if known.endswith("/"):
        return fnmatchcase(name.partition("/")[0] + "/", known)
    return "/" not in name and fnmatchcase(name, known)


def _content(folder: Path) -> dict[str, str]:
    content = {}
    for name in _names(folder):
        path = folder / name
        # a link or a device is nothing that we write: its hash matches no promise
        content[name] = (
            sha256(path.read_bytes()) if path.is_file() and not path.is_symlink() else ""
        )
    return content


def _promised(folder: Path) -> dict[str, str] | None:
    """The manifest's table of files; its paths are only ever compared, never opened."""
    manifest = _read_json(folder / MANIFEST)
    table = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(table, dict) or not table:
        return None
    if not all(isinstance(digest, str) for digest in table.values()):
        return None
    return table


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The keys in which two descriptions differ, at any depth."""
    found: set[str] = set()
    for key in one.keys() | other.keys():
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= _differences(a, b)
        elif a != b or (key in one) != (key in other):
            found.add(key)
    return found


def _listing(names: Any) -> str:
    shown = sorted(names)
    text = ", ".join(repr(name) for name in shown[:3])
    return text + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _take_place(sibling: Path, folder: Path) -> None:
    """Give a finished folder its name; a failure half-way puts the old one back."""
    if not folder.exists():
        os.rename(sibling, folder)
    else:
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old-", dir=folder.parent))
        os.rename(folder, old)
        try:
            os.rename(sibling, folder)
        except BaseException:
            os.rename(old, folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _sync_folder(folder.parent)


def _as_created(path: Path | str, mode: int) -> None:
    """Temporary files are private (0600); give what stays the mode that open() would have."""
    umask = os.umask(0)
    os.umask(umask)
    Path(path).chmod(mode & ~umask)


def _sync_folder(folder: Path) -> None:
    """A rename is on disk once its folder is; not every system lets a folder be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)


def _cannot_write(path: Path, error: OSError) -> OutputFolderError:
    return OutputFolderError(
        f"cannot be written: {error.strerror or error}",
        location=str(path),
        remedy="Give a folder that is yours, on a disk with room",
    )
