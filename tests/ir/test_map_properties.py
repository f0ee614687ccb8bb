"""What every linear map promises, on the one list of all of them."""

from __future__ import annotations

import math

import pytest
import torch
from maps import MapCase, map_cases
from torch import Tensor

from vercomp.core.maps.operators import Operator, Product
from vercomp.core.maps.sums import Sum
from vercomp.core.norms.bounds import norm2, weighted_norm2_squared

CASES = map_cases()


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> MapCase:
    return CASES[request.param]


def bound(case: MapCase) -> Operator:
    return case.map.bind(lambda parameter: parameter.value)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def matrix(case: MapCase) -> Tensor:
    """The matrix by torch's own function: its columns are the images of the unit vectors."""
    size = case.map.in_shape
    units = torch.eye(bound(case).shape[1], dtype=torch.float64).reshape(-1, *size)
    return case.torch(units).flatten(1).T


def test_apply_is_torchs(case: MapCase) -> None:
    x = draw(3, *case.map.in_shape)
    expected = case.torch(x)
    assert tuple(expected.shape[1:]) == case.map.out_shape
    torch.testing.assert_close(bound(case).apply(x.flatten(1)), expected.flatten(1))


def test_adjoint_by_the_inner_product(case: MapCase) -> None:
    operator = bound(case)
    x, s = draw(3, operator.shape[1]), draw(3, operator.shape[0])
    left = (operator.apply(x) * s).sum(1)
    torch.testing.assert_close((x * operator.adjoint(s)).sum(1), left)


def test_absolute_value_covers_the_matrix(case: MapCase) -> None:
    operator, a = bound(case), matrix(case).abs()
    x, s = draw(3, operator.shape[1]).abs(), draw(3, operator.shape[0]).abs()
    assert (operator.abs_apply(x) >= (x @ a.T) * (1.0 - 1e-12) - 1e-12).all()
    assert (operator.abs_adjoint(s) >= (s @ a) * (1.0 - 1e-12) - 1e-12).all()
    if not isinstance(operator, Product | Sum):  # one map: exactly
        torch.testing.assert_close(operator.abs_apply(x), x @ a.T)
        torch.testing.assert_close(operator.abs_adjoint(s), s @ a)
    assert torch.linalg.matrix_norm(a, 2) <= operator.absolute_norm * (1.0 + 1e-12)


def test_fans_count_the_terms(case: MapCase) -> None:
    operator, a = bound(case), matrix(case)
    if not isinstance(operator, Product | Sum):  # there they count roundings
        assert operator.fan_in >= int((a != 0).sum(1).max())
        assert operator.fan_out >= int((a != 0).sum(0).max())


def test_rows_of_a_jacobian(case: MapCase) -> None:
    operator = bound(case)
    jacobian = draw(2, operator.shape[1], 3)
    torch.testing.assert_close(operator.apply_to_rows(jacobian), matrix(case) @ jacobian)


def test_sizes_of_rows_are_those_of_the_matrix(case: MapCase) -> None:
    for p in (1.0, 2.0, math.inf):
        found = bound(case).row_sizes(lambda rows, p=p: rows.norm(p, dim=1))  # type: ignore[misc]
        if found is not None:
            torch.testing.assert_close(found, matrix(case).norm(p, dim=1))


def test_norm_is_an_upper_bound_and_close(case: MapCase) -> None:
    exact = float(torch.linalg.matrix_norm(matrix(case), 2))
    proved = norm2(bound(case))
    assert exact * (1.0 - 1e-13) <= proved <= 1.02 * exact


def test_weighted_norms_are_upper_bounds(case: MapCase) -> None:
    operator, a = bound(case), matrix(case)
    weights = draw(4, operator.shape[0]).abs()
    weights[1] = 1.0
    weights[2, ::2] = 0.0
    weights[3] = 0.0
    proved = weighted_norm2_squared(operator, weights)
    coarse = weights.amax(1) * float(torch.linalg.matrix_norm(a, 2)) ** 2
    for q, found, limit in zip(weights, proved, coarse, strict=True):
        exact = float(torch.linalg.matrix_norm(q.sqrt()[:, None] * a, 2)) ** 2
        assert exact * (1.0 - 1e-12) <= float(found) <= 1.05 * max(exact, float(limit))
    assert float(proved[3]) == 0.0


def test_batches_of_any_shape(case: MapCase) -> None:
    operator = bound(case)
    x = draw(2, 3, operator.shape[1])
    assert operator.apply(x).shape == (2, 3, operator.shape[0])
    assert operator.adjoint(operator.apply(x)).shape == x.shape


def test_single_precision_stays_single(case: MapCase) -> None:
    operator = case.map.bind(lambda parameter: parameter.value.float())
    x = draw(2, operator.shape[1]).float()
    assert operator.apply(x).dtype == torch.float32
    assert operator.adjoint(operator.apply(x)).dtype == torch.float32
