"""Packages in memory run on vercomp's own modules, but for those that differ from them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import vercomp
from vercomp.backends.torch.memory import import_package, shared_files
from vercomp.compiled import CompiledNetwork, load_package
from vercomp.core import errors, inputs, network
from vercomp.core.methods.certificates import Certificates
from vercomp.core.network import VerifiedNetwork
from vercomp.core.regularizer import Regularizer

X, Y = torch.zeros(2, 5), torch.tensor([0, 1])


@pytest.fixture(scope="module")
def compiled() -> CompiledNetwork:
    model = nn.Sequential(nn.Linear(5, 7), nn.Softplus(), nn.Linear(7, 3))
    return vercomp.compile(model, (5,))


def runtime_of(package: ModuleType, name: str) -> ModuleType:
    return sys.modules[f"{package.__name__}.runtime.{name}"]


def changed(package: CompiledNetwork, *paths: str) -> dict[str, bytes]:
    """A package's files, some of them as another version of vercomp might have written them."""
    edited = {path: package.files[path] + b"\n# An older version.\n" for path in paths}
    return {**package.files, **edited}


def test_types_are_one_after_compiling_and_after_loading(
    compiled: CompiledNetwork, tmp_path: Path
) -> None:
    compiled.save(tmp_path / "package")
    for net in (compiled, load_package(tmp_path / "package")):
        assert isinstance(net.network, VerifiedNetwork)
        assert isinstance(net.certify(X, Y), Certificates)
        assert isinstance(net.regularizer(), Regularizer)
        with pytest.raises(vercomp.VercompError, match="inputs must have the shape"):
            net.certify(X[:, :4], Y)
        with pytest.raises(vercomp.VercompError, match="decide needs a radius"):
            net.certify(X, Y, decide=True)
        with pytest.raises(vercomp.VercompError, match="labels must be a tensor of integers"):
            net.attack(X, Y.float(), 0.1)
    assert network.__spec__ is not None
    assert network.__spec__.name == "vercomp.core.network"


def test_every_runtime_file_of_a_fresh_package_is_shared(compiled: CompiledNetwork) -> None:
    files = {Path(path).stem for path in compiled.files if path.startswith("runtime/")}
    assert shared_files(compiled.files) == files - {"__init__"}


@pytest.mark.parametrize("name", ["inputs", "norms", "outward", "certify"])
def test_a_module_that_differs_is_the_packages_own_and_so_is_what_imports_it(
    compiled: CompiledNetwork, name: str
) -> None:
    files = changed(compiled, f"runtime/{name}.py")
    shared = shared_files(files)
    assert name not in shared
    for path in (path for path in files if path.startswith("runtime/")):
        tree = ast.parse(files[path])
        froms = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level == 1]
        read = {a.name for n in froms if not n.module for a in n.names} | {
            n.module for n in froms if n.module
        }
        if Path(path).stem in shared:
            assert read <= shared, path
    package = import_package(files)
    for module in shared:
        assert runtime_of(package, module) is sys.modules[f"vercomp.core.{module}"]
    own = runtime_of(package, name)
    assert own.__name__ == f"{package.__name__}.runtime.{name}"
    assert own is not sys.modules[f"vercomp.core.{name}"]


def test_what_an_older_package_refuses_is_still_vercomps(compiled: CompiledNetwork) -> None:
    for paths in (
        ["runtime/inputs.py"],
        ["runtime/errors.py"],
        ["runtime/errors.py", "runtime/inputs.py", "runtime/pairs.py"],
    ):
        package = import_package(changed(compiled, *paths))
        assert runtime_of(package, "errors") is errors
        own = runtime_of(package, "inputs"), runtime_of(package, "certify")
        assert (own != (inputs, certify)) == ("runtime/inputs.py" in paths)
        net = package.Network()
        with pytest.raises(vercomp.VercompError, match="inputs must have the shape"):
            net.certify(X[:, :4], Y)


def test_a_package_alone_stands_on_its_own_errors(
    compiled: CompiledNetwork, tmp_path: Path
) -> None:
    compiled.save(tmp_path / "alone")
    code = (
        "import sys, torch, alone\n"
        "from alone.runtime.errors import InputError, VercompError\n"
        "try:\n    alone.certify(torch.zeros(2, 4), torch.tensor([0, 1]))\n"
        "except VercompError as error:\n    assert type(error) is InputError\n"
        "else:\n    raise SystemExit('accepted')\n"
        "assert not any(name.partition('.')[0] == 'vercomp' for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
