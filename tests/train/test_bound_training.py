"""Training on bounds: the losses are those of their papers, and networks come out that certify."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vercomp
from vercomp.core.regions.region import Region
from vercomp.data import Dataset
from vercomp.errors import UsageError
from vercomp.live import live_network
from vercomp.train import Recipe, train
from vercomp.train.attacks import region_attack
from vercomp.train.initialisation import interval_weights
from vercomp.train.methods import objective
from vercomp.train.objectives import Batch, Loss, Moment

METHODS = ("ibp", "crown-ibp", "mtl-ibp", "sabr")
NORMS = ("l1", "l2", "linf")


def model(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = nn.Sequential(
            nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
        )
    return made.double()


def batch(count: int = 12) -> Batch:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, 4, generator=generator, dtype=torch.float64)
    return Batch(x, x[:, :3].argmax(1), None, torch.Generator().manual_seed(1))


def loss(method: str, now: Moment, **numbers: Any) -> Loss:
    made = model()
    recipe = Recipe(method, box=(0.0, 1.0), **numbers)
    return objective(recipe, made, None, live_network(made, (4,)))(batch(), now)


def margins(region: Region, y: Tensor, beta: float) -> Tensor:
    return compiled().crown(region, y, beta=beta)


@cache
def compiled() -> vercomp.CompiledNetwork:
    return vercomp.compile(model(), (4,), emit="crown")


@pytest.mark.parametrize("norm", NORMS)
def test_interval_losses_are_mixed_as_the_radius_grows(norm: str) -> None:
    data, radius = batch(), 0.05
    region = vercomp.Ball(data.x, radius, norm, box=(0.0, 1.0))
    clean = F.cross_entropy(model()(data.x), data.y)
    for grown, kappa, beta in ((0.0, 1.0, 1.0), (0.5, 0.6, 0.7), (1.0, 0.2, 0.4)):
        now = Moment(radius, 0.0, 0.0, grown)
        by_intervals = F.cross_entropy(-margins(region, data.y, 0.0), data.y)
        found = loss("ibp", now, norm=norm, numbers={"kappa": 0.2})
        torch.testing.assert_close(found.value, kappa * clean + (1 - kappa) * by_intervals)
        mixed = F.cross_entropy(-margins(region, data.y, beta), data.y)
        found = loss("crown-ibp", now, norm=norm, numbers={"kappa": 0.2, "beta": 0.4})
        torch.testing.assert_close(found.value, kappa * clean + (1 - kappa) * mixed)


@pytest.mark.parametrize("norm", NORMS)
def test_losses_at_attacked_points(norm: str) -> None:
    data, radius = batch(), 0.05
    now = Moment(radius, 0.0, 0.0, 1.0)
    whole = vercomp.Ball(data.x, radius, norm, box=(0.0, 1.0))
    found = loss("mtl-ibp", now, norm=norm, numbers={"alpha": 0.3})
    assert inside(whole, found.point)
    attacked = F.cross_entropy(model()(found.point), data.y)
    assert attacked > F.cross_entropy(model()(data.x), data.y)
    robust = F.cross_entropy(-margins(whole, data.y, 0.0), data.y)
    assert robust > attacked
    torch.testing.assert_close(found.value, 0.7 * attacked + 0.3 * robust)

    found = loss("sabr", now, norm=norm, numbers={"share": 0.4})
    assert inside(vercomp.Ball(data.x, 0.6 * radius, norm, box=(0.0, 1.0)), found.point)
    small = vercomp.Ball(found.point, 0.4 * radius, norm, box=(0.0, 1.0))
    expected = F.cross_entropy(-margins(small, data.y, 0.0), data.y)
    torch.testing.assert_close(found.value, expected)
    assert found.value < robust


def inside(region: Region, points: Tensor) -> bool:
    """Up to rounding."""
    grown = region.scaled(region.radius * (1 + 1e-9))
    return bool(grown.contains(points).all())


@pytest.mark.parametrize("method", METHODS)
def test_what_counts_as_bounded(method: str) -> None:
    found = loss(method, Moment(0.0, 0.0, 0.0, 1.0), norm="linf")
    data = batch()
    assert found.bounded_correct == int((model()(data.x).argmax(1) == data.y).sum())
    assert loss(method, Moment(9.0, 0.0, 0.0, 1.0), norm="linf").bounded_correct == 0


@pytest.mark.parametrize("norm", NORMS)
def test_attacks_stay_in_their_region_and_find_higher_losses(norm: str) -> None:
    made, data = model(3), batch(40)
    region = vercomp.Ball(data.x, 0.3, norm, box=(0.0, 1.0))
    clean = F.cross_entropy(made(data.x), data.y)
    for start in (None, 0.1 * torch.ones_like(data.x)):
        point = region_attack(
            made, data.x, data.y, region, steps=10, start=start, generator=data.generator
        )
        assert inside(region, point)
        assert F.cross_entropy(made(point), data.y) > clean + 0.005
    assert torch.equal(region_attack(made, data.x, data.y, region.scaled(0.0), steps=2), data.x)


def test_interval_weights_keep_the_width_of_intervals() -> None:
    layers = [layer for _ in range(6) for layer in (nn.Linear(200, 200), nn.ReLU())]
    made = nn.Sequential(*layers).double()
    x = torch.rand(3, 200, dtype=torch.float64)

    @torch.no_grad()
    def width(last: int) -> float:
        low, high = x - 0.1, x + 0.1
        for layer in made[:last]:
            if isinstance(layer, nn.Linear):
                middle, half = 0.5 * (low + high), 0.5 * (high - low)
                spread = half @ layer.weight.abs().T
                low, high = layer(middle) - spread, layer(middle) + spread
            else:
                low, high = layer(low), layer(high)
        return float((high - low).mean())

    before = [width(last) for last in (0, 12)]
    interval_weights(made, 0)
    after = [width(last) for last in (0, 12)]
    assert before[1] / before[0] > 20.0
    assert 0.2 < after[1] / after[0] < 5.0
    weights = made[0].weight.detach().clone()
    assert float(weights.abs().mean()) * 200 == pytest.approx(2.0, rel=0.02)
    assert math.isclose(float(made[0].bias.detach().abs().sum()), 0.0)
    interval_weights(made, 0)
    assert torch.equal(made[0].weight, weights)
    with pytest.raises(UsageError, match=r"no layers of torch\.nn whose weights"):
        interval_weights(nn.ReLU(), 0)


@pytest.mark.parametrize("method", METHODS)
def test_it_ends_with_a_network_that_certifies(method: str) -> None:
    """As much as is certified of what plain training gives, and a good deal more."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(600, 4, generator=generator)
    x = x[(x[:, :3].topk(2).values.diff().abs() > 0.1)[:, 0]]
    data = Dataset(x, x[:, :3].argmax(1), "made up")
    numbers: dict[str, Any] = {
        "radius": 0.04, "norm": "linf", "box": (0.0, 1.0), "epochs": 30, "batch_size": 32,
        "learning_rate": 1e-2, "evaluate_every": 30,
    }  # fmt: skip
    done = train(model().float(), data, Recipe(method, **numbers), input_shape=(4,))
    last = done.history[-1]
    assert last["bounded_accuracy"] > 0.5
    assert last["curvature"] is None
    assert last["validation_curvature"] is None
    assert last["validation_certified_accuracy"] > 0.5
    held_out = done.radii[30] > 0.04
    assert held_out.mean() == pytest.approx(last["validation_certified_accuracy"])
    found = done.network.certify(data.x, data.y, norm="linf", box=(0.0, 1.0), radius=0.04)
    assert found.certified is not None
    attacked = region_attack(
        done.network.network, x, data.y, vercomp.Ball(x, 0.04, "linf", box=(0.0, 1.0)), steps=20
    )
    right = done.network.network(attacked).argmax(1) == data.y
    assert not bool((found.certified & ~right).any())
