"""Training on bounds by the dual network: the certified bound, its gradient, and what it is for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import vercomp
from vercomp.core.methods.coap_loss import coap_lower_bounds
from vercomp.core.specifications import Specification
from vercomp.data import Dataset, load_data
from vercomp.errors import UsageError
from vercomp.live import LiveNetwork, live_network
from vercomp.train import Recipe, train
from vercomp.train.evaluation import certified

C = torch.eye(3, dtype=torch.float64)


def model(activation: type[nn.Module] = nn.ReLU, *, width: int = 30) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            *(nn.Linear(6, width), activation(), nn.Linear(width, width), activation()),
            nn.Linear(width, 3),
        ).double()


X = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def bounds(network: LiveNetwork, region: vercomp.Region, **options: object) -> Tensor:
    rows = Specification.of(C)
    return coap_lower_bounds(network.nodes(), region, rows, torch.float64, **options)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Hardtanh])
def test_the_loss_is_the_certified_bound(norm: str, activation: type[nn.Module]) -> None:
    """Where interval propagation cuts nothing, which small regions see to."""
    network = model(activation)
    net, live = vercomp.compile(network, (6,)), live_network(network, (6,))
    for region in (vercomp.Ball(X, 0.05, norm), vercomp.Box(X - 0.05, X + 0.02)):
        proved = net.bound(region, C, methods=["coap"])
        assert torch.allclose(bounds(live, region), proved, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("options", [{}, {"projections": 9}], ids=["exact", "projected"])
def test_gradients_reach_every_parameter(norm: str, options: dict[str, int]) -> None:
    """Finite differences along a random direction, of ReLUs: slopes and intervals move, too."""
    network = model()
    live = live_network(network, (6,))
    region = vercomp.Ball(X, 0.1, norm)
    parameters = list(network.parameters())

    def value() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return bounds(live, region, generator=generator, **options).sum()

    gradients = torch.autograd.grad(value(), parameters)
    generator = torch.Generator().manual_seed(2)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        way = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        ends = []
        with torch.no_grad():
            for step in (1e-7, -1e-7):
                parameter.add_(way, alpha=step)
                ends.append(value())
                parameter.sub_(way, alpha=step)
        slope = float(ends[0] - ends[1]) / 2e-7
        # The slope of a decided unit's strip is a number that rounding may move: two per cent.
        assert float((gradient * way).sum()) == pytest.approx(slope, rel=0.03, abs=1e-3)


def test_many_projections_come_near_the_exact_bound() -> None:
    live = live_network(model(width=60), (6,))
    for norm in ("linf", "l2"):
        region = vercomp.Ball(X, 0.1, norm)
        exact = bounds(live, region).detach()
        off = [
            float((bounds(live, region, projections=count).detach() - exact).abs().mean())
            for count in (5, 501)
        ]
        assert off[1] < 0.3 * off[0]


def test_convolutions_skips_and_pools_train() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, padding=1)
            self.second = nn.Conv2d(2, 2, 3, padding=1)
            self.out = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            a = nn.functional.relu(self.conv(x))
            b = nn.functional.relu(self.second(a) + a)
            return self.out(nn.functional.max_pool2d(b, 2).flatten(1))

    network = Block().double()
    graph = live_network(network, (1, 4, 4)).nodes()
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    region = vercomp.Ball(x, 0.02, "linf")
    found = coap_lower_bounds(graph, region, Specification.of(C), torch.float64)
    proved = vercomp.compile(network, (1, 4, 4)).bound(region, C, methods=["coap"])
    # Certificates cut intervals with interval propagation, which moves slopes as well.
    assert (proved - found).abs().max() < 0.01
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


RADIUS = 0.12


def digits(count: int) -> Dataset:
    return load_data("digits:train", (64,), count)


@pytest.mark.parametrize("projections", [0, 15])
def test_training_certifies_more_than_without(projections: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    data = digits(200)
    common = {"radius": RADIUS, "norm": "linf", "epochs": 8, "evaluate_every": 8}
    numbers = {"projections": projections}
    recipe = Recipe(method="coap", numbers=numbers, **common)
    found = train(copy.deepcopy(network), data, recipe, input_shape=(64,))
    last = found.history[-1]
    assert last["validation_curvature"] is None
    scores = certified(found.network, data.x, data.y, RADIUS, decide=True, norm="linf")
    plain = copy.deepcopy(network)
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.005)
    for _ in range(120):
        optimiser.zero_grad()
        nn.functional.cross_entropy(plain(data.x), data.y).backward()
        optimiser.step()
    other = vercomp.compile(plain, (64,))
    assert scores.certified_accuracy > 0.4
    assert scores.certified_accuracy > 0.1 + (
        certified(other, data.x, data.y, RADIUS, decide=True, norm="linf").certified_accuracy
    )


def test_its_numbers() -> None:
    assert Recipe(method="coap").number("projections") == 0
    assert Recipe(method="coap").held == pytest.approx(1 / 3)
    with pytest.raises(UsageError, match="projections must be at least 0"):
        Recipe(method="coap", numbers={"projections": -1})
