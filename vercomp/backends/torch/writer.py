"""A small writer of Python source: names, indentation, imports, and lines that are not too long.

What it writes is formatted as ruff would format it, so that nobody who reads or commits a package
sees a formatter change it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vercomp.backends.torch.wrapping import wrapped
from vercomp.errors import InternalError

WIDTH = 100


class Writer:
    """Collects lines of one Python file."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0
        self._last = ""
        self._last_begins = 0

    @contextmanager
    def indented(self) -> Iterator[None]:
        """Lines inside the block are one level deeper."""
        self._depth += 1
        yield
        self._depth -= 1

    def line(self, text: str = "") -> None:
        """One line, or an empty one; a statement that is too long becomes several."""
        self._last, self._last_begins = text, len(self._lines)
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

    def assign_sum(self, target: str, terms: Sequence[str]) -> None:
        """``target = Σ terms``; a second term that does not fit is added by itself."""
        if len(terms) == 2 and not self.fits(f"{target} = {terms[0]} + {terms[1]}"):
            self.assign(target, terms[0])
            terms = [target, terms[1]]
        self.assign(target, " + ".join(terms))

    def return_last(self, name: str) -> None:
        """Return what the last statement assigns to ``name``."""
        head = f"{name} = "
        if not self._last.startswith(head):
            raise InternalError(f"the last line does not assign {name}")
        del self._lines[self._last_begins :]
        self.line(f"return {self._last.removeprefix(head)}")

    def fits(self, text: str) -> bool:
        """Whether a statement fits on a line of its own here."""
        return len(text) + 4 * self._depth <= WIDTH

    def text(self) -> str:
        """The file."""
        return "\n".join(self._lines).strip("\n") + "\n"
