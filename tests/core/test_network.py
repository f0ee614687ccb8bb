"""Emitted networks: modules like any other, whose weights are told apart by a fingerprint."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from curvatures import margins
from graphs import Emitted, chain, emit
from torch import nn

import vercomp
from vercomp.core import network as core_network
from vercomp.core.network import VerifiedNetwork
from vercomp.errors import ChangedWeightsError


def example(seed: int = 0) -> Emitted:
    return emit(chain(seed, [4, 6, 5, 3], ["softplus", "gelu"]))


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


def test_the_copy_in_double_is_made_once_for_a_state_of_the_weights() -> None:
    network = example().network
    double, graph = network.in_double()
    assert network.in_double()[0] is double
    assert network.in_double()[1] is graph
    assert double.dtype == torch.float64
    assert network.dtype == torch.float32
    assert not any(p.requires_grad for p in double.parameters())
    x = torch.randn(3, 4, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(double(x), copy.deepcopy(network).double()(x))
        next(network.parameters()).mul_(2.0)
        moved, _ = network.in_double()
        assert moved is not double
        assert torch.equal(moved(x), copy.deepcopy(network).double()(x))


def test_weights_are_hashed_once_for_a_run_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    real = core_network.hashlib.sha256
    monkeypatch.setattr(core_network.hashlib, "sha256", lambda: hashed.append(1) or real())
    network = example().network
    hashed.clear()
    x = torch.randn(5, 4)
    y = network(x).argmax(1)
    for _ in range(3):
        network.certify(x, y)
    assert len(hashed) <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8])
def test_weights_that_differ_in_one_byte_are_told_apart(dtype: torch.dtype) -> None:
    class Held(VerifiedNetwork):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("odd", torch.zeros(5).to(dtype))
            self.register_buffer("part", torch.zeros(2, 9).to(dtype)[:, 1:4])

        forward = nodes = None  # type: ignore[assignment]

    network = Held()
    buffers = list(network.buffers())
    before = network.fingerprint()
    assert network.fingerprint() == before
    for buffer in buffers:
        raw = buffer.data.view(torch.uint8)
        raw[..., -1] ^= 128  # the sign of the last number, where numbers have one: −0 is not 0
        assert network.fingerprint() != before
        raw[..., -1] ^= 128
        assert network.fingerprint() == before
    if dtype.is_floating_point:
        buffers[0][2] = torch.nan
        broken = network.fingerprint()
        assert broken != before
        assert network.fingerprint() == broken
