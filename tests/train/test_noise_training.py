"""Training under noise: the loss that it is, which network it keeps, and what smoothing gains."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_problems import network, samples

import vercomp
from vercomp.data import Dataset, load_data
from vercomp.train import Recipe, train
from vercomp.train.methods import objective
from vercomp.train.objectives import Batch, Moment

SIGMA = 0.4


def test_the_loss_is_cross_entropy_under_noise() -> None:
    model, (x, y) = network(0), samples(16)
    recipe = Recipe(method="noise", numbers={"sigma": SIGMA})
    batch = Batch(x, y, None, torch.Generator().manual_seed(5))
    loss = objective(recipe, model, None)(batch, Moment(radius=0.4, penalty=0.1, exponent=0.0))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    point = x + SIGMA * noise
    assert torch.equal(loss.point, point)
    assert torch.allclose(loss.value, F.cross_entropy(model(point), y))
    assert loss.value.requires_grad
    assert loss.curvature is None


def _trained(
    method: str, data: Dataset, epochs: int = 8, **numbers: float
) -> vercomp.CompiledNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.Softplus(), nn.Linear(32, 10))
    recipe = Recipe(
        method, epochs=epochs, evaluate_every=4, batch_size=64, learning_rate=0.01, numbers=numbers
    )
    done = train(model, data, recipe, input_shape=(64,))
    evaluated = [row["epoch"] for row in done.history if "validation_clean_accuracy" in row]
    assert evaluated == ([epochs] if method == "noise" else [4, 8])
    return done.network


def test_the_last_epoch_is_kept_whatever_its_certificates() -> None:
    x = torch.rand(90, 64)
    _trained("noise", Dataset(x, x[:, :10].argmax(1), "made up"), epochs=5)


@pytest.mark.slow
def test_a_network_that_has_seen_noise_is_smoothed_better() -> None:
    data = load_data("digits:train", (64,))
    test = load_data("digits", (64,), 60)
    shares = []
    for network_ in (_trained("plain", data), _trained("noise", data, sigma=SIGMA)):
        found = vercomp.Smoothed(network_, SIGMA).certify(test.x, samples=500)
        shares.append(float(((found.prediction == test.y) & (found.radius > 0.3)).double().mean()))
    assert shares[1] > shares[0] + 0.1
