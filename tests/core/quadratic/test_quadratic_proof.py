"""Proved quadratic bounds against samples, for random and for optimised parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import vercomp
from vercomp.core.arithmetic.operations import Interval
from vercomp.core.domains.intervals import RowNorms
from vercomp.core.domains.refined_intervals import relax
from vercomp.core.graph import Graph
from vercomp.core.quadratic import forms, proof, scalar
from vercomp.core.quadratic.chain import Layer, chain, obstacle
from vercomp.core.quadratic.parameters import Parameters
from vercomp.core.quadratic.proof import Piece, lower_bound, values_at
from vercomp.core.quadratic.search import Pieces, Search, centers_of
from vercomp.core.regions.constructors import Ball

ACTIVATIONS = (nn.Sigmoid, nn.ReLU, nn.Softplus, nn.Tanh, nn.GELU, nn.LeakyReLU)


class Case:
    """A random network with two to four inputs, and a random slab of a random ball."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * float(torch.rand((), generator=generator))

        self.size = 2 + seed % 3
        activation = ACTIVATIONS[seed % len(ACTIVATIONS)]
        widths = [self.size, *[7] * (1 + seed % 3), 2]
        modules: list[nn.Module] = []
        for k, (n, m) in enumerate(pairwise(widths)):
            linear = nn.Linear(n, m)
            with torch.no_grad():
                linear.weight.copy_(torch.randn(m, n, generator=generator) * 1.6 / math.sqrt(n))
                linear.bias.copy_(torch.randn(m, generator=generator) / 2)
            modules += [linear, activation()] if k + 2 < len(widths) else [linear]
        self.model = nn.Sequential(*modules).double()
        compiled = vercomp.compile(self.model, input_shape=(self.size,))
        _, self.graph = compiled.network.in_double()
        self.layers: tuple[Layer, ...] = chain(self.graph)
        self.center = torch.randn(self.size, generator=generator, dtype=torch.float64)
        u = torch.randn(self.size, generator=generator, dtype=torch.float64)
        self.direction = u / u.norm()
        self.radius = uniform(0.1, 1.5)
        cut = sorted((uniform(-1.0, 1.0), uniform(-1.0, 1.0)))
        low, high = cut[0] * self.radius, cut[1] * self.radius
        self.ends = [(low, high), (-math.inf, high), (low, math.inf), (-math.inf, math.inf)][
            seed % 4
        ]
        shift = uniform(-1.0, 1.0) * self.radius if seed % 5 == 0 else 0.5 * (low + high)
        self.point = self.center + shift * self.direction
        self.row = torch.randn(2, generator=generator, dtype=torch.float64)
        region = Ball(self.center[None], self.radius, "l2", slab=(self.direction[None], *self.ends))
        self.intervals = relax(self.graph, region, RowNorms()).intervals
        self.values = values_at(self.graph, self.point[None])
        self.generator = generator

    @property
    def piece(self) -> Piece:
        return Piece(self.center, self.radius, self.direction, *self.ends, self.point)

    def search(self) -> Search:
        low, high = (
            torch.tensor([min(max(end, -self.radius), self.radius)], dtype=torch.float64)
            for end in self.ends
        )
        middle = ((self.point - self.center) @ self.direction)[None]
        pieces = Pieces(torch.tensor([self.radius]), self.direction[None], low, high, middle)
        start = (self.values[self.graph.output].value @ self.row).clone()
        centers = centers_of(self.layers, {k: v.value for k, v in self.values.items()})
        intervals = [self.intervals[layer.before] for layer in self.layers[:-1]]
        return Search(self.layers, self.row[None], start, centers, intervals, pieces)

    def random_parameters(self) -> Parameters:
        first = self.search().initial()

        def shaken(values: list[Tensor], by: float) -> list[Tensor]:
            noise = [torch.randn(v.shape, generator=self.generator, dtype=v.dtype) for v in values]
            return [v + by * (1.0 + v.abs()) * n for v, n in zip(values, noise, strict=True)]

        return Parameters(
            shaken(first.slopes, 0.3),
            shaken(first.curvatures, 0.5),
            shaken(first.chords, 0.3),
            [
                w * n.abs().clamp(min=1e-2)
                for w, n in zip(first.weights, shaken(first.weights, 1.0), strict=True)
            ],
            [
                0.05 + 0.9 * torch.rand(s.shape, generator=self.generator, dtype=s.dtype)
                for s in first.shares
            ],
        )

    def bound(self, parameters: Parameters) -> float:
        return lower_bound(
            self.layers, self.row, 0.25, self.piece, self.values, self.intervals, parameters.row(0)
        )

    def least(self, count: int = 30_000) -> float:
        """The smallest value seen in the region; ∞ where no sample fell into it."""
        x = torch.randn(count, self.size, generator=self.generator, dtype=torch.float64)
        share = torch.rand(count, 1, generator=self.generator, dtype=torch.float64)
        x = x / x.norm(dim=1, keepdim=True) * share ** (1.0 / self.size)
        x[: count // 4] /= x[: count // 4].norm(dim=1, keepdim=True)
        t = self.radius * x @ self.direction
        x = self.center + self.radius * x[(t >= self.ends[0]) & (t <= self.ends[1])]
        if not len(x):
            return math.inf
        with torch.no_grad():
            return float((self.model(x) @ self.row).min()) + 0.25


@pytest.mark.parametrize("start", range(0, 60, 12))
def test_no_bound_is_above_a_value(start: int) -> None:
    finite = 0
    for seed in range(start, start + 12):
        case = Case(seed)
        least = case.least()
        search = case.search()
        first = search.initial()
        best, _ = search.optimise(first, 25)
        for parameters in (first, best, case.random_parameters(), case.random_parameters()):
            bound = case.bound(parameters)
            finite += math.isfinite(bound)
            assert bound <= least + 1e-12, (seed, bound, least)
    assert finite > 30


def test_estimate_and_proof_agree() -> None:
    for seed in (0, 3, 6):
        case = Case(seed)
        search = case.search()
        best, estimate = search.optimise(search.initial(), 40)
        proved = case.bound(best)
        assert abs(proved - (float(estimate) + 0.25)) < 0.05 * (1.0 + abs(proved))


def test_tight_as_the_region_shrinks() -> None:
    case = Case(4)
    case.ends = (-math.inf, math.inf)
    case.point = case.center
    for radius in (1e-2, 1e-3):
        case.radius = radius
        region = Ball(case.center[None], radius, "l2")
        case.intervals = relax(case.graph, region, RowNorms()).intervals
        case.values = values_at(case.graph, case.point[None])
        gap = case.least() - case.bound(case.search().initial())
        assert 0.0 <= gap < 30.0 * radius**2


def _breaks() -> Iterator[tuple[str, object]]:
    yield "deficits", lambda function, problem: 0.0 * scalar.deficits(function, problem)
    yield "all_forms", lambda *args: _halved(forms.all_forms(*args))


def _halved(found: tuple[forms.Form, list[Tensor]] | None) -> object:
    if found is None:
        return None
    return forms.Form(0.0 * found[0].matrix, 0.0), [0.0 * T for T in found[1]]


@pytest.mark.parametrize(("name", "broken"), list(_breaks()))
def test_what_is_broken_is_noticed(
    name: str, broken: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, name, broken)
    false = 0
    for seed in range(40):
        case = Case(seed)
        first = case.search().initial()
        if name == "deficits":  # without any curvature in the forms, all rests on the deficits
            first.curvatures[:] = [0.0 * c for c in first.curvatures]
        false += case.bound(first) > case.least() + 1e-9
    assert false > 0


def test_networks_that_are_no_chains_are_named() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            z = torch.sigmoid(self.a(x))
            return self.b(torch.sigmoid(self.b(z)) + z)

    compiled = vercomp.compile(Residual(), input_shape=(3,))
    graph: Graph = compiled.network.in_double()[1]
    found = obstacle(graph)
    assert found is not None
    assert "another path" in found[1]
    assert obstacle(Case(0).graph) is None


def test_an_interval_that_is_not_finite_proves_nothing() -> None:
    case = Case(0)
    name = case.layers[0].before
    lower, upper = case.intervals[name]
    case.intervals[name] = Interval(lower, torch.full_like(upper, math.inf))
    assert case.bound(case.random_parameters()) == -math.inf
