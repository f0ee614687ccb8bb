"""Certified accuracy against radius, as steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Radii at which a share changes, from 0 upwards (K,), and the shares from there on (K,)."""


def certified_curve(radii: NDArray[np.floating[Any]]) -> Curve:
    """The steps of certified accuracy: it is the share of radii above r.

    Between two steps it is what it was at the lower one (``where="post"``). An infinite radius is
    above every r; NaN certifies nothing.

    Args:
        radii: (N,), 0 where misclassified.

    Returns:
        The radii at which it changes, from 0 upwards (K,), and the shares there (K,).
    """
    known = np.nan_to_num(np.asarray(radii, dtype=np.float64), nan=0.0, posinf=np.inf)
    ordered = np.sort(np.maximum(known, 0.0))
    steps = np.unique(np.concatenate([[0.0], ordered[np.isfinite(ordered)]]))
    above = len(ordered) - np.searchsorted(ordered, steps, side="right")
    return steps, above / max(len(ordered), 1)


def round_radii(radii: NDArray[np.float64], count: int = 5) -> Sequence[float]:
    """About so many round radii that cover the finite positive ones."""
    positive = radii[np.isfinite(radii) & (radii > 0)]
    if len(positive) == 0:
        return []
    raw = float(np.quantile(positive, 0.99)) / count
    scale = 10.0 ** np.floor(np.log10(raw))
    step = max(m * scale for m in (1.0, 2.0, 5.0) if m * scale <= raw * (1 + 1e-9))
    return [float(f"{step * k:.6g}") for k in range(1, count + 1)]
