"""The method ``crown``: attacked on random graphs, exact where it can be, noticed when broken."""

from __future__ import annotations

import pytest
import sympy
import torch
from dags import random_dag
from graphs import chain, emit
from linear_bounds import KINDS, least_values, margins, region_of
from torch import Tensor, nn

import vercomp
from vercomp.activations.functions import X
from vercomp.core.domains import refined_intervals
from vercomp.core.methods.crown import Crown
from vercomp.core.methods.portfolio import usual_methods
from vercomp.core.network import VerifiedNetwork
from vercomp.core.relaxation.lines import Line, lower_line
from vercomp.core.specifications import Specification

ReLUs = (nn.ReLU, nn.LeakyReLU, nn.Hardswish, nn.ReLU6, nn.Hardtanh)


def network(seed: int, activation: type[nn.Module] = nn.ReLU, inputs: int = 4) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(inputs, 12), activation(), nn.Linear(12, 12), activation(), nn.Linear(12, 3)
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
    return model


@pytest.mark.parametrize("seed", range(8))
def test_no_attack_finds_less_on_random_graphs(seed: int) -> None:
    """Skips, concatenations, shared weights, convolutions, in every kind of region."""
    case = random_dag(seed, batch=2)
    net = vercomp.compile(case.module, tuple(case.x.shape[1:]))
    module = case.module.double()
    rows = margins(case.y, net.network.classes)
    for kind in KINDS:
        region = region_of(kind, case.x, 0.3, seed)
        bounds = net.bound(region, rows, methods=["crown"])
        assert bounds.isfinite().all()
        assert (least_values(module, region, rows, samples=32) >= bounds).all()
        assert (bounds >= net.bound(region, rows, methods=["interval"])).all()


@pytest.mark.parametrize("activation", ReLUs)
@pytest.mark.parametrize("kind", KINDS)
def test_no_attack_finds_less_where_slopes_jump(kind: str, activation: type[nn.Module]) -> None:
    model = network(0, activation)
    net = vercomp.compile(model, (4,))
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    rows = margins(model(x).argmax(1), 3)
    model = model.double()
    for radius in (0.05, 0.5):
        region = region_of(kind, x, radius)
        bounds = net.bound(region, rows, methods=["crown"])
        least = least_values(model, region, rows)
        assert (least >= bounds).all()
        if radius == 0.05:
            assert (least - bounds).mean() < 0.1


def test_an_activation_of_the_user() -> None:
    class Mine(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / torch.sqrt(1 + x**2)

    found = vercomp.define_activation("mine", X / sympy.sqrt(1 + X**2), Mine())
    graph = chain(0, [4, 9, 9, 3], [found.build(), found.build()])
    emitted = emit(graph).network
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.eye(3, dtype=torch.float64).expand(3, -1, -1)
    double, _ = emitted.in_double()
    for kind in ("l1", "l2", "linf"):
        region = region_of(kind, x, 0.4)
        bounds = Crown().bound(emitted, region, Specification.of(rows))
        least = least_values(double, region, rows)
        assert (least >= bounds).all()
        assert (least - bounds).max() < 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_affine_networks_are_bounded_exactly(kind: str) -> None:
    emitted = emit(chain(1, [5, 7, 6, 4], [])).network
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    region = region_of(kind, x, 0.7)
    rows = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bounds = Crown().bound(emitted, region, Specification.of(rows))
    double, _ = emitted.in_double()
    zero = double(torch.zeros(1, 5, dtype=torch.float64))
    matrix = double(torch.eye(5, dtype=torch.float64)) - zero  # (inputs, outputs)
    g = rows @ matrix.T
    value = (rows * double(region.center)[:, None]).sum(-1)
    torch.testing.assert_close(bounds, value + region.minimum(g), rtol=1e-10, atol=1e-10)


def test_bounds_fall_as_the_region_grows() -> None:
    net = vercomp.compile(network(1, nn.Tanh), (4,))
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    before = torch.full((3, 3), torch.inf, dtype=torch.float64)
    for radius in (0.0, 1e-3, 0.1, 0.3, 1.0, 10.0):
        bounds = net.bound(vercomp.Ball(x, radius, "linf"), torch.eye(3), methods=["crown"])
        assert (bounds <= before + 1e-9).all()
        before = bounds
    cut = (
        net.bound(vercomp.Ball(x, 1.0, "linf", box=(-1.0, 1.0)), torch.eye(3), methods=["crown"])
        if bool((x.abs() <= 1.0).all())
        else before
    )
    assert (cut >= before - 1e-9).all()


def test_bounds_depend_neither_on_blocks_nor_on_what_shares_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emitted = emit(chain(3, [4, 9, 8, 5], ["gelu", "sigmoid"])).network
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = Specification.of(torch.eye(5, dtype=torch.float64))
    whole = Crown().bound(emitted, vercomp.Ball(x, 0.3), rows)
    one = [Crown().bound(emitted, vercomp.Ball(x[i : i + 1], 0.3), rows) for i in range(5)]
    torch.testing.assert_close(torch.cat(one), whole, rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(refined_intervals, "_ENTRIES", 1)
    few = Crown().bound(emitted, vercomp.Ball(x, 0.3), rows)
    torch.testing.assert_close(few, whole, rtol=1e-9, atol=1e-9)


def test_weights_that_are_no_numbers_prove_nothing() -> None:
    emitted = emit(chain(0, [3, 5, 4], ["tanh"])).network
    with torch.no_grad():
        list(emitted.parameters())[-1].fill_(torch.nan)
    region = vercomp.Ball(torch.zeros(1, 3), 0.1)
    bounds = Crown().bound(emitted, region, Specification.of(torch.eye(4)))
    assert (bounds == -torch.inf).all()


def _broken(model: nn.Module) -> int:
    """How many bounds an attack refutes."""
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    rows = margins(model(x).argmax(1), 3)
    double: VerifiedNetwork = vercomp.compile(model, (4,)).network
    count = 0
    module = model.double()
    for kind in ("linf", "l2"):
        region = region_of(kind, x, 0.05)
        bounds = Crown().bound(double, region, Specification.of(rows))
        count += int((least_values(module, region, rows) < bounds).sum())
    return count


def test_attacks_notice_lines_that_are_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _broken(network(2, nn.Sigmoid)) == 0

    def raised(*arguments: Tensor) -> Line:
        slope, intercept = lower_line(*arguments)  # type: ignore[arg-type]
        return Line(slope, intercept + 0.02)

    monkeypatch.setattr(refined_intervals, "lower_line", raised)
    assert _broken(network(2, nn.Sigmoid)) > 0


def test_radii_by_hand() -> None:
    """z₀ − z₁ = relu(x₁) + relu(x₂) − 1 at (2, 2): affine nearby, so 3 in l1, 3/√2 in l2."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
        model[2].bias.copy_(torch.tensor([0.0, 1.0]))
    net = vercomp.compile(model, (2,))
    for norm, radius in (("linf", 1.5), ("l2", 4.5**0.5), ("l1", 2.5)):
        found = net.certify(torch.full((1, 2), 2.0), torch.tensor([0]), norm=norm)
        assert found.method == ("interval" if norm == "linf" else "crown",)
        assert radius * 0.998 < float(found.radius) <= radius * 1.2


def test_wide_networks_get_linear_bounds_on_request() -> None:
    def methods(width: int) -> list[str]:
        model = nn.Sequential(
            nn.Conv1d(1, width, 1), nn.ReLU(), nn.Conv1d(width, 1, 1), nn.Flatten(), nn.ReLU()
        )
        net = vercomp.compile(nn.Sequential(model, nn.Linear(64, 2)), (1, 64))
        assert "crown" in net.manifest["methods"]
        return usual_methods(net.network)

    assert methods(2) == ["interval", "crown"]
    assert methods(256) == ["interval"]
