"""The house keeps its floors: imports point down, and only through the doors."""

from __future__ import annotations

import ast
import subprocess
import sys
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
    "vercomp.distributed": 2,
    "vercomp.program": 3,
    "vercomp.facts": 3,
    "vercomp.frontends": 3,
    "vercomp.pass_manager": 4,
    "vercomp.backends": 4,
    "vercomp.registry": 5,
    "passes": 5,
    "vercomp.driver": 6,
    "vercomp.live": 6,
    "vercomp.report": 6,
    "vercomp.train": 7,
    "vercomp.commands": 8,
    "vercomp.cli": 8,
    "vercomp.__main__": 8,
}
"""The floor of each room; an import may stay in its room or go down (or stay on its floor)."""

CORE_MAY_IMPORT = {"torch", "safetensors", *sys.stdlib_module_names}


def _modules() -> list[Path]:
    return sorted(
        path for folder in ("vercomp", "passes") for path in (ROOT / folder).rglob("*.py")
    )


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(module: str) -> str | None:
    matches = [room for room in FLOORS if module == room or module.startswith(f"{room}.")]
    return max(matches, key=len) if matches else None


def _is_typing_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _imports(tree: ast.AST) -> list[tuple[str, int]]:
    """(module, line) of every import that runs; those for type checkers only are not followed."""
    found: list[tuple[str, int]] = []
    for child in ast.iter_child_nodes(tree):
        if _is_typing_guard(child):
            continue
        if isinstance(child, ast.Import):
            found += [(alias.name, child.lineno) for alias in child.names]
        elif isinstance(child, ast.ImportFrom) and child.level == 0:
            found.append((child.module or "", child.lineno))
        else:
            found += _imports(child)
    return found


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_imports_point_down(path: Path) -> None:
    module = _name(path)
    room = _room(module)
    if module == "vercomp":
        return  # the lazy front door names the rooms behind it
    assert room is not None, f"{module} has no floor: give it one in FLOORS"
    for imported, line in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        other = _room(imported)
        if other is not None and other != room:
            assert FLOORS[other] <= FLOORS[room], f"{path}:{line} imports {imported}, upwards"


@pytest.mark.parametrize(
    "path", [path for path in _modules() if _name(path).startswith("vercomp")], ids=_name
)
def test_vercomp_never_imports_passes(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [m for m, _ in _imports(tree) if m.partition(".")[0] == "passes"]


@pytest.mark.parametrize(
    "path", [path for path in _modules() if "core" in path.relative_to(ROOT).parts], ids=_name
)
def test_the_core_needs_torch_and_safetensors_only(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tops = {module.partition(".")[0] for module, _ in _imports(tree)}
    assert tops <= CORE_MAY_IMPORT


def test_importing_vercomp_does_not_import_torch() -> None:
    code = "import sys, vercomp, vercomp.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names() -> None:
    assert vercomp.__all__ == [
        "CompiledNetwork",
        "VercompError",
        "compile",
        "define_activation",
        "load_package",
        "register",
        "regularizer",
    ]
    for name in vercomp.__all__:
        assert getattr(vercomp, name) is not None
    assert dir(vercomp) == vercomp.__all__
    with pytest.raises(AttributeError, match="module 'vercomp' has no attribute 'nothing'"):
        vercomp.nothing  # noqa: B018
