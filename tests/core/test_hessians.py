"""The coefficients of margins."""

from __future__ import annotations

import pytest
import torch

from vercomp.core.hessians import margin_coefficients


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
