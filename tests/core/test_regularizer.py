"""The regulariser minimises the very bound that certificates use."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from graphs import Emitted, all_pairs, chain, decorated, emit, residual
from torch import Tensor

from vercomp.core.arithmetic.differentiable import Differentiable
from vercomp.core.maps.operators import Dense
from vercomp.core.regularizer import Regularizer


def example(seed: int = 0) -> Emitted:
    return emit(chain(seed, [4, 6, 5, 3], ["softplus", "gelu"]))


def converged(regularizer: Regularizer, calls: int = 400) -> Tensor:
    with torch.no_grad():
        for _ in range(calls):
            regularizer.pairs()
    return regularizer.pairs()


@pytest.mark.parametrize(
    "emitted",
    [example(0), emit(residual(1, ["tanh", "silu", "gelu"])), emit(decorated(1))],
    ids=["chain", "skips", "one of everything"],
)
def test_at_convergence_it_is_the_certificates_bound(emitted: Emitted) -> None:
    network = emitted.network
    regularizer = emitted.module.regularizer(network)
    bound = network.bounds().curvature
    found = converged(regularizer).detach().double()
    assert torch.allclose(found, bound, rtol=1e-3)
    assert (found <= bound * (1 + 1e-5)).all()  # from below, up to float32
    y, t = torch.tensor([0, 2, 1, 0]), torch.tensor([1, 0, 2, 1])
    with torch.no_grad():
        assert float(regularizer(y, t)) == pytest.approx(float(bound[y, t].mean()), rel=1e-3)
        targets = bound[y].sum(1).mean() / (network.classes - 1)
        assert float(regularizer(y)) == pytest.approx(float(targets), rel=1e-3)
        mean = bound.sum() / (network.classes * (network.classes - 1))
        assert float(regularizer()) == pytest.approx(float(mean), rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_those_of_the_rigorous_bound(seed: int) -> None:
    """Central differences of the proved bound, in float64, along random directions."""
    emitted = emit(chain(seed, [4, 6, 3], ["silu"]))
    network = emitted.network.double()
    regularizer = emitted.module.regularizer(network, every=1)
    converged(regularizer, 2000)
    y, t = torch.tensor([0, 2]), torch.tensor([1, 0])
    regularizer(y, t).backward()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        moves = [
            torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in network.parameters()
        ]
        slope = sum(
            float((p.grad * move).sum())
            for p, move in zip(network.parameters(), moves, strict=True)
            if p.grad is not None
        )
        values = []
        for step in (1e-4, -1e-4):
            other = copy.deepcopy(network)
            for p, move in zip(other.parameters(), moves, strict=True):
                p.data += step * move
            values.append(float(other.bounds().curvature[y, t].mean()))
        assert slope == pytest.approx((values[0] - values[1]) / 2e-4, rel=2e-3)


def test_biases_do_not_matter_to_a_bound_that_holds_everywhere() -> None:
    emitted = example()
    emitted.module.regularizer(emitted.network)().backward()
    for name, parameter in emitted.network.named_parameters():
        assert (parameter.grad is None) == name.endswith("bias")


def test_descent_lowers_the_certificates_bound() -> None:
    emitted = example(4)
    network = emitted.network
    regularizer = emitted.module.regularizer(network)
    before = network.bounds().curvature.max()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02)
    for _ in range(20):
        optimizer.zero_grad()
        regularizer().backward()
        optimizer.step()
    assert network.bounds().curvature.max() < 0.7 * before


def test_parameters_belong_to_the_network_alone() -> None:
    emitted = example()
    regularizer = emitted.module.regularizer(emitted.network)
    assert not list(regularizer.parameters())
    assert len(list(regularizer.modules())) == 2
    assert all("weight" not in name.split(".")[-1] for name in regularizer.state_dict())


def test_state_goes_through_a_checkpoint() -> None:
    emitted = example()
    regularizer = emitted.module.regularizer(emitted.network)
    converged(regularizer, 50)
    state = copy.deepcopy(regularizer.state_dict())
    assert state
    other = emitted.module.regularizer(emitted.network)
    other.load_state_dict(state)
    assert torch.equal(other.pairs(), regularizer.pairs())
    assert torch.equal(other.pairs(), regularizer.pairs())


def test_equal_runs_are_equal_and_touch_no_random_state() -> None:
    emitted = example()
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    first, second = (emitted.module.regularizer(emitted.network) for _ in range(2))
    assert torch.equal(first.pairs(), second.pairs())
    assert torch.rand(()) == expected


def test_without_gradients_and_with_frozen_parameters() -> None:
    emitted = example()
    regularizer = emitted.module.regularizer(emitted.network, every=1)
    with torch.no_grad():
        assert not regularizer().requires_grad
    first, *others = emitted.network.parameters()
    first.requires_grad_(False)
    regularizer().backward()
    assert first.grad is None
    assert any(p.grad is not None for p in others)
    emitted.network.requires_grad_(False)
    assert not regularizer().requires_grad
    with torch.inference_mode():
        regularizer()
    emitted.network.requires_grad_(True)
    regularizer().backward()


def test_it_follows_weights_that_are_replaced() -> None:
    emitted = example()
    regularizer = emitted.module.regularizer(emitted.network)
    before = converged(regularizer).detach()
    emitted.network.load_state_dict(example(7).network.state_dict())
    after = converged(regularizer).detach()
    assert not torch.allclose(before, after, rtol=1e-2)
    assert torch.allclose(after.double(), emitted.network.bounds().curvature, rtol=1e-3)


def test_it_follows_a_network_that_is_moved() -> None:
    emitted = example()
    regularizer = emitted.module.regularizer(emitted.network)
    before = converged(regularizer).detach()
    emitted.network.double()
    after = regularizer.pairs()
    assert after.dtype == torch.float64
    assert torch.allclose(after.detach(), before.double(), rtol=1e-4)
    after.sum().backward()


def test_zero_weights_have_finite_gradients() -> None:
    emitted = emit(residual(2, ["tanh", "silu"]))
    for parameter in emitted.network.parameters():
        parameter.data.zero_()
    regularizer = emitted.module.regularizer(emitted.network)
    value = regularizer()
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-12)
    for parameter in emitted.network.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


def test_a_start_that_was_lost_is_found_again() -> None:
    """Weights that are zero when the iteration begins may become something later."""
    emitted = example()
    saved = copy.deepcopy(emitted.network.state_dict())
    for parameter in emitted.network.parameters():
        parameter.data.zero_()
    regularizer = emitted.module.regularizer(emitted.network)
    converged(regularizer, 3)
    emitted.network.load_state_dict(saved)
    found = converged(regularizer).detach().double()
    assert torch.allclose(found, emitted.network.bounds().curvature, rtol=1e-3)


def test_norms_come_from_below_and_their_gradient_is_the_outer_product() -> None:
    generator = torch.Generator().manual_seed(5)
    matrix = torch.randn(6, 4, generator=generator, dtype=torch.float64).requires_grad_()
    arithmetic = Differentiable(matrix, steps=1, first_steps=1)
    exact = float(torch.linalg.matrix_norm(matrix.detach(), 2))
    last = 0.0
    for _ in range(300):
        norm = arithmetic.norm2(Dense(matrix), name="site")
        assert last <= float(norm.detach()) * (1 + 1e-12)
        last = float(norm.detach())
        assert last <= exact * (1 + 1e-12)
    assert last == pytest.approx(exact, rel=1e-9)
    (gradient,) = torch.autograd.grad(norm, matrix)
    u, _, vh = torch.linalg.svd(matrix.detach())
    assert torch.allclose(gradient, torch.outer(u[:, 0], vh[0]), atol=1e-6)


def test_other_batches_of_coefficients_keep_their_own_vectors() -> None:
    arithmetic = Differentiable(torch.zeros((), dtype=torch.float64))
    matrix = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    for rows in (2, 5, 2):
        q = torch.rand(rows, 3, dtype=torch.float64) + 0.1
        for _ in range(200):
            found = arithmetic.weighted_norm2_squared(Dense(matrix), q, name="w")
        assert found.shape == (rows,)
        assert torch.allclose(found, (q * matrix.diagonal() ** 2).amax(1), rtol=1e-6)


def test_any_object_with_the_parameters_will_do() -> None:
    emitted = example()
    live = SimpleNamespace(
        **{name: p.detach().clone() for name, p in emitted.network.named_parameters()},
        dtype=torch.float32,
    )
    like, net = next(emitted.network.parameters()), emitted.module.net
    regularizer = Regularizer(net.curvature, net.maps, live, 3, like)
    assert torch.allclose(
        converged(regularizer).double(), emitted.network.bounds().curvature, rtol=1e-3
    )


def test_pairs_are_ordered_and_the_diagonal_is_zero() -> None:
    emitted = example()
    matrix = converged(emitted.module.regularizer(emitted.network)).detach()
    y, t = all_pairs(3)
    assert (matrix.diagonal() == 0).all()
    assert (matrix[y, t] > 0).all()
    assert not torch.allclose(matrix, matrix.T, rtol=1e-2)  # softplus and GELU are asymmetric
