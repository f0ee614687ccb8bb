"""The method ``alpha``: never below ``crown``, never above what attacks find, optimal by hand."""

from __future__ import annotations

import pytest
import torch
from dags import random_dag
from graphs import chain, emit
from linear_bounds import least_values, margins, region_of
from torch import Tensor, nn

import vercomp
from vercomp.core.domains.refined_intervals import relax
from vercomp.core.methods import slopes
from vercomp.core.methods.alpha import Alpha
from vercomp.core.methods.crown import Crown
from vercomp.core.methods.slopes import SlopeSearch, useful_slopes
from vercomp.core.methods.touching import Touching
from vercomp.core.network import VerifiedNetwork
from vercomp.core.relaxation.minimum import least
from vercomp.core.specifications import Specification


def network(seed: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(4, 12), activation(), nn.Linear(12, 12), activation(), nn.Linear(12, 3)
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
    return model


@pytest.mark.parametrize("seed", range(4))
def test_no_attack_finds_less_on_random_graphs(seed: int) -> None:
    case = random_dag(seed, batch=2)
    net = vercomp.compile(case.module, tuple(case.x.shape[1:]))
    module = case.module.double()
    rows = margins(case.y, net.network.classes)
    for kind in ("l1", "l2 slab and box", "linf"):
        region = region_of(kind, case.x, 0.3, seed)
        bounds = net.bound(region, rows, methods=["alpha"])
        assert (bounds >= net.bound(region, rows, methods=["crown"])).all()
        assert (least_values(module, region, rows, samples=32) >= bounds).all()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.GELU, nn.Hardswish, nn.SiLU])
def test_bounds_are_tighter_and_hold(activation: type[nn.Module]) -> None:
    model = network(0, activation)
    net = vercomp.compile(model, (4,))
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    rows = margins(model(x).argmax(1), 3)
    region = region_of("linf", x, 0.4)
    crown, alpha = (net.bound(region, rows, methods=[name]) for name in ("crown", "alpha"))
    assert (alpha >= crown).all()
    least = least_values(model.double(), region, rows)
    assert (least >= alpha).all()
    assert (alpha - crown).mean() > 0.1 * (least - crown).mean()


def test_the_best_slope_by_hand() -> None:
    """relu(x) − 0.3 x on [−1, 1]: the slope 0.3 gives its minimum 0, the slopes 0 and 1 do not."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [1.0]]))
        model[0].bias.copy_(torch.tensor([0.0, 2.0]))  # the second unit is x + 2 on the interval
        model[2].weight.copy_(torch.tensor([[1.0, -0.3]]))
        model[2].bias.fill_(0.6)
    net = vercomp.compile(model, (1,))
    region = vercomp.Ball(torch.zeros(1, 1), 1.0, "linf")
    one = torch.ones(1, 1)
    assert float(net.bound(region, one, methods=["crown"])) < -0.29
    assert -0.01 < float(net.bound(region, one, methods=["alpha"])) <= 1e-6


@pytest.mark.parametrize("activation", ["sigmoid", "gelu", "softplus", "silu"])
def test_the_search_finds_what_is_proved(activation: str) -> None:
    """The search's bound in float64 is the proved one; the gradient is that of the bound."""
    emitted = emit(chain(2, [4, 9, 8, 3], [activation, activation])).network
    _, graph = emitted.in_double()
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    relaxation = relax(graph, vercomp.Ball(x, 0.5))
    found = useful_slopes(relaxation, {"a0", "a1"})
    rows = torch.eye(3, dtype=torch.float64).expand(3, -1, -1)
    search = SlopeSearch(relaxation, graph, found, rows, 10)
    proved = relaxation.lower_bounds(graph.output, rows, search.proved_lines)
    assert (proved <= search.bounds + 1e-9).all()
    assert (search.bounds - proved <= 1e-4).all()
    begun = SlopeSearch(relaxation, graph, found, rows, 1)
    torch.testing.assert_close(
        begun.bounds, relaxation.lower_bounds(graph.output, rows), rtol=1e-4, atol=1e-4
    )
    for leaf in begun.shares.values():
        leaf.copy_(torch.full_like(leaf, 0.4)).requires_grad_()
    value = begun._bounds(rows)
    (gradient,) = torch.autograd.grad(value.sum(), begun.shares["a0"])
    side, row, unit = (int(i) for i in torch.nonzero(gradient[:, 0] != 0.0)[0])
    ends = []
    start = begun.shares
    for step in (1e-5, -1e-5):
        moved = {name: leaf.detach().clone() for name, leaf in start.items()}
        moved["a0"][side, 0, row, unit] += step
        begun.shares = moved
        ends.append(begun._bounds(rows).sum())
    slope = float(ends[0] - ends[1]) / 2e-5
    assert abs(slope - float(gradient[side, 0, row, unit])) <= 1e-3 * (1.0 + abs(slope))


def test_places_where_lines_touch_follow_slopes() -> None:
    emitted = emit(chain(0, [2, 3, 2], ["gelu"])).network
    node = emitted.in_double()[1].node("a0")
    function = node.function  # type: ignore[union-attr]
    generator = torch.Generator().manual_seed(0)
    lower = -3.0 * torch.rand(2, 1, 200, generator=generator, dtype=torch.float64)
    upper = lower + 4.0 * torch.rand(2, 1, 200, generator=generator, dtype=torch.float64)
    touching = Touching(function, lower, upper)
    slope = torch.rand(2, 5, 200, generator=generator, dtype=torch.float64) - 0.1
    below = torch.rand(2, 5, 200, generator=generator) > 0.5
    for _ in range(6):
        slope = slope + 0.02
        place, value = touching.at(slope, below)
        for sign, here in ((1.0, below), (-1.0, ~below)):
            ends = (end.expand_as(slope)[here] for end in (lower, upper))
            truth = least(function, sign * slope[here], *ends, sign=sign).value
            reached = sign * (value - slope * place)[here]
            assert (reached >= truth - 1e-12).all()
            assert (reached - truth).quantile(0.95) < 1e-4


def test_bounds_do_not_depend_on_what_shares_a_batch() -> None:
    emitted = emit(chain(3, [4, 9, 8, 5], ["gelu", "sigmoid"])).network.double()
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = Specification.of(torch.eye(5, dtype=torch.float64))
    whole = Alpha().bound(emitted, vercomp.Ball(x, 0.3), rows)
    one = [Alpha().bound(emitted, vercomp.Ball(x[i : i + 1], 0.3), rows) for i in range(4)]
    torch.testing.assert_close(torch.cat(one), whole, rtol=1e-4, atol=1e-4)


def test_intercepts_that_are_not_proved_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the last word is a search's, attacks refute bounds."""
    model = network(2, nn.Sigmoid)
    emitted: VerifiedNetwork = vercomp.compile(model, (4,)).network
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    rows = margins(model(x).argmax(1), 3)
    module = model.double()
    region = region_of("linf", x, 0.05)

    def refuted() -> int:
        bounds = Alpha().bound(emitted, region, Specification.of(rows))
        return int((least_values(module, region, rows) < bounds).sum())

    assert refuted() == 0
    honest = slopes.least

    def raised(*arguments: Tensor, **options: object) -> object:
        found = honest(*arguments, **options)  # type: ignore[arg-type]
        return found._replace(value=found.value + 0.02)

    monkeypatch.setattr(slopes, "least", raised)
    assert refuted() > 0


def test_it_answers_where_it_is_named() -> None:
    model = network(1)
    net = vercomp.compile(model, (4,))
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    assert "alpha" not in net.certify(x, y, norm="linf").method
    both = net.certify(x, y, norm="linf", methods=["crown", "alpha"])
    crown = net.certify(x, y, norm="linf", methods=["crown"])
    assert (both.radius >= crown.radius).all()
    assert "alpha" in both.method
    region = vercomp.Ball(x, both.radius * (1.0 - 1e-9), "linf")
    rows = margins(y, 3)
    assert (least_values(model.double(), region, rows) > 0.0).all()
    assert isinstance(Alpha(), Crown)
