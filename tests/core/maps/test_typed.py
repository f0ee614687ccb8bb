"""Operators in float32 lose no more than they say."""

from __future__ import annotations

import pytest
import torch

from vercomp.core.maps.operators import Dense
from vercomp.core.maps.typed import typed_operator


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("columns", [1, 3, 16])
def test_sums_of_thousands_of_small_products_keep_the_promise(rows: int, columns: int) -> None:
    # Every product but the first is below half a unit in the last place of the first.
    matrix = torch.full((4096, columns), 2.0**-25, dtype=torch.float64)
    matrix[0] = 1.0
    typed = typed_operator(Dense(matrix), torch.float32)
    assert typed is not None
    found = typed.adjoint(torch.ones(rows, 4096)).double()
    exact = matrix.sum(0)
    assert ((found - exact).abs() <= typed.lost * exact).all()
