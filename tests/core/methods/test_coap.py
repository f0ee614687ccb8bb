"""The methods ``coap``: attacked, equal to linear programs and to the papers' own algorithm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dags import random_dag
from linear_bounds import KINDS, least_values, margins, region_of
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor, nn
from torch.nn import functional as F

import vercomp
from vercomp.core.domains import dual_network, refined_intervals
from vercomp.core.domains.dual_network import DualIntervals
from vercomp.core.domains.intervals import RowNorms
from vercomp.core.domains.refined_intervals import Relaxation
from vercomp.core.graph import Activate, Affine
from vercomp.core.methods.coap import Coap
from vercomp.core.methods.portfolio import usual_methods
from vercomp.core.relaxation.lines import Line
from vercomp.core.relaxation.minimum import least
from vercomp.core.relaxation.parallel import Strip, chord_slope, narrowest_strip
from vercomp.core.specifications import Specification
from vercomp.core.walk import forward

Array = NDArray[np.float64]


class EveryKind(nn.Module):
    """Skips that run over several layers, a concatenation, a pool, and activations of all kinds."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first = nn.Conv2d(1, 2, 3, padding=1)
            self.norm = nn.BatchNorm2d(2)
            self.second = nn.Conv2d(2, 2, 3, padding=1, bias=False)
            self.last = nn.Linear(6 * 4 + 16, 3)
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.norm(self.first(x)))
        b = F.hardtanh(self.second(a) + a)
        c = torch.cat([a - b, F.leaky_relu(b), torch.sigmoid(a)], 1)
        return self.last(torch.cat([F.max_pool2d(c, 2).flatten(1), (2.0 * x).flatten(1)], 1))


def every_kind(seed: int = 0) -> tuple[nn.Module, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return EveryKind(seed).eval(), torch.randn(2, 1, 4, 4, generator=generator)


def relaxed(net: vercomp.CompiledNetwork, region: vercomp.Region) -> Relaxation:
    graph = net.network.in_double()[1]
    domain = DualIntervals(graph, region, RowNorms())
    forward(domain, graph)
    return domain.relaxation


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_attack_finds_less_on_random_graphs(seed: int) -> None:
    case = random_dag(seed, batch=2)
    net = vercomp.compile(case.module, tuple(case.x.shape[1:]))
    rows = margins(case.y, net.network.classes)
    module = case.module.double()
    for kind in KINDS:
        region = region_of(kind, case.x, 0.3, seed)
        bounds = net.bound(region, rows, methods=["coap"])
        assert bounds.isfinite().all()
        assert (least_values(module, region, rows, samples=32) >= bounds).all()
        assert (bounds >= net.bound(region, rows, methods=["interval"])).all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_attack_finds_less_where_every_kind_of_node_meets(kind: str) -> None:
    model, x = every_kind()
    net = vercomp.compile(model, (1, 4, 4))
    rows = margins(model(x).argmax(1), 3)
    model = model.double()
    for radius in (0.02, 0.3):
        region = region_of(kind, x, radius)
        bounds = net.bound(region, rows, methods=["coap"])
        lowest = least_values(model, region, rows)
        assert (lowest >= bounds).all()
        if radius == 0.02:
            assert (lowest - bounds).mean() < 0.1


def test_dense_grids_in_two_dimensions() -> None:
    side = torch.linspace(-1.0, 1.0, 301, dtype=torch.float64)
    square = torch.cartesian_prod(side, side)
    for seed, activation in enumerate((nn.ReLU, nn.Hardtanh, nn.Tanh, nn.GELU, nn.LeakyReLU)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = nn.Sequential(
                *(nn.Linear(2, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 3))
            )
        net = vercomp.compile(model, (2,))
        center = torch.randn(1, 2, generator=torch.Generator().manual_seed(seed))
        for norm, order in (("linf", torch.inf), ("l2", 2.0), ("l1", 1.0)):
            inside = square[torch.linalg.vector_norm(square, order, dim=1) <= 1.0]
            z = model.double()(center + 0.4 * inside)
            bounds = net.bound(vercomp.Ball(center, 0.4, norm), torch.eye(3), methods=["coap"])
            assert (z.amin(0) >= bounds).all()
            assert (z.amin(0) - bounds).mean() < 3.0


# ── Linear programs ───────────────────────────────────────────────────────────────────────────


def program(relaxation: Relaxation, c: Array, *, triangles: bool = False) -> float:
    """The least c·z over the relaxation, by HiGHS, for the first input of a box of inputs.

    Args:
        relaxation: Intervals and lines.
        c: The coefficients of the output.
        triangles: Whether ReLUs have the whole triangle, and intervals count.
    """
    graph, (low, high) = relaxation.graph, relaxation.region.interval()
    place, size = {}, 0
    for node in graph.nodes:
        n = int(np.prod(node.shape))
        place[node.name] = slice(size, size + n)
        size += n
    bounds: list[tuple[float | None, float | None]] = [(None, None)] * size
    bounds[: low.shape[1]] = [*zip(low[0].tolist(), high[0].tolist(), strict=True)]
    equal, equal_to, below, below_to = [], [], [], []
    for node in graph.nodes:
        if isinstance(node, Affine):
            rows = np.zeros((place[node.name].stop - place[node.name].start, size))
            rows[:, place[node.name]] = -np.eye(len(rows))
            for term in node.terms:
                rows[:, place[term.parent]] += term.map.materialise().numpy()
            bias = np.zeros(len(rows)) if node.bias is None else node.bias.value[0].numpy()
            equal.append(rows)
            equal_to.append(-bias)
        elif isinstance(node, Activate):
            for sign, slope, intercept in cuts(relaxation, node, triangles=triangles):
                rows = np.zeros((len(slope), size))
                rows[:, place[node.name]] = -sign * np.eye(len(slope))
                rows[:, place[node.parent]] += sign * np.diag(slope)
                below.append(rows)
                below_to.append(-sign * intercept)
            if triangles:
                ends = (end[0].tolist() for end in relaxation.intervals[node.parent])
                bounds[place[node.parent]] = [*zip(*ends, strict=True)]
    cost = np.zeros(size)
    cost[place[graph.output]] = c
    found = linprog(
        cost,
        np.concatenate(below) if below else None,
        np.concatenate(below_to) if below else None,
        np.concatenate(equal),
        np.concatenate(equal_to),
        bounds,
        method="highs",
    )
    assert found.status == 0, found.message
    return float(found.fun)


def cuts(
    relaxation: Relaxation, node: Activate, *, triangles: bool
) -> list[tuple[float, Array, Array]]:
    """sign·(s z + t − a) ≤ 0 as (sign, s, t)."""
    lines = relaxation.lines[node.name]
    found = [
        (sign, line.slope[0].numpy(), line.intercept[0].numpy())
        for sign, line in ((1.0, lines.below), (-1.0, lines.above))
    ]
    if triangles:
        z = relaxation.intervals[node.parent]
        low, high = node.function.first(z.lower)[0], node.function.first(z.upper)[0]
        for slope, end in ((low, z.lower[0]), (high, z.upper[0])):
            touch = node.function.value(end) - slope * end
            found.append((1.0, slope.numpy(), touch.numpy() - 1e-12))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_dual_is_the_linear_program_of_its_strips(seed: int) -> None:
    """Linear programming has no duality gap, and of a strip the dual variables are known."""
    if seed < 2:
        module, x = every_kind(seed)
    else:
        case = random_dag(seed, batch=2)
        module, x = case.module, case.x
    net = vercomp.compile(module, tuple(x.shape[1:]))
    relaxation = relaxed(net, region_of("linf", x, 0.1))
    classes = net.network.classes
    c = torch.randn(1, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    bound = float(relaxation.lower_bounds(relaxation.graph.output, c[None])[0, 0])
    optimum = program(relaxation, c[0].numpy())
    assert bound == pytest.approx(optimum, rel=1e-6, abs=1e-6)


def test_the_dual_is_no_more_than_the_triangles_program() -> None:
    for seed in range(3):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = nn.Sequential(
                *(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
            )
        x = torch.randn(1, 3, generator=torch.Generator().manual_seed(seed))
        relaxation = relaxed(vercomp.compile(model, (3,)), region_of("linf", x, 0.4))
        for c in (torch.tensor([[1.0, -1.0]]), torch.tensor([[-1.0, 1.0]])):
            rows = c[None].double()
            bound = float(relaxation.lower_bounds(relaxation.graph.output, rows)[0, 0])
            assert bound <= program(relaxation, c[0].double().numpy(), triangles=True) + 1e-7


# ── The papers' own algorithm ─────────────────────────────────────────────────────────────────


def wong_kolter(model: nn.Sequential, x: Tensor, radius: float, C: Tensor) -> Tensor:
    """Algorithm 1 of Wong and Kolter (2018) for one input of an l∞ ball: rows C of the output."""
    layers = [(part.weight.double(), part.bias.double()) for part in model[::2]]
    slopes: list[Tensor] = []
    lows: list[Tensor] = []

    def bound(rows: Tensor, count: int) -> Tensor:
        """The dual objective with ν = −rows at the value of the layer of that number."""
        nu, total = -rows, torch.zeros(len(rows), dtype=torch.float64)
        for index in reversed(range(count)):
            weight, bias = layers[index]
            total = total - nu @ bias
            nu = nu @ weight
            if index:
                nu = nu * slopes[index - 1]
                open_units = (slopes[index - 1] > 0.0) & (slopes[index - 1] < 1.0)
                low = torch.where(open_units, lows[index - 1], 0.0)
                total = total + (low * nu.clamp_min(0.0)).sum(1)
        return total - nu @ x - radius * nu.abs().sum(1)

    for index in range(len(layers) - 1):
        unit = torch.eye(len(layers[index][0]), dtype=torch.float64)
        low, high = bound(unit, index + 1), -bound(-unit, index + 1)
        slope = torch.where(low >= 0.0, 1.0, torch.where(high <= 0.0, 0.0, high / (high - low)))
        slopes.append(slope)
        lows.append(low)
    return bound(C, len(layers))


def test_sequential_networks_have_the_papers_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """To rounding (of float32), where intervals are not cut with interval propagation either."""

    def alone(self: DualIntervals, node: Affine, *parents: object) -> object:
        count = int(np.prod(node.shape))
        wide = torch.full((len(self.region), count), torch.inf, dtype=torch.float64)
        found = self._kept(node.name, refined_intervals.Interval(-wide, wide))
        ends = self.relaxation.entry_bounds(node, wide > 0.0)
        return self._kept(node.name, self._cut(found, *ends))

    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = nn.Sequential(
            *(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 3))
        )
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    net = vercomp.compile(model, (5,))
    C = torch.eye(3, dtype=torch.float64)
    for radius in (0.01, 0.1, 0.5):
        region = vercomp.Ball(x, radius, "linf")
        wanted = torch.stack([wong_kolter(model, row.double(), radius, C) for row in x])
        assert (net.bound(region, C, methods=["coap"]) >= wanted - 1e-5).all()
        with monkeypatch.context() as patch:
            patch.setattr(DualIntervals, "affine", alone)
            patch.setitem(DualIntervals._table, Affine, "affine")
            relaxation = relaxed(net, region)
        bounds = relaxation.lower_bounds(relaxation.graph.output, C[None])
        torch.testing.assert_close(bounds, wanted.detach(), rtol=1e-5, atol=1e-5)


def test_linear_relaxation_with_the_same_slope_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """CROWN with the slope u/(u − l) in the place of its adaptive slope."""
    _, x = every_kind()
    net = vercomp.compile(
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(16, 30),
            nn.ReLU(),
            *(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 3)),
        ),
        (1, 4, 4),
    )

    def fixed(function: object, lower: Tensor, upper: Tensor) -> Line:
        slope = chord_slope(function, lower, upper)
        return Line(slope, least(function, slope, lower, upper).value)

    rows = torch.eye(3, dtype=torch.float64)
    for norm in ("linf", "l2", "l1"):
        region = vercomp.Ball(x, 0.2, norm)
        dual = net.bound(region, rows, methods=["coap"])
        with monkeypatch.context() as patch:
            patch.setattr(refined_intervals, "lower_line", fixed)
            crown = net.bound(region, rows, methods=["crown"])
        torch.testing.assert_close(dual, crown, rtol=1e-6, atol=1e-6)
        adaptive = net.bound(region, rows, methods=["crown"])
        assert not torch.allclose(dual, adaptive, rtol=1e-6)


def test_it_is_used_where_it_is_named_and_goes_the_whole_way(tmp_path) -> None:
    model, x = every_kind()
    net = vercomp.compile(model, (1, 4, 4))
    assert "coap" not in usual_methods(net.network)
    y = model(x).argmax(1)
    found = net.certify(x, y, norm="linf", methods=["coap"])
    assert found.method == ("coap", "coap")
    assert found.proved
    assert (found.radius > 0.0).all()
    net.save(tmp_path / "package")
    loaded = vercomp.load_package(tmp_path / "package").network
    again = loaded.certify(x, y, norm="linf", methods=["coap"])
    torch.testing.assert_close(again.radius, found.radius)


def test_attacks_notice_strips_that_are_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> int:
        count = 0
        for seed in (0, 2):
            model, x = every_kind(seed)
            net = vercomp.compile(model, (1, 4, 4))
            rows = margins(model(x).argmax(1), 3)
            region = region_of("linf", x, 0.3)
            bounds = Coap().bound(net.network, region, Specification.of(rows))
            count += int((least_values(model.double(), region, rows) < bounds).sum())
        return count

    assert broken() == 0

    def narrow(*arguments: object) -> Strip:
        strip = narrowest_strip(*arguments)
        return Strip(strip.slope, strip.above, strip.below)

    monkeypatch.setattr(dual_network, "narrowest_strip", narrow)
    assert broken() > 0
