"""What is said of trainings that ended too early."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vercomp.data import Dataset, load_data
from vercomp.train import Recipe, train
from vercomp.train.convergence import unconverged


def history(*accuracies: float) -> list[dict[str, Any]]:
    return [{"epoch": n + 1, "clean_accuracy": a} for n, a in enumerate(accuracies)]


def test_what_has_settled_is_left_alone() -> None:
    assert unconverged(history(0.2, 0.5, 0.92, 0.93, 0.95), 1000) is None
    assert unconverged(history(0.9), 1000) is None


def test_what_is_still_rising_is_named() -> None:
    found = unconverged(history(0.2, 0.3, 0.5, 0.55, 0.62), 1000)
    assert found == (
        "the clean accuracy still rose from 50.0 % in epoch 3 to 62.0 % in the last one"
    )


def test_few_steps_are_few() -> None:
    assert unconverged(history(0.2, 0.9, 0.9, 0.9), 40) == "it has taken 40 steps, which is few"


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits:train", (64,), 600)


def test_defaults_train_small_data_sets_and_the_old_ones_are_noticed(digits: Dataset) -> None:
    def trained(recipe: Recipe) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(64, 32), nn.Softplus(), nn.Linear(32, 10))
            return train(model, digits, recipe, input_shape=(64,), mean=0.3, std=0.4)

    good = trained(Recipe(method="plain", epochs=20))
    assert good.unconverged is None
    assert good.history[-1]["clean_accuracy"] > 0.95
    poor = trained(Recipe(method="plain", epochs=10, batch_size=256, learning_rate=1e-3))
    assert poor.unconverged is not None
    assert poor.history[-1]["clean_accuracy"] < 0.9
