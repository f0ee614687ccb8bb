"""The certificates of the paper's appendix, as baselines: sound as they stand here."""

from __future__ import annotations

import pytest
import torch
from attacks import least_margin_on_grid
from torch import nn

import vercomp
from benchmarks import published_radii as published


def model(seed: int, activation: type[nn.Module]) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 9), activation(), nn.Linear(9, 3))


def false_radii(method: str, activation: type[nn.Module], seeds: range) -> int:
    false = 0
    for seed in seeds:
        net = model(seed, activation)
        assert published.takes(method, net)
        x = torch.randn(4, 2, generator=torch.Generator().manual_seed(seed))
        y = net(x).argmax(1)
        radius = published.radii(method, vercomp.compile(net, (2,)), x, y)
        assert (radius > 0.0).all()
        worst = least_margin_on_grid(net.double(), x.double(), y, radius)
        false += int((worst < -1e-9).sum())
    return false


@pytest.mark.parametrize(("method", "activation"), [("c6", nn.Tanh), ("appendix-g", nn.ReLU)])
def test_no_grid_point_enters(method: str, activation: type[nn.Module]) -> None:
    assert false_radii(method, activation, range(2)) == 0


def test_quadratic_bounds_of_relu_hold() -> None:
    dice = torch.Generator().manual_seed(0)
    d = -3.0 * torch.rand(500, generator=dice, dtype=torch.float64) + 0.5
    u = d + 4.0 * torch.rand(500, generator=dice, dtype=torch.float64)
    share = torch.rand(64, 500, generator=dice, dtype=torch.float64)
    z = d + share * (u - d)
    for sign in (1.0, -1.0):
        c = torch.full_like(d, sign)
        bend, slope, constant = published.relu_bounds(c, d, u)
        assert (sign * (z.relu() - (bend * z * z + slope * z + constant)) >= -1e-9).all()


def test_the_s_procedure_is_the_minimum_over_the_ball() -> None:
    dice = torch.Generator().manual_seed(0)
    for _ in range(20):
        P = torch.randn(2, 2, generator=dice, dtype=torch.float64)
        P, q = P + P.T, torch.randn(2, generator=dice, dtype=torch.float64)
        angle = torch.linspace(0.0, 2.0 * torch.pi, 2000, dtype=torch.float64)
        length = torch.linspace(0.0, 1.0, 60, dtype=torch.float64)[:, None, None]
        d = (length * torch.stack([angle.cos(), angle.sin()], 1)).reshape(-1, 2)
        seen = float((0.5 * ((d @ P) * d).sum(1) + d @ q).min())
        bound = published.least_in_ball(P, q, 0.0, 1.0)
        assert seen - 1e-3 <= bound <= seen + 1e-3
