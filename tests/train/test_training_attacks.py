"""Attacks reach the worst points that are known, and never leave their balls."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from training_problems import Quadratic, disc, network, samples

import vercomp
from vercomp.errors import UsageError
from vercomp.train.attacks import curvature_attack, divergence_attack, projected_gradient
from vercomp.train.targets import largest_competitor, margin, tangents

DOUBLE = torch.float64


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


QUADRATICS = {
    "convex, minimum inside": (Quadratic(tensor(0.2, -0.3, 0.1), tensor(1.0, 2.0, 0.5)), 2.0),
    "convex, minimum outside": (Quadratic(tensor(3.0, -2.0, 1.0), tensor(1.0, 2.0, 0.5)), 0.7),
    "concave, little curvature": (Quadratic(tensor(3.0, 1.0, -2.0), tensor(-1.0, -0.2, -0.5)), 0.8),
    "indefinite, little curvature": (Quadratic(tensor(3.0, 1.0, -2.0), tensor(-1.0, 0.2, 1.0)), 1),
    "affine": (Quadratic(tensor(1.0, 1.0, 0.0), tensor(0.0, 0.0, 0.0)), 0.5),
}


@pytest.mark.parametrize("name", QUADRATICS)
@pytest.mark.parametrize("stride", [None, 0.0])
def test_the_worst_points_of_quadratics(name: str, stride: float | None) -> None:
    problem, radius = QUADRATICS[name]
    if name.endswith("inside") and stride is None:
        stride = 1e-3  # a step that is never short circles around a minimum within the ball
    x = torch.stack([torch.zeros(3, dtype=DOUBLE), tensor(0.1, 0.2, -0.1)])
    y = torch.zeros(2, dtype=torch.long)
    found = curvature_attack(
        problem, x, y, radius, problem.curvature(), steps=150, stride=stride
    ).point
    least = torch.stack([problem.least(center, radius) for center in x])
    # The fixed point is the worst point: primal = dual.
    tolerance = 2e-3 if stride == 1e-3 else 1e-6
    assert torch.allclose(found, least, atol=tolerance)
    assert torch.allclose(problem.margin(found), problem.margin(least), atol=tolerance**1.5)


@pytest.mark.parametrize("name", [name for name in QUADRATICS if name.endswith("curvature")])
def test_the_error_shrinks_by_the_factor_that_is_promised(name: str) -> None:
    problem, radius = QUADRATICS[name]
    x, y = torch.zeros(1, 3, dtype=DOUBLE), torch.zeros(1, dtype=torch.long)
    worst = problem.least(x[0], radius)
    eta = problem.gradient(worst).norm() / radius
    upper = problem.s.max().clamp_min(0.5)  # any M that is large enough
    factor = (upper - problem.s.min()) / (upper + eta)
    assert factor < 1
    kappa = torch.full((2, 2), float(upper), dtype=DOUBLE)
    errors = [
        (
            curvature_attack(problem, x, y, radius, kappa, steps=n, stride=0.0).point[0] - worst
        ).norm()
        for n in range(4, 12)
    ]
    for before, after in itertools.pairwise(errors):
        assert after <= before * factor * 1.02 + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_majorisation_decreases_the_margin_at_every_step(seed: int) -> None:
    """Whatever the curvature: also where the fixed point is not provably the worst."""
    generator = torch.Generator().manual_seed(seed)
    b, s = torch.randn(2, 5, generator=generator, dtype=DOUBLE)
    problem, x = Quadratic(0.2 * b, 3.0 * s), torch.randn(8, 5, generator=generator, dtype=DOUBLE)
    y = torch.zeros(8, dtype=torch.long)
    before, shift = problem.margin(x), torch.zeros_like(x)
    for _ in range(12):
        found = curvature_attack(
            problem, x, y, 0.9, problem.curvature(), steps=1, start=shift, stride=0.0
        )
        shift = found.point - x
        after = problem.margin(found.point)
        assert (after <= before + 1e-12).all()
        before = after


@pytest.mark.parametrize("seed", range(3))
def test_majorisation_decreases_the_margins_of_networks(seed: int) -> None:
    model = network(seed)
    lo, _ = vercomp.compile(model, (6,)).curvature()
    x, y = samples(20)
    target = largest_competitor(model(x), y)
    before, shift = margin(model(x), y, target), torch.zeros_like(x)
    for _ in range(10):
        found = curvature_attack(
            model, x, y, 1.5, -lo, steps=1, target="runner-up", start=shift, stride=0.0
        )
        assert torch.equal(found.target, target)
        after = margin(model(found.point), y, target)
        assert (after <= before + 1e-12).all()
        shift, before = found.point - x, after
    # To the end of it: on the sphere, against the gradient; no direction leads lower.
    far = curvature_attack(
        model, x, y, 1.5, -lo, steps=400, target="runner-up", stride=0.0
    ).point.requires_grad_()
    (gradient,) = torch.autograd.grad(margin(model(far), y, target).sum(), far)
    along = -1.5 * gradient / gradient.norm(dim=1, keepdim=True)
    assert torch.allclose(far.detach() - x, along, atol=1e-4)


def test_no_step_is_shorter_than_the_ball_asks_for() -> None:
    """Early in training curvature bounds are huge, and majorisation would go nowhere."""
    problem = Quadratic(tensor(1.0, -1.0, 0.5), tensor(0.0, 0.0, 0.0))
    huge = torch.full((2, 2), 1e9, dtype=DOUBLE)
    x, y = torch.zeros(1, 3, dtype=DOUBLE), torch.zeros(1, dtype=torch.long)
    worst = problem.least(x[0], 0.5)
    assert torch.allclose(curvature_attack(problem, x, y, 0.5, huge, steps=2).point[0], worst)
    still = curvature_attack(problem, x, y, 0.5, huge, steps=2, stride=0.0).point
    assert (still - x).norm() < 1e-8


def three_planes(x: Tensor) -> Tensor:
    """Margins of class 0: 1 + ½x₁ over class 1, small and flat; 1.5 + 3x₂ over class 2, steep."""
    zero = torch.zeros_like(x[:, 0])
    return torch.stack([zero, -1.0 - 0.5 * x[:, 0], -1.5 - 3.0 * x[:, 1], zero - 9.0], 1)


def test_the_nearest_class_is_not_the_runner_up() -> None:
    x, y = torch.zeros(2, 2, dtype=DOUBLE), torch.zeros(2, dtype=torch.long)
    flat = torch.zeros(4, 4, dtype=DOUBLE)
    options = {"steps": 2, "stride": 0.0}
    for radius, nearest in ((0.6, 2), (0.1, 1)):  # very near by, the smallest margin is the worst
        found = curvature_attack(three_planes, x, y, radius, flat, target="certificate", **options)
        assert found.target.tolist() == [nearest] * 2
        axis = [[-radius, 0.0], [0.0, -radius]][nearest - 1]
        assert torch.allclose(found.point, torch.tensor([axis] * 2, dtype=DOUBLE))
    for word in ("runner-up", "largest"):
        found = curvature_attack(three_planes, x, y, 0.6, flat, target=word, **options)
        assert found.target.tolist() == [1, 1]
        assert torch.allclose(found.point, torch.tensor([[-0.6, 0.0]] * 2, dtype=DOUBLE))
    # From where the other class is ahead, the largest competitor is another one.
    start = torch.tensor([[0.0, -0.6]] * 2, dtype=DOUBLE)
    found = curvature_attack(three_planes, x, y, 0.6, flat, start=start, **options)
    assert found.target.tolist() == [2, 2]
    kept = curvature_attack(
        three_planes, x, y, 0.6, flat, start=start, target="runner-up", **options
    )
    assert kept.target.tolist() == [1, 1]


def test_tangents_are_those_of_the_margins() -> None:
    model, (x, y) = network(3), samples(9)
    shift = 0.1 * torch.ones_like(x)
    found = tangents(model, x, y, 0.4, shift, candidates=3)
    z = model(x + shift)
    for column in range(3):
        at = (x + shift).requires_grad_()
        f = margin(model(at), y, found.target[:, column])
        (g,) = torch.autograd.grad(f.sum(), at)
        assert torch.allclose(found.gradient[:, column], g)
        least = f - (g * shift).sum(1) - 0.4 * g.norm(dim=1)
        assert torch.allclose(found.least[:, column], least)
    others = z.scatter(1, y[:, None], -torch.inf).sort(1, descending=True).indices
    assert torch.equal(found.target, others[:, :3])
    target, gradient = found.nearest()
    row = found.least.argmin(1)
    assert torch.equal(target, found.target[torch.arange(9), row])
    assert torch.equal(gradient, found.gradient[torch.arange(9), row])


def test_classes_that_are_nearest_make_better_attacks() -> None:
    model, (x, y) = network(1, classes=10), samples(300, classes=10)
    y = model(x).argmax(1)
    lo, _ = vercomp.compile(model, (6,)).curvature()

    def margins(target: str) -> Tensor:
        point = curvature_attack(model, x, y, 1.0, -lo, steps=20, target=target).point
        z = model(point).detach()
        return margin(z, y, largest_competitor(z, y))

    assert margins("certificate").mean() < margins("runner-up").mean() - 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("shape", [(6,), (1, 2, 3)])
def test_points_stay_in_the_ball_whatever_the_start(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), network(2, dtype=dtype))
    x, y = samples(30)
    x = x.to(dtype).reshape(30, *shape)
    far = 10.0 * torch.ones_like(x)
    kappa = torch.ones(4, 4)
    generator = torch.Generator().manual_seed(0)
    points = [
        curvature_attack(model, x, y, 0.3, kappa, steps=steps, target=target, start=start).point
        for steps in (0, 1, 3)
        for target in ("largest", "runner-up", "certificate")
        for start in (None, far)
    ]
    points += [
        projected_gradient(model, x, y, 0.3, steps=3, start=start, generator=generator)
        for start in (None, far)
    ]
    points += [divergence_attack(model, x, 0.3, steps=3, generator=generator)]
    for point in points:
        assert point.shape == x.shape
        assert point.dtype == dtype
        assert not point.requires_grad
        rounding = torch.finfo(dtype).eps * x.flatten(1).norm(dim=1)
        assert ((point - x).flatten(1).norm(dim=1) <= 0.3 * (1 + 1e-6) + rounding).all()


@pytest.mark.parametrize("target", ["largest", "runner-up", "certificate"])
def test_without_radius_or_steps_nothing_moves(target: str) -> None:
    model, (x, y) = network(0), samples(5)
    kappa = torch.ones(4, 4)
    for radius, steps in ((0.0, 3), (0.5, 0)):
        found = curvature_attack(model, x, y, radius, kappa, steps=steps, target=target)
        assert torch.equal(found.point, x)
        assert torch.equal(found.target, largest_competitor(model(x), y))
    assert torch.equal(divergence_attack(model, x, 0.0, steps=3), x)


def test_two_classes() -> None:
    model = network(0, classes=2)
    x, y = samples(5, classes=2)
    for target in ("largest", "runner-up", "certificate"):
        found = curvature_attack(model, x, y, 0.5, torch.ones(2, 2), steps=2, target=target)
        assert torch.equal(found.target, 1 - y)


def test_an_unknown_target_is_refused() -> None:
    model, (x, y) = network(0), samples(5)
    with pytest.raises(UsageError, match=r"no attack target 'nearest'\. Known: largest, cert"):
        curvature_attack(model, x, y, 0.5, torch.ones(4, 4), steps=2, target="nearest")


def test_attacks_cost_no_derivatives_of_weights() -> None:
    """A forward, and a backward of the same price; with the weights' it would be twice that."""
    weights = [torch.randn(shape, requires_grad=True) for shape in ((30, 20), (4, 30))]
    x, y = torch.randn(10, 20), torch.arange(10) % 4
    kappa = torch.ones(4, 4)

    def model(x: Tensor) -> Tensor:
        return F.linear(F.softplus(F.linear(x, weights[0])), weights[1])

    def price(run: Callable[[], object]) -> int:
        with FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops()

    forward = price(lambda: model(x))
    assert price(lambda: curvature_attack(model, x, y, 0.5, kappa, steps=3)) == 6 * forward
    # A backward for each of the three competitors takes the place of one.
    chosen = price(lambda: curvature_attack(model, x, y, 0.5, kappa, steps=3, target="certificate"))
    assert chosen == 8 * forward
    assert price(lambda: projected_gradient(model, x, y, 0.5, steps=3)) == 6 * forward
    # What to diverge from is a forward of its own.
    assert price(lambda: divergence_attack(model, x, 0.5, steps=3)) == 7 * forward
    assert weights[0].grad is None


@pytest.mark.parametrize("seed", range(3))
def test_projected_gradient_finds_the_worst_cross_entropy_of_a_disc(seed: int) -> None:
    model = network(seed, inputs=2)
    x, y = samples(4, inputs=2)
    grid = disc(0.5)
    found = projected_gradient(
        model, x, y, 0.5, steps=100, generator=torch.Generator().manual_seed(0)
    )
    for center, label, point in zip(x, y, found, strict=True):
        worst = F.cross_entropy(
            model(center + grid), label.expand(len(grid)), reduction="none"
        ).max()
        assert F.cross_entropy(model(point[None]), label[None]) >= worst * (1 - 1e-2)


@pytest.mark.parametrize("seed", range(3))
def test_divergence_attack_finds_the_largest_divergence_of_a_disc(seed: int) -> None:
    model = network(seed, inputs=2)
    x, _ = samples(4, inputs=2)
    grid = disc(0.5)
    found = torch.stack(
        [
            divergence_attack(model, x, 0.5, steps=100, generator=torch.Generator().manual_seed(s))
            for s in range(6)
        ]
    )

    def divergence(center: Tensor, points: Tensor) -> Tensor:
        p, q = model(center[None]).softmax(1), model(points).softmax(1)
        return (p * (p / q).log()).sum(1)

    for row, center in enumerate(x):
        worst = divergence(center, center + grid).max()
        # One ascent may end on the lesser of two sides; it never ends nowhere.
        reached = divergence(center, found[:, row])
        assert reached.max() >= worst * (1 - 1e-2)
        assert reached.min() >= 0.3 * worst


def test_random_starts_follow_their_generator() -> None:
    model, (x, y) = network(0), samples(5)

    def points(seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return (
            projected_gradient(model, x, y, 0.5, steps=1, generator=generator),
            divergence_attack(model, x, 0.5, steps=1, generator=generator),
        )

    for first, again, other in zip(points(0), points(0), points(1), strict=True):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
