"""Packages in memory run on vercomp's own modules, but for those that differ from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import vercomp
from vercomp.backends.torch.files import core_files
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


def core_module(package: ModuleType, path: str) -> ModuleType:
    """What a package runs on in the place of a file of the core."""
    return sys.modules[f"{package.__name__}.{path.removesuffix('.py').replace('/', '.')}"]


def core_files_of(package: CompiledNetwork) -> set[str]:
    return {
        path
        for path in package.files
        if path.startswith("core/") and not path.endswith("__init__.py")
    }


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


def test_every_core_file_of_a_fresh_package_is_shared(compiled: CompiledNetwork) -> None:
    assert shared_files(compiled.files) == core_files_of(compiled)


@pytest.mark.parametrize(
    "name", ["inputs", "norms/bounds", "arithmetic/outward", "methods/certify", "walk"]
)
def test_a_module_that_differs_is_the_packages_own_and_so_is_what_imports_it(
    compiled: CompiledNetwork, name: str
) -> None:
    path = f"core/{name}.py"
    files = changed(compiled, path)
    shared = shared_files(files)
    assert path not in shared
    for other in shared:
        assert core_files(files[other].decode(), tuple(other.split("/")[:-1])) <= shared, other
    package = import_package(files)
    for other in shared:
        dotted = other.removesuffix(".py").replace("/", ".")
        assert core_module(package, other) is sys.modules[f"vercomp.{dotted}"]
    own = core_module(package, path)
    assert own.__name__.startswith(package.__name__)


def test_what_an_older_package_refuses_is_still_vercomps(compiled: CompiledNetwork) -> None:
    for paths in (
        ["core/inputs.py"],
        ["core/errors.py"],
        ["core/errors.py", "core/inputs.py", "core/methods/pairs.py"],
    ):
        package = import_package(changed(compiled, *paths))
        assert core_module(package, "core/errors.py") is errors
        own = core_module(package, "core/inputs.py") is not inputs
        assert own == ("core/inputs.py" in paths)
        net = package.Network()
        with pytest.raises(vercomp.VercompError, match="inputs must have the shape"):
            net.certify(X[:, :4], Y)


def test_a_package_alone_stands_on_its_own_errors(
    compiled: CompiledNetwork, tmp_path: Path
) -> None:
    compiled.save(tmp_path / "alone")
    code = (
        "import sys, torch, alone\n"
        "from alone.core.errors import InputError, VercompError\n"
        "try:\n    alone.certify(torch.zeros(2, 4), torch.tensor([0, 1]))\n"
        "except VercompError as error:\n    assert type(error) is InputError\n"
        "else:\n    raise SystemExit('accepted')\n"
        "assert not any(name.partition('.')[0] == 'vercomp' for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
