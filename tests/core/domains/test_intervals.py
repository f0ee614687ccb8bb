"""Interval propagation: by hand, and against points of the region."""

from __future__ import annotations

import math

import pytest
import torch
from graph_table import GRAPHS
from graphs import chain, emit
from torch import nn

import vercomp
from vercomp.core.domains.intervals import RowNorms, intervals
from vercomp.core.domains.values import Values
from vercomp.core.regions.constructors import Ball, Box
from vercomp.core.walk import forward

CENTER = torch.tensor([[1.0, 2.0]], dtype=torch.float64)


def by_hand() -> nn.Sequential:
    """relu(x₁ − x₂, x₁ + x₂) summed: all intervals are whole numbers."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
        model[2].weight.copy_(torch.tensor([[1.0, 1.0]]))
        model[2].bias.fill_(0.5)
    return model


@pytest.mark.parametrize(
    ("p", "hidden"),
    [
        ("linf", [[-3.0, 1.0], [1.0, 5.0]]),
        ("l1", [[-2.0, 0.0], [2.0, 4.0]]),
        (
            "l2",
            [[-1.0 - math.sqrt(2.0), math.sqrt(2.0) - 1.0], [3 - math.sqrt(2), 3 + math.sqrt(2)]],
        ),
    ],
)
def test_a_ball_of_radius_one_by_hand(p: str, hidden: list[list[float]]) -> None:
    """A_i x₀ ± ‖A_i‖_*: for l1 the largest entry, for l2 the length, for l∞ the sum."""
    network = vercomp.compile(by_hand(), (2,)).network
    _, graph = network.in_double()
    found = intervals(graph, Ball(CENTER, 1.0, p))
    first = found[graph.nodes[1].name]
    wanted = torch.tensor(hidden, dtype=torch.float64)
    torch.testing.assert_close(torch.stack([first.lower[0], first.upper[0]], 1), wanted)
    assert (first.lower[0] <= wanted[:, 0]).all()
    output = found[graph.output]
    torch.testing.assert_close(output.upper[0], wanted[:, 1].clamp_min(0.0).sum()[None] + 0.5)
    torch.testing.assert_close(output.lower[0], wanted[:, 0].clamp_min(0.0).sum()[None] + 0.5)


def test_a_box_cuts_a_ball() -> None:
    network = vercomp.compile(by_hand(), (2,)).network
    _, graph = network.in_double()
    found = intervals(graph, Ball(CENTER, 1.0, "linf", box=(0.5, 2.0)))[graph.nodes[1].name]
    torch.testing.assert_close(found.lower, torch.tensor([[-1.5, 1.5]], dtype=torch.float64))
    torch.testing.assert_close(found.upper, torch.tensor([[1.0, 4.0]], dtype=torch.float64))


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("p", ["l1", "l2", "linf", "box"])
def test_every_node_stays_in_its_interval(name: str, p: str) -> None:
    network = emit(GRAPHS[name]()).network
    _, graph = network.in_double()
    generator = torch.Generator().manual_seed(0)
    shape = tuple(network.input_shape)
    center = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    radius = torch.tensor([0.0, 0.3, 2.0], dtype=torch.float64)
    each = radius.reshape(-1, *(1,) * len(shape))
    region = Box(center - each, center + each) if p == "box" else Ball(center, radius, p)
    found = intervals(graph, region)
    points = region.sample(40, generator)
    for row in range(3):
        at = forward(Values(points[row]), graph)
        for node in graph.nodes:
            low, high = found[node.name].lower[row], found[node.name].upper[row]
            value = at[node.name].flatten(1)
            slack = 1e-9 * (1.0 + value.abs())
            assert (value >= low - slack).all(), node.name
            assert (value <= high + slack).all(), node.name


def test_norms_of_rows_are_computed_once_for_a_kind_of_ball() -> None:
    network = emit(chain(0, [4, 6, 3], ["tanh"])).network
    _, graph = network.in_double()
    term = graph.nodes[1].terms[0]  # type: ignore[attr-defined]
    rows = RowNorms()
    ball = Ball(torch.zeros(1, 4), 1.0)
    first = rows.of(term, ball)
    assert first is rows.of(term, ball)
    assert first is not None
    exact = term.map.materialise().norm(dim=1)
    assert (first >= exact).all()
    torch.testing.assert_close(first, exact, rtol=1e-12, atol=0.0)
