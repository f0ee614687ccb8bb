"""``vercomp.regularizer`` over a model's own parameters, through every kind of map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vercomp
from vercomp.core.regularizer import Regularizer

Y, T = torch.tensor([0, 2, 1]), torch.tensor([1, 0, 2])


class Residual(nn.Module):
    """Two blocks that share a convolution, one behind a batch norm, and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.head = nn.Linear(4, 3)
        for buffer in (self.norm.running_mean, self.norm.running_var):
            assert buffer is not None
            buffer.uniform_(0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = h + self.conv(F.softplus(self.norm(h)))
        h = h + self.conv(torch.tanh(h))
        both = torch.cat([h, torch.tanh(h)], 1)
        return self.head(both.mean((2, 3)))


def regularizer(model: nn.Module) -> Regularizer:
    """Its power iterations have converged, to three digits or so."""
    found = vercomp.regularizer(model, input_shape=(1, 4, 4), every=1)
    found.arithmetic.steps = 60
    with torch.no_grad():
        found.pairs()
    found.arithmetic.steps = 1
    return found


def model() -> Residual:
    return Residual().double().eval()


@pytest.mark.parametrize(
    "name", ["stem.weight", "conv.weight", "norm.weight", "norm.bias", "head.weight"]
)
def test_gradients_reach_a_weight_by_every_way_by_which_it_is_read(name: str) -> None:
    """Central differences along a random direction, with the singular vectors held.

    At a singular pair the derivative of the norm is that of the Rayleigh quotient there.
    """
    network = model()
    live = vercomp.regularizer(network, input_shape=(1, 4, 4), every=1)
    live.arithmetic.steps = 0
    live(Y, T).backward()
    parameter = network.get_parameter(name)
    generator = torch.Generator().manual_seed(0)
    move = 1e-5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    values = []
    with torch.no_grad():
        for step in (1.0, -2.0):
            parameter.add_(step * move)
            values.append(live(Y, T).item())
    slope = 0.0 if parameter.grad is None else (parameter.grad * move).sum().item()
    assert 2.0 * slope == pytest.approx(values[0] - values[1], rel=1e-6)
    assert (slope == 0.0) == (name == "norm.bias")


def test_gradients_reach_a_scale_that_nothing_takes_up() -> None:
    """A batch norm between activations is a diagonal of its own."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4)
    assert norm.running_var is not None
    norm.running_var.uniform_(0.5, 2.0)
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), norm, nn.Tanh(), nn.Linear(4, 2)).double()
    found = vercomp.regularizer(network.eval(), input_shape=(4,), every=1)
    found.arithmetic.steps = 200
    found().backward()
    assert norm.weight.grad is not None
    expected = torch.empty(4, dtype=torch.float64)
    for entry in range(4):
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                norm.weight[entry] += step
                values.append(float(found()))
                norm.weight[entry] -= step
        expected[entry] = (values[0] - values[1]) / 2e-5
    torch.testing.assert_close(norm.weight.grad, expected, rtol=1e-4, atol=1e-6)


def test_it_is_the_bound_of_the_compiled_network() -> None:
    network = model()
    lower, _ = vercomp.compile(network, input_shape=(1, 4, 4)).curvature()
    found = regularizer(network).pairs().detach()
    assert torch.allclose(found, -lower, rtol=1e-2)
    assert (found <= -lower * (1.0 + 1e-9)).all()


def test_it_follows_the_parameters_and_the_running_statistics() -> None:
    network = model()
    live = regularizer(network)
    with torch.no_grad():
        before = live(Y, T).item()
        network.conv.weight.mul_(2.0)
        assert network.norm.running_var is not None
        network.norm.running_var.mul_(0.25)
        live.arithmetic.steps = 60
        after = live(Y, T).item()
        assert after > 2.0 * before
        assert after == pytest.approx(regularizer(network)(Y, T).item(), rel=1e-2)
