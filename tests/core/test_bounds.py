"""Networks know their bounds, and when they are stale."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from curvatures import margins
from graphs import Emitted, all_pairs, chain, decorated, emit, residual
from torch import nn

import vercomp
from vercomp.core.bounds import BoundedNetwork, Bounds
from vercomp.core.errors import WeightError


def through_files(bounds: Bounds) -> Bounds:
    entry, matrices = bounds.files()
    again = Bounds.stored(json.loads(json.dumps(entry)), matrices)
    assert again is not None
    return again


def example(seed: int = 0) -> Emitted:
    return emit(chain(seed, [4, 6, 5, 3], ["softplus", "gelu"]))


Count = Callable[[BoundedNetwork], list[str]]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    """The fingerprints for which a package's networks compute bounds from now on, in order."""

    def watch(network: BoundedNetwork) -> list[str]:
        calls: list[str] = []
        assert isinstance(network, BoundedNetwork)
        real = BoundedNetwork._compute

        def counted(self: BoundedNetwork, fingerprint: str) -> Bounds:
            calls.append(fingerprint)
            found: Bounds = real(self, fingerprint)
            return found

        monkeypatch.setattr(BoundedNetwork, "_compute", counted)
        return calls

    return watch


def test_bounds_are_computed_once_for_the_same_weights(count: Count) -> None:
    network = example().network
    calls = count(network)
    x, c = torch.randn(6, 4), margins(3)
    first = network.bounds()
    for _ in range(3):
        network.linearize(x, c)
        network.curvature()
    assert network.bounds() is first
    assert calls == [network.fingerprint()]


def optimizer_step(network: BoundedNetwork) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.randn(5, 4)).square().sum().backward()
    optimizer.step()


def through_data(network: BoundedNetwork) -> None:
    next(network.parameters()).data.view(-1)[3] += 0.25


def through_numpy(network: BoundedNetwork) -> None:
    next(network.parameters()).detach().numpy()[0, 0] += 0.25


def last_bit(network: BoundedNetwork) -> None:
    values = next(network.parameters()).data
    values[0, 0] = torch.nextafter(values[0, 0], torch.tensor(10.0))


def replaced(network: BoundedNetwork) -> None:
    name, old = next(network.named_parameters())
    setattr(network, name, nn.Parameter(2 * old.detach()))


def bias_only(network: BoundedNetwork) -> None:
    list(network.parameters())[1].data += 0.5


@pytest.mark.parametrize(
    "change", [optimizer_step, through_data, through_numpy, last_bit, replaced, bias_only]
)
def test_changed_weights_get_new_bounds_and_a_new_evaluation(
    change: Callable[[BoundedNetwork], None], count: Count
) -> None:
    torch.manual_seed(0)
    network = example().network
    calls = count(network)
    x, c = torch.randn(6, 4, dtype=torch.float64), margins(3)
    network.linearize(x, c)
    change(network)
    lo, _ = network.curvature()
    linearization = network.linearize(x, c)
    fresh = type(network)()
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh.curvature()[0], lo)
    assert torch.equal(fresh.linearize(x, c).value, linearization.value)
    expected = (copy.deepcopy(network).double()(x) * c).sum(1).detach()
    assert torch.allclose(linearization.value, expected, atol=1e-12)
    assert len(set(calls[:2])) == 2


def test_adopted_bounds_of_other_weights_are_not_believed(count: Count) -> None:
    network, other = example(0).network, example(1).network
    flattering = other.bounds()
    calls = count(network)
    network.adopt(flattering)
    assert not torch.equal(network.bounds().curvature, flattering.curvature)
    assert calls == [network.fingerprint()]


def test_adopted_bounds_of_these_weights_are_used(count: Count) -> None:
    network = example().network
    stored = through_files(network.bounds())
    fresh = type(network)()
    fresh.load_state_dict(network.state_dict())
    fresh.adopt(stored)
    calls = count(fresh)
    assert torch.equal(fresh.curvature()[0], network.curvature()[0])
    assert not calls


def test_bounds_survive_their_files_exactly() -> None:
    bounds = emit(residual(3, ["tanh", "silu", "softplus"])).network.bounds()
    again = through_files(bounds)
    assert again.fingerprint == bounds.fingerprint
    assert torch.equal(again.curvature, bounds.curvature)
    assert again.norms == dict(bounds.norms)
    assert all(torch.equal(again.shares[name], share) for name, share in bounds.shares.items())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", [0, 1, -1])
def test_weights_that_are_not_finite_are_refused(bad: float, position: int) -> None:
    network = example().network
    x, c = torch.randn(6, 4, dtype=torch.float64), margins(3)
    network.linearize(x, c)
    parameter = list(network.parameters())[position]
    parameter.data.view(-1)[0] = bad
    name = [name for name, _ in network.named_parameters()][position]
    for ask in (network.bounds, network.curvature, lambda: network.linearize(x, c)):
        with pytest.raises(WeightError, match=f"node '{name}': the parameter holds NaN or inf"):
            ask()


@pytest.mark.parametrize("graph", [chain(2, [4, 6, 3], ["silu"]), decorated(2)])
def test_double_is_the_same_function_with_the_same_bounds(graph: Any) -> None:
    network = emit(graph).network
    lo, hi = network.curvature()
    x = torch.randn(5, *network.input_shape)
    single = network(x)
    double = network.double()
    assert double.dtype == torch.float64
    assert torch.allclose(double(x.double()).float(), single, rtol=1e-4, atol=1e-4)
    assert torch.allclose(double.curvature()[0], lo, rtol=1e-12)
    assert torch.allclose(double.curvature()[1], hi, rtol=1e-12)


def test_curvature_has_the_right_signs() -> None:
    """One softplus neuron behind ±1 heads: z₀ − z₁ is convex, z₁ − z₀ concave, exactly."""
    network = emit(chain(0, [2, 1, 2], ["softplus"])).network
    w = torch.tensor([[3.0, 4.0]])
    head = torch.tensor([[1.0], [-1.0]])
    state = network.state_dict()
    weights = [name for name in state if name.endswith("weight")]
    state[weights[0]].copy_(w)
    state[weights[1]].copy_(head)
    lo, hi = network.curvature()
    # σ″ ≤ 1/4, ‖w‖² = 25, coefficient 2: ∇²(z₀ − z₁) lies between 0 and 12.5.
    assert float(lo[0, 1]) == 0.0
    assert float(hi[0, 1]) == pytest.approx(12.5)
    assert float(lo[1, 0]) == pytest.approx(-12.5)
    assert float(hi[1, 0]) == 0.0
    assert (lo.diagonal() == 0).all()
    assert (hi.diagonal() == 0).all()
    y, t = torch.tensor([0, 1]), torch.tensor([1, 0])
    top = torch.linalg.eigvalsh(network.double().hessian(torch.zeros(2, 2).double(), y, t)).detach()
    assert float(top[0, 1]) > 1.0
    assert float(top[1, 0]) < -1.0


@pytest.mark.parametrize("seed", range(3))
def test_hessians_lie_between_lo_and_hi(seed: int) -> None:
    network = emit(residual(seed, ["softplus", "gelu", "silu"])).network
    lo, hi = network.curvature()
    y, t = all_pairs(3)
    double = copy.deepcopy(network).double()
    for scale in (0.3, 3.0, 30.0):
        x = scale * torch.randn(6, 5, dtype=torch.float64)
        eigenvalues = torch.linalg.eigvalsh(double.hessian(x, y, t))
        assert (eigenvalues[:, 0] >= lo[y, t]).all()
        assert (eigenvalues[:, -1] <= hi[y, t]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_moved_to_half_precision_still_certifies_and_attacks(dtype: torch.dtype) -> None:
    network = vercomp.compile(
        nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)), (3,)
    ).network
    x, y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    wide = copy.deepcopy(network).to(dtype).float()
    network.to(dtype)
    certify: Any = getattr(network, "certify")  # noqa: B009 - not in the base class
    attack: Any = getattr(network, "attack")  # noqa: B009
    expected: Any = getattr(wide, "certify")(x, y)  # noqa: B009
    assert torch.allclose(certify(x, y).radius, expected.radius, rtol=1e-2)
    found = attack(x, y, 0.5)
    assert (found.lower_bound <= found.margin).all()
