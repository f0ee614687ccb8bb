"""Proved upper bounds of spectral norms, in float64, of operators that are not written out.

Leaves. A matrix is proved by a Cholesky factorisation (:mod:`.cholesky`), a convolution by its
Fourier transform (:mod:`.convolution_norms`); AᵀA is diagonal for a selection of entries, and
A Aᵀ = count · I for a sum over axes; a matrix along an axis is I ⊗ M ⊗ I.

Compositions. What can be seen as one convolution is (:mod:`.fusion`), of a tensor that was padded
circularly too (:mod:`.circular`). Otherwise the bound is the smallest of

    ‖A_k ⋯ A_1‖ ≤ Π ‖A_i‖,  ‖Σ A_i‖ ≤ Σ ‖A_i‖,  ‖[A_1 … A_p]‖² ≤ Σ ‖A_i‖²

(the largest ‖A_i‖ where the A_i reach different rows, as in a concatenation); of Schur's test

    ‖A‖² ≤ ‖|A|‖² ≤ max_j (|A|ᵀ|A| v)_j / v_j    for every v > 0,

which is attained where no entry is negative, as in averaging; and, where one side is short enough,
of the matrix itself. A factor D on the left that has at most one entry in a row turns into weights:
‖√Q D A‖ = ‖√Q' A‖ with Q' = DᵀQD, which is diagonal.

Weights. λ_max(Aᵀ diag(q) A) = ‖diag(√q) A‖² is at most max q · ‖A‖²; convolutions keep the weights
of their channels, matrices all of them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF, power_of_two, product_up, times_up, up
from ..maps.axes import AlongAxis, AxesSum
from ..maps.convolution import Convolution
from ..maps.monomials import Diagonal, Monomial
from ..maps.operators import Dense, Operator, Product, product
from ..maps.sums import SideBySide, Sum, Transposed
from .cholesky import Batch, weighted_bounds
from .circular import as_circular
from .convolution_norms import convolution_weighted, prove_convolution
from .fusion import as_convolution, fused
from .lanczos import norm_from_below
from .proofs import OVERHEAD, Proof
from .written import can_be_written_out, prove_written, written_weighted

_SHORT = 1024
"""A composition with a side no longer than this is written out."""

_LONGEST = 4096
"""So is one with a longer side, up to this, where the other bounds are seen to be loose."""

_CLOSE = 1.01
_SCHUR_STEPS = 30


def norm2(operator: Operator) -> float:
    """Upper bound of ‖A‖₂; infinite where a number of the operator is not finite.

    Args:
        operator: A, in float64.
    """
    return prove(operator).bound


def explain(operator: Operator) -> str:
    """Say how the norm of an operator is proved and what memory the proof takes."""
    proof = prove(operator)
    return f"‖A‖ ≤ {proof.bound:.6g} by {proof.how}, {proof.memory / 2**20:.0f} MiB at most"


def prove(operator: Operator) -> Proof:
    """Prove an upper bound of ‖A‖₂, and tell how.

    Args:
        operator: A, in float64.
    """
    if not all(bool(torch.isfinite(value).all()) for value in operator.values):
        return Proof(math.inf, "numbers that are not finite")
    if isinstance(operator, Transposed):
        return prove(operator.inner)
    if isinstance(operator, Dense):
        return _prove_dense(operator)
    if isinstance(operator, AlongAxis):
        return _prove_dense(Dense(operator.matrix, operator.error))
    if isinstance(operator, Convolution):
        return prove_convolution(operator)
    if isinstance(operator, Diagonal):
        operator = operator.monomial
    if isinstance(operator, Monomial):
        return Proof(_monomial_norm(operator), "diagonal Gram matrix")
    if isinstance(operator, AxesSum):
        return Proof(operator.absolute_norm, "diagonal Gram matrix")
    return _prove_composed(operator)


def weighted_norm2_squared(
    operator: Operator, weights: Tensor, norm: float | None = None, blocks: int = 1
) -> Tensor:
    """Upper bounds of λ_max(Aᵀ diag(q_p) A) = ‖diag(√q_p) A‖₂² for P rows q_p ≥ 0.

    Theorem 3 is this with the coefficients of the Hessian as weights.

    Args:
        operator: A of shape (m, n), in float64.
        weights: q, float64, shape (P, m), nonnegative.
        norm: A bound of ‖A‖₂ where one is known already.
        blocks: Of how many blocks of rows this is one: it takes that share of the work.

    Returns:
        Shape (P,), float64. NaN or infinite weights give infinity, zero weights zero.
    """
    # Equal rows are met often: symmetric activations weigh (y, t) and (t, y) alike.
    q, row = torch.unique(weights.cpu(), dim=0, return_inverse=True)
    bounds = torch.full((len(q),), math.inf, dtype=torch.float64)
    finite = torch.isfinite(q).all(1)
    if bool(finite.any()) and all(bool(torch.isfinite(v).all()) for v in operator.values):
        # As they are where they all are finite: the rows of an image network are large.
        bounds[finite] = _weighted(operator, q if bool(finite.all()) else q[finite], norm, blocks)
    bounds[(q == 0).all(1)] = 0.0
    return bounds[row].to(weights.device)


def _weighted(operator: Operator, q: Tensor, norm: float | None = None, blocks: int = 1) -> Tensor:
    """Bounds of λ_max(Aᵀ diag(q) A) for finite weights on the CPU."""
    if isinstance(operator, Dense):
        return _dense_weighted(operator, q)
    if isinstance(operator, Diagonal):
        operator = operator.monomial
    if isinstance(operator, Monomial):
        return _monomial_weighted(operator, q)
    if isinstance(operator, AlongAxis):
        before, after = math.prod(operator.of[: operator.axis]), operator.matrix.shape[0]
        largest = q.reshape(len(q), before, after, -1).amax((1, 3))
        return _dense_weighted(Dense(operator.matrix, operator.error), largest)
    if isinstance(operator, AxesSum):
        return times_up(q.amax(1), float(operator.count))
    norm = norm2(operator) if norm is None else norm
    coarse = times_up(times_up(q.amax(1), norm), norm)
    return torch.minimum(coarse, _structured(operator, q, blocks))


def _structured(operator: Operator, q: Tensor, blocks: int) -> Tensor:
    """Bounds that follow from the structure of the operator; infinite where there is none."""
    found = torch.full((len(q),), math.inf, dtype=torch.float64)
    adjoint = isinstance(operator, Transposed)
    inner = operator.inner if isinstance(operator, Transposed) else operator
    convolution = as_convolution(inner)
    if convolution is not None:
        found = convolution_weighted(convolution, q, adjoint=adjoint, blocks=blocks)
    elif isinstance(operator, Product):
        found = _product_weighted(operator, q, blocks)
    elif isinstance(operator, Sum):
        roots = [up(_weighted(part, q, None, blocks).sqrt()) for part in operator.summands]
        total = _total(roots)
        found = times_up(total, total)
    elif isinstance(operator, SideBySide):
        parts = [_weighted(part, q, None, blocks) for part in operator.blocks]
        disjoint = _reach_different_rows(operator.blocks)
        found = torch.stack(parts).amax(0) if disjoint else _total(parts)
    if not isinstance(inner, Convolution) and can_be_written_out(operator, _SHORT):
        found = torch.minimum(found, written_weighted(operator, q, blocks))
    return found


def _prove_composed(operator: Operator) -> Proof:
    best = _prove_structured(operator)
    if isinstance(operator, Product):
        parts = fused(operator.factors)
        if len(parts) == 1 or as_circular(parts) is not None:
            return best
    absolute = Proof(operator.absolute_norm + operator.error, "norms of |A|")
    best = min(best, absolute, Proof(_schur(operator), "Schur"))
    if can_be_written_out(operator, _SHORT) or (
        can_be_written_out(operator, _LONGEST)
        and best.bound > _CLOSE * norm_from_below(operator) + operator.error
    ):
        best = min(best, prove_written(operator))
    return best


def _prove_structured(operator: Operator) -> Proof:
    """Prove a bound from the parts of an operator; it is infinite if there are none."""
    convolution = as_convolution(operator)
    if convolution is not None:
        return prove_convolution(convolution)
    guard = 1.0 + 1e-14
    if isinstance(operator, Sum):
        proofs = [prove(part) for part in operator.summands]
        total = sum(proof.bound for proof in proofs) * guard
        return Proof(total, "sum of norms", _most(proofs))
    if isinstance(operator, SideBySide):
        proofs = [prove(block) for block in operator.blocks]
        norms = [proof.bound for proof in proofs]
        disjoint = _reach_different_rows(operator.blocks)
        bound = max(norms) if disjoint else math.hypot(*norms) * guard
        return Proof(bound, "norms side by side", _most(proofs))
    if isinstance(operator, Product):
        parts = fused(operator.factors)
        if len(parts) == 1:
            return prove(parts[0])
        circular = as_circular(parts)
        if circular is not None:
            return prove_convolution(*circular)
        proofs = [prove(part) for part in parts]
        bound = product_up(proof.bound for proof in proofs)
        if isinstance(parts[0], Diagonal | Monomial):
            one = torch.ones(1, operator.shape[0], dtype=torch.float64)
            squared = float(_product_weighted(operator, one, 1)[0])
            bound = min(bound, math.sqrt(squared) * guard)
        return Proof(bound, "product of norms", _most(proofs))
    return Proof(math.inf, "nothing")


def _most(proofs: list[Proof]) -> int:
    return max(proof.memory for proof in proofs)


def _product_weighted(operator: Product, q: Tensor, blocks: int) -> Tensor:
    """The first of the factors meets the weights, the others count with their norms."""
    parts = fused(operator.factors)
    outer, rest = parts[0], parts[1:]
    if not rest:
        return _weighted(outer, q, None, blocks)
    circular = as_circular(parts)
    if circular is not None:
        return convolution_weighted(
            circular.convolution, q, wrapped=circular.wrapped, blocks=blocks
        )
    if isinstance(outer, Diagonal):
        outer = outer.monomial
    if not isinstance(outer, Monomial):
        norm = product_up(norm2(part) for part in rest)
        return times_up(times_up(_weighted(outer, q, None, blocks), norm), norm)
    inner = product(rest)
    bounds = _weighted(inner, _scattered(outer, q), None, blocks)
    if outer.error > 0.0:
        # ‖√Q (D̂ + E) A‖ ≤ ‖√Q D̂ A‖ + max √q ‖E‖ ‖A‖
        extra = times_up(times_up(q.amax(1).sqrt(), outer.error * (1.0 + 1e-9)), norm2(inner))
        root = up(up(bounds.sqrt()) + extra)
        bounds = times_up(root, root)
    return bounds


def _reach_different_rows(blocks: tuple[Operator, ...]) -> bool:
    """Whether no two of the operators have a row in which both are not zero."""
    reached = [rows for block in blocks if (rows := _reached(block)) is not None]
    return len(reached) == len(blocks) and bool(torch.stack(reached).sum(0).max() <= 1)


def _reached(operator: Operator) -> Tensor | None:
    first = operator.factors[0] if isinstance(operator, Product) else operator
    return first.index.cpu() != first.inputs if isinstance(first, Monomial) else None


def _schur(operator: Operator) -> float:
    """Schur's test for |A| with a vector from power steps, rounded up."""
    v = torch.ones(1, operator.shape[1], dtype=torch.float64, device=operator.device)
    best = math.inf
    relative = 1.0 + 4.0 * (operator.fan_in + operator.fan_out + 8) * UNIT_ROUNDOFF
    lost = operator.underflow
    for _ in range(_SCHUR_STEPS):
        forward = operator.abs_apply(v) + lost
        # Scaled in between, lest it underflows.
        size = power_of_two(forward)
        image = operator.abs_adjoint(forward / size) + lost
        ratio = float((image / v).max()) * relative
        best = min(best, math.sqrt(ratio) * math.sqrt(size) * (1.0 + 1e-14))
        # Entries that fade away are kept: any positive v will do.
        v = (image / image.max()).clamp_min(1e-6)
    return best + operator.error if math.isfinite(best) else math.inf


def _prove_dense(operator: Dense) -> Proof:
    matrix = operator.matrix.detach().cpu()
    size = power_of_two(matrix)
    matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    ones = torch.ones(1, 1, len(matrix), dtype=torch.float64)
    root = math.sqrt(float(weighted_bounds([Batch.of(matrix, size)], ones)[0]))
    error, memory = operator.error, 8 * (matrix.numel() * 2 + len(matrix) ** 2 * 3)
    bound = math.nextafter((size * root + error) * (1.0 + 8.0 * UNIT_ROUNDOFF), math.inf)
    return Proof(bound if root > 0.0 else error, "matrix", memory + OVERHEAD)


def _dense_weighted(operator: Dense, q: Tensor) -> Tensor:
    matrix = operator.matrix.detach().cpu()
    # Powers of two scale without rounding and keep squares away from underflow and overflow.
    size = power_of_two(matrix)
    bounds = weighted_bounds([Batch.of(matrix, size)], q[:, None], operator.error / size)
    return times_up(times_up(bounds, size), size)


def _monomial_norm(operator: Monomial) -> float:
    factor = operator.factor
    factor = torch.ones((), dtype=torch.float64) if factor is None else factor.detach()
    size = power_of_two(factor)
    scaled = Monomial(operator.index, operator.inputs, factor.expand(operator.shape[0]) / size)
    ones = torch.ones(1, operator.shape[0], dtype=torch.float64)
    root = math.sqrt(float(_monomial_weighted(scaled, ones)[0]))
    if root == 0.0:
        return operator.error
    return math.nextafter((size * root + operator.error) * (1.0 + 8.0 * UNIT_ROUNDOFF), math.inf)


def _monomial_weighted(operator: Monomial, q: Tensor) -> Tensor:
    """AᵀQA is diagonal for a monomial A: its largest entry, rounded up."""
    bounds = _scattered(operator, q).amax(1)
    if operator.error > 0.0:
        extra = times_up(q.amax(1).sqrt(), operator.error * (1.0 + 1e-9))
        root = up(up(bounds.sqrt()) + extra)
        bounds = times_up(root, root)
    return torch.where(torch.isfinite(bounds), bounds, math.inf)


def _scattered(operator: Monomial, q: Tensor) -> Tensor:
    """The diagonal of AᵀQA, rounded up."""
    squares = q
    if operator.factor is not None:
        factor = operator.factor.detach().abs().cpu()
        squares = times_up(q, times_up(factor, factor))
    on_cpu = Monomial(operator.index.cpu(), operator.inputs)
    return times_up(on_cpu.scatter(squares), 1.0 + 2.0 * (operator.fan_out + 2) * UNIT_ROUNDOFF)


def _total(parts: list[Tensor]) -> Tensor:
    """The sum of bounds, rounded up."""
    return up(torch.stack(parts).sum(0) * (1.0 + 2.0 * len(parts) * UNIT_ROUNDOFF))
