"""Intervals cut with linear bounds: nothing leaves them, and they are narrower."""

from __future__ import annotations

import pytest
import torch
from graph_table import GRAPHS
from graphs import emit, residual
from linear_bounds import KINDS, region_of

from vercomp.core.arithmetic.operations import Interval
from vercomp.core.domains.intervals import intervals
from vercomp.core.domains.refined_intervals import RefinedIntervals, relax
from vercomp.core.domains.values import Values
from vercomp.core.graph import Graph
from vercomp.core.network import VerifiedNetwork
from vercomp.core.regions.region import Region
from vercomp.core.walk import forward


def prepared(name: str, kind: str) -> tuple[VerifiedNetwork, Graph, Region]:
    network = emit(GRAPHS[name]()).network
    generator = torch.Generator().manual_seed(0)
    center = torch.randn(2, *network.input_shape, generator=generator, dtype=torch.float64)
    return network, network.in_double()[1], region_of(kind, center, 0.4)


def left(graph: Graph, found: dict[str, Interval], region: Region) -> int:
    """How many entries of nodes leave their intervals at points of the region."""
    generator = torch.Generator().manual_seed(1)
    size = region.center.shape[1]
    normal = torch.randn(len(region), 24, size, generator=generator, dtype=torch.float64)
    points = torch.cat([region.sample(24, generator), region.argmin(normal).reshape(
        len(region), 24, *region.shape)], 1)  # fmt: skip
    count = 0
    for row in range(len(region)):
        at = forward(Values(points[row]), graph)
        for node in graph.nodes:
            low, high = (end[row] for end in found[node.name])
            value = at[node.name].flatten(1)
            slack = 1e-9 * (1.0 + value.abs())
            count += int(((value < low - slack) | (value > high + slack)).sum())
    return count


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("kind", ["l1", "l2", "linf", "l2 slab and box"])
def test_every_node_stays_in_its_interval(name: str, kind: str) -> None:
    _, graph, region = prepared(name, kind)
    found = relax(graph, region).intervals
    assert left(graph, found, region) == 0
    plain = intervals(graph, region)
    for node in graph.nodes:
        assert (found[node.name].lower >= plain[node.name].lower - 1e-9).all()
        assert (found[node.name].upper <= plain[node.name].upper + 1e-9).all()


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_narrower(kind: str) -> None:
    network = emit(residual(3, ["tanh", "gelu", "softplus", "silu"])).network
    graph = network.in_double()[1]
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    region = region_of(kind, x, 0.5)
    found, plain = relax(graph, region).intervals, intervals(graph, region)
    last = "a3"
    assert left(graph, found, region) == 0
    widths = [(node[last].upper - node[last].lower).mean() for node in (found, plain)]
    assert widths[0] < 0.9 * widths[1]


def test_an_interval_that_is_too_narrow_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    _, graph, region = prepared("skips", "linf")
    kept = RefinedIntervals._kept

    def narrowed(domain: RefinedIntervals, name: str, interval: Interval) -> Interval:
        lower, upper = interval
        return kept(domain, name, Interval(lower + 0.1 * (upper - lower), upper))

    monkeypatch.setattr(RefinedIntervals, "_kept", narrowed)
    assert left(graph, relax(graph, region).intervals, region) > 0


def test_larger_regions_have_larger_intervals() -> None:
    network = emit(residual(3, ["tanh", "sigmoid", "softplus"])).network
    graph = network.in_double()[1]
    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = None
    for radius in (0.01, 0.1, 0.3, 1.0):
        found = relax(graph, region_of("l2", x, radius)).intervals[graph.output]
        if before is not None:
            assert (found.lower <= before.lower + 1e-9).all()
            assert (found.upper >= before.upper - 1e-9).all()
        before = found
