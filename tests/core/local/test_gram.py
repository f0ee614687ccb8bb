"""Norms of weighted matrices, where squares leave the range of float64."""

from __future__ import annotations

import pytest
import torch

from vercomp.core.local.gram import gram_eigenvalue, gram_norm
from vercomp.core.local.products import Matrix


@pytest.mark.parametrize("size", [1.0, 1e150, 1e160, 1e300])
@pytest.mark.parametrize("error", [0.0, 1.0])
def test_no_bound_is_lost_where_squares_overflow(size: float, error: float) -> None:
    value = torch.full((1, 3, 2), size, dtype=torch.float64)
    matrix = Matrix(value, torch.tensor([error], dtype=torch.float64))
    weights = torch.full((3,), 0.25, dtype=torch.float64)
    assert gram_norm([(matrix, weights)]) >= 0.5 * 6.0**0.5 * size * (1.0 - 1e-12)
    assert gram_eigenvalue([(matrix, weights)]) >= 0.25 * 6.0 * size * size * (1.0 - 1e-12)
