"""Whose source a line is: known by the folders of torch and of this package, not by a word."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import vercomp
from vercomp.errors import UnsupportedError, UsageError
from vercomp.frontends.torch_source import location_in, location_of

SOURCE = """
import torch

class Bent(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x).square()

class Broken(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x[:, 1:])
"""
FOLDERS = ["vercomp", "my vercomp copy/vercomp", "torch", "torch_vercomp"]


@pytest.fixture(params=FOLDERS)
def nets(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """A user's module in a folder whose path holds our name, torch's, or spaces."""
    folder = tmp_path / request.param
    folder.mkdir(parents=True)
    name = f"nets_{FOLDERS.index(request.param)}"
    (folder / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(name)


def test_an_operator_is_found_in_the_users_source(nets: ModuleType) -> None:
    with pytest.raises(UnsupportedError, match=rf"{nets.__name__}\.py:6"):
        vercomp.compile(nets.Bent(4, 3), (4,))


def test_an_exception_is_found_in_the_users_source(nets: ModuleType) -> None:
    with pytest.raises(UsageError) as refused:
        vercomp.compile(nets.Broken(4, 3), (4,))
    assert refused.value.location == f"{nets.__name__}.py:10"


@pytest.mark.parametrize("package", [torch, vercomp])
def test_the_packages_themselves_are_not_the_users(package: ModuleType, tmp_path: Path) -> None:
    """Also where they are reached by another path."""
    assert package.__file__ is not None
    (tmp_path / "link").symlink_to(Path(package.__file__).parent)
    for folder in (Path(package.__file__).parent, tmp_path / "link"):
        trace = f'File "{tmp_path}/net.py", line 7, in f\nFile "{folder}/inner.py", line 8, in g\n'
        assert location_in(trace) == "net.py:7"
    neighbour = f"{Path(package.__file__).parent}_vision"
    assert location_in(f'File "{neighbour}/resnet.py", line 9, in f') == "resnet.py:9"


def test_nobodys_source_is_nowhere() -> None:
    with pytest.raises(RuntimeError) as caught:
        nn.Linear(2, 2)(torch.zeros(3))
    error = caught.value
    assert error.__traceback__ is not None
    assert location_of(error) is not None  # this file called
    assert location_of(error.with_traceback(error.__traceback__.tb_next)) is None
    assert location_in(None) == location_in('File "<string>", line 1, in f') == ""
