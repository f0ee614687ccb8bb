"""Proved norms of matrices, many at a time.

The proof is a Cholesky factorisation. For a Hermitian float64 matrix S (k × k) whose factorisation
completes, S + ΔS is positive semidefinite for some ‖ΔS‖ ≤ 2u(k + 3)·tr S (Rump, BIT 46, 2006;
u = 2⁻⁵³; a complex product is four real ones and their sums, so that u is 4 · 2⁻⁵³ there). Take
S = fl(tI − Ĝ), where Ĝ approximates a Gram matrix G = BBᴴ of which each entry sums n products:
|Ĝ − G| ≤ (n + 8)u |B||B|ᵀ entrywise, scaling by diagonal factors included. Then

    ‖B‖² ≤ t + 2u[(k + 3)·tr S + (n + 8)·‖B‖_F² + t].

An iteration only proposes t; nothing rests on its convergence. Where no proposed t can be proved
the Frobenius norm is returned, which always holds.

Proofs run on the CPU whatever the device: what a GPU's factorisation does inside (inverted diagonal
blocks, say) is not documented, so Rump's theorem need not cover it. The bounds are then also the
same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .lanczos import lanczos
from .operators import UNIT_ROUNDOFF
from .outward import power_of_two, square_up, times_up, up

_GROWTH = 6.0
_BATCH_BYTES = 2**27
_POWER_STEPS = 10
_REFINED = 3
_TINY = 1e-280
"""Far below everything of order one, and far above what underflow can lose there."""


def weighted_bounds(blocks: Iterable[Tensor], weights: Tensor, error: float = 0.0) -> Tensor:
    """Upper bounds of max over f, g of ‖diag(√q_pg) B_fg‖₂² for every p.

    Args:
        blocks: Matrices B, real or complex, (F, G, c, c') each, with entries of order one. All of
            them together are what the maximum is over.
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
    for batch in blocks:
        squared = torch.maximum(squared, _prove(batch, root))
    if error > 0.0:
        # ‖diag(s)B‖ ≤ ‖diag(s)B̂‖ + max s · ‖B − B̂‖
        extra = times_up(root.flatten(1).amax(1), max(error, _TINY))
        squared = square_up(up(up(squared.sqrt()) + up(extra)))
    bounds[rows] = times_up(up(squared), scale)
    return bounds


def largest_estimate(blocks: Iterable[Tensor]) -> float:
    """Roughly the largest ‖B_fg‖² of all blocks, hardly above it."""
    largest = 0.0
    for batch in blocks:
        ones = torch.ones(1, *batch.shape[1:3], dtype=torch.float64)
        largest = max(largest, float(_Family(batch, ones, squared=False).propose()[0].max()))
    return largest


@dataclass
class _Family:
    """diag(s_pg) B_fg for all p, f, g; the pair (p, n) has n = (f, g), flattened.

    Args:
        blocks: B, shape (F, G, c, c').
        roots: s, shape (P, G, c).
        squared: Whether BBᴴ is formed where that is the smaller Gram matrix; only where it is not
            may c be the smaller side of a pair that is to be proved.
    """

    blocks: Tensor
    roots: Tensor
    squared: bool = True

    @cached_property
    def flat(self) -> Tensor:
        """The blocks (N, c, c')."""
        return self.blocks.flatten(0, 1)

    @property
    def groups(self) -> int:
        """How many rows of roots there are for each p."""
        return self.blocks.shape[1]

    @property
    def width(self) -> int:
        """k, of the Gram matrix in use."""
        return self.flat.shape[2] if self.grams is None else self.flat.shape[1]

    @cached_property
    def grams(self) -> Tensor | None:
        """BBᴴ, where that is the smaller one: then it is scaled for every p."""
        c, other = self.flat.shape[1:]
        return self.flat @ self.flat.mH if self.squared and c <= other else None

    def root(self, p: Tensor, n: Tensor) -> Tensor:
        """The roots of pairs, (K, c)."""
        return self.roots[p, n % self.groups]

    def gram(self, p: Tensor, n: Tensor) -> Tensor:
        """The Gram matrix of diag(s) B for pairs, (K, k, k)."""
        root = self.root(p, n)
        if self.grams is not None:
            return root[:, :, None] * self.grams[n] * root[:, None, :]
        scaled = root[:, :, None] * self.flat[n]
        return scaled.mH @ scaled

    def lanczos(self, p: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        """Estimates of the squared norms of pairs, and their excess."""
        root = self.root(p, n).to(self.flat.dtype)
        whole = self.flat if self.grams is None else self.grams
        alone = len(whole) == 1
        matrix = whole[0] if alone else whole[n]

        def times(a: Tensor, v: Tensor) -> Tensor:
            return v @ a.mT if alone else (a @ v[:, :, None])[:, :, 0]

        def apply(v: Tensor) -> Tensor:
            if self.grams is not None:
                return root * times(matrix, root * v)
            return times(matrix.mH, root * root * times(matrix, v))

        return lanczos(apply, len(p), self.width, matrix)

    def propose(self) -> tuple[Tensor, Tensor]:
        """For every p a squared norm that no pair probably exceeds, and its excess: (P,) each."""
        count, blocks = len(self.roots), len(self.flat)
        rows = torch.arange(count)
        if blocks <= _REFINED:
            p, n = rows.repeat_interleave(blocks), torch.arange(blocks).repeat(count)
        else:
            best = self._power().topk(_REFINED, dim=1).indices
            p, n = rows.repeat_interleave(_REFINED), best.flatten()
        found = [self.lanczos(*pair) for pair in self.batches(p, n)]
        estimate = torch.cat([e for e, _ in found]).reshape(count, -1)
        excess = torch.cat([x for _, x in found]).reshape(count, -1)
        largest, at = torch.nan_to_num(estimate).max(1)
        return largest, excess.gather(1, at[:, None])[:, 0]

    def batches(self, p: Tensor, n: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The pairs in parts that fit into memory."""
        c, other = self.flat.shape[1:]
        entries = c * c if self.grams is not None else max(c, other) * other
        size = max(1, _BATCH_BYTES // (self.flat.element_size() * max(1, entries)))
        return list(zip(torch.split(p, size), torch.split(n, size), strict=True))

    def _power(self) -> Tensor:
        """A few power steps for all pairs at once: (P, N)."""
        number, c, other = self.flat.shape
        start = 1.0 + torch.arange(1, c + 1, dtype=torch.float64).sin()
        result = []
        for part in torch.split(self.roots, max(1, _BATCH_BYTES // (16 * number * max(c, other)))):
            root = part.permute(1, 2, 0).repeat(len(self.blocks), 1, 1)  # (N, c, P)
            v = (root * start[:, None]).to(self.flat.dtype)
            size = v.norm(dim=1)
            for _ in range(_POWER_STEPS):
                v = root * v / size[:, None].clamp_min(1e-300)
                v = self.flat @ (self.flat.mH @ v) if self.grams is None else self.grams @ v
                v = root * v
                size = v.norm(dim=1)
            result.append(size.T)
        return torch.cat(result)


def _prove(blocks: Tensor, roots: Tensor) -> Tensor:
    """Upper bounds (P,) of max ‖diag(s_pg) B_fg‖², everything scaled to order one."""
    family = _Family(blocks, roots)
    unit = UNIT_ROUNDOFF * (4.0 if blocks.is_complex() else 1.0)
    k, terms = family.width, max(family.flat.shape[1:])
    sizes = family.flat.abs().square().sum(2).reshape(-1, *roots.shape[1:])  # (F, G, c)
    squares = torch.einsum("pgc,fgc->pfg", roots.square(), sizes).flatten(1) * (1.0 + 1e-9) + _TINY
    nonzero = (family.flat != 0).any(2).reshape(sizes.shape)
    alive = torch.einsum("pgc,fgc->pfg", (roots > 0).double(), nonzero.double()).flatten(1) > 0
    bounds = torch.where(alive, squares, 0.0)
    estimate, first = family.propose()
    p, n = torch.nonzero(alive & (estimate > 0)[:, None], as_tuple=True)
    for rows, places in family.batches(p, n):
        guess, excess = estimate[rows], first[rows]
        again = False
        while len(rows) > 0:
            t = guess * (1.0 + excess)
            shifted = -family.gram(rows, places)
            shifted.diagonal(dim1=-2, dim2=-1).add_(t[:, None])
            trace = shifted.diagonal(dim1=-2, dim2=-1).real.sum(-1)
            factor, info = torch.linalg.cholesky_ex(shifted)
            proved = (info == 0) & torch.isfinite(factor.abs().sum((1, 2))) & (trace > 0)
            slack = (k + 3) * trace + (terms + 8) * squares[rows, places] + t
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
