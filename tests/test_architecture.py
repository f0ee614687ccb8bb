"""The house keeps its floors: imports point down, and only through the doors."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import vercomp

ROOT = Path(vercomp.__file__).parent.parent

FLOORS = {
    "vercomp.core": 1,
    "vercomp.errors": 1,
    "vercomp.ir": 2,
    "vercomp.activations": 2,
    "vercomp.data": 2,
    "vercomp.outputs": 2,
    "vercomp.names": 2,
    "vercomp.features": 2,
    "vercomp.distributed": 2,
    "vercomp.frontends": 3,
    "vercomp.pass_manager": 4,
    "vercomp.backends": 4,
    "vercomp.registry": 5,
    "vercomp.planning": 5,
    "vercomp.results": 5,
    "passes": 5,
    "vercomp.smoothing": 5,
    "vercomp.cascades": 6,
    "vercomp.compiled": 6,
    "vercomp.driver": 7,
    "vercomp.live": 7,
    "vercomp.report": 7,
    "vercomp.train": 7,
    "vercomp.commands": 8,
    "vercomp.integrations": 8,
    "vercomp.cli": 8,
    "vercomp.__main__": 8,
}
"""The floor of each room; an import may stay in its room or go down (or stay on its floor)."""

CORE_FLOORS = {
    "errors": 0,
    "memory": 0,
    "graph": 0,
    "linearization": 0,
    "arithmetic.outward": 1,
    "arithmetic.rounded": 1,
    "chance": 1,
    "pieces": 1,
    "projections": 1,
    "relaxation": 1,
    "functions": 1,
    "specifications": 1,
    "regions": 2,
    "maps": 2,
    "norms": 3,
    "arithmetic": 4,
    "walk": 5,
    "tails": 4,
    "domains": 5,
    "methods": 6,
    "quadratic": 6,
    "local": 6,
    "network": 6,
    "bounds": 6,
    "storage": 6,
    "regularizer": 6,
    "inputs": 6,
    "claims": 6,
    "hessians": 6,
}
"""The same inside of ``vercomp.core``."""

CORE_MAY_IMPORT = {"torch", "safetensors", *sys.stdlib_module_names}
OPTIONAL = {"vercomp.core.methods.certificates": {"numpy", "pandas"}}
"""What a module of the core imports inside of a function that is about nothing else."""


def _modules() -> list[Path]:
    return sorted(
        path for folder in ("vercomp", "passes") for path in (ROOT / folder).rglob("*.py")
    )


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(module: str, floors: Mapping[str, int] = FLOORS) -> str | None:
    matches = [room for room in floors if module == room or module.startswith(f"{room}.")]
    return max(matches, key=len) if matches else None


def _is_typing_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _imports(path: Path) -> list[tuple[str, int]]:
    """(module, line) of every import that runs; those for type checkers only are not followed.

    Relative imports are resolved; ``from package import name`` imports ``package.name`` where that
    is a module.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    return list(_found(tree, package))


def _found(tree: ast.AST, package: str) -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(tree):
        if _is_typing_guard(child):
            continue
        if isinstance(child, ast.Import):
            yield from ((alias.name, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = _base(child, package)
            yield from ((_module(base, alias.name), child.lineno) for alias in child.names)
        else:
            yield from _found(child, package)


def _base(node: ast.ImportFrom, package: str) -> str:
    """The module that names are imported from."""
    if node.level == 0:
        return node.module or ""
    above = package.split(".")
    above = above[: len(above) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def _module(base: str, name: str) -> str:
    """``base.name`` where that is a module of ours, else ``base``."""
    path = ROOT.joinpath(*base.split("."), name)
    return f"{base}.{name}" if path.is_dir() or path.with_suffix(".py").is_file() else base


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_imports_point_down(path: Path) -> None:
    module = _name(path)
    room = _room(module)
    if module == "vercomp":
        return  # the lazy front door names the rooms behind it
    assert room is not None, f"{module} has no floor: give it one in FLOORS"
    for imported, line in _imports(path):
        other = _room(imported)
        if other is not None and other != room:
            assert FLOORS[other] <= FLOORS[room], f"{path}:{line} imports {imported}, upwards"


@pytest.mark.parametrize(
    "path", [path for path in _modules() if _name(path).startswith("vercomp")], ids=_name
)
def test_vercomp_never_imports_passes(path: Path) -> None:
    assert not [m for m, _ in _imports(path) if m.partition(".")[0] == "passes"]


CORE = [path for path in _modules() if _name(path).startswith("vercomp.core.")]


@pytest.mark.parametrize("path", CORE, ids=_name)
def test_imports_inside_the_core_point_down(path: Path) -> None:
    module = _name(path).removeprefix("vercomp.core.")
    room = _room(module, CORE_FLOORS)
    assert room is not None, f"{module} has no floor: give it one in CORE_FLOORS"
    for imported, line in _imports(path):
        other = _room(imported.removeprefix("vercomp.core."), CORE_FLOORS)
        if imported.startswith("vercomp.core.") and other != room:
            assert other is not None, f"{path}:{line} imports {imported}, which has no floor"
            floors = CORE_FLOORS[other], CORE_FLOORS[room]
            assert floors[0] <= floors[1], f"{path}:{line} imports {imported}, upwards"


@pytest.mark.parametrize("path", CORE, ids=_name)
def test_the_core_needs_torch_and_safetensors_only(path: Path) -> None:
    """Packages carry a copy of it: what it imports of its own is relative, and stays inside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    absolute = [m for m, _ in _found(tree, "") if m.partition(".")[0] == "vercomp"]
    assert not absolute, "an absolute import of vercomp: a package does not have it"
    tops = {m.partition(".")[0] for m, _ in _imports(path) if not m.startswith("vercomp.core.")}
    assert tops <= CORE_MAY_IMPORT | OPTIONAL.get(_name(path), set())


@pytest.mark.parametrize(("module", "names"), OPTIONAL.items())
def test_optional_libraries_are_imported_where_they_are_used(module: str, names: set[str]) -> None:
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text("utf-8"))
    at_once = [name for node in tree.body for name in _import_names(node)]
    assert names.isdisjoint(at_once)


def _import_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_imports_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every spelling of an import is seen, and the module that it leads to."""
    source = tmp_path / "house" / "room" / "chair.py"
    source.parent.mkdir(parents=True)
    (tmp_path / "house" / "table.py").touch()
    source.write_text(
        "import os.path\n"
        "from . import lamp\n"
        "from .. import table\n"
        "from ..table import leg\n"
        "from house import table\n"
        "if TYPE_CHECKING:\n    from ..attic import box\n"
        "def sit():\n    from ...street import car\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert _imports(source) == [
        ("os.path", 1),
        ("house.room", 2),
        ("house.table", 3),
        ("house.table", 4),
        ("house.table", 5),
        ("street", 9),
    ]


def test_importing_vercomp_does_not_import_torch() -> None:
    code = "import sys, vercomp, vercomp.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names() -> None:
    assert vercomp.__all__ == [
        "ActivationFamily",
        "Analysis",
        "AttackOptions",
        "Attacks",
        "Ball",
        "BallKind",
        "Bounds",
        "Box",
        "Certificates",
        "CertifyOptions",
        "CompiledCascade",
        "CompiledNetwork",
        "Deviation",
        "Labels",
        "Method",
        "Region",
        "Registry",
        "Regularizer",
        "Smoothed",
        "Specification",
        "Threshold",
        "VercompError",
        "cascade",
        "compile",
        "define_activation",
        "load_cascade",
        "load_package",
        "register",
        "register_ball",
        "regularizer",
    ]
    for name in vercomp.__all__:
        assert getattr(vercomp, name) is not None
    assert dir(vercomp) == vercomp.__all__
    with pytest.raises(AttributeError, match="module 'vercomp' has no attribute 'nothing'"):
        vercomp.nothing  # noqa: B018


LONGEST = 60
"""Lines of a function, docstrings aside."""

LONGER = {
    "vercomp.commands.certify.run",
    "vercomp.core.methods.dual.solve_dual",
    "vercomp.results.certificates.certificate_arrays",
}
"""The exceptions."""


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_functions_fit_on_a_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if ast.get_docstring(node) is not None else None
            said = 0 if first is None else (first.end_lineno or 0) - first.lineno + 1
            lines = (node.end_lineno or 0) - node.lineno + 1 - said
            assert lines <= LONGEST or f"{_name(path)}.{node.name}" in LONGER, node.name
