"""Attacks: the worst point where it is known, bounds that no search falls below."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from certifiables import ByHand, affine, least_margin, sphere, two_layers
from torch import Tensor

from vercomp.core.methods.attack import Attacks, attack
from vercomp.core.methods.certify import certify


def random_inputs(network: ByHand, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *network.input_shape, generator=generator, dtype=torch.float64)
    return x, network.function(x.flatten(1)).argmax(1)


def check_consistent(network: ByHand, x: Tensor, y: Tensor, radius: float, found: Attacks) -> None:
    """Points in the ball, margins as reported there, bounds below them."""
    for one, other in zip(found.point.flatten(1), x.double().flatten(1), strict=True):
        square = sum(
            (Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(one, other, strict=True)
        )
        assert square <= Fraction(radius) ** 2
    z = network.function(found.point.flatten(1))
    margin = z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -torch.inf).amax(1)
    torch.testing.assert_close(found.margin, margin, rtol=1e-9, atol=1e-10)
    assert (found.lower_bound <= found.margin).all()
    others = z.scatter(1, y[:, None], -torch.inf)
    assert (others.gather(1, found.target[:, None])[:, 0] >= others.amax(1) - 1e-12).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_worst_point_towards_a_sphere(dtype: torch.dtype) -> None:
    network = sphere(3, radius=2.0, kappa=3.0)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    y = torch.zeros(20, dtype=torch.long)
    found = attack(network, x, y, 0.5)
    worst = 1.5 * (4.0 - (x.double().norm(dim=1) + 0.5) ** 2)
    assert (found.lower_bound <= worst).all()
    torch.testing.assert_close(found.lower_bound, worst, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.margin, worst, rtol=1e-4, atol=1e-4)
    assert found.exact.all()
    check_consistent(network, x, y, 0.5, found)


def test_the_least_value_may_lie_inside_the_ball() -> None:
    """Label 1 of the sphere: ½(‖x‖² − 1), convex, least at the origin, which the ball contains."""
    network = sphere(2)
    x = torch.tensor([[0.3, 0.0], [2.0, 0.0]], dtype=torch.float64)
    y = torch.ones(2, dtype=torch.long)
    found = attack(network, x, y, 0.5)
    assert (found.lower_bound <= torch.tensor([-0.5, 0.625]) + 1e-9).all()
    torch.testing.assert_close(
        found.margin, torch.tensor([-0.5, 0.625]).double(), rtol=0.0, atol=1e-4
    )
    check_consistent(network, x, y, 0.5, found)


def test_a_plane_is_attacked_exactly_misclassified_or_not() -> None:
    network = affine(torch.tensor([3.0, 4.0], dtype=torch.float64), 1.0)
    x = torch.tensor([[0.0, 0.0], [-1.0, -1.0]], dtype=torch.float64)
    y = torch.zeros(2, dtype=torch.long)
    found = attack(network, x, y, 0.1)
    torch.testing.assert_close(
        found.margin, torch.tensor([0.5, -6.5]).double(), rtol=1e-6, atol=0.0
    )
    assert found.exact.all()
    assert found.prediction.tolist() == [0, 1]
    check_consistent(network, x, y, 0.1, found)


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
@pytest.mark.parametrize("radius", [0.05, 0.3, 3.0])
def test_no_search_falls_below_the_bound_nor_far_below_the_attack(
    activation: str, radius: float
) -> None:
    network = two_layers(activation, inputs=8, width=15, classes=4, seed=2)
    x, y = random_inputs(network, 30)
    y[::7] = (y[::7] + 1) % 4  # some are misclassified to begin with
    found = attack(network, x, y, radius, steps=30, restarts=2)
    least = least_margin(network, x, y, torch.full((30,), radius, dtype=torch.float64))
    assert (found.lower_bound <= least).all()
    change = least_margin(network, x, y, torch.zeros(30, dtype=torch.float64)) - least
    assert ((found.margin - least) / change).max() < (0.05 if radius < 1.0 else 0.5)
    assert ((found.margin - least) / change).mean() < 0.02
    check_consistent(network, x, y, radius, found)
    if radius == 0.05:
        assert found.exact.double().mean() > 0.8
        assert found.evaluations[found.evaluations > 1].double().mean() < 10
    # The dual for each target, the tangents, and two runs.
    assert found.evaluations.sum(1).max() <= 3 * 30 + 3 + 2 * 30


def test_in_the_plane_a_grid_finds_nothing_below_the_bound() -> None:
    network = two_layers("tanh", inputs=2, width=8, scale=2.0, seed=4)
    x, y = random_inputs(network, 20)
    found = attack(network, x, y, 0.2)
    angle = torch.linspace(0.0, 2.0 * torch.pi, 361, dtype=torch.float64)
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    disc = torch.cat([ring * share for share in torch.linspace(0.0, 0.2, 40).double()])
    z = network.function((x[:, None] + disc).reshape(-1, 2)).reshape(20, -1, 3)
    label = y[:, None, None].expand(-1, z.shape[1], 1)
    margin = z.gather(2, label)[..., 0] - z.scatter(2, label, -torch.inf).amax(2)
    assert (found.lower_bound <= margin.amin(1)).all()
    slack = 1e-3 * (margin.amax(1) - margin.amin(1))
    assert (found.margin <= margin.amin(1) + slack).all()


def test_bounds_and_certificates_agree() -> None:
    network = two_layers("softplus", inputs=6, width=10, seed=6)
    x, y = random_inputs(network, 20)
    certificates = certify(network, x, y)
    for index in range(0, 20, 5):
        r = float(certificates.radius[index])
        row = slice(index, index + 1)
        inside = attack(network, x[row], y[row], 0.99 * r)
        assert inside.margin > 0
        assert inside.lower_bound > 0
        if certificates.exact[index]:
            assert attack(network, x[row], y[row], 1.01 * r).margin <= 0


def test_targets_restrict_the_attack() -> None:
    network = two_layers("tanh", inputs=6, width=10, classes=4, seed=8)
    x, y = random_inputs(network, 10)
    everything = attack(network, x, y, 0.3)
    one = attack(network, x, y, 0.3, targets=(y + 1) % 4)
    assert (one.target == (y + 1) % 4).all()
    assert (everything.lower_bound <= one.lower_bound + 1e-3 * one.lower_bound.abs()).all()
    assert (one.evaluations > 0).sum() == 10
    chunked = attack(network, x, y, 0.3, chunk=4)
    torch.testing.assert_close(chunked.margin, everything.margin, rtol=1e-6, atol=1e-8)


def test_a_dead_network_does_not_move() -> None:
    network = two_layers("tanh", inputs=4, width=5, dead=True)
    x, y = random_inputs(network, 3)
    found = attack(network, x, y, 1.0)
    torch.testing.assert_close(found.margin, found.lower_bound, rtol=1e-9, atol=1e-10)
    assert torch.equal(found.point, x)


def test_nan_bounds_nothing() -> None:
    flat = torch.zeros(2, 2, dtype=torch.float64)
    network = ByHand(lambda x: x * torch.nan, (2,), 2, flat, flat)
    found = attack(network, torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), 1.0)
    assert found.lower_bound.tolist() == [-torch.inf]
    assert not found.exact.any()


def test_an_empty_batch_gives_empty_attacks() -> None:
    found = attack(sphere(3), torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 1.0)
    assert found.point.shape == (0, 3)
    assert found.margin.shape == (0,)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("inf"), float("nan")])
def test_the_radius_must_be_positive_and_finite(radius: float) -> None:
    with pytest.raises(ValueError, match="radius must be positive and finite"):
        attack(sphere(3), torch.zeros(1, 3), torch.zeros(1, dtype=torch.long), radius)
