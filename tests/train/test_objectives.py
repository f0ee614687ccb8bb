"""Objectives are the losses that their papers write down, at the points that were attacked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchrun import LOOPBACK
from training_problems import network, samples

import vercomp
from vercomp.core.regularizer import Regularizer
from vercomp.data import load_data
from vercomp.errors import UsageError
from vercomp.live import LiveNetwork, live_network
from vercomp.train.methods import METHODS, objective
from vercomp.train.objectives import (
    Batch,
    Loss,
    Moment,
    generalised_cross_entropy,
    untouched,
)
from vercomp.train.recipe import Recipe

NOW = Moment(radius=0.4, penalty=0.1, exponent=0.5)


def batch(x: Tensor, y: Tensor, start: Tensor | None = None) -> Batch:
    return Batch(x, y, start, torch.Generator().manual_seed(0))


def example(seed: int = 0) -> tuple[nn.Module, Regularizer, Tensor, Tensor]:
    model = network(seed)
    x, y = samples(16)
    return model, vercomp.regularizer(model, (6,), pairs_per_call=None, every=1), x, y


def call(
    method: str, model: nn.Module, reg: Regularizer | None, data: Batch, **numbers: Any
) -> Loss:
    recipe = Recipe(method=method, **numbers)
    return objective(recipe, model, reg, graph_of(recipe, model, data.x))(data, NOW)


def graph_of(recipe: Recipe, model: nn.Module, x: Tensor) -> LiveNetwork | None:
    """The graph of a model or of what a wrapper wraps, for methods that send regions through it."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    return live_network(inner, x.shape[1:]) if recipe.propagated else None


def gce(logits: Tensor, y: Tensor, q: float) -> Tensor:
    p = logits.softmax(1)[torch.arange(len(y)), y]
    return ((1.0 - p**q) / q).mean()


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> int:
    return int((model(x).argmax(1) == y).sum())


def test_generalised_cross_entropy_has_its_limits_and_its_gradient() -> None:
    z = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 0, 1])
    assert generalised_cross_entropy(z, y, 0.0) == F.cross_entropy(z, y)
    assert torch.allclose(generalised_cross_entropy(z, y, 1e-9), F.cross_entropy(z, y))
    assert torch.allclose(generalised_cross_entropy(z, y, 0.7), gce(z, y, 0.7))
    misplaced = 1.0 - z.softmax(1).gather(1, y[:, None]).mean()
    assert torch.allclose(generalised_cross_entropy(z, y, 1.0), misplaced)
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: generalised_cross_entropy(z, y, 0.7), z)
    lost = torch.tensor([[-1e4, 0.0]], requires_grad=True)  # p = 0
    generalised_cross_entropy(lost, torch.tensor([0]), 0.7).backward()
    assert torch.isfinite(lost.grad).all()


def test_plain_and_penalty() -> None:
    model, reg, x, y = example()
    plain, penalised = (call(method, model, reg, batch(x, y)) for method in ("plain", "penalty"))
    expected = gce(model(x), y, NOW.exponent)
    assert torch.allclose(plain.value, expected)
    assert plain.curvature is None
    kappa = reg.latest.sum() / 12  # what this very call has found
    assert torch.allclose(penalised.value, expected + NOW.penalty * kappa)
    assert penalised.curvature == pytest.approx(float(kappa))
    for loss in (plain, penalised):
        assert loss.correct == loss.attacked_correct == accuracy(model, x, y)
        assert torch.equal(loss.point, x)


@pytest.mark.parametrize("method", ["pgd", "crt"])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_adversarial_losses_are_taken_at_the_attacked_points(method: str, weight: float) -> None:
    model, reg, x, y = example()
    loss = call(method, model, reg, batch(x, y), clean_weight=weight)
    assert not loss.point.requires_grad
    assert ((loss.point - x).norm(dim=1) <= NOW.radius * (1 + 1e-9)).all()
    expected = gce(model(loss.point), y, NOW.exponent)
    assert expected > gce(model(x), y, NOW.exponent)
    if weight:
        expected = expected + weight * gce(model(x), y, NOW.exponent)
        assert loss.correct == accuracy(model, x, y)
    if method == "crt":
        expected = expected + NOW.penalty * reg.latest.sum() / 12
    assert torch.allclose(loss.value, expected)
    assert (loss.curvature is None) == (method == "pgd")
    assert loss.attacked_correct == accuracy(model, loss.point, y)


def test_trades() -> None:
    model, _, x, y = example()
    loss = call("trades", model, None, batch(x, y), trades_beta=3.0)
    p, q = model(x).softmax(1), model(loss.point).softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean()
    assert divergence > 1e-3
    assert torch.allclose(loss.value, gce(model(x), y, NOW.exponent) + 3.0 * divergence)
    assert loss.correct == accuracy(model, x, y)
    assert loss.attacked_correct == accuracy(model, loss.point, y)


def test_clean_accuracy_is_estimated_where_nothing_needs_it() -> None:
    model, reg, x, y = example()
    y = model(x).argmax(1)
    assert call("crt", model, reg, batch(x, y)).correct == 16
    assert call("crt", model, reg, batch(x, (y + 1) % 4)).correct == 0
    y[0] = (y[0] + 1) % 4  # one of the eight that are looked at
    assert call("crt", model, reg, batch(x, y)).correct == 14


def test_attacks_begin_where_they_are_told_to() -> None:
    model, reg, x, y = example()
    start = torch.full_like(x, 0.05)
    for method in ("pgd", "crt"):
        loss = call(method, model, reg, batch(x, y, start), attack_steps=0)
        assert torch.allclose(loss.point, x + start)
    warm = call("crt", model, reg, batch(x, y, start), attack_steps=2).point
    assert not torch.equal(warm, call("crt", model, reg, batch(x, y), attack_steps=2).point)


@pytest.mark.parametrize("method", ["penalty", "crt"])
def test_without_penalty_the_bound_is_still_followed(method: str) -> None:
    """CRT with γ = 0 takes its steps from the bound, but no gradient."""
    model, reg, x, y = example()
    with torch.no_grad():
        model[0].weight *= 2.0
    before = reg.latest.clone()
    loss = objective(Recipe(method=method), model, reg)(batch(x, y), Moment(0.4, 0.0, 0.0))
    assert (reg.latest > before).sum() == 12
    assert loss.curvature == pytest.approx(float(reg.latest.sum() / 12))
    assert torch.allclose(loss.value, F.cross_entropy(model(loss.point), y))


def test_methods_that_need_the_bound_say_so() -> None:
    model = network()
    for method in ("penalty", "crt", "dual"):
        with pytest.raises(UsageError, match=f"method '{method}' needs a regulariser"):
            objective(Recipe(method=method), model, None)


class WithStatistics(nn.Module):
    """A network with every kind of running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.batch = nn.BatchNorm1d(8, momentum=None)  # a cumulative average: it counts
        self.instance = nn.InstanceNorm1d(2, track_running_stats=True)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.batch(F.softplus(self.first(x)))
        return self.last(self.instance(hidden.reshape(-1, 2, 4)).flatten(1))


@pytest.mark.parametrize("method", ["pgd", "trades"])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_running_statistics_see_each_batch_once(method: str, weight: float) -> None:
    torch.manual_seed(0)
    model = WithStatistics()
    other = WithStatistics()
    other.load_state_dict(model.state_dict())
    x, y = samples(16)
    x = x.float()
    loss = call(method, model, None, batch(x, y), clean_weight=weight)
    assert model.training
    assert int(model.batch.num_batches_tracked) == 1
    seen = torch.cat([x, loss.point]) if weight or method == "trades" else loss.point
    other(seen)
    for (name, mine), theirs in zip(model.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)
    loss.value.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_frozen_statistics_may_go_backward() -> None:
    model, (x, y) = WithStatistics(), samples(16)
    model.batch.eval()
    loss = call("pgd", model, None, batch(x.float(), y))
    loss.value.backward()
    assert int(model.batch.num_batches_tracked) == 0


@pytest.mark.parametrize("method", ["plain", "pgd", "dual", "ibp", "coap"])
def test_a_temperature_divides_what_the_cross_entropy_is_of(method: str) -> None:
    """Of a network with logits T times as large it gives the loss of T = 1."""
    model, reg, x, y = example()
    now = Moment(radius=0.0, penalty=0.0, exponent=0.0)
    once = objective(Recipe(method), model, reg, graph_of(Recipe(method), model, x))
    expected = once(batch(x, y), now).value
    with torch.no_grad():
        for parameter in model[-1].parameters():
            parameter.mul_(3.0)
    recipe = Recipe(method, temperature=3.0)
    warm = objective(recipe, model, reg, graph_of(recipe, model, x))(batch(x, y), now).value
    torch.testing.assert_close(warm, expected, rtol=1e-5, atol=1e-6)


def test_statistics_come_back_after_an_error() -> None:
    model = WithStatistics()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}

    def fail() -> None:
        model(torch.randn(4, 6))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"), untouched(model):
        fail()
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


@pytest.fixture
def process_group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in LOOPBACK.items():
        monkeypatch.setenv(name, value)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("method", METHODS)
def test_the_wrapper_is_called_once_and_attacks_look_behind_it(method: str) -> None:
    model, reg, x, y = example()
    alone = call(method, model, reg, batch(x, y), clean_weight=0.5)
    alone.value.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()

    calls = []
    wrapped = DistributedDataParallel(model)
    wrapped.register_forward_pre_hook(lambda *_: calls.append(1))
    loss = call(method, wrapped, reg, batch(x, y), clean_weight=0.5)
    loss.value.backward()
    assert len(calls) == 1
    assert torch.allclose(loss.value, alone.value, rtol=1e-3)  # κ is a power step further
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=0.1, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_digits(method: str) -> None:
    digits = load_data("digits:train", (64,))
    x, y = digits.x[:300].float(), digits.y[:300]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Softplus(), nn.Linear(32, 10))
    recipe = Recipe(method=method, attack_steps=2, target="certificate")
    reg = vercomp.regularizer(model, (64,)) if recipe.bounded else None
    step = objective(recipe, model, reg, graph_of(recipe, model, x))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        loss = step(batch(x, y), Moment(0.2, 0.01, 0.0))
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        losses.append(loss)
    first, last = losses[0], losses[-1]
    assert last.value < 0.4 * first.value
    assert last.attacked_correct > 0.85 * 300
    assert last.correct >= last.attacked_correct - 30  # it may be an estimate
    if reg is not None:
        assert math.isfinite(last.curvature)


def test_the_penalty_reaches_the_weights() -> None:
    model, reg, x, y = example()
    gradients = []
    for penalty in (0.0, 1.0):
        loss = objective(Recipe(), model, reg)(batch(x, y), Moment(0.0, penalty, 0.0))
        model.zero_grad()
        loss.value.backward()
        gradients.append(model[0].weight.grad.clone())
    model.zero_grad()
    reg().backward()
    assert torch.allclose(gradients[1] - gradients[0], model[0].weight.grad, rtol=0.05, atol=1e-4)
