"""Importing a package from memory: what is executed is exactly what would be written."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import CodeType, ModuleType


def import_package(files: Mapping[str, bytes]) -> ModuleType:
    """Import the package made of these files.

    Args:
        files: Contents by relative path; only Python files matter. The same sources give the same
            module.
    """
    sources = {path: text for path, text in files.items() if path.endswith(".py")}
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.encode() + b"\0" + sources[path] + b"\0")
    name = f"vercomp_compiled_{digest.hexdigest()[:16]}"
    if name not in sys.modules:
        _FINDER.packages[name] = sources
        if _FINDER not in sys.meta_path:
            sys.meta_path.append(_FINDER)
    return importlib.import_module(name)


class _Finder(MetaPathFinder):
    """Finds the modules of packages that live in memory."""

    def __init__(self) -> None:
        self.packages: dict[str, Mapping[str, bytes]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, _, rest = fullname.partition(".")
        sources = self.packages.get(top)
        if sources is None:
            return None
        stem = rest.replace(".", "/")
        inside = f"{stem}/__init__.py" if stem else "__init__.py"
        for candidate in (inside, f"{stem}.py"):
            if candidate in sources:
                loader = _Loader(sources[candidate].decode(), f"<{top}>/{candidate}")
                spec = spec_from_loader(
                    fullname, loader, origin=loader.file, is_package=candidate == inside
                )
                if spec is not None:
                    spec.has_location = True
                return spec
        return None


class _Loader(InspectLoader):
    def __init__(self, source: str, file: str) -> None:
        self.source = source
        self.file = file

    def get_source(self, fullname: str) -> str:
        return self.source

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.source.encode(), self.file)


_FINDER = _Finder()
