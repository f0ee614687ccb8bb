"""The type of an activation: a formula, and the torch function that computes it.

The table of the activations that vercomp knows stands in :mod:`vercomp.activations`; everything
else about an activation (constants, derivatives, source text) is derived from these two fields.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sympy

if TYPE_CHECKING:
    from torch import Tensor

#: The argument of every activation formula: a real variable.
X = sympy.Symbol("x", real=True)


@dataclass(frozen=True)
class Activation:
    """An elementwise function σ: ℝ → ℝ with every parameter bound (softplus with β = 2, say).

    Args:
        name: The field's name of it: ``"sigmoid"``, ``"softplus"``.
        formula: σ as a sympy expression in :data:`X`.
        spelling: The torch function that computes σ of a tensor, elementwise.
        parameters: The bound parameters by name, for messages and printing.
        deviation: A proved bound of ``|spelling(x) − formula(x)|`` over all real x, in real
            arithmetic (torch's softplus switches to the identity at its threshold).
    """

    name: str
    formula: sympy.Expr
    spelling: Callable[[Tensor], Tensor] = field(compare=False)
    parameters: tuple[tuple[str, float], ...] = ()
    deviation: float = 0.0

    @property
    def value(self) -> Callable[[Tensor], Tensor]:
        """σ as a domain calls it."""
        return self.spelling

    def __str__(self) -> str:
        if not self.parameters:
            return self.name
        values = ", ".join(f"{key}={value:g}" for key, value in self.parameters)
        return f"{self.name}({values})"


@dataclass(frozen=True)
class ActivationConstants:
    """Ranges of the first two derivatives over ℝ, rounded outward.

    ``g_lower ≤ σ′ ≤ g_upper`` and ``h_lower ≤ σ″ ≤ h_upper`` (h_L and h_U of Theorem 3);
    ``g = sup |σ′|`` and ``h = sup |σ″|`` are those of Theorem 4.

    Args:
        first_range: Bounds of σ′; where σ′ jumps, of both limits.
        second_range: Bounds of σ″, or None where σ′ jumps, so that σ″ does not exist.
        origin: Where the numbers come from, for the comment beside them: exact values or an
            enclosure.
        jump: Where σ′ jumps, as a sentence for messages; empty if it does not.
    """

    first_range: tuple[float, float]
    second_range: tuple[float, float] | None
    origin: str
    jump: str = ""

    @property
    def g_lower(self) -> float:
        """Lower bound of σ′."""
        return self.first_range[0]

    @property
    def g_upper(self) -> float:
        """Upper bound of σ′."""
        return self.first_range[1]

    @property
    def h_lower(self) -> float:
        """Lower bound of σ″; −∞ if it does not exist."""
        return -math.inf if self.second_range is None else self.second_range[0]

    @property
    def h_upper(self) -> float:
        """Upper bound of σ″; ∞ if it does not exist."""
        return math.inf if self.second_range is None else self.second_range[1]

    @property
    def g(self) -> float:
        """Bound of |σ′|, the Lipschitz constant of σ."""
        return max(abs(self.g_lower), abs(self.g_upper))

    @property
    def h(self) -> float:
        """Bound of |σ″|, the curvature constant of σ and the Lipschitz constant of σ′."""
        return max(abs(self.h_lower), abs(self.h_upper))
