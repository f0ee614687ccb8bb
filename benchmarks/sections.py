"""Sections of RESULTS.md that a benchmark writes: between two marks, which stay."""

from __future__ import annotations

from pathlib import Path

from vercomp.outputs import write_atomically

RESULTS = Path(__file__).parent / "RESULTS.md"


def write_section(name: str, text: str, path: Path = RESULTS) -> None:
    """Replace what stands between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.

    Raises:
        SystemExit: The file has lost one of the marks.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = path.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{path} has lost the marks {begin} and {end}")
    write_atomically(path, f"{before}{begin}\n{text}{end}{after}".encode())
