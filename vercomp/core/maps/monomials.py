"""Operators with at most one entry in each row: selections of entries, and factors for each.

Permuting, slicing, gathering, repeating and padding are a :class:`Monomial`; multiplication by a
tensor that broadcasts is a :class:`Diagonal`, which remembers the shape, so that a convolution can
take up a factor for each channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from ..arithmetic.outward import UNIT_ROUNDOFF
from .operators import Operator, product_error


@dataclass(frozen=True, eq=False)
class Monomial(Operator):
    """A matrix with at most one entry in a row: y_i = factor_i · x[index_i].

    Args:
        index: Shape (m,), integers up to ``inputs``; the value ``inputs`` itself stands for an
            entry that is zero.
        inputs: n, the length of x.
        factor: Shape (m,); None where every entry is 1.
        error: Bound of ‖A − Â‖₂.
    """

    index: Tensor
    inputs: int
    factor: Tensor | None = None
    error: float = 0.0

    @staticmethod
    def identity(n: int) -> Monomial:
        """The identity on ℝⁿ."""
        return Monomial(torch.arange(n), n)

    @staticmethod
    def permutation(shape: Sequence[int], axes: Sequence[int]) -> Monomial:
        """``x.permute(axes)`` of a tensor of ``shape``."""
        entries = _entries(shape).permute(tuple(axes))
        return Monomial(entries.reshape(-1), math.prod(shape))

    @staticmethod
    def slicing(shape: Sequence[int], axis: int, start: int, stop: int, step: int = 1) -> Monomial:
        """``x[start:stop:step]`` along an axis, 0 ≤ start, step ≥ 1."""
        picks = torch.arange(start, stop, step)
        return Monomial(_entries(shape).index_select(axis, picks).reshape(-1), math.prod(shape))

    @staticmethod
    def gathering(shape: Sequence[int], axis: int, indices: Sequence[int]) -> Monomial:
        """``x.index_select(axis, indices)``."""
        picks = torch.tensor(tuple(indices), dtype=torch.long)
        return Monomial(_entries(shape).index_select(axis, picks).reshape(-1), math.prod(shape))

    @staticmethod
    def expanding(shape: Sequence[int], target: Sequence[int]) -> Monomial:
        """``x.expand(target)``."""
        return Monomial(_entries(shape).expand(tuple(target)).reshape(-1), math.prod(shape))

    @staticmethod
    def padding(
        shape: Sequence[int], pads: Sequence[tuple[int, int]], mode: str = "zeros"
    ) -> Monomial:
        """More entries before and behind each axis: zeros, or the entries that ``F.pad`` copies.

        Args:
            shape: Shape of x.
            pads: (before, behind) for every axis of x.
            mode: ``zeros``, ``reflect``, ``replicate`` or ``circular``.
        """
        n = math.prod(shape)
        entries = _entries(shape)
        for axis, (before, behind) in enumerate(pads):
            if before == behind == 0:
                continue
            # Padding one axis at a time: of a line of positions, in every mode.
            line = torch.arange(shape[axis], dtype=torch.float64)[None, None]
            if mode == "zeros":
                picks = F.pad(line, (before, behind), value=float(shape[axis]))
                zeros = entries.new_full((*entries.shape[:axis], 1, *entries.shape[axis + 1 :]), n)
                entries = torch.cat([entries, zeros], axis)
            else:
                picks = F.pad(line, (before, behind), mode=mode)
            entries = entries.index_select(axis, picks[0, 0].long())
        return Monomial(entries.reshape(-1), n)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return self.index.numel(), self.inputs

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The factor, where there is one."""
        return () if self.factor is None else (self.factor,)

    def apply(self, x: Tensor) -> Tensor:
        """A x for x of shape (..., n)."""
        picked = self._pick(x)
        return picked if self.factor is None else picked * self.factor.to(x)

    def adjoint(self, s: Tensor) -> Tensor:
        """Aᵀ s for s of shape (..., m)."""
        return self.scatter(s if self.factor is None else s * self.factor.to(s))

    def abs_apply(self, x: Tensor) -> Tensor:
        """|A| x for x of shape (..., n), entrywise absolute value."""
        picked = self._pick(x)
        return picked if self.factor is None else picked * self.factor.to(x).abs()

    def abs_adjoint(self, s: Tensor) -> Tensor:
        """|A|ᵀ s for s of shape (..., m)."""
        return self.scatter(s if self.factor is None else s * self.factor.to(s).abs())

    @property
    def fan_in(self) -> int:
        """One."""
        return 1

    @cached_property
    def fan_out(self) -> int:
        """How often one input is read at most."""
        counts = torch.bincount(self.index, minlength=self.inputs + 1)[: self.inputs]
        return int(counts.max()) if counts.numel() else 0

    @property
    def rounds_apply(self) -> bool:
        """Picking entries rounds nothing."""
        return self.factor is not None

    @property
    def rounds_adjoint(self) -> bool:
        """Not where every entry of Aᵀ s is one of s."""
        return self.factor is not None or self.fan_out > 1

    @cached_property
    def absolute_norm(self) -> float:
        """√fan_out · max |factor|, rounded up: at most ``fan_out`` entries stand in a column."""
        largest = 1.0 if self.factor is None else _largest(self.factor)
        return math.sqrt(self.fan_out) * largest * (1.0 + 4.0 * UNIT_ROUNDOFF) + self.error

    @cached_property
    def is_identity(self) -> bool:
        """Whether A x is x: a skip connection."""
        return (
            self.factor is None
            and self.index.numel() == self.inputs
            and torch.equal(self.index.cpu(), torch.arange(self.inputs))
        )

    @cached_property
    def is_permutation(self) -> bool:
        """Whether every input is read once, as it is: an isometry."""
        return (
            self.factor is None
            and self.index.numel() == self.inputs
            and not self.has_zeros
            and self.fan_out <= 1
        )

    @cached_property
    def has_zeros(self) -> bool:
        """Whether some entry of the result is always zero."""
        return bool((self.index == self.inputs).any())

    def scatter(self, s: Tensor) -> Tensor:
        """The sum of the entries of s, shape (..., m), that read each input: shape (..., n)."""
        if self.is_identity:
            return s
        length = self.inputs + self.has_zeros
        zeros = torch.zeros((*s.shape[:-1], length), dtype=s.dtype, device=s.device)
        return zeros.index_add(-1, self.index.to(s.device), s)[..., : self.inputs]

    def _pick(self, x: Tensor) -> Tensor:
        if self.is_identity:
            return x
        if self.has_zeros:
            x = torch.cat([x, x.new_zeros(*x.shape[:-1], 1)], -1)
        return x[..., self.index.to(x.device)]

    def _after(self, inner: Operator) -> Operator | None:
        if isinstance(inner, Diagonal):
            inner = inner.monomial
        if not isinstance(inner, Monomial):
            return None
        picks = self.index.to(inner.index.device)
        index = torch.cat([inner.index, inner.index.new_full((1,), inner.inputs)])[picks]
        factor = inner.factor
        if factor is not None:
            factor = torch.cat([factor, factor.new_zeros(1)])[self.index.to(factor.device)]
        return _times(self.factor, Monomial(index, inner.inputs, factor), self, inner)

    def _before(self, outer: Operator) -> Operator | None:
        return outer.monomial @ self if isinstance(outer, Diagonal) else None


@dataclass(frozen=True, eq=False)
class Diagonal(Operator):
    """x ↦ x ⊙ s for a factor s that broadcasts to the shape of x.

    Args:
        factor: s; its shape broadcasts to ``of``.
        of: Shape of x.
        error: Bound of ‖A − Â‖₂.
    """

    factor: Tensor
    of: tuple[int, ...]
    error: float = 0.0

    @staticmethod
    def scaling(factor: Tensor, shape: Sequence[int], *, divide: bool = False) -> Diagonal:
        """Multiplication (or division) of a tensor of ``shape`` by a factor that broadcasts."""
        if not divide:
            return Diagonal(factor, tuple(shape))
        reciprocal = factor.reciprocal()
        # One rounding an entry: |1/d − fl(1/d)| ≤ u·|fl(1/d)|·(1 + u), so twice u is safe; where
        # the reciprocal is subnormal, half of the smallest subnormal number.
        error = 0.0
        if reciprocal.dtype == torch.float64 and not reciprocal.requires_grad:
            error = 2.0 * UNIT_ROUNDOFF * _largest(reciprocal) + 2.0**-1074
        return Diagonal(reciprocal, tuple(shape), error)

    @staticmethod
    def standardising(variance: Tensor, eps: float, shape: Sequence[int]) -> Diagonal:
        """Division by √(variance + eps), for a variance that broadcasts to ``shape``.

        The sum, the root and the reciprocal are off by at most u/2, u and u of themselves (the
        root halves what the sum lost): together less than 4u.
        """
        scaling = Diagonal.scaling((variance + eps).sqrt(), shape, divide=True)
        if scaling.error == 0.0:
            return scaling
        return replace(scaling, error=2.0 * scaling.error)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return math.prod(self.of), math.prod(self.of)

    @property
    def values(self) -> tuple[Tensor, ...]:
        """The factor."""
        return (self.factor,)

    @property
    def full(self) -> Tensor:
        """The factor of every entry, shape (n,).

        Made anew: held, it would lack its gradient if it was first asked for without.
        """
        return self.factor.expand(self.of).reshape(-1)

    @property
    def monomial(self) -> Monomial:
        """The diagonal map as a monomial operator."""
        n = self.shape[0]
        return Monomial(torch.arange(n, device=self.device), n, self.full, self.error)

    def apply(self, x: Tensor) -> Tensor:
        """x ⊙ s."""
        return x * self.full.to(x)

    def adjoint(self, s: Tensor) -> Tensor:
        """s ⊙ the argument: a diagonal map is its own adjoint."""
        return s * self.full.to(s)

    def abs_apply(self, x: Tensor) -> Tensor:
        """x ⊙ |s|."""
        return x * self.full.to(x).abs()

    def abs_adjoint(self, s: Tensor) -> Tensor:
        """|s| ⊙ the argument: a diagonal map is its own adjoint."""
        return s * self.full.to(s).abs()

    @property
    def fan_in(self) -> int:
        """One."""
        return 1

    @property
    def fan_out(self) -> int:
        """One."""
        return 1

    @cached_property
    def absolute_norm(self) -> float:
        """max |s|."""
        return _largest(self.factor) + self.error

    def _after(self, inner: Operator) -> Operator | None:
        if not isinstance(inner, Diagonal) or inner.of != self.of:
            return None
        error = product_error(self, inner, 1)
        outer_factor, inner_factor = together(self.factor, inner.factor)
        return Diagonal(outer_factor * inner_factor, self.of, error)


def together(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one place: constants are made on the CPU, and follow the weights that they meet."""
    place = a.device if b.device.type == "cpu" else b.device
    return a.to(place), b.to(place)


def _times(factor: Tensor | None, selected: Monomial, outer: Operator, inner: Operator) -> Monomial:
    """diag(factor) ∘ selected, with the error of outer ∘ inner."""
    both = factor is not None and selected.factor is not None
    error = product_error(outer, inner, int(both))
    if factor is None:
        factor = selected.factor
    elif selected.factor is not None:
        factor, other = together(factor, selected.factor)
        factor = factor * other
    return Monomial(selected.index, selected.inputs, factor, error)


def _entries(shape: Sequence[int]) -> Tensor:
    """The flat position of every entry of a tensor."""
    return torch.arange(math.prod(shape)).reshape(tuple(shape))


def _largest(values: Tensor) -> float:
    return float(values.detach().abs().max()) if values.numel() else 0.0
