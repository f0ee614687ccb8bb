"""What the Markdown files of the project hold: code, sessions, and how outputs compare."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXECUTED = ("python", "pycon", "console")
SHOWN = ("", "sh", "text", "toml")
"""Languages of blocks that nobody runs: formats, layouts, commands that install or need data."""

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$|^<!-- setup\n(.*?)^-->$", re.M | re.S)
NUMBER = re.compile(r"-?\d+(?:\.(\d+))?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Args:
        language: What stands behind its fence; ``setup`` for a comment that a reader does not see.
        text: The code.
        line: Where in the file it begins.
    """

    language: str
    text: str
    line: int


def documents() -> list[Path]:
    """Every Markdown file that a user reads."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path) -> list[Block]:
    """The blocks of a file, in their order."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(
            match[1] if match[3] is None else "setup",
            match[2] if match[3] is None else match[3],
            text.count("\n", 0, match.start()) + 2,
        )
        for match in FENCE.finditer(text)
    ]


def script(path: Path) -> str:
    """The Python of a file as one script; a block that begins with ``# NAME.py`` is a file."""
    parts = []
    for block in blocks(path):
        if block.language not in ("python", "setup"):
            continue
        named = re.match(r"# (\w+\.py)\n", block.text)
        code = compiled_at(block, path)
        if named:
            code = f"open({named[1]!r}, 'w', encoding='utf-8').write({block.text!r})\n"
        parts.append(code)
    return "".join(parts)


def compiled_at(block: Block, path: Path) -> str:
    """Code that executes a block so that tracebacks name the document and its line."""
    source = "\n" * (block.line - 1) + block.text
    return f"exec(compile({source!r}, {path.name!r}, 'exec'), globals())\n"


def sessions(path: Path) -> list[list[tuple[str, str]]]:
    """Of each console block, the commands and what they are said to print."""
    found = []
    for block in blocks(path):
        if block.language == "console":
            whole = block.text.replace("\\\n", "")
            parts = re.split(r"^\$ (.+)\n", whole, flags=re.MULTILINE)
            assert parts[0] == "", f"{path.name}:{block.line} begins with no command"
            found.append(list(zip(parts[1::2], parts[2::2], strict=True)))
    return found


def alike(said: str, printed: str, tolerance: float) -> bool:
    """Whether a command printed what a document says.

    Numbers may differ by a share and by two in the last place that is shown, times in any way; what
    stands behind ``…`` alone on a line is not compared.
    """
    lines, got = said.rstrip().split("\n"), printed.rstrip().split("\n")
    if lines and lines[-1].strip() == "…":
        lines, got = lines[:-1], got[: len(lines) - 1]
    timed = next((place for place, line in enumerate(lines) if line.endswith(" seconds")), None)
    if timed is not None:  # a table whose last column is a time
        for part in (lines, got):
            part[timed + 1 :] = [line.rpartition(" ")[0] for line in part[timed + 1 :]]
    return len(lines) == len(got) and all(
        same_line(line, other, tolerance) for line, other in zip(lines, got, strict=True)
    )


def same_line(line: str, other: str, tolerance: float) -> bool:
    """Whether two lines say the same up to numbers and spaces."""
    if "seconds" in line and "seconds" in other:
        return NUMBER.sub("", line).split() == NUMBER.sub("", other).split()
    if re.sub(r"[─\s]", "", NUMBER.sub("#", line)) != re.sub(r"[─\s]", "", NUMBER.sub("#", other)):
        return False
    pairs = zip(NUMBER.finditer(line), NUMBER.finditer(other), strict=True)
    return all(
        abs(float(one[0]) - float(two[0]))
        <= tolerance * abs(float(one[0])) + (2.5 * 10.0 ** -len(one[1]) if one[1] else 0.0)
        for one, two in pairs
    )
