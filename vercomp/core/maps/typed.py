"""Operators in float32 or float64, with a bound of what their products lose.

A product of float32 numbers is off by at most (n + 1) u₃₂ of the sum of its n absolute terms, u₃₂ =
2⁻²⁴, in whatever order the terms are added: for thousands of terms that is too much. A matrix
therefore multiplies a block of its rows at a time, and the results are added up.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF
from .convolution import Convolution
from .operators import Dense, Operator, Product

UNIT_ROUNDOFF_32 = 2.0**-24
"""u₃₂ of float32: one operation is off by at most u₃₂ times its result."""

BLOCK = 64
"""So many rows of a matrix are multiplied at once in float32."""

_HONEST = ("none", "ieee", "highest")
"""Names of torch's settings under which float32 products are computed in float32."""

_MODES = ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")
"""Variables of the environment by which oneDNN may compute in fewer bits than it is given."""


class TypedOperator:
    """Â of a float64 operator, rounded to a type.

    Args:
        operator: The operator in float64.
        dtype: float32 or float64.

    Attributes:
        lost: e with |computed − Âᵀ s| ≤ e |Â|ᵀ |s| for each entry, but for what underflows.
        rows_lost: The same for rows of the operator that are written out.
        amplified: By what the operator multiplies, at most, what underflows inside of it.
    """

    def __init__(self, operator: Operator, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.inner = _rounded(operator) if dtype == torch.float32 else operator
        self.lost, self.rows_lost = _losses(operator, dtype)
        # Numbers of float64 that underflow are too small for any factor to matter.
        self.amplified = amplification(operator) if dtype == torch.float32 else 1.0

    def adjoint(self, s: Tensor) -> Tensor:
        """Âᵀ s for s (..., m) of the type."""
        whole = self.dtype == torch.float64 or self.inner.shape[0] <= BLOCK
        if whole or not isinstance(self.inner, Dense):
            return self.inner.adjoint(s)
        matrix, flat = self.inner.matrix, s.reshape(-1, s.shape[-1])
        total = flat[:, :BLOCK] @ matrix[:BLOCK]
        for start in range(BLOCK, len(matrix), BLOCK):
            block = slice(start, start + BLOCK)
            # Not addmm_: it may add the products to the total one after the other.
            total += flat[:, block] @ matrix[block]
        return total.reshape(*s.shape[:-1], -1)

    def rows(self, index: Tensor) -> Tensor:
        """Some rows of Â, (R, n), of the type."""
        return self.inner.rows(index).to(self.dtype)


_KNOWN: WeakKeyDictionary[Operator, dict[torch.dtype, TypedOperator]] = WeakKeyDictionary()


def typed_operator(operator: Operator, dtype: torch.dtype) -> TypedOperator | None:
    """The operator in a type, kept as long as the operator; None where that promises nothing."""
    if not _is_known(operator):
        return None
    kept = _KNOWN.setdefault(operator, {})
    if dtype not in kept:
        kept[dtype] = TypedOperator(operator, dtype)
    return kept[dtype]


def amplification(operator: Operator) -> float:
    """What the factors of products make of a number between them, summed over 2²⁰ entries."""
    found = max((amplification(inner) for inner in _nested(operator)), default=1.0)
    if isinstance(operator, Product):
        norms = (max(1.0, factor.absolute_norm) for factor in operator.factors)
        found *= len(operator.factors) * 2.0**10 * math.prod(norms)
    return found


def unit_roundoff(dtype: torch.dtype) -> float:
    """u of float32 or float64."""
    return UNIT_ROUNDOFF_32 if dtype == torch.float32 else UNIT_ROUNDOFF


def _is_known(operator: Operator) -> bool:
    """Whether an operator keeps its promises in both types: the operators of this room do."""
    own = type(operator).__module__.rpartition(".")[0] == __package__
    return own and all(_is_known(inner) for inner in _nested(operator))


def products_are_single() -> bool:
    """Whether torch multiplies float32 numbers in float32, and not in fewer bits."""
    settings = [torch.get_float32_matmul_precision()]
    backend: Any = torch.backends
    for place in (backend, backend.mkldnn, *(_part(name) for name in ("matmul", "conv"))):
        settings.append(getattr(place, "fp32_precision", "none"))
    modes = [os.environ.get(name, "") for name in _MODES]
    return all(each in _HONEST for each in settings) and all(m in ("", "STRICT") for m in modes)


@contextmanager
def single_products() -> Iterator[None]:
    """A context in which products are sums: no automatic casting, no transforms of NNPACK."""
    with torch.autocast("cpu", enabled=False), torch.backends.nnpack.flags(enabled=False):
        yield


def _losses(operator: Operator, dtype: torch.dtype) -> tuple[float, float]:
    """What the adjoint and the rows of an operator lose; see :class:`TypedOperator`."""
    if not operator.values and not operator.rounds_adjoint:
        return 0.0, 0.0
    unit = unit_roundoff(dtype)
    if isinstance(operator, Dense):
        length = operator.shape[0]
        terms = length
        if dtype == torch.float32:
            terms = min(BLOCK, length) + -(-length // BLOCK)
    elif isinstance(operator, Convolution):
        terms = operator.fan_out
    else:
        lost = 2.0 * (operator.fan_out + 2) * unit
        return lost * (1.0 + 2.0 * lost), lost * (1.0 + 2.0 * lost)
    # One more rounding is that of the numbers themselves; their rows have no other.
    lost = (terms + 3) * unit
    return lost * (1.0 + 2.0 * lost), 2.0 * unit


def _part(name: str) -> Any:
    return getattr(torch.backends.mkldnn, name, None)


def _nested(operator: Operator) -> Iterator[Operator]:
    """The operators that an operator is made of."""
    for value in vars(operator).values():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Operator):
                yield each


def _rounded(operator: Operator) -> Operator:
    """The same operator with its float64 numbers rounded to float32."""
    changed = {
        field.name: _rounded_value(getattr(operator, field.name))
        for field in fields(operator)  # type: ignore[arg-type]
    }
    return replace(operator, **changed)  # type: ignore[type-var]


def _rounded_value(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype == torch.float64:
        return value.to(torch.float32)
    if isinstance(value, Operator):
        return _rounded(value)
    if isinstance(value, tuple):
        return (
            type(value)(*map(_rounded_value, value))
            if hasattr(value, "_fields")
            else tuple(map(_rounded_value, value))
        )
    return value
