"""Scores are those of the certificates; curvature at inputs is that of the exact Hessians."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import vercomp
from vercomp.compiled import CompiledNetwork
from vercomp.data import load_data
from vercomp.errors import UsageError
from vercomp.results.certificates import runners_up
from vercomp.results.eigenvalues import largest_eigenvalues
from vercomp.train.evaluation import certified, curvature_bounds, success

ONNX = Path(__file__).parents[2] / "examples" / "digits" / "digits.onnx"


@pytest.fixture(scope="module")
def network() -> CompiledNetwork:
    return vercomp.compile(ONNX)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    data = load_data("digits", (64,))
    return data.x, data.y


def test_scores_are_those_of_the_certificates(
    network: CompiledNetwork, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = (part[:150] for part in digits)
    scores = certified(network, x, y, 0.5, runner_up=True)
    found = network.certify(x, y)
    right = network.network(x.float()).argmax(1) == y
    assert int((~right).sum()) > 0
    assert torch.equal(scores.correct, right)
    assert scores.clean_accuracy == pytest.approx(float(right.double().mean()))
    torch.testing.assert_close(scores.radii, torch.where(right, found.radius, 0.0).double())
    assert scores.certified_accuracy == pytest.approx(float((scores.radii > 0.5).double().mean()))
    assert scores.mean_radius == pytest.approx(float(scores.radii[right].mean()))
    assert scores.exact_fraction == pytest.approx(float(found.exact[right].double().mean()))
    alone = network.certify(x, y, targets="runner-up").radius
    runner_up = float((right & (alone > 0.5)).double().mean())
    assert scores.certified_accuracy_runner_up == pytest.approx(runner_up)
    assert runner_up >= scores.certified_accuracy

    decided = certified(network, x, y, 0.5, decide=True)
    assert decided.certified_accuracy == scores.certified_accuracy
    assert decided.certified_accuracy_runner_up is None
    assert (decided.radii <= scores.radii * (1 + 1e-3)).all()


def test_scores_without_a_correct_input(
    network: CompiledNetwork, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits
    x, y = x[:4], (network.network(x[:4].float()).argmax(1) + 1) % 10
    scores = certified(network, x, y, 0.1)
    assert scores.clean_accuracy == scores.certified_accuracy == 0.0
    assert scores.mean_radius is None
    assert scores.radii.tolist() == [0.0] * 4
    assert math.isnan(success(network, x, y).attack)


def test_success_counts_exact_solutions_of_correct_inputs(
    network: CompiledNetwork, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = (part[:100] for part in digits)
    found = success(network, x, y, radius=2.5)
    right = network.network(x.float()).argmax(1) == y
    assert int((~right).sum()) > 0
    x, y = x[right], y[right]
    for targets, suffix in (("all", ""), ("runner-up", "_runner_up")):
        attacks = network.attack(x, y, 2.5, targets=targets).exact
        assert getattr(found, f"attack{suffix}") == pytest.approx(float(attacks.double().mean()))
        exact = network.certify(x, y, targets=targets).exact
        assert getattr(found, f"certificate{suffix}") == float(exact.double().mean())
    assert found.attack_runner_up < 1.0


def test_curvature_bounds_are_those_of_exact_hessians(
    network: CompiledNetwork, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits
    t = runners_up(network, x, y)
    low, high = network.curvature()
    lower, upper = [], []
    for label in range(10):
        for target in range(10):
            rows = (y == label) & (t == target)
            if int(rows.sum()) < 20:
                continue
            hessians = network.hessian(x[rows].float(), y[rows], t[rows]).detach()
            lower.append(float(torch.linalg.eigvalsh(hessians).abs().max()))
            upper.append(max(-float(low[label, target]), float(high[label, target])))
    assert len(lower) > 3
    found = curvature_bounds(network, x, y, at_least=20)
    assert found.pairs == len(lower)
    assert found.upper == pytest.approx(sum(upper) / len(upper))
    expected = sum(lower) / len(lower)
    assert expected * 0.98 <= found.lower <= expected * (1 + 1e-4)
    assert found.lower < found.upper


def test_curvature_bounds_without_a_pair(
    network: CompiledNetwork, digits: tuple[Tensor, Tensor]
) -> None:
    found = curvature_bounds(network, *digits, at_least=1000)
    assert math.isnan(found.lower)
    assert math.isnan(found.upper)
    assert found.pairs == 0


def test_curvature_needs_hessians(digits: tuple[Tensor, Tensor]) -> None:
    bare = vercomp.compile(ONNX, emit=("certify",))
    with pytest.raises(UsageError, match="compiled without 'hessian'"):
        curvature_bounds(bare, *digits)


def matrices(count: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(count, size, size, generator=generator, dtype=torch.float64)
    return a + a.mT


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_eigenvalues_come_from_below_to_the_largest_of_either_sign(dtype: torch.dtype) -> None:
    a = matrices(6, 30)
    a[0] = -a[0] @ a[0]  # the largest is negative
    a[1] = torch.diag(torch.tensor([2.0, -3.0] + [0.0] * 28))  # exhausted in three steps
    a[2] = 0.0
    a[3] = torch.eye(30)
    a = a.to(dtype)
    exact = torch.linalg.eigvalsh(a.double()).abs().amax(1)
    like = torch.zeros(6, 5, 6, dtype=dtype)

    def apply(v: Tensor) -> Tensor:
        return torch.einsum("bij,bj->bi", a, v.flatten(1)).reshape(v.shape)

    before = torch.zeros(6, dtype=torch.float64)
    for steps in (1, 3, 6, 12, 20, 30):
        found = largest_eigenvalues(apply, like, steps)
        assert (found <= exact * (1 + 1e-5)).all()
        assert (found >= before * (1 - 1e-5)).all()
        before = found
    assert torch.allclose(before, exact, rtol=1e-4)


def test_eigenvalues_of_few_dimensions_and_of_nothing() -> None:
    one = largest_eigenvalues(lambda v: -4.0 * v, torch.zeros(2, 1), 5)
    assert torch.allclose(one, torch.tensor([4.0, 4.0], dtype=torch.float64))
    assert len(largest_eigenvalues(lambda v: v, torch.zeros(0, 3), 5)) == 0
