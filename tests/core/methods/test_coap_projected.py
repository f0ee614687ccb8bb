"""The method ``coap-projected``: coverage of whole certificates, and how δ is shared out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from linear_bounds import least_values, margins, region_of
from torch import Tensor, nn

import vercomp
from vercomp.cli import cli
from vercomp.core import projections
from vercomp.core.chance import Chance
from vercomp.core.domains.dual_network import ProjectedIntervals
from vercomp.core.domains.intervals import RowNorms, intervals
from vercomp.core.graph import Affine
from vercomp.core.methods.coap import ProjectedCoap
from vercomp.core.methods.portfolio import usual_methods
from vercomp.core.projections import Law, Projection
from vercomp.core.regions.region import Region
from vercomp.core.specifications import Specification
from vercomp.core.walk import forward

FEW = Projection(columns=8)
"""So few products that the small layers of these tests are estimated, and fail now and then."""


def three_layers(seed: int = 0, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Linear(3, 12), activation(), nn.Linear(12, 12), activation()),
            *(nn.Linear(12, 12), activation(), nn.Linear(12, 3)),
        )


def estimated(
    net: vercomp.CompiledNetwork, region: Region, chance: Chance, projection: Projection = FEW
) -> ProjectedIntervals:
    graph = net.network.in_double()[1]
    domain = ProjectedIntervals(graph, region, RowNorms(), projection, chance)
    forward(domain, graph)
    return domain


def failed(domain: ProjectedIntervals) -> Tensor:
    """Whether an interval of a row is narrower than that of its own lines, (B,)."""
    relaxation = domain.relaxation
    plain = intervals(relaxation.graph, relaxation.region)
    found = torch.zeros(len(relaxation.region), dtype=torch.bool)
    for node in relaxation.graph.nodes:
        if isinstance(node, Affine) and domain._is_estimated(node):
            kept = relaxation.intervals[node.name]
            everything = torch.ones_like(kept.lower, dtype=torch.bool)
            low, high = relaxation.entry_bounds(node, everything)
            # Interval propagation, over intervals that were estimated, is as sound as they are.
            low = torch.maximum(low, plain[node.name].lower)
            high = torch.minimum(high, plain[node.name].upper)
            found |= ((kept.lower > low + 1e-9) | (kept.upper < high - 1e-9)).any(1)
    return found


def shares(norm: str, failure: float, draws: int) -> Tensor:
    """How often an interval of each of three inputs failed."""
    net = vercomp.compile(three_layers(), (3,))
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    region = vercomp.Ball(x, torch.tensor([0.05, 0.3, 1.0]), norm)
    total = torch.zeros(3)
    for seed in range(draws):
        total += failed(estimated(net, region, Chance(failure, seed)))
    return total / draws


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_whole_certificates_fail_as_seldom_as_they_say(norm: str) -> None:
    assert (shares(norm, 0.4, 30) <= 0.4).all()


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_whole_certificates_fail_as_seldom_as_they_say_over_thousands_of_draws(norm: str) -> None:
    assert (shares(norm, 0.05, 1000) <= 0.05).all()
    share = shares(norm, 0.5, 2000)
    assert (share <= 0.5).all()
    assert share.max() > 0.0  # not so careful that the test could not notice


def test_coverage_notices_estimates_that_are_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "geometric_factor", lambda columns, failure: 1.0)
    assert (shares("linf", 0.4, 10) > 0.4).any()


@pytest.mark.parametrize(
    ("norm", "activation"), [("linf", nn.GELU), ("l2", nn.Hardtanh), ("l1", nn.ReLU)]
)
def test_no_attack_finds_less(norm: str, activation: type[nn.Module]) -> None:
    """With a confidence that leaves nothing to be seen."""
    model = three_layers(1, activation)
    net = vercomp.compile(model, (3,))
    net.network.methods = (ProjectedCoap(Projection(16)),)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    rows = margins(model(x).argmax(1), 3)
    model = model.double()
    for kind in (norm, f"{norm} slab and box"):
        for radius in (0.02, 0.4):
            region = region_of(kind, x, radius)
            bounds = net.bound(region, rows, methods=["coap-projected"], confidence=1.0 - 1e-9)
            assert bounds.isfinite().all()
            assert (least_values(model, region, rows, samples=32) >= bounds).all()


def test_many_products_come_near_the_exact_intervals() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Linear(5, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 2))
        )
    net = vercomp.compile(model, (5,))
    region = vercomp.Ball(torch.randn(1, 5), 0.1, "linf")
    widths = []
    for columns in (16, 64, 256):
        domain = estimated(net, region, Chance(1e-3, 0), Projection(columns))
        node = next(
            n
            for n in domain.graph.nodes
            if isinstance(n, Affine) and len(n.parents) == 1 and domain._is_estimated(n)
        )
        everything = torch.ones(1, 200, dtype=torch.bool)
        low, high = domain.relaxation.entry_bounds(node, everything)
        kept = domain.relaxation.intervals[node.name]
        widths.append(float(((kept.upper - kept.lower) / (high - low)).mean()))
    assert widths[0] > widths[1] > widths[2]
    assert 1.0 < widths[2] < 2.0


def test_narrow_layers_are_bounded_exactly() -> None:
    """What is few rows costs no more than projections: nothing is left to chance there."""
    net = vercomp.compile(three_layers(), (3,))
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    region = vercomp.Ball(x, 0.2, "linf")
    exact = net.bound(region, torch.eye(3), methods=["coap"])
    found = net.bound(region, torch.eye(3), methods=["coap-projected"])
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)


def test_results_depend_on_the_seed_and_not_on_what_shares_a_batch() -> None:
    net = vercomp.compile(three_layers(), (3,))
    net.network.methods = (ProjectedCoap(FEW),)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

    def bounds(points: Tensor, seed: int) -> Tensor:
        region = vercomp.Ball(points, 0.3, "linf")
        return net.bound(region, torch.eye(3), methods=["coap-projected"], seed=seed)

    whole = bounds(x, 1)
    alone = torch.cat([bounds(point[None], 1) for point in x])
    torch.testing.assert_close(whole, alone, rtol=1e-9, atol=1e-9)
    assert not torch.equal(whole, bounds(x, 2))


def test_estimates_are_counted_and_every_layer_draws_anew() -> None:
    net = vercomp.compile(three_layers(), (3,))
    for norm, laws in (("linf", 1), ("l2", 2)):
        region = vercomp.Ball(torch.zeros(1, 3), 0.3, norm)
        domain = estimated(net, region, Chance(0.5, 0), Projection(4))
        # The first layer is tight; two layers of twelve units are estimated.
        assert domain.failure == pytest.approx(0.5 / (24 * laws))
    nodes = [n for n in domain.graph.nodes if isinstance(n, Affine) and domain._is_estimated(n)]
    assert len(nodes) == 2
    drawn = [Law.CAUCHY.draw(2, 2, domain._generator(node)) for node in nodes]
    assert not torch.equal(*drawn)


def test_trials_of_a_search_share_what_may_fail() -> None:
    chance = Chance(0.01, 5)
    trials = [chance.of_trial(number) for number in range(1, 200)]
    assert math.fsum(trial.failure for trial in trials) <= 0.01
    assert len({trial.seed for trial in trials}) == len(trials)


class Seen(ProjectedCoap):
    """Keeps the chances that it was given."""

    def probable_bound(self, network, region, specification, chance):
        self.__dict__.setdefault("chances", []).append(chance)
        return super().probable_bound(network, region, specification, chance)


def test_radii_are_probable_and_what_interval_propagation_proves_is_not_above() -> None:
    model = three_layers()
    net = vercomp.compile(model, (3,))
    assert "coap-projected" not in usual_methods(net.network)
    seen = Seen(FEW)
    net.network.methods = (seen,)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    y[0] = (y[0] + 1) % 3
    found = net.certify(x, y, norm="linf", methods=["coap-projected"], confidence=0.99)
    assert not found.proved
    assert found.radius[0] == 0.0
    assert (found.radius[1:] > 0.0).all()
    assert found.failure_probability[0] == 0.0
    torch.testing.assert_close(found.failure_probability[1:], torch.full((3,), 0.01).double())
    assert math.fsum(chance.failure for chance in seen.chances) <= 0.01
    assert len(set(seen.chances)) == len(seen.chances) > 3
    rows = Specification.of(torch.eye(3, dtype=torch.float64))
    region = vercomp.Ball(x, 0.1, "linf")
    proved = seen.bound(net.network, region, rows)
    assert (proved <= seen.probable_bound(net.network, region, rows, Chance(0.01, 0)) + 1e-9).all()


def test_the_command_line_says_that_nothing_is_proved(tmp_path: Path) -> None:
    model = three_layers()
    vercomp.compile(model, (3,)).save(tmp_path / "package")
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=model(x).argmax(1).numpy())
    command = ["certify", str(tmp_path / "package"), "--data", str(tmp_path / "data.npz")]
    command += ["--norm", "linf", "--radius", "1e-3", "--methods", "coap-projected"]
    chance = ["--confidence", "0.97", "--jointly", "--json", "-"]
    result = CliRunner().invoke(cli, [*command, *chance])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["evidence"] == "probable"
    assert found["certified_accuracy"] is None
    assert found["probably_certified_accuracy"] == 1.0
    assert found["confidence"] == pytest.approx(1.0 - 0.03 / 6)
    assert found["confidence_of_all"] == pytest.approx(0.97)
    table = CliRunner().invoke(cli, command).stdout
    assert "probably certified accuracy at radius 0.001" in table
    assert "nothing is proved: each certificate holds with probability" in table
    assert "  certified accuracy" not in table
