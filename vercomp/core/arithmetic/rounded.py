"""A float64 value together with a bound of its rounding error."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rounded(NamedTuple):
    """A value (..., n) in float64, and for each row (...) a bound of its 2-norm error."""

    value: Tensor
    error: Tensor


def exact(value: Tensor) -> Rounded:
    """A value that was not rounded: an input, a weight, a coefficient."""
    return Rounded(value, torch.zeros(value.shape[:-1], dtype=value.dtype, device=value.device))
