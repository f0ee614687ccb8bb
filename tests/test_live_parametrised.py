"""``vercomp.regularizer`` of weights that a model computes: differentiated through, read live."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import vercomp
from vercomp.core.regularizer import Regularizer


def orthogonal(how: str) -> Callable[[nn.Module], nn.Module]:
    return lambda layer: parametrizations.orthogonal(layer, orthogonal_map=how)


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it deprecated
        return nn.utils.weight_norm(layer)


KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "spectral norm": parametrizations.spectral_norm,
    "weight norm": parametrizations.weight_norm,
    "householder": orthogonal("householder"),
    "cayley": orthogonal("cayley"),
    "matrix exponential": orthogonal("matrix_exp"),
    "spectral norm by a hook": nn.utils.spectral_norm,
    "weight norm by a hook": old_weight_norm,
}


class Masked(nn.Module):
    """A convolution under a mask, a dense layer whose rows are normalised by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.mask: Tensor
        self.register_buffer("mask", (torch.rand(2, 1, 3, 3) > 0.3).float())
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.conv2d(x, self.conv.weight * self.mask, self.conv.bias)
        return F.linear(torch.tanh(h).flatten(1), F.normalize(self.head.weight, dim=1))


def built(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if name == "masked":
            return Masked().double().eval(), (1, 4, 4)
        layers = KINDS[name](nn.Linear(6, 8)), nn.Softplus(), KINDS[name](nn.Linear(8, 3))
        model = nn.Sequential(*layers).double()
        model(torch.rand(4, 6, dtype=torch.float64))  # hooks have computed their weights
        return model.eval(), (6,)


def regularizer(model: nn.Module, shape: tuple[int, ...]) -> Regularizer:
    """Its power iterations have converged."""
    found = vercomp.regularizer(model, input_shape=shape, every=1)
    found.arithmetic.steps = 100
    with torch.no_grad():
        found.pairs()
    found.arithmetic.steps = 1
    return found


@pytest.mark.parametrize("name", [*KINDS, "masked"])
def test_the_value_is_the_bound_and_gradients_reach_what_is_trained(name: str) -> None:
    """Central differences along a random direction of all parameters, singular vectors held."""
    model, shape = built(name)
    reg = regularizer(model, shape)
    kappa = -vercomp.compile(model, shape).curvature()[0]
    torch.testing.assert_close(reg.pairs(), kappa, rtol=1e-3, atol=1e-9)
    parameters = [p for p in model.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(2)
    reg.arithmetic.steps = 0
    gradients = torch.autograd.grad(reg.pairs().sum(), parameters, allow_unused=True)
    assert any(g is not None and g.abs().sum() > 0.0 for g in gradients)
    moved = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    ways, slope = [], 0.0
    for parameter, gradient in moved:
        way = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        # Householder's form keeps signs on the diagonal, which torch rounds: they stay.
        ways.append((parameter, torch.where(gradient == 0.0, 0.0, way)))
        slope += float((gradient * way).sum())
    values = []
    with torch.no_grad():
        for step in (1e-5, -2e-5):
            for parameter, way in ways:
                parameter += step * way
            values.append(float(reg.pairs().sum()))
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["spectral norm", "weight norm", "cayley"])
def test_training_lowers_the_bound_and_every_step_reads_the_weights_anew(name: str) -> None:
    model, shape = built(name)
    model.float().train()
    reg = vercomp.regularizer(model, input_shape=shape, every=1)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    seen = []
    for _ in range(30):
        model(torch.rand(4, 6))  # spectral norm takes a power step here
        value = reg()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        seen.append(float(value.detach()))
    assert seen[-1] < 0.9 * seen[0]
    reg.eval()
    model.eval()
    kappa = -vercomp.compile(model, shape).curvature()[0]
    for _ in range(100):
        latest = reg.pairs().detach()
    torch.testing.assert_close(latest.double(), kappa, rtol=1e-2, atol=1e-6)


def test_shared_computations_are_made_once() -> None:
    """A chain in which each weight is read twice has 2³⁰ paths."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight
            for _ in range(30):
                weight = 0.5 * weight + 0.5 * weight
            return torch.tanh(F.linear(x, weight)) @ torch.eye(3)

    model = Chain()
    vercomp.regularizer(model, input_shape=(4,), every=1)().backward()
    assert model.weight.grad is not None
    assert model.weight.grad.abs().sum() > 0.0
