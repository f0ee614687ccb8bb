"""The pieces of Lemma 1: quadratic forms of Jacobians, and margin coefficients."""

from __future__ import annotations

import pytest
import torch

from vercomp.core.hessians import margin_coefficients, quadratic


def test_quadratic_is_a_sum_over_neurons() -> None:
    jacobian, q = torch.randn(3, 5, 4), torch.randn(3, 5)
    expected = torch.zeros(3, 4, 4)
    for p in range(3):
        for j in range(5):
            expected[p] += q[p, j] * torch.outer(jacobian[p, j], jacobian[p, j])
    assert torch.allclose(quadratic(jacobian, q), expected, atol=1e-5)
    shared = quadratic(jacobian[0], q)
    assert shared.shape == (3, 4, 4)
    assert torch.allclose(shared[0], expected[0], atol=1e-5)


def test_margin_coefficients() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    c = margin_coefficients(torch.tensor([0, 2, 1]), torch.tensor([1, 0, 1]), 3, like)
    assert c.dtype == torch.float64
    assert c.tolist() == [[1, -1, 0], [-1, 0, 1], [0, 0, 0]]
    assert margin_coefficients(
        torch.tensor([], dtype=torch.long), torch.tensor([]).long(), 3, like
    ).shape == (0, 3)


@pytest.mark.parametrize(
    ("y", "t", "message"),
    [
        ([0, 3], [1, 1], "y holds labels outside 0 … 2"),
        ([0, 1], [1, -1], "t holds labels outside 0 … 2"),
        ([[0, 1]], [0, 1], "y must be a vector of integer labels"),
        ([0, 1], [0.0, 1.0], "t must be a vector of integer labels"),
    ],
)
def test_labels_that_cannot_be(y: list[int], t: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        margin_coefficients(torch.tensor(y), torch.tensor(t), 3, torch.zeros(1))
