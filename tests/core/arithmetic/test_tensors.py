"""Operations on plain tensors: each against its definition."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from vercomp.core.arithmetic.tensors import Tensors, quadratic
from vercomp.core.functions import Elementwise
from vercomp.core.maps.operators import Dense


def test_quadratic_is_a_sum_over_neurons() -> None:
    jacobian, q = torch.randn(3, 5, 4), torch.randn(3, 5)
    expected = torch.zeros(3, 4, 4)
    for p in range(3):
        for j in range(5):
            expected[p] += q[p, j] * torch.outer(jacobian[p, j], jacobian[p, j])
    assert torch.allclose(quadratic(jacobian, q), expected, atol=1e-5)
    assert torch.equal(Tensors().quadratic(jacobian, q), quadratic(jacobian, q))
    shared = quadratic(jacobian[0], q)
    assert shared.shape == (3, 4, 4)
    assert torch.allclose(shared[0], expected[0], atol=1e-5)


def test_maps_and_sums() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    ops, matrix = Tensors(), draw(5, 4)
    x, s, jacobian = draw(3, 4), draw(3, 5), draw(3, 4, 2)
    torch.testing.assert_close(ops.apply(Dense(matrix), x), x @ matrix.T)
    torch.testing.assert_close(ops.adjoint(Dense(matrix), s), s @ matrix)
    torch.testing.assert_close(ops.apply_to_rows(Dense(matrix), jacobian), matrix @ jacobian)
    torch.testing.assert_close(ops.multiply_rows(x, jacobian), torch.diag_embed(x) @ jacobian)
    assert torch.equal(ops.add(x, 2 * x), x + 2 * x)
    assert torch.equal(ops.multiply(x, x), x**2)


def test_activations() -> None:
    softplus = Elementwise(
        F.softplus, torch.sigmoid, lambda z: torch.sigmoid(z) * torch.sigmoid(-z), (0, 1), (0, 0.25)
    )
    ops, z = Tensors(), torch.linspace(-3, 3, 7, dtype=torch.float64)
    assert torch.equal(ops.value(softplus, z), softplus.value(z))
    assert torch.equal(ops.first(softplus, z), softplus.first(z))
    assert torch.equal(ops.second(softplus, z), softplus.second(z))
