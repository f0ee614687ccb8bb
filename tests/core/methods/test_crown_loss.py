"""Linear bounds as a loss: the value is the proved one, and a gradient step raises it."""

from __future__ import annotations

import pytest
import torch
from dags import random_dag
from graphs import chain, emit
from linear_bounds import margins, region_of
from torch import nn

import vercomp
from vercomp.core.domains.intervals import intervals
from vercomp.core.domains.linear_forms import Lines
from vercomp.core.domains.refined_intervals import Relaxation
from vercomp.core.graph import Activate
from vercomp.core.methods.crown_loss import crown_lower_bounds
from vercomp.core.network import VerifiedNetwork
from vercomp.core.regions.region import Region
from vercomp.core.relaxation.lines import lower_line, upper_line
from vercomp.core.specifications import Specification


def proved(network: VerifiedNetwork, region: Region, rows: Specification) -> torch.Tensor:
    """The bounds by lines over intervals from interval propagation alone, proved."""
    graph = network.in_double()[1]
    found = intervals(graph, region)
    lines = {
        node.name: Lines(
            lower_line(node.function, *found[node.parent]),
            upper_line(node.function, *found[node.parent]),
        )
        for node in graph.nodes
        if isinstance(node, Activate)
    }
    relaxation = Relaxation(graph, region, found, lines)
    return relaxation.lower_bounds(graph.output, rows.coefficients) + rows.offsets


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["linf", "box"])
def test_its_value_is_the_proved_bound_but_for_rounding(seed: int, kind: str) -> None:
    case = random_dag(seed, batch=2)
    network = vercomp.compile(case.module, tuple(case.x.shape[1:])).network.double()
    rows = Specification.of(margins(case.y, network.classes))
    region = region_of(kind, case.x, 0.1, seed)
    loss = crown_lower_bounds(network, region, rows)
    torch.testing.assert_close(loss, proved(network, region, rows), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU])
@pytest.mark.parametrize("kind", ["l1", "l2", "linf"])
def test_a_gradient_step_raises_the_bound(kind: str, activation: type[nn.Module]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(4, 16), activation(), nn.Linear(16, 16), activation(), nn.Linear(16, 3)
        )
    network = vercomp.compile(model, (4,)).network
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    rows = Specification.of(margins(model(x).argmax(1), 3))
    region = region_of(kind, x, 0.1)
    first = float(crown_lower_bounds(network, region, rows).detach().mean())
    for _ in range(3):
        network.zero_grad()
        loss = -crown_lower_bounds(network, region, rows).mean()
        loss.backward()
        with torch.no_grad():
            for parameter in network.parameters():
                assert parameter.grad is not None
                parameter -= 0.05 * parameter.grad
    assert crown_lower_bounds(network, region, rows).mean() > first + 1e-3
    bounds = proved(network, region, rows)
    assert float(bounds.mean()) > first


def test_its_gradient_is_that_of_the_bound() -> None:
    network = emit(chain(1, [3, 5, 4], ["tanh"])).network.double()
    x = torch.zeros(2, 3, dtype=torch.float64)
    region = region_of("linf", x, 0.2)
    rows = Specification.of(torch.eye(4, dtype=torch.float64))
    bias = list(network.parameters())[-1]
    value = crown_lower_bounds(network, region, rows).sum()
    (gradient,) = torch.autograd.grad(value, bias)
    with torch.no_grad():
        bias += 1e-6
        after = crown_lower_bounds(network, region, rows).sum()
    assert abs(float(after - value.detach()) / 1e-6 - float(gradient.sum())) < 1e-4
