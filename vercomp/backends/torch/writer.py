"""A small writer of Python source: names, indentation, imports, and lines that are not too long.

What it writes is formatted as ruff would format it, so that nobody who reads or commits a package
sees a formatter change it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vercomp.errors import InternalError

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
        """One line, or an empty one."""
        self._lines.append("    " * self._depth + text if text else "")

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
        if self._fits(f"{prefix}{opening}{inline}{closing}{suffix}"):
            self.line(f"{prefix}{opening}{inline}{closing}{suffix}")
            return
        self.line(f"{prefix}{opening}")
        with self.indented():
            # Lists and dictionaries go from one line to one element a line; calls may take two.
            if opening == "(" and self._fits(inline):
                self.line(inline)
            else:
                for argument in arguments:
                    self.line(f"{argument},")
        self.line(f"{closing}{suffix}")

    def assign(self, target: str, expression: str) -> None:
        """``target = expression``; a last call that is too long is written over several lines."""
        if self.fits(f"{target} = {expression}") or not expression.endswith(")"):
            self.line(f"{target} = {expression}")
            return
        opening = _opening_of_last_call(expression)
        arguments = _split(expression[opening + 1 : -1])
        self.call(f"{target} = {expression[:opening]}", arguments)

    def return_last(self, name: str) -> None:
        """Return what the last line assigns to ``name``."""
        indent = "    " * self._depth
        head = f"{indent}{name} = "
        if not self._lines[-1].startswith(head):
            raise InternalError(f"the last line does not assign {name}")
        self._lines[-1] = f"{indent}return {self._lines[-1].removeprefix(head)}"

    def fits(self, text: str) -> bool:
        """Whether a statement fits on a line of its own here."""
        return self._fits(text)

    def text(self) -> str:
        """The file."""
        return "\n".join(self._lines).strip("\n") + "\n"

    def _fits(self, text: str) -> bool:
        return len(text) + 4 * self._depth <= WIDTH


def _opening_of_last_call(expression: str) -> int:
    """Where the bracket that the last character closes was opened."""
    depth = 0
    for position in range(len(expression) - 1, -1, -1):
        depth += (expression[position] in ")]}") - (expression[position] in "([{")
        if depth == 0:
            return position
    raise InternalError(f"unbalanced brackets in {expression}")


def _split(arguments: str) -> list[str]:
    """The arguments of a call, at the commas that are not inside brackets."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(arguments):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(arguments[start:position].strip())
            start = position + 1
    return [*parts, arguments[start:].strip()]
