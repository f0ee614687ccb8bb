"""The operations of a bound program, and the names of their operands.

A bound program is evaluated in two arithmetics: :class:`~.rigorous.Rigorous` gives upper bounds
that hold in real arithmetic, :class:`~.differentiable.Differentiable` gives the same quantities as
functions of live parameters. What is called a *bound* here is a nonnegative number, or one for each
of P coefficient rows; an *interval* is a pair of (P, n) tensors, in the form that suits the
arithmetic; *weights* are (P, n), nonnegative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from ..functions import Range
from ..maps.operators import Operator


class Interval(NamedTuple):
    """Entrywise bounds: lower ≤ F ≤ upper, each of shape (P, n)."""

    lower: Tensor
    upper: Tensor


class Bound(NamedTuple):
    """What a curvature program gives for P coefficient rows c.

    Args:
        curvature: κ (P,) with ∇²(c·z) ≽ −κI everywhere.
        lipschitz: L (P,) with ‖∇(c·z)‖ ≤ L everywhere.
        norms: Upper bound of ‖A‖₂ for every linear map, by name.
        shares: The summand of κ (P,) that each activation contributes, by name.
    """

    curvature: Tensor
    lipschitz: Tensor
    norms: Mapping[str, Tensor]
    shares: Mapping[str, Tensor]


class Arithmetic(Protocol):
    """The operations that a bound program is made of."""

    def norm2(self, operator: Operator, site: str) -> Tensor:
        """‖A‖₂. ``site`` names the result, for evaluations that keep state."""
        ...

    def weighted_norm2_squared(self, operator: Operator, weights: Tensor, site: str) -> Tensor:
        """λ_max(Aᵀ diag(q) A) for each row q of the weights."""
        ...

    def constant(self, value: float) -> Tensor:
        """A number as a bound."""
        ...

    def zeros(self, c: Tensor) -> Tensor:
        """0 for each row of c."""
        ...

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """a + b of bounds."""
        ...

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """a · b of bounds."""
        ...

    def square_root(self, a: Tensor) -> Tensor:
        """√a of a bound."""
        ...

    def minimum(self, a: Tensor, b: Tensor) -> Tensor:
        """The tighter of two bounds of the same quantity."""
        ...

    def refine(self, a: Tensor, b: Tensor) -> Tensor:
        """The same where b ≤ a in real arithmetic, and only rounding can make a the tighter."""
        ...

    def row_max(self, weights: Tensor) -> Tensor:
        """max_j q_j for each row of the weights."""
        ...

    def row_norm(self, interval: Any) -> Tensor:
        """The largest ‖F‖₂ of each row of an interval."""
        ...

    def exactly(self, c: Tensor) -> Any:
        """The coefficients c themselves, as an interval of width zero."""
        ...

    def join(self, a: Any, b: Any) -> Any:
        """a + b of intervals: two paths to the same node."""
        ...

    def adjoint(self, operator: Operator, interval: Any) -> Any:
        """Aᵀ F, by |A|ᵀ on the radius of the interval."""
        ...

    def through(self, interval: Any, slope: Range) -> Any:
        """F ⊙ σ′ over the range of σ′."""
        ...

    def concavity(self, interval: Any, second: Range) -> Tensor:
        """Weights q = max(0, −min F σ″): how far below zero F ⊙ σ″ can fall."""
        ...
