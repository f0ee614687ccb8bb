"""Distributions with a plugin, as pip leaves them."""

from __future__ import annotations

from pathlib import Path


def install(folder: Path, name: str, source: str) -> None:
    """A distribution with one module, whose ``register`` is an entry point."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[vercomp.plugins]\n{name} = {name}:register\n")
