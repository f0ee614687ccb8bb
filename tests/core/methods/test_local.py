"""The methods ``local`` and ``lipschitz``: no attack or grid point enters a radius."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from attacks import least_margin, least_margin_on_grid
from dags import random_dag
from linear_bounds import KINDS, least_values, margins, region_of
from local_networks import SMOOTH, Draw
from torch import Tensor, nn

import vercomp
from vercomp.core.local.shells import Shells
from vercomp.core.methods.local import LocalCurvatures
from vercomp.core.methods.local_search import InputSearch
from vercomp.core.methods.portfolio import certify, usual_methods
from vercomp.features import METHODS


def radii(draw: Draw, count: int, method: str = "local") -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, predictions, and their radii."""
    x = draw.normal(count, draw.graph.nodes[0].shape[0])
    y = draw.values(x).argmax(1)
    network = draw.view()
    with network.held():
        return x, y, certify(network, x, y, methods=[method]).radius


def false_radii(seeds: Sequence[int], *, inputs: int | None = 2, method: str = "local") -> int:
    """How many of the radii are entered: a dense grid in the plane, attacks in more dimensions."""
    false = 0
    for seed in seeds:
        draw = Draw(seed, inputs or 2 + seed % 4, skips=seed % 2 == 1, outputs=2 + seed % 2)
        x, y, radius = radii(draw, 2, method)
        search = least_margin_on_grid if x.shape[1] == 2 else least_margin
        options = {} if x.shape[1] == 2 else {"starts": 4, "steps": 20}
        worst = search(draw.values, x, y, radius, **options)
        false += int(((worst < 0.0) & (radius > 0.0)).sum())
    return false


@pytest.mark.parametrize("method", ["local", "lipschitz"])
def test_no_grid_point_enters_a_certified_disc(method: str) -> None:
    assert false_radii(range(4), method=method) == 0


def test_no_attack_enters_a_certified_ball() -> None:
    assert false_radii(range(100, 104), inputs=None) == 0


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 2000, 250))
def test_no_radius_of_thousands_of_networks_is_entered(start: int) -> None:
    assert false_radii(range(start, start + 250), inputs=None) == 0


def _inner(cls: type[Shells], radii: Sequence[float], bounds: Sequence[float]) -> Shells:
    """An inner ball's κ for its outer shell."""
    return cls(tuple(radii), tuple(max(0.0, b) for b in [*bounds[:1], *bounds[:-1]]))


def _outside(self: InputSearch, shells: Shells, pair: object, point: Tensor) -> object:
    """A cut at a point beyond the largest ball, as if the last κ still held there."""
    wider = Shells((*shells.radii, 1e3), (*shells.curvatures, shells.curvatures[-1]))
    return _cut(self, wider, pair, self.x0 + 3.0 * (point - self.x0))  # type: ignore[arg-type]


def _nowhere(self: Shells, s: float) -> float:
    """Φ left out."""
    return 0.0


_cut = InputSearch._cut


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (Shells, "of", classmethod(_inner)),
        (InputSearch, "_cut", _outside),
        (Shells, "moment", _nowhere),
        (Shells, "ray", _nowhere),
    ],
    ids=["the inner ball's curvature", "a point outside", "no moment", "no bend"],
)
def test_what_is_broken_is_noticed(
    owner: type, name: str, broken: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, broken)
    assert any(false_radii([seed]) for seed in (5, 6, 31, 35, 46, 14))


@pytest.mark.parametrize("method", ["local", "lipschitz"])
@pytest.mark.parametrize("seed", range(2))
def test_no_attack_finds_less_on_random_graphs(seed: int, method: str) -> None:
    """Skips, concatenations, shared weights, convolutions, in every kind of region."""
    case = random_dag(seed, batch=2)
    net = vercomp.compile(case.module, tuple(case.x.shape[1:]))
    module = case.module.double()
    rows = margins(case.y, net.network.classes)
    for kind in KINDS:
        region = region_of(kind, case.x, 0.1, seed)
        bounds = net.bound(region, rows, methods=[method])
        assert (least_values(module, region, rows, samples=32) >= bounds).all()
        if kind in ("l2", "linf", "l1"):
            assert bounds.isfinite().all()


def test_saturated_neurons_bend_less_than_the_global_bound_says() -> None:
    """The nearest point is where both coordinates meet, at 6.5."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
    net = vercomp.compile(model, (2,))
    x, y = torch.tensor([[6.0, 7.0]]), torch.tensor([1])
    certificate = net.certify(x, y)
    assert 0.999 * 0.5**0.5 < float(certificate.radius) <= 0.5**0.5
    assert certificate.method == ("local",)
    assert float(net.certify(x, y, methods=["curvature"]).radius) < 0.3


def test_a_radius_that_is_asked_about_is_decided_and_no_more() -> None:
    draw = Draw(3, 3, (nn.Softplus,))
    x, y, radius = radii(draw, 4)
    network = draw.view()
    for share in (0.5, 2.0):
        for row in range(len(x)):
            if radius[row] == 0.0 or not radius[row].isfinite():
                continue
            asked = share * float(radius[row])
            one = slice(row, row + 1)
            found = certify(network, x[one], y[one], methods=["local"], radius=asked, decide=True)
            assert bool(found.certified) == (share < 1.0)
            assert float(found.radius) <= max(asked * (1.0 + 1e-6), float(radius[row]) * 1.05)


def test_an_l1_ball_lies_in_the_l2_ball_and_nothing_is_said_of_others() -> None:
    draw = Draw(5, 3, (nn.Sigmoid,))
    network = draw.view()
    x = draw.normal(2, 3)
    y = draw.values(x).argmax(1)
    found = {
        n: certify(network, x, y, norm=n, methods=["local"]).radius for n in ("l1", "l2", "linf")
    }
    assert torch.equal(found["l1"], found["l2"])
    assert (found["l2"] > 0.0).all()
    assert not found["linf"].any()


def test_large_networks_are_certified_by_it_on_request() -> None:
    small = vercomp.compile(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), (4,))
    assert "local" in usual_methods(small.network)
    assert "lipschitz" not in usual_methods(small.network)
    large = vercomp.compile(nn.Sequential(nn.Linear(4, 400), nn.Tanh(), nn.Linear(400, 2)), (4,))
    assert "local" not in usual_methods(large.network)
    assert "local" in [method.name for method in large.network.methods]
    assert list(METHODS).index("local") > list(METHODS).index("crown")


def test_what_it_cannot_take_is_named() -> None:
    kinked = vercomp.compile(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), (4,))
    graph = kinked.network.in_double()[1]
    found = LocalCurvatures().requires(graph)
    assert "second derivative" in found[0].reason
    assert "lipschitz" in [method.name for method in kinked.network.methods]
    assert len(SMOOTH) > 3
