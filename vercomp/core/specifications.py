"""What is to be proved of a network's outputs z: linear inequalities, joined by "and" and "or".

A specification is a conjunction of clauses, each a disjunction of rows c·z + d > 0. Three sources
fit this form without growing: the margins of a label and bounds of outputs are clauses of one row
each, and a VNN-LIB file describes the *unsafe* outputs as a disjunction of conjunctions, whose
negation is exactly a conjunction of disjunctions. Each clause can be proved by itself, and one row
with a positive lower bound proves its clause. A fourth source needs one number more: a label is
among the k largest outputs as long as at most k − 1 of its margins fail.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .errors import InputError, InputTypeError

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False)
class Specification:
    """C z + d > 0, row by row, where some row of each clause must hold.

    The constructors :meth:`margins`, :meth:`outputs` and :meth:`of` check what they are given.

    Args:
        coefficients: C in float64, (R, O) for every input or (B, R, O), one for each input.
        offsets: d in float64, (R,) or (B, R).
        groups: The number of the clause that each row belongs to, (R,), counted from 0.
        allowed: So many clauses may fail, whichever they are.
    """

    coefficients: Tensor
    offsets: Tensor
    groups: Tensor
    allowed: int = 0

    @staticmethod
    def of(
        coefficients: Tensor,
        offsets: Tensor | None = None,
        groups: Tensor | None = None,
        allowed: int = 0,
    ) -> Specification:
        """The specification of rows C and d.

        Args:
            coefficients: C, (R, O) or (B, R, O).
            offsets: d, (R,) or (B, R); zero if None.
            groups: Rows with an equal number are alternatives, (R,); if None, all rows must hold.
            allowed: So many clauses may fail.

        Raises:
            InputTypeError: C or d do not hold floating-point numbers, or groups no integers.
            InputError: A wrong shape, no rows, NaN or infinity, or every clause may fail.
        """
        C = _real("coefficients", coefficients)
        if C.ndim not in (2, 3) or 0 in C.shape[-2:]:
            raise InputError(
                f"coefficients must have the shape (rows, outputs) or (batch, rows, outputs), "
                f"got {tuple(C.shape)}"
            )
        d = C.new_zeros(C.shape[:-1]) if offsets is None else _real("offsets", offsets).to(C.device)
        if d.shape not in (C.shape[:-1], C.shape[-2:-1]):
            raise InputError(
                f"offsets must have the shape {tuple(C.shape[:-1])}, got {tuple(d.shape)}"
            )
        rows = C.shape[-2]
        if groups is None:
            groups = torch.arange(rows, device=C.device)
        if groups.dtype not in _INTEGERS:
            raise InputTypeError(f"groups must be integers, got {groups.dtype}")
        if groups.shape != (rows,):
            raise InputError(f"groups must have the shape ({rows},), got {tuple(groups.shape)}")
        clauses: Tensor = torch.unique(groups.to(C.device), return_inverse=True)[1]
        made = Specification(C, d.expand(C.shape[:-1]), clauses, allowed)
        if not 0 <= allowed < made.clauses:
            raise InputError(f"of {made.clauses} clauses {allowed} cannot be allowed to fail")
        return made

    @staticmethod
    def margins(y: Tensor, classes: int, targets: str | Tensor = "all") -> Specification:
        """z_y − z_t > 0 for every target t: the label's output is the largest.

        Args:
            y: The labels, (B,).
            classes: The number of outputs.
            targets: ``"all"`` for every other class, or a tensor of targets, (B,) or (B, K).

        Raises:
            InputTypeError: Labels or targets that are not integers.
            InputError: Fewer than two classes, a wrong shape, a class out of range, or a target
                that is the label.
        """
        if classes < 2:
            raise InputError(f"a margin needs two classes or more, got {classes}")
        _check_classes("labels", y, classes)
        if y.ndim != 1:
            raise InputError(f"labels must have the shape (batch,), got {tuple(y.shape)}")
        label = y.long()[:, None]
        if isinstance(targets, Tensor):
            _check_classes("targets", targets, classes)
            if targets.ndim not in (1, 2) or len(targets) != len(y) or 0 in targets.shape[1:]:
                raise InputError(
                    f"targets must have the shape ({len(y)},) or ({len(y)}, K), "
                    f"got {tuple(targets.shape)}"
                )
            table = targets.to(y.device, torch.long).reshape(len(y), *targets.shape[1:] or (1,))
            same = (table == label).any(1)
            if bool(same.any()):
                raise InputError(
                    f"a target must differ from the label: see row {int(same.nonzero()[0])}"
                )
        elif targets == "all":
            others = torch.arange(classes - 1, device=y.device).expand(len(y), -1)
            table = others + (others >= label).long()
        else:
            raise InputError(f"targets must be 'all' or a tensor of classes, got {targets!r}")
        units = torch.eye(classes, dtype=torch.float64, device=y.device)
        return Specification.of(units[label] - units[table])

    @staticmethod
    def outputs(lower: Tensor | None = None, upper: Tensor | None = None) -> Specification:
        """lower < z < upper, output by output.

        Args:
            lower: (O,) or (B, O); −∞ where an output is not bounded from below.
            upper: (O,) or (B, O); ∞ where it is not bounded from above.

        Raises:
            InputTypeError: A bound that does not hold floating-point numbers.
            InputError: Different shapes, NaN, lower ≥ upper, or no bound at all.
        """
        given = [bound for bound in (lower, upper) if bound is not None]
        if not given or given[0].shape != given[-1].shape or given[0].ndim not in (1, 2):
            shapes = [tuple(bound.shape) for bound in given]
            raise InputError(f"bounds of outputs must have one shape, (O,) or (B, O), got {shapes}")
        wide = torch.full_like(given[0], torch.inf, dtype=torch.float64)
        low = -wide if lower is None else _real("lower bounds", lower, finite=False)
        high = wide if upper is None else _real("upper bounds", upper, finite=False)
        if not bool((low < high).all()):
            raise InputError("bounds of outputs must be numbers with lower < upper")
        units = torch.eye(low.shape[-1], dtype=torch.float64, device=low.device)
        C = torch.cat([units, -units]).expand(*low.shape[:-1], -1, -1)
        d = torch.cat([-low, high], -1)
        bounded = torch.isfinite(d)
        asked = bounded.reshape(-1, d.shape[-1]).any(0)
        if not bool(asked.any()):
            raise InputError("bounds of outputs must bound something: all are infinite")
        # A row that only some inputs ask for says 1 > 0 for the others.
        C = torch.where(bounded[..., None], C, 0.0)[..., asked, :]
        return Specification.of(C, torch.where(bounded, d, 1.0)[..., asked])

    @property
    def count(self) -> int:
        """The number of rows, R."""
        return self.coefficients.shape[-2]

    @property
    def clauses(self) -> int:
        """The number of clauses."""
        return int(self.groups.max()) + 1

    @property
    def batched(self) -> bool:
        """Whether each input has rows of its own."""
        return self.coefficients.ndim == 3

    def rows(self, index: Tensor | slice) -> Specification:
        """The specification of some inputs; one that is for every input stays as it is."""
        if not self.batched:
            return self
        return replace(self, coefficients=self.coefficients[index], offsets=self.offsets[index])

    def to(self, device: torch.device | str) -> Specification:
        """The same specification on another device."""
        return replace(
            self,
            coefficients=self.coefficients.to(device),
            offsets=self.offsets.to(device),
            groups=self.groups.to(device),
        )

    @property
    def separable(self) -> bool:
        """Whether every row must hold, so that each can be proved, or refuted, by itself."""
        return self.allowed == 0 and self.clauses == self.count

    def values(self, z: Tensor) -> Tensor:
        """C z + d in float64 for outputs z (B, O), to the nearest: (B, R). Proves nothing."""
        return torch.einsum("...ro,...o->...r", self.coefficients, z.double()) + self.offsets

    def decided(self, lower_bounds: Tensor) -> Tensor:
        """Which inputs (B,) lower bounds (B, R) of C z + d prove: a positive row in each clause.

        The result is a proof if the bounds are. NaN proves nothing.
        """
        holds = self._each_clause(lower_bounds > 0.0, "lower bounds")
        return (holds == 0).sum(1) <= self.allowed

    def violated(self, values: Tensor) -> Tensor:
        """Which inputs (B,) values or upper bounds (B, R) of C z + d refute: a clause all ≤ 0.

        The result is a proof if the values are upper bounds. NaN refutes nothing.
        """
        fails = self._each_clause(values <= 0.0, "values")
        size = torch.bincount(self.groups, minlength=self.clauses)
        return (fails == size).sum(1) > self.allowed

    def radii(self, rows: Tensor) -> Tensor:
        """Radii of what may fail by itself, from radii (B, R) within which each row holds.

        A clause holds as far as the best of its rows. Where some clauses may fail, the whole holds
        as far as the clause that is the first too many, in the order of their radii.

        Returns:
            (B, clauses), of which all must hold; or (B, 1) where some may fail.
        """
        clauses = torch.full_like(rows[:, : self.clauses], -torch.inf)
        clauses.scatter_reduce_(1, self.groups.expand_as(rows), rows, "amax")
        if self.allowed == 0:
            return clauses
        return clauses.kthvalue(self.allowed + 1, dim=1, keepdim=True).values

    def _each_clause(self, rows: Tensor, name: str) -> Tensor:
        """How many rows of each clause are true, (B, clauses)."""
        batch = (len(self.coefficients),) if self.batched else rows.shape[:1]
        if rows.ndim != 2 or rows.shape != (*batch, self.count):
            raise InputError(
                f"{name} must have the shape (batch, {self.count}), got {tuple(rows.shape)}"
            )
        counts = torch.zeros(len(rows), self.clauses, dtype=torch.long, device=rows.device)
        return counts.index_add_(1, self.groups, rows.long())


def units(outputs: int, device: torch.device | str = "cpu") -> Tensor:
    """What margins compare, as rows (classes, outputs): the outputs; of one output z, zero and z.

    So the margin of class 1 over class 0 is z where there is no other output, and every bound of
    margins, of curvature or of anything else, is there for networks with one output as well.
    """
    identity = torch.eye(outputs, dtype=torch.float64, device=device)
    return identity if outputs > 1 else torch.cat([torch.zeros_like(identity), identity])


def _real(name: str, value: Tensor, finite: bool = True) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise InputTypeError(f"{name} must be a tensor of floating-point numbers, got {kind}")
    if finite and not bool(value.isfinite().all()):
        raise InputError(f"{name} must be finite")
    return value.detach().double()


def _check_classes(name: str, value: Tensor, classes: int) -> None:
    if not isinstance(value, Tensor) or value.dtype not in _INTEGERS:
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise InputTypeError(f"{name} must be a tensor of integers, got {kind}")
    wrong = value[(value < 0) | (value >= classes)]
    if wrong.numel():
        raise InputError(f"{name} must lie in 0..{classes - 1}, got {int(wrong[0])}")
