"""A network's value and gradient at a point, with bounds of their rounding errors."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Linearization(NamedTuple):
    """Value and gradient of f(x) = c·z(x) at P points, evaluated in float64.

    The results have the joint leading axes of points and coefficients: (B, K) for points (B, 1, D)
    with coefficients (B, K, C).

    The bounds hold between the float64 numbers given here and the real-arithmetic function of the
    same weights: ``|f(x) − value| ≤ value_error`` and ``‖∇f(x) − gradient‖ ≤ gradient_error``.

    Args:
        value: f, shape (P,).
        gradient: ∇f with respect to the flattened input, shape (P, D).
        value_error: shape (P,).
        gradient_error: shape (P,).
    """

    value: Tensor
    gradient: Tensor
    value_error: Tensor
    gradient_error: Tensor
