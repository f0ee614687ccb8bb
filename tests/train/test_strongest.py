"""The attack for evaluation: never weaker than others, never beyond the ball, never undecided."""

from __future__ import annotations

import pytest
import torch
from attacks import least_margin
from torch import Tensor, nn
from training_problems import disc, network, samples

import vercomp
from vercomp.train.strongest import strongest


def case(seed: int, count: int = 40, **options: int) -> tuple[nn.Module, Tensor, Tensor]:
    model = network(seed, scale=2.0, **options)
    x, _ = samples(count, inputs=options.get("inputs", 6), seed=seed)
    return model, x, model(x).argmax(1)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_least_margin_of_a_disc(seed: int) -> None:
    model, x, y = case(seed, count=12, inputs=2, classes=6)
    found = strongest(model, x, y, 0.4)
    grid = disc(0.4)
    for center, label, least in zip(x, y, found, strict=True):
        z = model(center + grid)
        others = z.clone()
        others[:, label] = -torch.inf
        expected = (z[:, label] - others.amax(1)).min()
        assert (least <= expected + 1e-3) if expected > 0 else (least <= 0)
        assert least >= min(expected - 1e-3, 0.0) or expected < 0


@pytest.mark.parametrize("seed", range(4))
def test_it_is_as_strong_as_the_attacks_of_the_tests(seed: int) -> None:
    model, x, y = case(seed, classes=10)
    radius = 0.5
    other = least_margin(model, x, y, torch.full((len(x),), radius, dtype=x.dtype)).detach()
    found = strongest(model, x, y, radius)
    assert 0 < (found > 0).sum() < len(x)
    assert (found > 0).sum() <= (other > 0).sum()
    assert (found <= other + 1e-4)[found > 0].all()


def test_certified_inputs_are_never_broken_and_exact_ones_just_beyond() -> None:
    model, x, y = case(1, classes=10)
    certificates = vercomp.compile(model, (6,)).certify(x, y)
    for factor in (0.999, 1.002):
        for row in certificates.exact.nonzero()[:10, 0]:
            radius = factor * float(certificates.radius[row])
            least = strongest(model, x[row : row + 1], y[row : row + 1], radius)
            assert bool(least > 0) == (factor < 1)


def test_float32_searches_and_float64_decides() -> None:
    _, x, y = case(2)
    single = network(2, scale=2.0, dtype=torch.float32)
    found = strongest(single, x, y, 0.5)
    assert found.dtype == torch.float64
    exact = strongest(single.double(), x, y, 0.5)
    clear = exact.abs() > 1e-4  # elsewhere the precision may decide what is broken
    assert torch.equal(found[clear] > 0, exact[clear] > 0)
    safe = (found > 0) & (exact > 0)
    assert safe.sum() > 10
    assert torch.allclose(found[safe], exact[safe], atol=1e-4)


def test_what_is_misclassified_is_broken_without_an_attack() -> None:
    model, x, y = case(0)
    wrong = (y + 1) % 4
    z = model(x).detach()
    expected = z.gather(1, wrong[:, None])[:, 0] - z.amax(1)
    assert torch.allclose(strongest(model, x, wrong, 0.5), expected)


def test_equal_calls_are_equal_and_the_model_is_left_alone() -> None:
    model, x, y = case(3)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(())
    torch.manual_seed(0)
    first = strongest(model, x, y, 0.5, steps=5, restarts=1)
    assert torch.rand(()) == expected
    assert torch.equal(first, strongest(model, x, y, 0.5, steps=5, restarts=1))
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_batches_and_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = case(0, count=7)
    shaped = nn.Sequential(nn.Flatten(), model)
    whole = strongest(shaped, x.reshape(7, 2, 3), y, 0.5, restarts=0)
    monkeypatch.setattr("vercomp.train.strongest.BATCH", 3)
    assert torch.allclose(whole, strongest(model, x, y, 0.5, restarts=0))
    assert len(strongest(model, x[:0], y[:0], 0.5)) == 0
