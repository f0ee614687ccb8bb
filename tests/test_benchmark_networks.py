"""The networks of the benchmarks: their names, trainings, files and images; nearest attacks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imsave
from torch import Tensor, nn

import benchmarks.networks
from benchmarks import images, public, zoo
from benchmarks.nearest import Effort, nearest
from benchmarks.networks import MEAN, STD, normalisation, residual, trained, training
from benchmarks.zoo import Subject

needs_data = pytest.mark.skipif(
    not (Path(os.environ.get("VERCOMP_DATA", "/nowhere")) / "onnx").is_dir(),
    reason="needs VERCOMP_DATA, a folder with public networks",
)


def test_a_name_says_all_that_distinguishes_a_training() -> None:
    plan = training("tanh-4x1024-20epochs")
    layers = [layer for layer in plan.build().modules() if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in layers] == [1024, 1024, 1024, 10]
    assert (plan.data, plan.epochs, plan.seed, plan.decays) == ("mnist", 20, 4, True)
    assert not training("saturated-6x256-30epochs").decays
    assert training("residual-20epochs").data == "cifar10"


@pytest.mark.parametrize("name", ["tanh-4x1024", "swish-2x8-1epochs", "residual-2x8-1epochs", ""])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(SystemExit, match="is no network that is trained here"):
        training(name)


def test_every_network_of_the_benchmarks_has_a_name_and_radii() -> None:
    for name in zoo.NAMES:
        assert name in public.NAMES or training(name).name == name
        assert set(zoo.radii_of(name)) == {"linf", "l1", "l2"}


def test_a_network_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    x = torch.rand(256, 784)
    y = (x[:, 0] > 0.5).long()
    monkeypatch.setattr(benchmarks.networks, "mnist", lambda split: (x, y))
    first = trained("relu-2x8-2epochs", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["relu-2x8-2epochs.pt"]
    monkeypatch.setattr(benchmarks.networks, "fitted", lambda plan: pytest.fail("trained again"))
    again = trained("relu-2x8-2epochs", tmp_path)
    assert torch.equal(first(x), again(x))
    assert not again.training


def test_the_residual_network_has_six_convolutions_and_classes() -> None:
    network = residual()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert sum(layer.kernel_size == (3, 3) for layer in convolutions) == 6
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_the_normalisation_is_a_convolution() -> None:
    x = torch.rand(2, 3, 4, 4)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    torch.testing.assert_close(normalisation(MEAN, STD)(x), (x - mean) / std)


def test_pictures_of_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERCOMP_DATA", str(tmp_path))
    folder = tmp_path / "cifar10"
    folder.mkdir()
    pixels = np.arange(2 * 3072).reshape(2, 1024, 3) % 256
    imsave(folder / "test_batch.png", pixels.astype(np.uint8))
    (folder / "test_labels.json").write_text(json.dumps([3, 7]))
    images.cifar10.cache_clear()
    x, y = images.cifar10("test")
    images.cifar10.cache_clear()
    assert y.tolist() == [3, 7]
    expected = torch.tensor(pixels).reshape(2, 32, 32, 3).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(x, expected.float())


def test_without_data_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VERCOMP_DATA", raising=False)
    with pytest.raises(SystemExit, match="set VERCOMP_DATA"):
        images.data_folder()


@needs_data
@pytest.mark.parametrize("name", public.NAMES)
def test_modules_of_public_networks_are_their_files(name: str) -> None:
    module, shape = public.public(name)  # compares with the ONNX file
    assert module(torch.rand(2, *shape)).shape == (2, 10)


def linear() -> Subject:
    """z = W x with three classes: distances have a closed form."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(6, 3))
    x = torch.randn(40, 6)
    y = module(x).argmax(1)
    return Subject("linear", module, x[:8], y[:8], (x[8:], y[8:]), has_peer=True)


def exact(subject: Subject) -> Tensor:
    """The least (z_y − z_t) / ‖W_y − W_t‖ over the other classes t."""
    weight, z = subject.module[0].weight, subject.module(subject.x)  # type: ignore[index]
    rows = torch.arange(len(subject.x))
    margins = z[rows, subject.y][:, None] - z
    lengths = (weight[subject.y][:, None] - weight[None]).norm(dim=2)
    ratios = torch.where(lengths > 0.0, margins / lengths, torch.inf)
    return ratios.amin(1).detach().double()


def test_the_nearest_point_of_a_linear_network() -> None:
    subject = linear()
    found = nearest(subject, Effort(20, 40, 2), block=3)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, exact(subject), rtol=1e-4, atol=1e-6)
