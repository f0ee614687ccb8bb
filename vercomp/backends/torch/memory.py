"""Importing a package from memory: the code that runs is the code that would be written.

A package's core files are copies of vercomp's own. Where nothing differs, vercomp's module is taken
and not executed a second time, so that the types of both are the same.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.resources import files as files_of
from importlib.resources.abc import Traversable
from importlib.util import spec_from_loader
from types import CodeType, ModuleType

from vercomp.backends.torch.files import core_files

ALWAYS_SHARED = "core/errors.py"
"""What a package takes from vercomp even where its copy is another version's: what it raises must
be caught here."""


def import_package(files: Mapping[str, bytes]) -> ModuleType:
    """Import the package made of these files.

    Args:
        files: Contents by relative path; only Python files matter. The same sources give the same
            module. Files in ``core/`` that are vercomp's own, with all that they import, are
            vercomp's modules.
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
        for path in shared_files(sources):
            module = path.removesuffix(".py").replace("/", ".")
            sys.modules[f"{name}.{module}"] = importlib.import_module(f"vercomp.{module}")
    return importlib.import_module(name)


def shared_files(sources: Mapping[str, bytes]) -> set[str]:
    """The core files of a package that are vercomp's own, byte for byte.

    A module that imports one that differs, at whatever remove, differs from vercomp's in what it
    does, and so it is none of them.
    """
    own = files_of("vercomp")
    core = {p for p in sources if p.startswith("core/") and not p.endswith("__init__.py")}
    equal = {path for path in core if _is_equal(own.joinpath(path), sources[path])}
    if equal == core:  # as it is where this version wrote the package: no file need be parsed
        return equal
    shared = {}
    for path in equal | (core & {ALWAYS_SHARED}):
        folder = tuple(path.split("/")[:-1])
        shared[path] = core_files(sources[path].decode(), folder)
    while differing := {path for path, reached in shared.items() if not reached <= shared.keys()}:
        for path in differing:
            del shared[path]
    return set(shared)


def _is_equal(file: Traversable, content: bytes) -> bool:
    return file.is_file() and file.read_bytes() == content


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
