"""Emitted networks know their bounds, and when they are stale."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from graphs import Emitted, all_pairs, chain, decorated, emit, residual
from safetensors.torch import save
from torch import Tensor, nn

import vercomp
from vercomp.core.network import Bounds, VerifiedNetwork
from vercomp.core.storage import fill, load_network
from vercomp.errors import ChangedWeightsError, WeightError


def example(seed: int = 0) -> Emitted:
    return emit(chain(seed, [4, 6, 5, 3], ["softplus", "gelu"]))


def margins(classes: int) -> Tensor:
    y, t = all_pairs(classes)
    identity = torch.eye(classes, dtype=torch.float64)
    return identity[y] - identity[t]


Count = Callable[[VerifiedNetwork], list[str]]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    """The fingerprints for which a package's networks compute bounds from now on, in order."""

    def watch(network: VerifiedNetwork) -> list[str]:
        calls: list[str] = []
        base: Any = type(network).__mro__[1]  # the package's own copy of VerifiedNetwork
        real = base._compute_bounds

        def counted(self: VerifiedNetwork, fingerprint: str) -> Bounds:
            calls.append(fingerprint)
            found: Bounds = real(self, fingerprint)
            return found

        monkeypatch.setattr(base, "_compute_bounds", counted)
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


def optimizer_step(network: VerifiedNetwork) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.randn(5, 4)).square().sum().backward()
    optimizer.step()


def through_data(network: VerifiedNetwork) -> None:
    next(network.parameters()).data.view(-1)[3] += 0.25


def through_numpy(network: VerifiedNetwork) -> None:
    next(network.parameters()).detach().numpy()[0, 0] += 0.25


def last_bit(network: VerifiedNetwork) -> None:
    values = next(network.parameters()).data
    values[0, 0] = torch.nextafter(values[0, 0], torch.tensor(10.0))


def replaced(network: VerifiedNetwork) -> None:
    name, old = next(network.named_parameters())
    setattr(network, name, nn.Parameter(2 * old.detach()))


def bias_only(network: VerifiedNetwork) -> None:
    list(network.parameters())[1].data += 0.5


@pytest.mark.parametrize(
    "change", [optimizer_step, through_data, through_numpy, last_bit, replaced, bias_only]
)
def test_changed_weights_get_new_bounds_and_a_new_evaluation(
    change: Callable[[VerifiedNetwork], None], count: Count
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


def test_adopted_bounds_bring_no_stale_evaluation() -> None:
    """Weights and bounds of another state are loaded after this one was evaluated."""
    network, other = example(0).network, example(1).network
    other_bounds = other.bounds()
    x, c = torch.randn(6, 4, dtype=torch.float64), margins(3)
    network.linearize(x, c)
    weights = save({name: value.contiguous() for name, value in other.state_dict().items()})
    manifest = {"files": {}, "bounds": other_bounds.to_json()}
    files = {"net.safetensors": weights, "manifest.json": json.dumps(manifest).encode()}
    fill(network, files)
    assert torch.equal(network.linearize(x, c).value, other.linearize(x, c).value)


def test_adopted_bounds_of_other_weights_are_not_believed(count: Count) -> None:
    network, other = example(0).network, example(1).network
    flattering = other.bounds()
    calls = count(network)
    network.adopt(flattering)
    assert not torch.equal(network.bounds().curvature, flattering.curvature)
    assert calls == [network.fingerprint()]


def test_adopted_bounds_of_these_weights_are_used(count: Count) -> None:
    network = example().network
    stored = Bounds.from_json(json.loads(json.dumps(network.bounds().to_json())))
    fresh = type(network)()
    fresh.load_state_dict(network.state_dict())
    fresh.adopt(stored)
    calls = count(fresh)
    assert torch.equal(fresh.curvature()[0], network.curvature()[0])
    assert not calls


def test_bounds_survive_json_exactly() -> None:
    bounds = emit(residual(3, ["tanh", "silu", "softplus"])).network.bounds()
    again = Bounds.from_json(json.loads(json.dumps(bounds.to_json())))
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


def test_the_evaluation_copy_is_no_part_of_the_module() -> None:
    network = example().network
    keys, count = list(network.state_dict()), len(list(network.parameters()))
    network.linearize(torch.randn(6, 4), margins(3))
    assert list(network.state_dict()) == keys
    assert len(list(network.parameters())) == count
    assert len(list(network.modules())) == 1
    assert all(p.requires_grad for p in network.parameters())


def test_deep_copies_are_independent() -> None:
    network = example().network
    x, c = torch.randn(6, 4, dtype=torch.float64), margins(3)
    before = network.linearize(x, c).value
    other = copy.deepcopy(network)
    assert torch.equal(other.curvature()[0], network.curvature()[0])
    next(other.parameters()).data.mul_(2.0)
    assert not torch.equal(other.curvature()[0], network.curvature()[0])
    assert not torch.equal(other.linearize(x, c).value, before)
    assert torch.equal(network.linearize(x, c).value, before)


def test_pickles_hold_no_second_copy_of_the_weights() -> None:
    network = emit(chain(0, [40, 60, 3], ["tanh"])).network
    size = len(pickle.dumps(network))
    network.linearize(torch.randn(6, 40), margins(3))
    again = pickle.dumps(network)
    assert len(again) < size + 2000
    restored = pickle.loads(again)  # noqa: S301 - our own bytes
    assert torch.equal(restored.curvature()[0], network.curvature()[0])


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


def test_fingerprints_depend_on_names_types_shapes_and_bytes() -> None:
    network = example().network
    fingerprint = network.fingerprint()
    assert copy.deepcopy(network).fingerprint() == fingerprint
    assert copy.deepcopy(network).double().fingerprint() != fingerprint
    parameter = next(network.parameters())
    parameter.data = parameter.data.T.contiguous().T  # the same values, another layout in memory
    assert network.fingerprint() == fingerprint
    parameter.data[0, 0] = -0.0 if parameter.data[0, 0] == 0 else 0.0
    assert network.fingerprint() != fingerprint


def test_a_folder_that_lacks_files(tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError):
        load_network(example().network, tmp_path)


def test_weights_that_change_during_a_certificate_void_it() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    network = vercomp.compile(module, input_shape=(3,)).network
    before = network.bounds()

    def change_while_held() -> None:
        with network.held():
            next(network.parameters()).data.mul_(2.0)
            assert network.bounds() is before

    with pytest.raises(
        ChangedWeightsError, match="the weights changed while they were being certified"
    ):
        change_while_held()
    assert network.bounds() is not before


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


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_does_not_round_weights(dtype: torch.dtype, tmp_path: Any) -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3))
    expected = vercomp.compile(module, (3,), std=0.3)
    folder = expected.save(tmp_path / "package")
    try:
        torch.set_default_dtype(dtype)
        compiled = vercomp.compile(module, (3,), std=0.3)
        loaded = vercomp.load_package(folder)
    finally:
        torch.set_default_dtype(torch.float32)
    assert dict(compiled.files) == dict(expected.files)
    for network in (compiled.network, loaded.network):
        assert network.fingerprint() == expected.network.fingerprint()
