"""The method ``quadratic``: radii that no attack enters, and what is left out is noticed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vercomp
from vercomp.core.methods.quadratic import Quadratic, _Boundary
from vercomp.core.quadratic import cover


def network(seed: int, activation: type[nn.Module], scale: float = 1.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(5, 12), activation(), nn.Linear(12, 12), activation(), nn.Linear(12, 3)
        )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= scale
    return model


def inputs(seed: int, count: int = 3) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "activation",
    [
        nn.ReLU,
        nn.Softplus,
        *(pytest.param(a, marks=pytest.mark.slow) for a in (nn.Sigmoid, nn.Tanh)),
    ],
)
def test_no_attack_enters_a_radius(activation: type[nn.Module]) -> None:
    for seed in range(2):
        model = network(seed, activation, 2.0)
        net = vercomp.compile(model, (5,))
        x = inputs(seed)
        y = model(x).argmax(1)
        found = net.certify(x, y, methods=["quadratic"])
        assert (found.radius > 0.0).all()
        assert (found.radius <= net.nearest(x, y).distance.amin(1)).all()
        for row in range(len(x)):
            worst = net.attack(x[[row]], y[[row]], float(found.radius[row]))
            assert float(worst.margin) > -1e-9


def test_more_is_proved_than_by_linear_bounds() -> None:
    model = network(0, nn.Sigmoid, 2.0)
    net = vercomp.compile(model, (5,))
    x = inputs(0)[:2]
    y = model(x).argmax(1)
    crown = net.certify(x, y, methods=["crown"])
    both = net.certify(x, y, methods=["crown", "quadratic"])
    assert (both.radius >= crown.radius).all()
    gained = both.radius > 1.01 * crown.radius
    assert gained.any()
    assert {both.method[k] for k in gained.nonzero()[:, 0].tolist()} == {"quadratic"}


def test_a_radius_that_is_asked_about_is_decided_and_no_more() -> None:
    model = network(1, nn.Sigmoid, 2.0)
    net = vercomp.compile(model, (5,))
    x = inputs(1)
    y = model(x).argmax(1)
    full = net.certify(x, y, methods=["quadratic"]).radius
    asked = 0.5 * float(full.min())
    found = net.certify(x, y, methods=["quadratic"], radius=asked, decide=True)
    assert found.certified is not None
    assert found.certified.all()
    assert (found.radius < full).all()


def test_an_l1_ball_lies_in_the_l2_ball() -> None:
    model = network(2, nn.Tanh)
    net = vercomp.compile(model, (5,))
    x = inputs(2)
    y = model(x).argmax(1)
    l1 = net.certify(x, y, norm="l1", methods=["quadratic"]).radius
    assert (l1 > 0.0).all()
    assert (l1 <= net.nearest(x, y, norm="l1").distance.amin(1)).all()
    # For l∞ linear bounds stand alone.
    linear, both = (
        net.certify(x, y, norm="linf", methods=[name]) for name in ("crown", "quadratic")
    )
    assert torch.equal(linear.radius, both.radius)


def test_networks_that_do_not_change_and_labels_that_are_wrong() -> None:
    model = network(0, nn.Sigmoid, 0.0)
    with torch.no_grad():
        model[4].bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    net = vercomp.compile(model, (5,))
    x = torch.cat([inputs(0, 1), torch.zeros(1, 5)])
    found = net.certify(x, torch.zeros(2, dtype=torch.long), methods=["quadratic"])
    assert (found.radius > 0.0).all()
    assert (found.radius.isfinite()).all()
    wrong = net.certify(x, torch.ones(2, dtype=torch.long), methods=["quadratic"])
    assert (wrong.radius == 0.0).all()


def test_outputs_of_any_meaning_have_radii() -> None:
    model = network(3, nn.Tanh)
    net = vercomp.compile(model, (5,))
    x = inputs(3)
    found = net.certify(x, vercomp.Deviation(0.2), methods=["quadratic"])
    assert (found.radius > 0.0).all()
    bounds = net.bound(vercomp.Ball(x, found.radius), torch.eye(3), methods=["quadratic"])
    assert (bounds <= model(x).double() + 1e-6).all()


def test_bounds_of_balls_and_their_slabs_hold_at_samples() -> None:
    model = network(4, nn.Softplus, 1.5).double()
    net = vercomp.compile(model, (5,))
    x = inputs(4).double()
    u = torch.randn(3, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    rows = torch.eye(3, dtype=torch.float64) - torch.eye(3, dtype=torch.float64).roll(1, 0)
    for slab in (None, (3.0 * u, -0.2, 0.7)):
        region = vercomp.Ball(x, 0.6, slab=slab)
        bounds = net.bound(region, rows, methods=["quadratic"])
        points = region.sample(2000, torch.Generator().manual_seed(6))
        with torch.no_grad():
            least = (model(points) @ rows.T).amin(1)
        assert (bounds <= least).all()
        assert (least - bounds).mean() < 0.5 * (model(x) @ rows.T - least).mean()


def test_a_slab_that_is_left_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a ball that reaches beyond the boundary all slabs but the outermost are positive."""
    model = network(1, nn.Tanh, 2.0)
    net = vercomp.compile(model, (5,))
    x = inputs(1, 1)
    y = model(x).argmax(1)
    near = net.nearest(x, y)
    distance, column = near.distance[0].min(0)
    asked = {"methods": ["quadratic"], "radius": 1.02 * float(distance), "decide": True}
    # A known witness would end the question before a proof is tried.
    unknown = torch.full((1,), torch.inf, dtype=torch.float64)
    step = near.point - x[:, None].double()
    direction = step / step.norm(dim=2, keepdim=True)
    found = _Boundary(direction, column[None], unknown, 2.0 * distance[None])
    monkeypatch.setattr("vercomp.core.methods.quadratic._boundary", lambda task, rows: found)
    honest = net.certify(x, y, **asked).certified
    assert honest is not None
    assert not honest.any()
    monkeypatch.setattr(cover, "EDGES", (-1.0, 0.3, 0.6, 0.85))
    broken = net.certify(x, y, **asked).certified
    assert broken is not None
    assert broken.all()


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.ReLU])
def test_no_radius_is_below_that_of_linear_bounds(activation: type[nn.Module]) -> None:
    """Also where neurons are saturated, and where no slab is proved."""
    for seed, scale in ((5, 1.0), (6, 6.0)):
        net = vercomp.compile(network(seed, activation, scale), (5,))
        x = inputs(seed, 2)
        y = net.network(x).argmax(1)
        crown = net.certify(x, y, methods=["crown"]).radius
        assert (net.certify(x, y, methods=["quadratic"]).radius >= crown).all()


def test_rows_have_directions_of_their_own() -> None:
    """Three classes equally far away in three directions: slabs along one say little of others."""
    model = network(1, nn.Tanh, 2.0)
    net = vercomp.compile(model, (5,))
    x = inputs(1)
    y = model(x).argmax(1)
    asked: dict[str, Any] = {"methods": ["quadratic"]}
    found = net.certify(x, y, **asked).radius
    assert (found >= 0.9 * net.nearest(x, y).distance.amin(1)).all()


class Block(nn.Module):
    """A residual block, and a pooling of maxima behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Linear(5, 8), nn.Linear(8, 8)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.tanh(self.first(x))
        z = z + torch.tanh(self.again(z))
        y: Tensor = self.last(nn.functional.max_pool1d(z[:, None], 2)[:, 0])
        return y


def test_skips_and_pooling_are_certified() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Block()
    net = vercomp.compile(model, (5,))
    x = inputs(0)
    y = model(x).argmax(1)
    found = net.certify(x, y, methods=["quadratic"])
    crown = net.certify(x, y, methods=["crown"])
    assert (found.radius >= crown.radius).all()
    assert (found.radius > 1.01 * crown.radius).any()
    assert (found.radius <= net.nearest(x, y).distance.amin(1)).all()


def test_it_is_used_where_it_is_named() -> None:
    assert Quadratic.on_request
    model = network(0, nn.ReLU)
    net = vercomp.compile(model, (5,))
    x = inputs(0)
    assert "quadratic" not in net.certify(x, model(x).argmax(1)).method
