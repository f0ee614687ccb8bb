"""Proved norms of matrices, many at a time.

The proof is a Cholesky factorisation. For a Hermitian float64 matrix S (k × k) whose factorisation
completes, S + ΔS is positive semidefinite for some ‖ΔS‖ ≤ 2u(k + 3)·tr S (Rump, BIT 46, 2006;
u = 2⁻⁵³; a complex product is four real ones and their sums, so that u is 4 · 2⁻⁵³ there). Take
S = fl(tI − Ĝ), where Ĝ approximates a Gram matrix G = BBᴴ of which each entry sums n products:
|Ĝ − G| ≤ (n + 8)u |B||B|ᵀ entrywise, scaling by diagonal factors included. Then

    ‖B‖² ≤ t + 2u[(k + 3)·tr S + (n + 8)·‖B‖_F² + t].

An iteration only proposes t; nothing rests on its convergence. Where no proposed t can be proved
the Frobenius norm is returned, of B or of G, which always holds; and where that is below t already
nothing need be proved.

Proofs run on the CPU whatever the device: what a GPU's factorisation does inside (inverted diagonal
blocks, say) is not documented, so Rump's theorem need not cover it. The bounds are then also the
same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF, power_of_two, square_up, times_up, up
from .lanczos import lanczos

_GROWTH = 6.0
_BATCH_BYTES = 2**22
"""What is factorised at a time: what stays in the cache is faster."""
_POWER_STEPS = 10
_REFINED = 3
_TINY = 1e-280
"""Far below everything of order one, and far above what underflow can lose there."""


@dataclass(frozen=True)
class Batch:
    """Some of the matrices B, real or complex, with entries of order one.

    Args:
        matrices: B, shape (F, G, c, c'), or BBᴴ, shape (F, G, c, c).
        squared: Which of the two. BBᴴ is scaled from both sides for each row of weights; for B
            the Gram matrix with c' rows is formed each time.
        alive: Which rows of B are not zero, shape (G, c).
        terms: Products summed in one entry of a Gram matrix.
        groups: The G of all groups that these are of.
    """

    matrices: Tensor
    squared: bool
    alive: Tensor
    terms: int
    groups: slice = field(default_factory=lambda: slice(None))

    @staticmethod
    def of(matrix: Tensor, size: float = 1.0) -> Batch:
        """A single matrix, divided by a power of two; rows that then vanish are still alive."""
        c, other = matrix.shape
        alive = (matrix != 0).any(1)[None]
        matrix = matrix / size
        if c <= other:
            return Batch((matrix @ matrix.T)[None, None], True, alive, other)
        return Batch(matrix[None, None], False, alive, c)


def weighted_bounds(batches: Iterable[Batch], weights: Tensor, error: float = 0.0) -> Tensor:
    """Upper bounds of max over f, g of ‖diag(√q_pg) B_fg‖₂² for every p.

    Args:
        batches: The matrices, all of which the maximum is over.
        weights: q ≥ 0, shape (P, G, c).
        error: Bound of what each B is off by, in the 2-norm.

    Returns:
        Shape (P,). NaN or infinite weights give infinity.
    """
    bounds = torch.full((len(weights),), math.inf, dtype=torch.float64)
    rows = torch.nonzero(torch.isfinite(weights).flatten(1).all(1)).flatten()
    if len(rows) == 0:
        return bounds
    q = weights[rows]
    scale = torch.tensor([power_of_two(row) for row in q], dtype=torch.float64)
    # What is positive stays so: raising a weight that would vanish keeps the bound a bound.
    relative = q / scale[:, None, None]
    relative = torch.where(q > 0, relative.clamp_min(_TINY), relative)
    root = up(relative.sqrt())
    squared = torch.zeros(len(rows), dtype=torch.float64)
    for batch in batches:
        squared = torch.maximum(squared, _prove(batch, root[:, batch.groups]))
        del batch  # the next one is made before this name holds it
    if error > 0.0:
        # ‖diag(s)B‖ ≤ ‖diag(s)B̂‖ + max s · ‖B − B̂‖
        extra = times_up(root.flatten(1).amax(1), max(error, _TINY))
        squared = square_up(up(up(squared.sqrt()) + up(extra)))
    bounds[rows] = times_up(up(squared), scale)
    return bounds


def largest_estimate(batches: Iterable[Batch]) -> float:
    """Roughly the largest ‖B_fg‖² of all matrices, hardly above it."""
    largest = 0.0
    for batch in batches:
        ones = torch.ones(1, *batch.matrices.shape[1:3], dtype=torch.float64)
        largest = max(largest, float(_Family(batch, ones).propose()[0].max()))
        del batch
    return largest


@dataclass
class _Family:
    """diag(s_pg) B_fg for all p, f, g; the pair (p, n) has n = (f, g), flattened.

    Args:
        batch: B.
        roots: s, shape (P, G, c).
    """

    batch: Batch
    roots: Tensor

    @cached_property
    def flat(self) -> Tensor:
        """B or BBᴴ, (N, c, ·)."""
        return self.batch.matrices.flatten(0, 1)

    @property
    def width(self) -> int:
        """k, of the Gram matrices to be proved."""
        return self.flat.shape[2]

    def root(self, p: Tensor, n: Tensor) -> Tensor:
        """The roots of pairs, (K, c)."""
        return self.roots[p, n % self.roots.shape[1]]

    def gram(self, p: Tensor, n: Tensor) -> Tensor:
        """The Gram matrices of diag(s) B for pairs, (K, k, k)."""
        root = self.root(p, n)
        scaled = self.flat[n].mul_(root[:, :, None])
        return scaled.mul_(root[:, None, :]) if self.batch.squared else scaled.mH @ scaled

    def squares(self) -> Tensor:
        """‖diag(s) B‖_F² of all pairs, rounded up, and zero where no row is left: (P, N)."""
        if self.batch.squared:
            sizes = self.batch.matrices.diagonal(dim1=-2, dim2=-1).real.clamp_min(0.0)
        else:
            sizes = self.batch.matrices.abs().square_().sum(3)
        total = torch.einsum("pgc,fgc->pfg", self.roots.square(), sizes)
        left = ((self.roots > 0) & self.batch.alive).any(2)
        return torch.where(left[:, None], total * (1.0 + 1e-9) + _TINY, 0.0).flatten(1)

    def frobenius(self) -> Tensor:
        """‖diag(s) BBᴴ diag(s)‖_F of all pairs, rounded up; infinite where BBᴴ is not given."""
        if not self.batch.squared:
            return torch.full((len(self.roots), len(self.flat)), math.inf, dtype=torch.float64)
        sizes = self.batch.matrices.abs().square_()
        weights = self.roots.square()
        halves = torch.einsum("pgc,fgcd->pfgd", weights, sizes)
        total = torch.einsum("pfgd,pgd->pfg", halves, weights).flatten(1)
        return torch.where(self.squares() > 0, total.sqrt() * (1.0 + 1e-9) + _TINY**0.5, 0.0)

    def lanczos(self, p: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        """Estimates of the squared norms of pairs, and their excess."""
        root = self.root(p, n).to(self.flat.dtype)
        alone = len(self.flat) == 1
        matrix = self.flat[0] if alone else self.flat[n]

        def times(a: Tensor, v: Tensor) -> Tensor:
            return v @ a.mT if alone else (a @ v[:, :, None])[:, :, 0]

        def apply(v: Tensor) -> Tensor:
            if self.batch.squared:
                return root * times(matrix, root * v)
            return times(matrix.mH, root * root * times(matrix, v))

        return lanczos(apply, len(p), self.width, matrix)

    def propose(self) -> tuple[Tensor, Tensor]:
        """For every p a squared norm that no pair probably exceeds, and its excess: (P,) each."""
        count, number = len(self.roots), len(self.flat)
        rows = torch.arange(count)
        if number <= _REFINED:
            p, n = rows.repeat_interleave(number), torch.arange(number).repeat(count)
        else:
            best = self._power().topk(_REFINED, dim=1).indices
            p, n = rows.repeat_interleave(_REFINED), best.flatten()
        # A single matrix is not repeated for every pair: vectors are all that takes memory.
        parts = self.parts(p, n, self.width if number == 1 else None)
        found = [self.lanczos(*pair) for pair in parts]
        estimate = torch.cat([e for e, _ in found]).reshape(count, -1)
        excess = torch.cat([x for _, x in found]).reshape(count, -1)
        largest, at = torch.nan_to_num(estimate).max(1)
        return largest, excess.gather(1, at[:, None])[:, 0]

    def parts(
        self, p: Tensor, n: Tensor, entries: int | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """The pairs in parts that fit into the cache, each of so many entries (one matrix)."""
        entries = max(self.flat.shape[1:]) * self.width if entries is None else entries
        size = max(1, _BATCH_BYTES // (self.flat.element_size() * max(1, entries)))
        return list(zip(torch.split(p, size), torch.split(n, size), strict=True))

    def _power(self) -> Tensor:
        """A few power steps for all pairs at once: (P, N)."""
        number, c, _ = self.flat.shape
        start = 1.0 + torch.arange(1, c + 1, dtype=torch.float64).sin()
        result = []
        for part in torch.split(self.roots, max(1, _BATCH_BYTES // (16 * number * c))):
            root = part.permute(1, 2, 0).repeat(len(self.batch.matrices), 1, 1)  # (N, c, P)
            v = (root * start[:, None]).to(self.flat.dtype)
            size = v.norm(dim=1)
            for _ in range(_POWER_STEPS):
                v = root * v / size[:, None].clamp_min(1e-300)
                v = self.flat @ (v if self.batch.squared else self.flat.mH @ v)
                v = root * v
                size = v.norm(dim=1)
            result.append(size.T)
        return torch.cat(result)


def _factorised(grams: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the factorisation of tI − Ĝ completes, and the trace of that, for each Ĝ.

    The Gram matrices are overwritten.
    """
    shifted = grams.neg_()
    shifted.diagonal(dim1=-2, dim2=-1).add_(t[:, None])
    trace = shifted.diagonal(dim1=-2, dim2=-1).real.sum(-1)
    factor, info = torch.linalg.cholesky_ex(shifted)
    # An entry that is not finite would have made the diagonal of its row so.
    finite = torch.isfinite(factor.diagonal(dim1=-2, dim2=-1).real).all(-1)
    return (info == 0) & finite & (trace > 0), trace


def _prove(batch: Batch, roots: Tensor) -> Tensor:
    """Upper bounds (P,) of max ‖diag(s_pg) B_fg‖², everything scaled to order one."""
    family = _Family(batch, roots)
    unit = UNIT_ROUNDOFF * (4.0 if batch.matrices.is_complex() else 1.0)
    squares = family.squares()
    bounds = torch.minimum(squares, family.frobenius() + 2.0 * unit * (batch.terms + 8) * squares)
    estimate, first = family.propose()
    # What the Frobenius norm of the Gram matrix settles needs no factorisation.
    p, n = torch.nonzero((bounds > estimate[:, None]) & (estimate > 0)[:, None], as_tuple=True)
    for rows, places in family.parts(p, n):
        guess, excess = estimate[rows], first[rows]
        again = False
        while len(rows) > 0:
            t = guess * (1.0 + excess)
            proved, trace = _factorised(family.gram(rows, places), t)
            slack = (family.width + 3) * trace + (batch.terms + 8) * squares[rows, places] + t
            bound = t + 2.0 * unit * (1.0 + 1e-9) * slack + _TINY
            done = (rows[proved], places[proved])
            bounds[done] = torch.minimum(bounds[done], up(bound[proved]))
            left = ~proved & (excess < 1.0)
            rows, places, excess = rows[left], places[left], excess[left] * _GROWTH
            guess = guess[left]
            if not again and len(rows) > 0:
                own, lacking = family.lanczos(rows, places)
                better = own > guess
                guess = torch.where(better, own, guess)
                excess = torch.where(better, lacking, excess)
                again = True
    return bounds.amax(1)
