"""Derivatives in balls: every inequality at samples, tight as balls shrink, noticed when broken."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from local_networks import Draw, in_ball
from torch import Tensor, nn
from torch.func import hessian, jacrev, vmap

import vercomp
from vercomp.core.local import gradients
from vercomp.core.local.bounds import lipschitz
from vercomp.core.local.curvature import BallCurvature
from vercomp.core.local.gradients import coefficients
from vercomp.core.local.neighbourhood import Neighbourhood
from vercomp.core.local.nested import NestedBalls
from vercomp.core.local.products import Expansion

RADII = (1e-3, 0.1, 0.4, 1.5)
ROUNDING = 1e-9


class Case:
    """A random network, a point, a row of outputs, and balls around the point."""

    def __init__(self, seed: int, norm: str = "l2", **options: object) -> None:
        self.draw = Draw(seed, 2 + seed % 4, **options)  # type: ignore[arg-type]
        self.x = self.draw.normal(self.draw.graph.nodes[0].shape[0])
        self.c = self.draw.normal(1, 2)
        self.norm = norm
        self.expansion = Expansion(self.draw.graph, self.x[None])
        balls = vercomp.Ball(self.x.expand(len(RADII), -1), torch.tensor(RADII), norm)
        self.nearby = Neighbourhood(self.expansion, balls)
        self.found = coefficients(self.nearby, self.c)

    def value(self, x: Tensor) -> Tensor:
        return (self.draw.values(x[None])[0] * self.c[0]).sum()

    def points(self, j: int, count: int = 24) -> Tensor:
        order = {"l2": 2.0, "linf": torch.inf, "l1": 1.0}[self.norm]
        return in_ball(self.draw, self.x, float(torch.tensor(RADII)[j]), count, order)

    def lowest(self, points: Tensor) -> Tensor:
        """λ_min of the Hessians at points."""
        return torch.linalg.eigvalsh(vmap(hessian(self.value))(points))[:, 0]


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_gradients_stay_within_their_bounds(norm: str) -> None:
    for seed in range(15):
        case = Case(seed, norm, skips=seed % 2 == 1)
        if case.expansion.first not in case.found:
            continue
        gradient = case.found[case.expansion.first]
        for j in range(len(RADII)):
            seen = vmap(jacrev(case.value))(case.points(j))
            away = (seen - gradient.value[0]).abs()
            assert (away <= gradient.away[0, j] * (1.0 + ROUNDING) + ROUNDING).all(), seed


def test_gradients_of_relus_stay_within_their_bounds() -> None:
    """σ′ jumps, so that first-order terms are none."""
    for seed in range(10):
        case = Case(seed, activations=(nn.ReLU, nn.LeakyReLU), skips=True)
        gradient = case.found[case.expansion.first]
        for j in range(len(RADII)):
            seen = vmap(jacrev(case.value))(case.points(j))
            away = (seen - gradient.value[0]).abs()
            assert (away <= gradient.away[0, j] * (1.0 + ROUNDING) + ROUNDING).all(), seed


def test_values_and_slopes_move_as_far_as_is_said() -> None:
    """Every single inequality: Δ, ω, ρ and ε, which a loose bound behind them would hide."""
    for seed in range(15):
        case = Case(seed, skips=True)
        graph, expansion = case.draw.graph, case.expansion
        at = _all_values(case.draw, case.x[None])
        for j in range(len(RADII)):
            points = case.points(j, 40)
            seen = _all_values(case.draw, points)
            for node in expansion.activations:
                motion, sigma = case.nearby.motions[node.name], node.function
                slope = expansion.slopes[node.name]
                z, z0 = seen[node.parent], at[node.parent]
                v = z - z0
                turned = sigma.first(z) - slope
                rise = sigma.value(z) - sigma.value(z0) - slope * v
                room = ROUNDING * (1.0 + v.abs())
                assert (turned.abs() <= motion.slope[0, j] + room).all()
                assert (rise.abs() <= motion.value[0, j] + room).all()
                left = turned - motion.bend * v
                assert (left.abs() <= motion.remainder[0, j] + room).all()
                B = expansion.jacobian(node.parent)
                straight = 0.0 if B is None else (points - case.x) @ B.value[0].T
                assert ((v - straight).abs() <= motion.drift[0, j] + room).all()
        assert graph.output


def _all_values(draw: Draw, x: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for node in draw.graph.nodes:
        if not node.parents:
            found[node.name] = x
        elif hasattr(node, "terms"):
            parts = (found[t.parent] @ t.map.materialise().T for t in node.terms)
            found[node.name] = sum(parts, node.bias.value)
        else:
            found[node.name] = draw.activation()(found[node.parent])
    return found


def test_no_curvature_is_above_its_bound() -> None:
    for seed in range(20):
        case = Case(seed, skips=seed % 2 == 1)
        for j in range(len(RADII)):
            bound = BallCurvature(case.nearby, 0, j).bound(case.found).bound
            assert float(-case.lowest(case.points(j)).min()) <= bound + ROUNDING, seed


def test_bounds_of_several_rows_hold_for_each() -> None:
    for seed in range(8):
        case = Case(seed)
        other = coefficients(case.nearby, -case.c)
        for j in range(len(RADII)):
            ball = BallCurvature(case.nearby, 0, j)
            together = ball.bound(case.found, other).bound
            spectra = torch.linalg.eigvalsh(vmap(hessian(case.value))(case.points(j)))
            assert float(spectra.abs().max()) <= together + ROUNDING, seed


def test_bounds_grow_with_the_ball_and_meet_the_hessian_at_its_center() -> None:
    for seed in range(15):
        case = Case(seed)
        balls = NestedBalls(case.draw.graph, case.x[None], tuple(case.x.shape))
        radii = [1e-7, 1e-3, 0.03, 0.3, 1.0]
        balls.add(radii)
        bounds = [balls.curvature(radius, case.c[0]).bound for radius in radii]
        exact = -float(case.lowest(case.x[None]))
        size = 1.0 + float(torch.linalg.eigvalsh(hessian(case.value)(case.x)).abs().max())
        assert exact - ROUNDING <= bounds[0] <= exact + 1e-3 * size, seed
        for inner, outer in pairwise(bounds):
            assert inner <= outer + 1e-2 * size, seed


def test_gradients_meet_the_expansion_of_second_order_as_balls_shrink() -> None:
    """φ is r times the lengths of the rows of the Hessian, but for terms in r²."""
    for seed in range(20):
        case = Case(seed)
        r = 1e-5
        nearby = Neighbourhood(case.expansion, vercomp.Ball(case.x[None], r))
        away = coefficients(nearby, case.c)[case.expansion.first].away[0, 0]
        rows = hessian(case.value)(case.x).norm(dim=1)
        steep = 1.0 + float(rows.max())
        assert (away <= r * rows + 1e-6 * steep**2 + 1e-8).all(), seed
        assert (away >= r * rows * (1.0 - 1e-3) - 1e-9).all(), seed


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_lipschitz_bounds_hold_at_samples(norm: str) -> None:
    dual = {"l2": 2.0, "linf": 1.0, "l1": torch.inf}[norm]
    for seed in range(8):
        case = Case(seed, norm, skips=True)
        for j in (1, 2):
            ball = vercomp.Ball(case.x[None], RADII[j], norm)
            bound = float(lipschitz(case.draw.graph, ball, case.c)[0, 0])
            seen = vmap(jacrev(case.value))(case.points(j))
            assert float(torch.linalg.vector_norm(seen, ord=dual, dim=1).max()) <= bound + ROUNDING


def _violations() -> int:
    """At how many of some networks a gradient or a curvature is above its bound."""
    count = 0
    for seed in range(25):
        case = Case(seed)
        for j in (1, 2):
            points = case.points(j, 60)
            bound = BallCurvature(case.nearby, 0, j).bound(case.found).bound
            count += float(-case.lowest(points).min()) > bound + ROUNDING
            seen = vmap(jacrev(case.value))(points)
            gradient = case.found[case.expansion.first]
            count += bool(((seen - gradient.value[0]).abs() > gradient.away[0, j] + 1e-9).any())
    return count


@pytest.mark.parametrize("broken", ["slopes do not move", "coefficients do not", "σ″ does not"])
def test_what_is_broken_is_noticed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _violations() == 0
    motion = Neighbourhood._motion

    def still(self: Neighbourhood, node: object) -> object:
        found = motion(self, node)  # type: ignore[arg-type]
        if broken == "slopes do not move":
            return found._replace(slope=0.05 * found.slope)
        return found._replace(second=(found.bend[:, None].expand_as(found.slope),) * 2)

    def fixed(*arguments: object) -> gradients.Coefficient:
        found = one(*arguments)  # type: ignore[arg-type]
        return found._replace(away=0.1 * found.away)

    one = gradients._coefficient
    if broken == "coefficients do not":
        monkeypatch.setattr(gradients, "_coefficient", fixed)
    else:
        monkeypatch.setattr(Neighbourhood, "_motion", still)
    assert _violations() > 0
