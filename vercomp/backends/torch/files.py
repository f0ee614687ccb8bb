"""The files of a package: which there are, and which of the core they reach. Light to import."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

FORMAT = 3
"""Of the manifest; a package of another format is refused."""


@dataclass(frozen=True)
class Package:
    """The files of an emitted package, by relative path.

    Args:
        files: Contents; text is UTF-8.
    """

    files: Mapping[str, bytes]

    def with_file(self, path: str, content: bytes) -> Package:
        """This package with one file added or replaced."""
        return Package({**self.files, path: content})


@lru_cache(maxsize=512)  # more than the core has: they are parsed once, however much is compiled
def core_files(text: str, folder: tuple[str, ...]) -> frozenset[str]:
    """The files of the core that a file imports by relative imports.

    Args:
        text: The file's source.
        folder: Where the file lies within the package, as the names of folders.
    """
    core = resources.files("vercomp")
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        module = node.module.split(".") if node.module else []
        path = [*folder[: len(folder) + 1 - node.level], *module]
        if core.joinpath(*path).is_dir():
            found |= {"/".join((*path, f"{alias.name}.py")) for alias in node.names}
        else:
            found.add("/".join(path) + ".py")
    return frozenset(found)
