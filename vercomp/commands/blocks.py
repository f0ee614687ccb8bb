"""A long run: block after block of inputs, with progress, kept as it goes, resumed after a kill."""

from __future__ import annotations

import hashlib
import io
import math
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vercomp.commands.patience import Patience
from vercomp.data import Dataset
from vercomp.distributed import Processes
from vercomp.errors import OutputFolderError
from vercomp.outputs import RunFolder

Arrays = dict[str, NDArray[Any]]
Solve = Callable[[slice], Arrays]

FIRST, LARGEST = 2, 1024  # two images of a large network may take a minute: begin with little
PATIENCE = 1.0  # seconds a block should take
KEEP = 2.0  # seconds between writings


def describe(command: str, model: str, data: Dataset, options: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a run the same run: the version, the model's hash, the data and the options."""
    digest = hashlib.sha256()
    for tensor in (data.x, data.y):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().reshape(-1).data)
    return {
        "command": command,
        "vercomp": version("vercomp"),
        "model": model,
        "data": digest.hexdigest(),
        "options": dict(options),
    }


def run_in_blocks(
    what: str,
    count: int,
    solve: Solve,
    folder: RunFolder | None,
    needed: frozenset[str],
    team: Processes,
    timeout: float | None = None,
) -> Arrays | None:
    """Solve ``count`` inputs block by block.

    Several processes solve as many blocks at a time, all of one size; process 0 keeps them.

    Args:
        what: What the progress bar says.
        count: N.
        solve: The results for a slice of the inputs, as arrays with a row an input.
        folder: Where results are kept, and where those of an earlier, equal run are taken from,
            with whatever number of processes; of process 0, None in the others.
        needed: Names of the arrays that kept results must have.
        team: The processes that share the work.
        timeout: Seconds after which no further block is begun; None for no limit.

    Returns:
        The results of all inputs, or of the first ones that the time sufficed for, with ``index``
        and ``seconds`` (a block's time, shared out), in process 0; None in the others.
    """
    parts = _kept(folder, count, needed)
    done = team.same(sum(len(part["index"]) for part in parts))
    if done:
        team.say(f"{what}: {done} of {count} are there already")
    keeper = _Keeper(folder, parts)
    size = FIRST
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    with Patience(what, count, done, shown=team.main) as patience:
        try:
            while done < count:
                blocks = _shares(done, min(done + size * team.size, count), team.size)
                begin = time.perf_counter()
                mine = _solved(solve, blocks[team.rank]) if team.rank < len(blocks) else None
                seconds = time.perf_counter() - begin
                found = team.gather((mine, seconds))
                if team.main:
                    parts += [part for part, _ in found if part is not None]
                patience.advance(blocks[-1].stop - done)
                done = blocks[-1].stop
                size = _next_size(size, max(seconds for _, seconds in found))
                keeper.keep(soon=True)
                if team.same(time.monotonic() > deadline):
                    team.say(f"{what}: the time is over; {count - done} of {count} are undecided")
                    break
        finally:
            keeper.keep()
    return _joined(parts) if team.main else None


def _shares(start: int, stop: int, size: int) -> list[slice]:
    """Rows start to stop as at most ``size`` blocks, the last perhaps shorter than the others."""
    length = math.ceil((stop - start) / size)
    return [slice(row, min(row + length, stop)) for row in range(start, stop, length)]


def _solved(solve: Solve, block: slice) -> Arrays:
    """The results of a block, with its rows' numbers and times."""
    begin = time.perf_counter()
    part = solve(block)
    rows = block.stop - block.start
    part["index"] = np.arange(block.start, block.stop)
    part.setdefault("seconds", np.full(rows, (time.perf_counter() - begin) / rows))
    return part


def _next_size(size: int, seconds: float) -> int:
    """Blocks grow while they are quick (batches pay), and shrink once one tries the patience."""
    if seconds < PATIENCE / 2:
        return min(2 * size, LARGEST)
    return max(size // 2, 1) if seconds > 2 * PATIENCE else size


class _Keeper:
    """Writes the results so far: at most every two seconds, and a tenth of the time."""

    def __init__(self, folder: RunFolder | None, parts: list[Arrays]) -> None:
        self.folder, self.parts = folder, parts
        self.kept = len(parts)
        self.next = time.monotonic() + KEEP

    def keep(self, *, soon: bool = False) -> None:
        if self.folder is None or len(self.parts) == self.kept:
            return
        begin = time.monotonic()
        if soon and begin < self.next:
            return
        buffer = io.BytesIO()
        np.savez(buffer, **_joined(self.parts))  # type: ignore[arg-type]
        self.folder.write_results(buffer.getvalue())
        self.kept = len(self.parts)
        end = time.monotonic()
        self.next = end + max(KEEP, 9 * (end - begin))


def _kept(folder: RunFolder | None, count: int, needed: frozenset[str]) -> list[Arrays]:
    if folder is None or not folder.results.exists():
        return []
    try:
        with np.load(folder.results, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except Exception as error:
        raise _unusable(folder.results) from error
    rows = len(found.get("index", ()))
    whole = needed | {"index", "seconds"} <= found.keys() and all(
        array.ndim > 0 and len(array) == rows for array in found.values()
    )
    if not whole or rows > count or not np.array_equal(found["index"], np.arange(rows)):
        raise _unusable(folder.results)
    return [found]


def _joined(parts: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _unusable(path: Path) -> OutputFolderError:
    return OutputFolderError(
        "the results kept there cannot be read",
        location=str(path),
        remedy="Remove the file to begin anew",
    )
