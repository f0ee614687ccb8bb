"""The benchmark of devices: what it compares, and that it notices a device that is wrong."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import vercomp
from benchmarks import device
from vercomp.core.methods.portfolio import Certifiable

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def case() -> device.Case:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
    network = vercomp.compile(module, input_shape=(6,)).network
    assert isinstance(network, Certifiable)
    return device.Case("small", network, module)


def test_relative_differences_spare_equal_infinities() -> None:
    one = torch.tensor([1.0, torch.inf, 0.0], dtype=torch.float64)
    assert device.farthest(one, one) == 0.0
    assert device.farthest(one, one + torch.tensor([0.1, 0.0, 0.0])) == pytest.approx(0.1 / 1.1)
    assert device.farthest(one, torch.tensor([1.0, 5.0, 0.0])) > 1.0


def test_a_copy_agrees_with_its_network_in_every_question(case: device.Case) -> None:
    found = list(device.disagreements(case, copy.deepcopy(case.network), CPU))
    assert {what for what, *_ in found} >= {"curvature, l2", "interval, linf", "curvature bounds"}
    assert all(difference <= allowed for _, difference, allowed in found)


def test_a_device_that_computes_something_else_is_noticed(case: device.Case) -> None:
    moved = copy.deepcopy(case.network)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter *= 1.01
    found = {what: (d, allowed) for what, d, allowed in device.disagreements(case, moved, CPU)}
    for what in ("curvature, l2", "interval, l2", "curvature bounds", "Hessians"):
        difference, allowed = found[what]
        assert difference > allowed


def test_the_section_says_what_was_run(case: device.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cases", lambda quick: iter([case]))
    monkeypatch.setattr(device, "training_step", lambda *arguments: 1.0)
    text = "\n".join(device.report(CPU, 4, quick=True))
    assert "No GPU" in text
    assert "seed 0; python -m benchmarks.device --device cpu --inputs 4 --quick" in text
    assert "DISAGREES" not in text
