"""Progress on standard error, for what takes longer than two seconds."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self

DELAY = 2.0
REPEAT = 10.0  # seconds between lines where standard error is no terminal


class Patience:
    """A bar that appears only if the work outlasts two seconds; lines where there is no terminal.

    Args:
        what: What is being done.
        total: How much there is of it; None if that is unknown.
        done: How much is already done.
        shown: Whether anything is shown at all: of several processes one shows how all get on.
    """

    def __init__(
        self, what: str, total: int | None = None, done: int = 0, *, shown: bool = True
    ) -> None:
        self.what, self.total, self.done, self.shown = what, total, done, shown
        self._begin = time.monotonic()
        self._said = self._begin + DELAY - REPEAT
        self._lock = threading.Lock()
        self._timer = threading.Timer(DELAY, self._start)
        self._timer.daemon = True
        self._bar: object | None = None
        self._over = False

    def __enter__(self) -> Self:
        if self.shown and sys.stderr.isatty():
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True
            if self._bar is not None:
                self._bar.stop()  # type: ignore[attr-defined]

    def advance(self, count: int) -> None:
        """So much more is done."""
        with self._lock:
            self.done += count
            if self._bar is not None:
                self._bar.advance(self._task, count)  # type: ignore[attr-defined]
            elif self._is_due():
                self._said = time.monotonic()
                seconds = self._said - self._begin
                print(f"{self.what}: {self.done} of {self.total}, {seconds:.0f} s", file=sys.stderr)

    def _is_due(self) -> bool:
        late = time.monotonic() - self._said > REPEAT
        return self.shown and late and not sys.stderr.isatty()

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        counts = [] if self.total is None else [MofNCompleteColumn(), Remaining()]
        with self._lock:
            if self._over:
                return
            columns = (TextColumn("{task.description}"), BarColumn(), *counts)
            bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = bar.add_task(self.what, total=self.total, completed=self.done)
            bar.start()
            self._bar = bar
