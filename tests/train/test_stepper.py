"""The state that moves: the average, the precision, what is remembered of attacks."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from torch import nn

from vercomp.distributed import Processes
from vercomp.live import regularizer
from vercomp.train import Recipe
from vercomp.train.logits import Logits
from vercomp.train.samples import shifted
from vercomp.train.stepper import Stepper, averaged, products


def stepper(recipe: Recipe, shape: tuple[int, ...] = (1, 4, 4)) -> Stepper:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Softplus(), nn.Linear(5, 3))
    like = model[1].weight
    logits = Logits(model, None, None, None, like, len(shape))
    bound = regularizer(model, shape) if recipe.bounded else None
    x, y = torch.rand(40, *shape), torch.arange(40) % 3
    return Stepper(model, logits, bound, x, y, recipe.fitted(40), Processes())


def test_the_average_is_the_recurrence() -> None:
    model = nn.Linear(1, 1, bias=False)
    moving = averaged(model, 0.5)
    expected = None
    for n, value in enumerate((1.0, 2.0, 4.0, -3.0, 7.0, 9.0, 2.0, 2.5, 8.0, 0.5, 1.0)):
        with torch.no_grad():
            model.weight.fill_(value)
        moving.update_parameters(model)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert float(moving.module.weight.detach()) == pytest.approx(expected)


def test_the_precision_comes_back_after_an_error() -> None:
    before = torch.get_float32_matmul_precision()
    seen = []
    with contextlib.suppress(KeyError), products("medium"):
        seen.append(torch.get_float32_matmul_precision())
        raise KeyError
    assert seen == ["medium"]
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("shift", [0, 1])
def test_attacks_are_remembered_in_the_frame_of_the_input(shift: int) -> None:
    recipe = Recipe(batch_size=8, radius=0.7, radius_ramp=0.0, shift=shift, epochs=3)
    made = stepper(recipe)
    made.epoch(1)
    assert made.perturbations is not None
    lengths = made.perturbations.float().flatten(1).norm(dim=1)  # in units of the radius
    assert (lengths <= 1 + 1e-2).all()
    assert lengths.median() > (0.99 if shift == 0 else 0.5)  # what is shifted out is lost
    worse = []
    for sample in made.order.epoch(1):  # where the network saw the image, it is worse there
        x, y = made.x[sample.rows], made.y[sample.rows]
        v = 0.7 * made.perturbations[sample.rows].float()
        if sample.shifts is not None:
            x, v = shifted(x, sample.shifts), shifted(v, sample.shifts)
        with torch.no_grad():
            clean, attacked = (
                nn.functional.cross_entropy(made.model(at), y, reduction="none")
                for at in (x, x + v)
            )
        worse.append(attacked > clean)
    assert torch.cat(worse).double().mean() > 0.9


@pytest.mark.parametrize("method", ["plain", "penalty", "trades"])
def test_methods_without_attacks_that_resume_remember_none(method: str) -> None:
    assert stepper(Recipe(batch_size=8, method=method)).perturbations is None


def test_a_state_is_all_that_the_next_epoch_depends_on() -> None:
    recipe = Recipe(batch_size=8, averaging=0.9, pairs_per_call=2, epochs=3)
    one = stepper(recipe)
    one.epoch(1)
    one.epoch(2)
    state = copy.deepcopy(one.state())
    expected = one.epoch(3)
    other = stepper(recipe)
    other.load(state)
    found = other.epoch(3)
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(one.weights.parameters(), other.weights.parameters(), strict=True):
        assert torch.equal(a, b)


def test_frozen_parameters_stay() -> None:
    made = stepper(Recipe(batch_size=8, method="plain"))
    made.model[1].requires_grad_(False)
    frozen = made.model[1].weight.clone()
    again = Stepper(
        made.model, Logits(made.model, None, None, None, frozen, 3), None, made.x, made.y,
        made.recipe, Processes(),
    )  # fmt: skip
    head = made.model[3].weight.detach().clone()
    again.epoch(1)
    assert torch.equal(made.model[1].weight, frozen)
    assert not torch.equal(made.model[3].weight, head)


@pytest.mark.parametrize("method", ["plain", "penalty", "pgd", "crt"])
def test_only_what_was_attacked_has_an_accuracy_under_attack(method: str) -> None:
    row = stepper(Recipe(batch_size=8, method=method)).epoch(1)
    assert (row["attacked_accuracy"] is None) == (method in ("plain", "penalty"))
