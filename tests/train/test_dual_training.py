"""Certified margins: the dual value is the least margin of quadratics, and has its gradient."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from training_problems import Quadratic, network, samples

import vercomp
from vercomp.train.attacks import curvature_attack, dual_attack
from vercomp.train.balls import slack
from vercomp.train.methods import objective
from vercomp.train.objectives import Batch, Moment
from vercomp.train.recipe import Recipe


def test_the_dual_value_of_a_quadratic_is_its_least_margin() -> None:
    """The trust region problem has no duality gap, wherever L is least: on the sphere or inside."""
    s = torch.tensor([-2.0, 0.5, 1.0], dtype=torch.float64)
    y = torch.tensor([0])
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(1, 3, dtype=torch.float64)
    for b, inside in (([1.0, 0.3, -0.2], False), ([0.0, 0.3, -0.2], True)):
        problem = Quadratic(torch.tensor(b, dtype=torch.float64), s, 1.0)
        found = dual_attack(problem, x, y, 0.5, problem.curvature(), steps=3000)
        room = slack(found.point - x, 0.5)
        assert (room > 1e-2).item() is inside
        if inside:  # the hard case: the worst point is as far as it goes along the first axis
            least = found.point.clone()
            least[0, 0] = (2.0 * room).sqrt()
        else:
            least = problem.least(x[0], 0.5)[None]
        assert least.norm() <= 0.5 + 1e-9
        around = torch.randn(20000, 3, dtype=torch.float64, generator=generator)
        around = 0.5 * around / around.norm(dim=1, keepdim=True)
        assert (problem.margin(around) >= problem.margin(least) - 1e-9).all()
        dual = problem.margin(found.point) - 2.0 * room
        assert torch.allclose(dual, problem.margin(least), atol=1e-6)


def test_every_step_raises_the_certified_margins_loss() -> None:
    """L decreases step by step for a target that is kept."""
    model = network(scale=2.0)
    x, _ = samples(16)
    y = model(x).argmax(1)
    curvature = (
        vercomp.regularizer(model, (6,), pairs_per_call=None, every=1).eval().pairs().detach()
    )

    def value(steps: int) -> torch.Tensor:
        found = dual_attack(model, x, y, 1.0, curvature, steps=steps, target="runner-up")
        z = model(found.point)
        f = z.gather(1, y[:, None])[:, 0] - z.gather(1, found.target[:, None])[:, 0]
        return f - curvature[y, found.target] * slack(found.point - x, 1.0)

    values = [value(steps).detach() for steps in (1, 2, 3, 8, 60, 2000)]
    for before, after in pairwise(values):
        assert (after <= before + 1e-12).all()
    # The proof of `attack` is the same dual value.
    target = dual_attack(model, x, y, 1.0, curvature, steps=1, target="runner-up").target
    proved = vercomp.compile(model, (6,)).attack(x, y, 1.0, targets=target).lower_bound
    assert (proved <= values[-1] + 1e-6).all()
    assert torch.allclose(proved, values[-1], atol=2e-3)


def test_without_curvature_it_is_the_attack() -> None:
    model = network()
    x, y = samples(16)
    nothing = torch.full((4, 4), 1e-9, dtype=torch.float64)
    for target in ("largest", "runner-up", "certificate"):
        plain = curvature_attack(model, x, y, 0.3, nothing, steps=3, target=target)
        dual = dual_attack(model, x, y, 0.3, nothing, steps=3, target=target)
        assert torch.allclose(plain.point, dual.point, atol=1e-6)
        assert torch.equal(plain.target, dual.target)


def test_the_loss_is_the_cross_entropy_of_certified_margins_and_has_their_gradient() -> None:
    """The gradient in κ, too, which a regulariser evaluates pair by pair."""
    model = network(scale=2.0)
    x, y = samples(16)
    reg = vercomp.regularizer(model, (6,), pairs_per_call=None, every=1)
    for _ in range(300):
        reg.pairs()
    recipe = Recipe(method="dual", attack_steps=4)
    batch = Batch(x, y, None, torch.Generator())
    loss = objective(recipe, model, reg)(batch, Moment(1.0, 0.05, 0.0))
    loss.value.backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]

    again = dual_attack(model, x, y, 1.0, reg.latest, steps=4)
    assert torch.allclose(again.point, loss.point, atol=1e-9)
    room = slack(again.point - x, 1.0)
    assert (room > 0.05).any()
    kappa = reg.pairs()
    raised = kappa[y, again.target] * room
    logits = model(again.point).scatter_add(1, again.target[:, None], raised[:, None])
    value = F.cross_entropy(logits, y) + 0.05 * kappa.sum() / 12
    assert torch.allclose(loss.value, value)
    model.zero_grad()
    value.backward()
    for parameter, gradient in zip(model.parameters(), found, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-6, atol=1e-9)


def test_pairs_taken_in_turn_have_the_same_gradient_in_the_mean() -> None:
    """Nothing else moves: the mean over a whole turn is the gradient over all pairs."""
    model = network(scale=2.0)
    x, y = samples(16)
    batch = Batch(x, y, None, torch.Generator())
    gradients = []
    for pairs, calls in ((None, 1), (4, 144)):
        reg = vercomp.regularizer(model, (6,), pairs_per_call=pairs, every=1)
        for _ in range(300):
            reg.pairs()
        step = objective(Recipe(method="dual", attack_steps=4), model, reg)
        model.zero_grad()
        for _ in range(calls):
            (step(batch, Moment(1.0, 0.05, 0.0)).value / calls).backward()
        gradients.append(model[0].weight.grad.clone())
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-7)


def test_without_penalty_every_bound_is_followed_all_the_same() -> None:
    """Also of pairs that no input is near: κ of the attack's steps is theirs."""
    model = network(scale=2.0).float()
    curvature = vercomp.regularizer(model, (6,), pairs_per_call=3, every=1)
    x, y = (part[:1] for part in samples(1))
    training = objective(Recipe(method="dual", attack_steps=1), model, curvature)
    with torch.no_grad():
        model[2].weight.mul_(2.0)
    before = curvature.latest.clone()
    batch = Batch(x.float(), y, None, torch.Generator())
    for _ in range(4):  # of twelve pairs
        training(batch, Moment(radius=0.1, penalty=0.0, exponent=0.0))
    grown = curvature.latest > 1.5 * before
    assert grown.sum() == 12
