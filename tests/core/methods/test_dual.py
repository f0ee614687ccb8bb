"""The search: it finds certificates that are known in closed form, in few evaluations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from certifiables import Quadratics, two_layers
from torch import Tensor

from benchmarks.algorithm1 import algorithm1
from vercomp.core.methods.cuts import cut_radius, screening_cut
from vercomp.core.methods.dual import DualSolution, solve_dual
from vercomp.core.methods.pairs import Margins, Placement

Oracle = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def solve(oracle: Oracle, x0: Tensor, kappa: Tensor, **options: object) -> DualSolution:
    pair = torch.arange(len(x0))
    return solve_dual(oracle, x0, kappa, *oracle(x0, pair), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dimension", "eta", "upper", "dtype", "mean", "least"),
    [
        (2, 0.5, 1.0, torch.float64, 8, 0.9999),
        (50, 0.9, 1.0, torch.float32, 14, 0.999),
        (50, 0.9, 1.0, torch.float64, 14, 0.999),
        (200, 0.6, 10.0, torch.float64, 20, 0.9),  # curvature upwards far beyond κ
    ],
)
def test_quadratics_of_known_distance(
    dimension: int, eta: float, upper: float, dtype: torch.dtype, mean: float, least: float
) -> None:
    problem = Quadratics.random(100, dimension, eta=eta, upper=upper)
    x0 = torch.zeros(100, dimension, dtype=dtype)
    kappa = torch.ones(100, dtype=dtype)
    solution = solve(problem.at, x0, kappa)
    share = solution.radius.double() / problem.distance
    assert (share <= 1.0 + 1e-5).all()
    assert share.min() >= least
    assert share.mean() >= 1.0 - 0.2 * (1.0 - least)
    assert solution.evaluations.max() <= 30
    assert solution.evaluations.double().mean() <= mean
    # No witness is nearer than the boundary, and what is called one is one.
    assert (solution.distance.double() >= problem.distance * (1.0 - 1e-5)).all()
    hit = torch.isfinite(solution.distance)
    assert hit.double().mean() > 0.5
    value, _ = problem.at(solution.witness, torch.arange(100))
    assert (value[hit] <= 1e-5).all()


def test_the_point_that_comes_back_has_the_radius_that_comes_back() -> None:
    problem = Quadratics.random(50, 20, eta=0.8)
    x0, kappa = torch.zeros(50, 20, dtype=torch.float64), torch.ones(50, dtype=torch.float64)
    solution = solve(problem.at, x0, kappa)
    value, gradient = problem.at(solution.point, torch.arange(50))
    found = cut_radius(screening_cut(value, gradient, solution.point - x0, kappa), kappa)
    torch.testing.assert_close(found, solution.radius, rtol=1e-12, atol=0.0)


def test_no_curvature_of_an_affine_function_needs_no_second_look() -> None:
    w = torch.tensor([[3.0, 4.0]], dtype=torch.float64)

    def oracle(x: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
        return 10.0 + x @ w[0], w.expand(len(x), -1)

    solution = solve(oracle, torch.zeros(1, 2).double(), torch.zeros(1).double())
    torch.testing.assert_close(solution.radius, torch.tensor([2.0]).double(), rtol=1e-12, atol=0.0)
    assert solution.evaluations.item() <= 2


def test_a_gradient_of_zero_stops_at_once() -> None:
    def oracle(x: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(x[:, 0], 2.0), torch.zeros_like(x)

    solution = solve(oracle, torch.zeros(2, 3).double(), torch.tensor([0.0, 1.0]).double())
    assert solution.radius[0] == torch.inf
    torch.testing.assert_close(solution.radius[1].item(), 2.0, rtol=1e-12, atol=0.0)
    assert solution.evaluations.tolist() == [1, 1]


def test_nan_ends_a_pair_and_leaves_the_others_alone() -> None:
    problem = Quadratics.random(4, 5, eta=0.8)

    def oracle(x: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = problem.at(x, pair)
        away = (pair == 1) & (x.abs().sum(1) > 0.0)
        value = torch.where(away, torch.nan, value)
        return value, torch.where(away[:, None], torch.nan, gradient)

    x0, kappa = torch.zeros(4, 5, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    whole, broken = solve(problem.at, x0, kappa), solve(oracle, x0, kappa)
    others = torch.tensor([0, 2, 3])
    torch.testing.assert_close(broken.radius[others], whole.radius[others])
    assert 0.0 < broken.radius[1] <= whole.radius[1]
    assert broken.point.isfinite().all()


def test_enough_and_refuted_end_a_pair_early() -> None:
    problem = Quadratics.random(60, 20, eta=0.9)
    x0, kappa = torch.zeros(60, 20, dtype=torch.float64), torch.ones(60, dtype=torch.float64)
    full = solve(problem.at, x0, kappa)
    question = 0.95 * problem.distance
    enough = solve(problem.at, x0, kappa, enough=question)
    assert (enough.radius > question).double().mean() > 0.95
    assert enough.evaluations.sum() < 0.7 * full.evaluations.sum()
    question = 1.05 * problem.distance
    refuted = solve(problem.at, x0, kappa, refuted=question)
    assert (refuted.distance <= question).double().mean() > 0.9
    assert refuted.evaluations.sum() < full.evaluations.sum()


def test_the_budget_is_kept() -> None:
    problem = Quadratics.random(20, 20, eta=0.95, upper=10.0)
    x0, kappa = torch.zeros(20, 20, dtype=torch.float64), torch.ones(20, dtype=torch.float64)
    calls = torch.ones(20, dtype=torch.long)

    def oracle(x: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
        calls[pair] += 1
        return problem.at(x, pair)

    first = oracle(x0, torch.arange(20))
    calls.fill_(1)
    solution = solve_dual(oracle, x0, kappa, *first, evaluations=4)
    assert solution.evaluations.max() == 4
    assert (solution.evaluations == calls).all()


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_the_certificate_of_algorithm_1_in_a_twentieth_of_its_evaluations(activation: str) -> None:
    network = two_layers(activation, inputs=30, width=40, scale=1.5, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    x0 = torch.randn(60, 30, generator=generator, dtype=torch.float64)
    logits = network(x0)
    label = logits.argmax(1)
    target = logits.scatter(1, label[:, None], -torch.inf).argmax(1)
    margins = Margins(network, Placement(x0.device, x0.dtype))
    kappa = margins.kappa[label, target]

    def function(x: Tensor, pair: Tensor = slice(None)) -> tuple[Tensor, Tensor]:  # type: ignore[assignment]
        return margins.screen(x, label[pair], target[pair])

    published = algorithm1(
        function, x0, -kappa, margins.network.curvature()[1].clamp(min=0.0)[label, target]
    )
    value, gradient = function(published.point)
    cut = screening_cut(value, gradient, published.point - x0, kappa)
    solution = solve_dual(function, x0, kappa, *function(x0))
    assert (solution.radius >= cut_radius(cut, kappa) * (1.0 - 1e-3)).all()
    assert solution.radius.mean() >= cut_radius(cut, kappa).mean() * (1.0 - 1e-4)
    assert solution.evaluations.max() <= 30
    assert solution.evaluations.double().mean() <= 10
    assert 20 * solution.evaluations.sum() <= published.evaluations.sum()
