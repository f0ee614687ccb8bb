"""Every claim, in every norm, with and without scales: attacked, and noticed when it is broken."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from attacks import slope
from torch import Tensor, nn

import vercomp
from vercomp import CompiledNetwork, Deviation, Labels, Specification, Threshold
from vercomp.backends.torch.memory import import_package
from vercomp.core.claims.given import claim_of

SCALES = torch.tensor([1.0, 0.0, 0.3, 2.0])


def model(seed: int, activation: Callable[[], nn.Module], outputs: int = 4) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(4, 9), activation(), nn.Linear(9, 8), activation()]
        made = nn.Sequential(*layers, nn.Linear(8, outputs))
        for parameter in made.parameters():
            parameter.data *= 1.7
        return made


@cache
def compiled(seed: int, activation: Callable[[], nn.Module]) -> tuple[nn.Module, CompiledNetwork]:
    """A network in float64, and compiled as it is."""
    made = model(seed, activation)
    return model(seed, activation).double(), vercomp.compile(made, (4,))


def inputs(seed: int) -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))


def any_rows(seed: int) -> Specification:
    """Three clauses of two alternatives each, of which one may fail, true at zero outputs."""
    C = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
    return Specification.of(C, torch.full((6,), 1.5), torch.tensor([0, 1, 2, 2, 1, 0]), 1)


CLAIMS: dict[str, Callable[[int], Any]] = {
    "predicted labels": lambda _: Labels(),
    "among the two largest": lambda _: Labels(top=2),
    "classes that count as one": lambda _: Labels(groups=[(0, 2), (1,)]),
    "one of a group among the two largest": lambda _: Labels(top=2, groups=[(3, 1)]),
    "threshold": lambda _: Threshold(0.1, output=2),
    "above a threshold": lambda _: Threshold(-0.3, output=0, above=True),
    "deviation": lambda _: Deviation(0.3),
    "deviation of one output": lambda _: Deviation(0.2, output=3),
    "rows": any_rows,
}


def worth(rows: Specification, z: Tensor) -> Tensor:
    """A number for each input that is positive exactly where the specification holds."""
    values = torch.einsum("bro,bo->br", rows.coefficients, z) + rows.offsets
    clauses = [values[:, rows.groups == g].amax(1) for g in range(rows.clauses)]
    return torch.stack(clauses, 1).sort(1).values[:, rows.allowed]


def least_worth(
    module: nn.Module, x: Tensor, rows: Specification, radius: Tensor, norm: str, scales: Any
) -> Tensor:
    """The least that projected steps find in the balls, from random points and the centre."""
    generator = torch.Generator().manual_seed(1)
    radius = radius.clamp(max=1e3) * (1.0 - 1e-9)
    ball = vercomp.Ball(x, radius, norm, scales=scales)
    best = torch.full((len(x),), math.inf, dtype=torch.float64)
    weights = torch.ones_like(x[0]) if scales is None else scales.double()
    for start in range(4):
        point = x if start == 0 else ball.sample(1, generator)[:, 0]
        for step in range(12):
            leaf = point.detach().requires_grad_()
            value = worth(rows, module(leaf))
            best = torch.minimum(best, value.detach())
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
            move = weights * slope(weights * gradient, norm)
            point = ball.project((point + move * radius[:, None] * 0.01 ** (step / 12))[:, None])
            point = point[:, 0]
        best = torch.minimum(best, worth(rows, module(point)).detach())
    return best


def stated(net: Any, module: nn.Module, x: Tensor, given: Any) -> Specification:
    """The claim's rows, with the outputs as float64 has them."""
    z = module(x.double()).detach()
    return claim_of(given).about(len(x), z.shape[1], lambda: (z, z)).specification()


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_no_attack_enters_a_certified_ball(
    claim: str, norm: str, activation: Callable[[], nn.Module]
) -> None:
    module, net = compiled(0, activation)
    x, given = inputs(0), CLAIMS[claim](0)
    rows = stated(net, module, x, given)
    held = worth(rows, module(x.double())) > 0
    for scales in (None, SCALES):
        found = net.certify(x, given, norm=norm, scales=scales)
        least = least_worth(module, x.double(), rows, found.radius, norm, scales)
        # An input of which the claim is not true at all has no radius.
        assert torch.equal(found.radius > 0, held)
        assert (least[held] > -1e-9).all()
        assert torch.equal(found.prediction == net_label(given, net, x), held)


def net_label(given: Any, net: CompiledNetwork, x: Tensor) -> Tensor:
    z = net.network(x).double().detach()
    return claim_of(given).about(len(x), z.shape[1], lambda: (z, z)).label()


BREAKS = {
    "one clause more may fail": (
        "core/specifications.py",
        "return clauses.kthvalue(self.allowed + 1,",
        "return clauses.kthvalue(self.allowed + 2,",
        "among the two largest",
        None,
    ),
    "alternatives that do not exist": (
        "core/claims/labels.py",
        "C = torch.where(inside[:, :, None, None], 0.0, C)",
        "C = torch.where(inside[:, :, None, None], 0.0, 0.5 * C.abs())",
        "classes that count as one",
        None,
    ),
    "a deviation twice as large": (
        "core/claims/deviation.py",
        "distance = check_number(",
        "distance = 2.0 * check_number(",
        "deviation",
        None,
    ),
    "a threshold that moved": (
        "core/claims/threshold.py",
        "d = torch.where(rises, -high, low)",
        "d = torch.where(rises, 0.5 - high, low + 0.5)",
        "threshold",
        None,
    ),
    "scales that curvature forgets": (
        "core/methods/curvature.py",
        "reach = kind.reach(scales)[:, None].expand_as(found.value)",
        "reach = 0.0 * found.value",
        "predicted labels",
        SCALES,
    ),
    "scales that regions forget": (
        "core/methods/method.py",
        "box=box, scales=self.scales)",
        "box=box)",
        "predicted labels",
        3.0 * torch.ones(4),
    ),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_the_attacks_bite(broken: str) -> None:
    path, right, wrong, claim, scales = BREAKS[broken]
    refuted = 0
    for seed in range(4):
        module, net = compiled(seed, nn.ReLU if "regions" in broken else nn.Tanh)
        x, given = inputs(seed), CLAIMS[claim](seed)
        source = net.files[path].decode()
        assert right in source
        files = {**net.files, path: source.replace(right, wrong).encode()}
        package = import_package(files)
        network = package.Network()
        network.load_state_dict(net.network.state_dict())
        rows = stated(net, module, x, given)
        own = _there(package.__name__, given)
        radius = network.certify(x, own, norm="l2", scales=scales).radius
        held = worth(rows, module(x.double())) > 0
        least = least_worth(module, x.double(), rows, radius, "l2", scales)
        refuted += int((least[held] <= -1e-9).sum())
    assert refuted > 0


def _there(package: str, given: Any) -> Any:
    """The same claim, of the package's own type."""
    kind = type(given)
    module = sys.modules[kind.__module__.replace("vercomp.core", f"{package}.core")]
    return getattr(module, kind.__name__)(**vars(given))
