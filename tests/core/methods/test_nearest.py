"""The nearest boundary points: where they are known, in every norm, inside boxes."""

from __future__ import annotations

import pytest
import torch
from certifiables import affine, sphere
from torch import Tensor, nn

import vercomp
from vercomp.core.methods.nearest import nearest
from vercomp.core.network import VerifiedNetwork

W = torch.tensor([3.0, -4.0, 1.0], dtype=torch.float64)


def random_network(activation: type[nn.Module], seed: int) -> VerifiedNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(6, 20), activation(), nn.Linear(20, 12), activation(), nn.Linear(12, 4)
        )
        for parameter in model.parameters():
            parameter.data *= 2.0
        # No class is the largest everywhere.
        model[-1].bias.data -= model(torch.rand(100, 6)).mean(0)
    return vercomp.compile(model, (6,)).network


def norm_of(v: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm(v, {"l1": 1.0, "l2": 2.0, "linf": torch.inf}[norm], dim=-1)


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2.0), ("linf", 1.0), ("l1", torch.inf)])
def test_a_plane_is_met_where_the_dual_norm_says(norm: str, dual: float) -> None:
    network = affine(W, 2.0)
    x = torch.tensor([[0.1, -0.2, 0.3], [1.0, 1.0, 2.0]], dtype=torch.float64)
    found = nearest(network, x, torch.zeros(2, dtype=torch.long), norm=norm)
    expected = (x @ W + 2.0) / torch.linalg.vector_norm(W, dual)
    torch.testing.assert_close(found.distance[:, 0], expected, rtol=1e-4, atol=0.0)


def test_a_sphere_is_met_at_its_surface() -> None:
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True) * torch.linspace(0.1, 0.9, 10).double()[:, None]
    found = nearest(sphere(3), x, torch.zeros(10, dtype=torch.long))
    torch.testing.assert_close(found.distance[:, 0], 1.0 - x.norm(dim=1), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("activation", [nn.Softplus, nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
def test_points_are_witnesses_at_their_distance(
    activation: type[nn.Module], norm: str, box: tuple[float, float] | None
) -> None:
    network = random_network(activation, seed=1)
    x = torch.rand(12, 6, generator=torch.Generator().manual_seed(2))
    y = network(x).argmax(1)
    found = nearest(network, x, y, norm=norm, box=box)
    there = found.distance.isfinite()
    assert there.any(1).all()  # some class is met everywhere
    assert found.point.isnan().all(-1).eq(~there).all()
    away = norm_of(found.point - x.double()[:, None], norm)
    assert (away[there] <= found.distance[there]).all()
    torch.testing.assert_close(away[there], found.distance[there], rtol=1e-12, atol=0.0)
    double, _ = network.in_double()
    z = double(found.point[there])
    label, target = y[:, None].expand_as(there)[there], found.target[there]
    rows = torch.arange(len(z))
    assert (z[rows, label] <= z[rows, target]).all()
    if box is not None:
        assert ((found.point[there] >= 0.0) & (found.point[there] <= 1.0)).all()


def test_exact_certificates_leave_no_room() -> None:
    """Nothing is nearer than what is proved, and what is exact is found."""
    network = random_network(nn.Softplus, seed=3)
    x = torch.rand(20, 6, generator=torch.Generator().manual_seed(4))
    y = network(x).argmax(1)
    certificates = network.certify(x, y)
    found = nearest(network, x, y).distance.amin(1)
    assert (found >= certificates.radius).all()
    exact = certificates.exact
    assert exact.any()
    assert (found[exact] <= 1.01 * certificates.radius[exact]).all()


def test_every_input_is_searched_by_itself() -> None:
    network = random_network(nn.Tanh, seed=5)
    x = torch.rand(7, 6, generator=torch.Generator().manual_seed(6))
    y = network(x).argmax(1)
    together = nearest(network, x, y, norm="linf")
    chunked = nearest(network, x, y, norm="linf", chunk=2)
    torch.testing.assert_close(together.distance, chunked.distance, rtol=1e-3, atol=1e-6)


def test_a_misclassified_input_is_its_own_nearest_point() -> None:
    network = affine(W, -1.0)
    x = torch.zeros(1, 3)
    found = nearest(network, x, torch.zeros(1, dtype=torch.long))
    assert found.distance.tolist() == [[0.0]]
    assert torch.equal(found.point[:, 0], x.double())


def test_what_cannot_be_reached_is_infinitely_far() -> None:
    network = affine(torch.zeros(3, dtype=torch.float64), 1.0)
    found = nearest(network, torch.rand(2, 3), torch.zeros(2, dtype=torch.long))
    assert found.distance.isinf().all()
    assert found.point.isnan().all()


def test_an_empty_batch_and_wrong_questions() -> None:
    network = sphere(3)
    none = torch.zeros(0, dtype=torch.long)
    assert nearest(network, torch.zeros(0, 3), none).point.shape == (0, 1, 3)
    with pytest.raises(vercomp.VercompError, match="outside of the box"):
        nearest(network, torch.ones(1, 3), torch.zeros(1, dtype=torch.long), box=(0.0, 0.5))
    with pytest.raises(vercomp.VercompError, match="steps"):
        nearest(network, torch.ones(1, 3), torch.zeros(1, dtype=torch.long), steps=0)
