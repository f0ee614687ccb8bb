"""The graph over a model's own live parameters follows them, and sends its gradients there."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from vercomp.core.arithmetic.rounded import exact
from vercomp.core.domains.rounding import Values
from vercomp.core.walk import result
from vercomp.errors import UnsupportedError
from vercomp.live import live_network


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        weight_norm(nn.Linear(12, 5)),
        nn.Tanh(),
        nn.Linear(5, 3),
    )


def test_it_is_the_model_as_it_is_now() -> None:
    made = model().double()
    network = live_network(made.eval(), (1, 4, 4), mean=0.4, std=0.3)
    x = torch.rand(6, 1, 4, 4, dtype=torch.float64)
    for _ in range(2):
        graph = network.nodes()
        terms = {t.name: 0.0 for n in graph.nodes for t in getattr(n, "terms", ())}
        z = result(Values(terms, exact(x.flatten(1))), graph).value
        torch.testing.assert_close(z, made((x - 0.4) / 0.3))
        z.square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(1.1)
        made[1].running_mean.add_(0.1)


def test_its_type_is_that_of_the_parameters() -> None:
    made = model()
    network = live_network(made, (1, 4, 4))
    assert network.dtype == torch.float32
    made.double()
    assert network.dtype == torch.float64
    assert {tensor.dtype for tensor in network.parameters().values()} == {torch.float64}


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no parameters"):
        live_network(nn.Sequential(nn.Flatten(), nn.ReLU()), (2,))
