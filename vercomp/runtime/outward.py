"""Float64 rounded outward: what one rounding to the nearest may have taken is given back."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
