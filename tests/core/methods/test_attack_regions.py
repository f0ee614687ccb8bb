"""Attacks in every region: members of it, worst where that is known, never below a bound."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from certifiables import affine, against_zero
from torch import Tensor, nn

import vercomp
from vercomp.core.methods.attack import attack
from vercomp.core.network import VerifiedNetwork
from vercomp.core.regions import Ball

W = torch.tensor([3.0, -4.0, 1.0, 0.5], dtype=torch.float64)
REGIONS: dict[str, dict[str, Any]] = {
    "l2": {},
    "linf": {"norm": "linf"},
    "l1": {"norm": "l1"},
    "l2 in a box": {"box": (0.0, 1.0)},
    "linf in a box": {"norm": "linf", "box": (0.0, 1.0)},
    "l1 in a box": {"norm": "l1", "box": (0.0, 1.0)},
    "l2 in a slab": {"slab": (W, -0.2, 0.4)},
    "l2 in a slab away from the input": {"slab": (W, 0.1, 0.4)},
    "linf in a slab": {"norm": "linf", "slab": (W, -0.2, 0.4)},
    "linf with scales": {"norm": "linf", "scales": torch.tensor([1.0, 0.0, 0.5, 2.0])},
    "l2 with scales in a box": {"scales": torch.tensor([1.0, 0.0, 0.5, 2.0]), "box": (0.0, 1.0)},
}
QUICK = {"steps": 30, "restarts": 2}


def compiled(activation: type[nn.Module], seed: int = 0) -> VerifiedNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(4, 16), activation(), nn.Linear(16, 8), activation(), nn.Linear(8, 3)
        )
        for parameter in model.parameters():
            parameter.data *= 2.0
        model[-1].bias.data -= model(torch.rand(100, 4)).mean(0)
    return vercomp.compile(model, (4,)).network


def inputs(network: VerifiedNetwork, count: int = 10) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 4, generator=torch.Generator().manual_seed(1))
    return x, network(x).argmax(1)


def margins(network: VerifiedNetwork, points: Tensor, y: Tensor) -> Tensor:
    z = network.in_double()[0](points)
    return z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -torch.inf).amax(1)


@pytest.mark.parametrize("name", sorted(REGIONS))
def test_a_linear_margin_is_least_where_the_region_says(name: str) -> None:
    options = REGIONS[name]
    network = affine(W, 0.3)
    x = torch.rand(10, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = attack(network, x, torch.zeros(10, dtype=torch.long), 0.3, **options)
    region = Ball(
        x, 0.3, options.get("norm", "l2"), **{k: options[k] for k in options if k != "norm"}
    )
    least = x @ W + 0.3 + region.minimum(W.expand(10, 1, 4))[:, 0]
    torch.testing.assert_close(found.margin, least, rtol=1e-4, atol=1e-4)
    assert region.contains(found.point).all()


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("name", sorted(REGIONS))
def test_points_are_members_and_nothing_falls_below_the_bound(
    name: str, activation: type[nn.Module]
) -> None:
    options = REGIONS[name]
    network = compiled(activation)
    x, y = inputs(network)
    found = attack(network, x, y, 0.2, **options)
    region = Ball(
        x, 0.2, options.get("norm", "l2"), **{k: options[k] for k in options if k != "norm"}
    )
    assert region.contains(found.point).all()
    there = margins(network, found.point, y)
    torch.testing.assert_close(found.margin, there, rtol=1e-9, atol=1e-10)
    assert (found.margin >= there - 1e-15).all()
    assert (found.lower_bound <= found.margin).all()
    assert found.lower_bound.isfinite().all()
    sampled = region.sample(2000, torch.Generator().manual_seed(2))
    drawn = margins(network, sampled.reshape(-1, 4), y.repeat_interleave(2000)).reshape(10, -1)
    # What is broken is searched no further; one input in ten may end in another valley.
    assert (found.margin.clamp(min=0.0) <= drawn.amin(1).clamp(min=0.0) + 1e-6).sum() >= 9
    assert (found.lower_bound <= drawn.amin(1)).all()


def test_a_stationary_input_is_left_along_the_least_curvature() -> None:
    """f = 2 + x² − 3y² + … has no gradient at the origin, and falls along y alone."""
    bend = torch.full((20,), 1.0, dtype=torch.float64)
    bend[7] = -3.0
    network = against_zero(lambda x: 2.0 + 0.5 * (x * x * bend).sum(1), 20, 3.0, 1.0)
    for norm, radius in (("l2", 1.0), ("linf", 0.5), ("l1", 1.0)):
        found = attack(
            network, torch.zeros(1, 20), torch.zeros(1, dtype=torch.long), radius, norm=norm
        )
        assert float(found.margin) == pytest.approx(2.0 - 1.5 * radius**2, abs=1e-4)


def test_a_symmetric_network_is_left_in_the_steepest_direction() -> None:
    """Softplus of x, −x, 2y, −2y: the gradient vanishes at the origin, and ±y is the worst way."""
    model = nn.Sequential(nn.Linear(2, 4), nn.Softplus(), nn.Linear(4, 2))
    model[0].weight.data = torch.tensor([[1.0, 0], [0, 2], [-1, 0], [0, -2]])
    model[0].bias.data.zero_()
    model[2].weight.data = torch.tensor([[-1.0] * 4, [0.0] * 4])
    model[2].bias.data = torch.tensor([4.0, 0.0])
    network = vercomp.compile(model, (2,)).network
    found = attack(network, torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), 5.0)
    best = margins(network, torch.tensor([[0.0, 5.0]]).double(), torch.tensor([0]))
    assert float(found.margin) <= float(best) + 1e-6


@pytest.mark.parametrize("radius", [1.0, 3.0, 4.0])
def test_waves_are_met_at_their_trough(radius: float) -> None:
    """1.5 + cos 5x is stationary at 0, and 0.5 at the least; the ball's ends are no trough."""
    network = against_zero(lambda x: 1.5 + torch.cos(5.0 * x[:, 0]), 1, 25.0, 25.0)
    found = attack(network, torch.zeros(1, 1), torch.zeros(1, dtype=torch.long), radius)
    assert float(found.margin) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Softplus])
@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_a_larger_ball_gives_no_worse_point(activation: type[nn.Module], norm: str) -> None:
    network = compiled(activation, seed=3)
    x, y = inputs(network, 20)
    before, point = torch.full((20,), torch.inf, dtype=torch.float64), x.double()
    for radius in (0.1, 0.15, 0.3, 0.5, 1.0):
        alone = attack(network, x, y, radius, norm=norm)
        assert (alone.margin <= before + 1e-3).all()
        warm = attack(network, x, y, radius, norm=norm, start=point, **QUICK)
        assert (warm.margin <= before + 1e-12).all()
        before, point = torch.minimum(alone.margin, warm.margin), warm.point
        point = torch.where((alone.margin < warm.margin)[:, None], alone.point, point)


def test_gradients_that_vanish_in_float32_are_followed_in_float64() -> None:
    """At z = 22 the derivative of sigmoid is 0 in float32; a hundred inputs leave no luck."""
    model = nn.Sequential(nn.Linear(100, 1), nn.Sigmoid(), nn.Linear(1, 2))
    model[0].weight.data[:] = -4.0
    model[0].bias.data[:] = 22.0
    model[2].weight.data = torch.tensor([[1.0], [0.0]])
    model[2].bias.data = torch.tensor([-0.5, 0.0])
    network = vercomp.compile(model, (100,)).network
    found = attack(network, torch.zeros(1, 100), torch.zeros(1, dtype=torch.long), 1.0)
    lowest = 1.0 / (1.0 + math.exp(-22.0 + 40.0)) - 0.5
    assert float(found.margin) == pytest.approx(lowest, abs=1e-6)


def test_effort_is_kept_to() -> None:
    network = compiled(nn.ReLU)
    x, y = inputs(network)
    spent = {}
    for name, options in {
        "one": {"steps": 5, "restarts": 1},
        "budget": {"steps": 5, "budget": 10},
        "more": {"steps": 5, "restarts": 4},
    }.items():
        found = attack(network, x, y, 0.05, **options)
        spent[name] = found.evaluations.sum(1)
        assert (found.evaluations.gather(1, y[:, None]) == 0).all()
    tangents = 2
    assert spent["one"].tolist() == [5 + tangents] * 10
    assert (spent["budget"] <= 10 + tangents).all()
    assert (spent["more"] <= 20 + tangents).all()
    assert (spent["more"] > spent["one"]).any()
    with pytest.raises(vercomp.VercompError, match="Give one of the two"):
        attack(network, x, y, 0.1, restarts=2, budget=100)
    with pytest.raises(vercomp.VercompError, match="restarts must be at least 1"):
        attack(network, x, y, 0.1, restarts=0)
    with pytest.raises(vercomp.VercompError, match="starts must have the shape"):
        attack(network, x, y, 0.1, start=x[:, :2])


def test_no_input_depends_on_the_others() -> None:
    network = compiled(nn.ReLU, seed=5)
    x, y = inputs(network, 12)
    together = attack(network, x, y, 0.3, norm="linf", box=(0.0, 1.0))
    for options in ({"chunk": 5}, {"chunk": 1}):
        again = attack(network, x, y, 0.3, norm="linf", box=(0.0, 1.0), **options)
        torch.testing.assert_close(again.margin, together.margin, rtol=1e-3, atol=1e-4)
    turned = attack(network, x.flip(0), y.flip(0), 0.3, norm="linf", box=(0.0, 1.0))
    torch.testing.assert_close(turned.margin.flip(0), together.margin, rtol=1e-3, atol=1e-4)


def test_a_region_too_thin_for_float64_leaves_the_input() -> None:
    network = compiled(nn.ReLU)
    x, y = inputs(network)
    found = attack(network, x, y, 1e-30)
    assert torch.equal(found.point, x.double())
