"""A small writer of Python source: names, indentation, imports, and lines that are not too long.

What it writes is formatted as ruff would format it, so that nobody who reads or commits a package
sees a formatter change it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vercomp.backends.torch.wrapping import wrapped

WIDTH = 100


class Writer:
    """Collects lines of one Python file."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    @contextmanager
    def indented(self) -> Iterator[None]:
        """Lines inside the block are one level deeper."""
        self._depth += 1
        yield
        self._depth -= 1

    def line(self, text: str = "") -> None:
        """One line, or an empty one; a statement that is too long becomes several."""
        indent = "    " * self._depth
        parts = wrapped(text, WIDTH - len(indent))
        self._lines += [indent + part if part else "" for part in parts]

    def lines(self, text: str) -> None:
        """Several lines that are formatted already."""
        for line in text.splitlines():
            self.line(line)

    def blank(self, count: int = 1) -> None:
        """Empty lines."""
        for _ in range(count):
            self.line()

    def comment(self, text: str) -> None:
        """A comment, wrapped at the width."""
        room = WIDTH - 4 * self._depth - 2
        words, current = text.split(), ""
        for word in words:
            if current and len(current) + 1 + len(word) > room:
                self.line(f"# {current}")
                current = word
            else:
                current = f"{current} {word}".strip()
        if current:
            self.line(f"# {current}")

    def call(
        self, prefix: str, arguments: Sequence[str], suffix: str = "", brackets: str = "()"
    ) -> None:
        """``prefix(arguments)suffix`` on one line, on two, or with one argument a line."""
        opening, closing = brackets[0], brackets[1]
        inline = ", ".join(arguments)
        whole = f"{prefix}{opening}{inline}{closing}{suffix}"
        if self.fits(whole) or not prefix.startswith("def "):
            self.line(whole)
            return
        self.line(f"{prefix}{opening}")
        with self.indented():
            for line in [inline] if self.fits(inline) else [f"{a}," for a in arguments]:
                self.line(line)
        self.line(f"{closing}{suffix}")

    def assign(self, target: str, expression: str) -> None:
        """``target = expression``."""
        self.line(f"{target} = {expression}")

    def inside(self) -> Writer:
        """A writer for lines of this depth, to be appended later."""
        writer = Writer()
        writer._depth = self._depth
        return writer

    def append(self, other: Writer) -> None:
        """All lines of another writer."""
        self._lines += other._lines

    def fits(self, text: str) -> bool:
        """Whether a statement fits on a line of its own here."""
        return len(text) + 4 * self._depth <= WIDTH

    def text(self) -> str:
        """The file."""
        return "\n".join(self._lines).strip("\n") + "\n"
