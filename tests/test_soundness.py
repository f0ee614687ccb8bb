"""The promise, attacked: on random networks of every kind, nothing enters a certified ball."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pytest
import torch
from attacks import least_margin, least_margin_on_grid
from dags import kinds_met, random_dag
from networks import SMOOTH, Case, random_case
from torch import Tensor, nn

import vercomp
from vercomp import CompiledNetwork
from vercomp.backends.torch.memory import import_package

CHAINS = range(2 * len(SMOOTH))
IN_THE_PLANE = range(100, 100 + len(SMOOTH))
DAGS = range(1000, 1036)
SEEDS = (*CHAINS, *DAGS)


class Drawn(NamedTuple):
    """A random network and what became of it."""

    case: Case
    net: CompiledNetwork

    @property
    def source(self) -> nn.Module:
        """The module in double precision."""
        return copy.deepcopy(self.case.module).double()

    @property
    def network(self) -> Any:
        """The compiled network, in double precision."""
        return copy.deepcopy(self.net.network).double()


@pytest.fixture(scope="module", params=SEEDS)
def drawn(request: pytest.FixtureRequest) -> Drawn:
    """Fully connected chains and convolutional graphs, each compiled once."""
    seed = request.param
    case = random_dag(seed) if seed in DAGS else random_case(seed)
    return Drawn(case, compiled(case))


def compiled(case: Case) -> CompiledNetwork:
    return vercomp.compile(case.module, input_shape=tuple(case.x.shape[1:]))


def broken_by(case: Case, certificates: object, *, grid: bool = False) -> Tensor:
    """The inputs whose certified ball holds a point of another class."""
    module = copy.deepcopy(case.module).double()
    radius = certificates.radius  # type: ignore[attr-defined]
    find = least_margin_on_grid if grid else least_margin
    least = find(module, case.x.double(), case.y, radius)
    return (radius > 0) & (least <= 0)


def test_emitted_network_is_the_source(drawn: Drawn) -> None:
    case, network = drawn.case, drawn.net.network
    torch.testing.assert_close(network(case.x), case.module(case.x), rtol=2e-5, atol=2e-6)


def test_hessian_is_autograds(drawn: Drawn) -> None:
    case, network, module = drawn.case, drawn.network, drawn.source
    x, y = case.x.double(), case.y
    t = (y + 1) % network.classes
    hessians = network.hessian(x, y, t)
    for point, label, target, hessian in zip(x, y, t, hessians, strict=True):

        def margin(u: Tensor, label: Tensor = label, target: Tensor = target) -> Tensor:
            z = module(u[None])[0]
            return z[label] - z[target]

        expected = torch.autograd.functional.hessian(margin, point).reshape(hessian.shape)
        torch.testing.assert_close(hessian, expected, rtol=1e-9, atol=1e-10)
    v = torch.randn_like(x)
    products = network.hessian_vector_product(x, y, t, v).flatten(1)
    expected = (hessians @ v.flatten(1)[:, :, None])[:, :, 0]
    torch.testing.assert_close(products, expected, rtol=1e-9, atol=1e-10)


def test_sampled_curvature_stays_within_the_bounds(drawn: Drawn) -> None:
    case, network = drawn.case, drawn.net.network
    lo, hi = network.curvature()
    double, _ = network.in_double()
    generator = torch.Generator().manual_seed(7)
    scales = torch.tensor([0.1, 1.0, 5.0]).repeat_interleave(40)
    x = torch.randn(120, *case.x.shape[1:], generator=generator)
    x = scales.reshape(-1, *(1,) * (x.ndim - 1)) * x
    identity = torch.eye(network.classes, dtype=torch.float64)
    for y in range(network.classes):
        for t in set(range(network.classes)) - {y}:
            pair = torch.full((len(x),), y), torch.full((len(x),), t)
            eigenvalues = torch.linalg.eigvalsh(double.hessian(x.double(), *pair))
            slack = 1e-12 * (1.0 + eigenvalues.abs().max())
            assert eigenvalues.min() >= lo[y, t] - slack
            assert eigenvalues.max() <= hi[y, t] + slack
            c = identity[pair[0]] - identity[pair[1]]
            slopes = double.linearize(x.double().flatten(1), c).gradient.norm(dim=1)
            assert slopes.max() <= network.lipschitz()[y, t] * (1.0 + 1e-12)


def test_no_attack_enters_a_certified_ball(drawn: Drawn) -> None:
    case = drawn.case
    certificates = drawn.net.certify(case.x, case.y)
    assert (certificates.radius > 0).any()
    assert not broken_by(case, certificates).any(), case.name


@pytest.mark.parametrize("seed", IN_THE_PLANE)
def test_no_grid_point_enters_a_certified_disc(seed: int) -> None:
    case = random_case(seed, inputs=2)
    certificates = compiled(case).certify(case.x, case.y)
    assert not broken_by(case, certificates, grid=True).any(), case.name


def test_attacks_never_beat_their_lower_bound(drawn: Drawn) -> None:
    case = drawn.case
    radius = 0.3
    attacks = drawn.net.attack(case.x, case.y, radius, steps=20, restarts=3)
    reached = least_margin(
        drawn.source,
        case.x.double(),
        case.y,
        torch.full((len(case.x),), radius, dtype=torch.float64),
    )
    slack = 1e-9 * (1.0 + reached.abs())
    assert (attacks.lower_bound <= torch.minimum(attacks.margin, reached) + slack).all()
    distance = (attacks.point.double() - case.x.double()).flatten(1).norm(dim=1)
    assert (distance <= radius * (1.0 + 1e-12)).all()


def test_the_random_graphs_meet_everything() -> None:
    met = set(kinds_met(DAGS))
    assert met >= {
        *("convolution", "shared convolution", "transposed", "batch norm", "average pool"),
        *("adaptive pool", "skip", "concatenation", "slice", "scale", "transpose", "flip"),
        *("head", "sum of heads"),
        *SMOOTH,
    }


MUTATIONS = {
    "norms that are not upper bounds": (
        "core/norms/bounds.py",
        """
_honest = norm2, weighted_norm2_squared


def norm2(operator):
    return 0.5 * _honest[0](operator)


def weighted_norm2_squared(*arguments, **options):
    return 0.25 * _honest[1](*arguments, **options)
""",
    ),
    "the runner-up as the only target": (
        "core/inputs.py",
        """
_every = target_table


def target_table(network, y, logits, targets):
    return _every(network, y, logits, "runner-up")
""",
    ),
    "a dual without residual correction": (
        "core/methods/cuts.py",
        """
def rigorous_cut(linearization, x, x0, kappa):
    # φ(x̂) at η = 1/κ as if x̂ were its minimiser.
    length = (x - x0).norm(dim=1)
    constant = linearization.value + 0.5 * kappa * length.square()
    return Cut(constant, torch.zeros_like(constant))
""",
    ),
}
"""Ways to break a package, each by what it appends to which file."""


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_attacks_bite(mutation: str) -> None:
    """A package broken on purpose gives certificates that the attacks above refute."""
    path, addition = MUTATIONS[mutation]
    refuted = 0
    for seed in (*CHAINS[::3], *IN_THE_PLANE[::3]):
        case = random_case(seed, inputs=2 if seed >= 100 else None, batch=24)
        net = compiled(case)
        files = {**net.files, path: net.files[path] + addition.encode()}
        broken = import_package(files).Network()
        broken.load_state_dict(net.network.state_dict())
        certificates = broken.certify(case.x, case.y)
        refuted += int(broken_by(case, certificates, grid=seed >= 100).sum())
    assert refuted > 0
