"""The operations of a bound program, and the names of their operands.

A bound program is evaluated in two arithmetics: :class:`~.rigorous.Rigorous` gives upper bounds
that hold in real arithmetic, :class:`~.differentiable.Differentiable` gives the same quantities as
functions of live parameters; a third, :class:`~.recording.Recording`, writes the program down. What
is called a *bound* here is a nonnegative number, or one for each of P coefficient rows; an
*interval* is a pair of (P, n) tensors, in the form that suits the arithmetic; *weights* are (P, n),
nonnegative. Every operation takes the name of its result, under which an arithmetic may keep state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import reduce
from operator import matmul
from typing import Any, NamedTuple

from torch import Tensor

from ..functions import Range
from ..maps.operators import Operator
from ..maps.sums import SideBySide


class Interval(NamedTuple):
    """Entrywise bounds: lower ≤ F ≤ upper, each of shape (P, n)."""

    lower: Tensor
    upper: Tensor


class Bound(NamedTuple):
    """The results of a curvature program for P coefficient rows c.

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


class Arithmetic(ABC):
    """The operations that a bound program is made of."""

    def note(self, formula: str) -> None:
        """Say which formula the next operations compute; only a recording keeps it."""
        return

    def compose(self, *operators: Operator, name: str = "") -> Operator:
        """The composition of maps, the outermost first."""
        return reduce(matmul, operators)

    def beside(self, *operators: Operator, name: str = "") -> Operator:
        """[A_1 … A_p]: all maps of an affine node as one."""
        return SideBySide(operators)

    @abstractmethod
    def norm2(self, operator: Operator, *, name: str = "") -> Tensor:
        """‖A‖₂."""

    @abstractmethod
    def weighted_norm2_squared(
        self, operator: Operator, weights: Tensor, *, name: str = ""
    ) -> Tensor:
        """λ_max(Aᵀ diag(q) A) for each row q of the weights."""

    @abstractmethod
    def constant(self, value: float, *, name: str = "") -> Tensor:
        """A number as a bound."""

    @abstractmethod
    def zeros(self, c: Tensor, *, name: str = "") -> Tensor:
        """0 for each row of c."""

    @abstractmethod
    def add(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """a + b of bounds."""

    @abstractmethod
    def multiply(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """a · b of bounds."""

    @abstractmethod
    def square_root(self, a: Tensor, *, name: str = "") -> Tensor:
        """√a of a bound."""

    @abstractmethod
    def minimum(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """The tighter of two bounds of the same quantity."""

    @abstractmethod
    def refine(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """The tighter of two bounds with b ≤ a in real arithmetic; only rounding can reverse it."""

    @abstractmethod
    def row_max(self, weights: Tensor, *, name: str = "") -> Tensor:
        """max_j q_j for each row of the weights."""

    @abstractmethod
    def row_norm(self, interval: Any, *, name: str = "") -> Tensor:
        """The largest ‖F‖₂ of each row of an interval."""

    @abstractmethod
    def exactly(self, c: Tensor, *, name: str = "") -> Any:
        """The coefficients c themselves, as an interval of width zero."""

    @abstractmethod
    def join(self, a: Any, b: Any, *, name: str = "") -> Any:
        """a + b of intervals, the contributions of two paths to one node."""

    @abstractmethod
    def adjoint(self, operator: Operator, interval: Any, *, name: str = "") -> Any:
        """Aᵀ F, by |A|ᵀ on the radius of the interval."""

    @abstractmethod
    def through(self, interval: Any, slope: Range, *, name: str = "") -> Any:
        """F ⊙ σ′ over the range of σ′."""

    @abstractmethod
    def concavity(self, interval: Any, second: Range, *, name: str = "") -> Tensor:
        """Weights q = max(0, −min F σ″): how far below zero F ⊙ σ″ can fall."""
