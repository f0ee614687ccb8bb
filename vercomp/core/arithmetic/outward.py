"""Float64 results moved outward by as much as one rounding to the nearest may have moved them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

UNIT_ROUNDOFF = 2.0**-53
"""u of float64: one operation is off by at most u times its result."""

SMALLEST = 2.0**-1074
"""The smallest float64 above zero: underflow takes at most that from a product."""


def up(x: Tensor) -> Tensor:
    """The next larger float64, except that an exact zero stays zero.

    For sums and roots, which are zero only when they are exactly zero.
    """
    return torch.where(x == 0, x, torch.nextafter(x, torch.full_like(x, math.inf)))


def down(x: Tensor) -> Tensor:
    """The next smaller float64, except that an exact zero stays zero."""
    return -up(-x)


def times_up(a: Tensor, b: Tensor | float) -> Tensor:
    """a · b for nonnegative factors, rounded up; zero only where a factor is zero."""
    product = a * b
    return torch.where(
        (a == 0) | (b == 0), 0.0, torch.nextafter(product, torch.full_like(product, math.inf))
    )


def square_up(a: Tensor) -> Tensor:
    """a² for a ≥ 0, rounded up."""
    return times_up(a, a)


def power_of_two(x: Tensor) -> float:
    """The largest power of two that is at most max |x|; 1 where there is none.

    To divide by it rounds nothing, and keeps squares away from underflow and overflow.
    """
    largest = float(x.abs().max()) if x.numel() else 0.0
    return 2.0 ** (math.frexp(largest)[1] - 1) if 0.0 < largest < math.inf else 1.0


def product_up(factors: Iterable[float]) -> float:
    """The product of nonnegative numbers, rounded up; zero only where one of them is."""
    total = 1.0
    for factor in factors:
        if factor == 0.0:
            return 0.0
        total = math.nextafter(total * factor, math.inf)
    return total


def frobenius(matrix: Tensor) -> float:
    """Upper bound of the Frobenius norm of a float64 tensor.

    A float64 sum of N squares is off by at most (N + 2)u relative, in any order of summation; the
    factor covers that and the root with a wide margin. Squares that could underflow are covered by
    an absolute term, and a matrix whose squares could overflow is scaled first.
    """
    if matrix.numel() == 0:
        return 0.0
    largest = float(matrix.detach().abs().max())
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    scale = 2.0 ** (math.frexp(largest)[1] - 1)
    total = float((matrix.detach() / scale).square().sum())
    slack = 1.0 + 2.0 * (matrix.numel() + 8) * UNIT_ROUNDOFF
    return scale * math.sqrt(total) * slack + 1e-300
