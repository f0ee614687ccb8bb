"""Training: what it learns, that it selects by certificates, and that it resumes to the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vercomp import outputs
from vercomp.compiled import load_package
from vercomp.data import Dataset, load_data
from vercomp.distributed import Processes
from vercomp.errors import (
    DivergenceError,
    InputDataError,
    OutputFolderError,
    UnsupportedError,
    UsageError,
)
from vercomp.train import Recipe, Training, checkpoint, loop, train
from vercomp.train.architectures import architecture
from vercomp.train.samples import split
from vercomp.train.selection import Selection

Finished = tuple[Path, Training]
SHAPE = (1, 8, 8)
SMALL = Recipe(epochs=4, batch_size=64, learning_rate=5e-3, evaluate_every=2, averaging=0.9)


class InterruptedTrainingError(Exception):
    """What stops a training from outside."""


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = load_data("digits:train", SHAPE)
    return Dataset(data.x[:600], data.y[:600], data.name)


@pytest.fixture(scope="module")
def finished(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, train(fresh(), digits, SMALL, folder, input_shape=SHAPE)


def fresh() -> nn.Module:
    return architecture("mlp:16:softplus", SHAPE, 10)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def after(epoch: int) -> Any:
    """Stops a training when an epoch is over."""

    def progress(row: Mapping[str, Any]) -> None:
        if row["epoch"] == epoch:
            raise InterruptedTrainingError

    return progress


@pytest.mark.parametrize("method", ["plain", "penalty", "pgd", "trades", "crt"])
def test_every_method_learns(digits: Dataset, method: str) -> None:
    recipe = Recipe(method=method, epochs=8, batch_size=64, learning_rate=1e-2, evaluate_every=8)
    result = train(fresh(), digits, recipe, input_shape=SHAPE)
    first, last = result.history[0], result.history[-1]
    assert last["clean_accuracy"] > 0.7
    assert last["loss"] < first["loss"]
    assert last["validation_clean_accuracy"] > 0.7
    assert (last["curvature"] is not None) == (method in ("penalty", "crt"))
    assert result.best_epoch == 8


@pytest.mark.parametrize("recipe", [SMALL, Recipe(**{**vars(SMALL), "method": "pgd", "shift": 1})])
def test_resuming_ends_with_the_same_weights(
    digits: Dataset, tmp_path: Path, recipe: Recipe
) -> None:
    whole_model, model = fresh(), fresh()
    whole = train(whole_model, digits, recipe, tmp_path / "whole", input_shape=SHAPE)
    folder = tmp_path / "interrupted"
    with pytest.raises(InterruptedTrainingError):  # an epoch after the last checkpoint
        train(model, digits, recipe, folder, input_shape=SHAPE, progress=after(3))
    model, seen = fresh(), []
    resumed = train(model, digits, recipe, folder, input_shape=SHAPE, progress=seen.append)
    assert [row["epoch"] for row in seen] == [3, 4]
    assert same(model, whole_model)
    assert same(resumed.network.network, whole.network.network)
    assert resumed.best_epoch == whole.best_epoch
    for epoch in (2, 4):
        assert np.array_equal(resumed.radii[epoch], whole.radii[epoch])
    for name in ("net.safetensors", "manifest.json"):
        assert (folder / "network" / name).read_bytes() == (
            tmp_path / "whole" / "network" / name
        ).read_bytes()
    timeless = [{**row, "seconds": 0} for row in resumed.history]
    assert timeless == [{**row, "seconds": 0} for row in whole.history]


@pytest.mark.parametrize("killed_before", ["checkpoint.pt", "history.json", "radii.npz"])
def test_a_kill_between_two_files_leaves_no_contradiction(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_before: str
) -> None:
    """Also where what is done again comes out worse, on another machine, say."""
    folder, recipe = tmp_path / "run", Recipe(**{**vars(SMALL), "epochs": 2, "evaluate_every": 1})
    writes, write = [], outputs.write_atomically

    def dying(path: Path | str, content: bytes) -> None:
        writes.append(Path(path).name)
        if writes.count(killed_before) == recipe.epochs:
            raise InterruptedTrainingError
        write(path, content)

    for module in (checkpoint, loop):
        monkeypatch.setattr(module, "write_atomically", dying)
    with pytest.raises(InterruptedTrainingError):
        train(fresh(), digits, recipe, folder, input_shape=SHAPE)
    monkeypatch.undo()

    def worse(self: Selection, network: object) -> tuple[Any, Any]:
        return np.zeros(len(self.y)), np.zeros(len(self.y), dtype=bool)

    monkeypatch.setattr(Selection, "_certify", worse)
    result = train(fresh(), digits, recipe, folder, input_shape=SHAPE)
    rows = split(len(digits), recipe)[1]
    found = load_package(folder / "network").certify(digits.x[rows], digits.y[rows])
    radii = found.radius.where(found.prediction == digits.y[rows], 0.0).numpy()
    np.testing.assert_allclose(radii, result.radii[result.best_epoch], rtol=1e-6)
    assert json.loads((folder / "history.json").read_text()) == result.history
    with np.load(folder / "radii.npz") as written:
        assert {int(name) for name in written.files} == result.radii.keys() == {1, 2}


def test_a_finished_training_is_not_trained_again(digits: Dataset, finished: Finished) -> None:
    folder, first = finished
    again = train(fresh(), digits, SMALL, folder, input_shape=SHAPE, progress=after(1))
    assert same(first.network.network, again.network.network)
    assert first.history == again.history


def test_what_lies_in_the_folder(finished: Finished) -> None:
    folder, result = finished
    history = json.loads((folder / "history.json").read_text())
    assert history == result.history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert ["validation_certified_accuracy" in row for row in history] == [0, 1, 0, 1]
    with np.load(folder / "radii.npz") as radii:
        assert {int(name) for name in radii.files} == {2, 4} == result.radii.keys()
        assert all(np.array_equal(radii[str(e)], result.radii[e]) for e in (2, 4))
    package = load_package(folder / "network")
    assert same(package.network, result.network.network)


def test_the_selected_network_is_certified_as_the_history_says(
    digits: Dataset, finished: Finished
) -> None:
    _, result = finished
    rows = split(len(digits), SMALL)[1]
    found = result.network.certify(digits.x[rows], digits.y[rows])
    row = result.history[result.best_epoch - 1]
    right = found.prediction == digits.y[rows]
    assert row["validation_clean_accuracy"] == pytest.approx(float(right.double().mean()))
    certified = float((right & (found.radius > SMALL.radius)).double().mean())
    assert row["validation_certified_accuracy"] == pytest.approx(certified)
    assert row["validation_mean_radius"] == pytest.approx(float(found.radius[right].mean()))
    kappa = float(result.network.curvature()[1].sum()) / 90
    assert row["validation_curvature"] == pytest.approx(kappa)
    scores = [r.get("validation_certified_accuracy", -1.0) for r in result.history]
    assert result.best_epoch == 1 + scores.index(max(scores))


def test_another_training_in_the_folder_is_refused(digits: Dataset, tmp_path: Path) -> None:
    brief = Recipe(**{**vars(SMALL), "epochs": 1})
    train(fresh(), digits, brief, tmp_path / "run", input_shape=SHAPE)
    hotter = Recipe(**{**vars(brief), "learning_rate": 1e-2})
    with pytest.raises(OutputFolderError, match="another run: learning_rate differs"):
        train(fresh(), digits, hotter, tmp_path / "run", input_shape=SHAPE)
    other = architecture("mlp:16:softplus", SHAPE, 10, seed=1)
    with pytest.raises(OutputFolderError, match="another run: model differs"):
        train(other, digits, brief, tmp_path / "run", input_shape=SHAPE)


def test_the_random_state_and_the_precision_stay(digits: Dataset) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    recipe = Recipe(**{**vars(SMALL), "epochs": 1, "precision": "medium"})
    train(fresh(), digits, recipe, input_shape=SHAPE)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_float32_matmul_precision() == "highest"


def test_dropout_and_batch_norm_train_and_are_certified_frozen(digits: Dataset) -> None:
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 16),
        nn.BatchNorm1d(16),
        nn.Tanh(),
        nn.Dropout(0.1),
        nn.Linear(16, 10),
    )
    recipe = Recipe(**{**vars(SMALL), "epochs": 2})
    result = train(model, digits, recipe, input_shape=SHAPE)
    assert float(model[2].running_mean.abs().max()) > 0
    assert int(model[2].num_batches_tracked) == 2 * (480 // 64)
    assert result.history[-1]["validation_clean_accuracy"] > 0.3


def test_a_normalisation_outside_is_trained_through(digits: Dataset) -> None:
    recipe = Recipe(**{**vars(SMALL), "averaging": 0.0, "evaluate_every": 4})
    inside = nn.Sequential(Affine(0.5, 0.25), *fresh())
    outside = train(fresh(), digits, recipe, input_shape=SHAPE, mean=0.5, std=0.25)
    result = train(inside, digits, recipe, input_shape=SHAPE)
    assert outside.history[-1]["loss"] == pytest.approx(result.history[-1]["loss"], rel=1e-3)
    assert np.allclose(outside.radii[4], result.radii[4], rtol=1e-2, atol=1e-3)


class Affine(nn.Module):
    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = fresh()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        z = self.body(x)
        return {"logits": z, "scaled": 2 * z}


def test_one_of_several_outputs_is_trained(digits: Dataset) -> None:
    recipe = Recipe(**{**vars(SMALL), "epochs": 1})
    one = train(Named(), digits, recipe, input_shape=SHAPE, output="logits")
    alone = train(fresh(), digits, recipe, input_shape=SHAPE)
    assert one.history[0]["loss"] == pytest.approx(alone.history[0]["loss"], rel=1e-4)


def test_a_package_is_trained_further(digits: Dataset, finished: Finished) -> None:
    _, first = finished
    start = copy.deepcopy(first.network.network)
    again = train(start, digits, SMALL, input_shape=SHAPE, name="again")
    assert again.network.name == "again"
    assert again.history[0]["loss"] < first.history[0]["loss"]


def test_refusals_come_before_the_first_step(digits: Dataset) -> None:
    def never(row: Mapping[str, Any]) -> None:
        raise AssertionError

    relu = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    with pytest.raises(UnsupportedError, match="relu"):
        train(relu, digits, SMALL, input_shape=SHAPE, progress=never)
    curved = Recipe(**{**vars(SMALL), "method": "dual"})
    with pytest.raises(UnsupportedError, match=r"'dual' bounds curvature.*another method: .*ibp"):
        train(relu, digits, curved, input_shape=SHAPE, progress=never)
    single = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 1))
    with pytest.raises(UsageError, match="one output, and a classifier has one for each class"):
        train(single, digits, SMALL, input_shape=SHAPE, progress=never)
    with pytest.raises(InputDataError, match=r"inputs have shape \(1, 8, 8\)"):
        train(nn.Linear(64, 10), digits, SMALL, input_shape=(64,), progress=never)
    few = architecture("mlp:4:tanh", SHAPE, 3)
    with pytest.raises(InputDataError, match="label 9, but the model has 3 classes"):
        train(few, digits, SMALL, input_shape=SHAPE, progress=never)
    below = Dataset(digits.x, digits.y - 1, "below")
    with pytest.raises(InputDataError, match="label -1, but the model has 10 classes"):
        train(fresh(), below, SMALL, input_shape=SHAPE, progress=never)
    unknown = Dataset(digits.x / digits.x, digits.y, "unknown")  # 0/0
    with pytest.raises(InputDataError, match="inputs hold NaN or infinity"):
        train(fresh(), unknown, SMALL, input_shape=SHAPE, progress=never)
    flat, moved = Dataset(digits.x.flatten(1), digits.y, "flat"), Recipe(shift=1, batch_size=64)
    with pytest.raises(UsageError, match=r"shift moves images, and the inputs have shape \(64,\)"):
        train(nn.Linear(64, 10), flat, moved, input_shape=(64,), progress=never)
    frozen = fresh().requires_grad_(False)
    with pytest.raises(UsageError, match="no parameter that can be trained"):
        train(frozen, digits, SMALL, input_shape=SHAPE, progress=never)


def test_a_batch_that_cannot_be_shared_out_leaves_no_folder(
    digits: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="cannot be shared out evenly to 3 processes"):
        train(
            fresh(), digits, SMALL, tmp_path / "run", input_shape=SHAPE, processes=Processes(0, 3)
        )
    assert not (tmp_path / "run").exists()


def test_a_divergence_says_where_and_keeps_the_checkpoint(digits: Dataset, tmp_path: Path) -> None:
    recipe = Recipe(**{**vars(SMALL), "learning_rate": 1e30})
    with pytest.raises(DivergenceError, match=r"in epoch 1 at step \d\. Lower the learning rate"):
        train(fresh(), digits, recipe, tmp_path / "run", input_shape=SHAPE)
