"""Upper bounds of norms from random projections, each with the probability that it fails.

*Cauchy.* For a vector v and independent standard Cauchy R_ij, the k products v·R_j are ‖v‖₁ times
independent standard Cauchy numbers C_j. For 0 < t < 1, E|C|^{−t} = 1/cos(πt/2), so by Markov

    P(Π |C_j|^{1/k} ≤ e^{−L}) ≤ [e^{−tL}/cos(πt/2)]^k,

which is least at t = (2/π) arctan(2L/π), where it is exp(−k I(L)),

    I(L) = (2/π) L arctan(2L/π) − ½ log(1 + (2L/π)²).

So ‖v‖₁ ≤ e^L Π |v·R_j|^{1/k}, but for a probability exp(−k I(L)): with 1 − ε = e^{−L} this is the
tail of the geometric estimator of Li et al. (*Nonlinear estimators and tail bounds for dimension
reduction in l1 using Cauchy random projections*, 2007) that appendix E.2 of Wong et al. quotes.

The maximum of m such estimates, each from k products, fails with probability exp(−m k I(L)). That
is what one estimate from m k products promises, which is the smaller of the two on the whole: more
products are better than more estimates.

*Normal.* For independent standard normal R_ij, Σ_j (v·R_j)² is ‖v‖₂² times a χ² number of k
degrees of freedom. With q its quantile of the probability δ, ‖v‖₂ ≤ (Σ_j (v·R_j)²/q)^½ but for a
probability δ.

What the numbers of a generator look like is taken for granted: they stand for independent draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

_GUARD = 1.0 + 1e-9
"""Covers what float64 loses in a logarithm, an exponential and an incomplete gamma function."""

_BISECTIONS = 200

BLOCK = 32
"""So many random vectors are sent through a network at a time."""


class Law(Enum):
    """The distribution of the entries of a projection, by the norm that it is for."""

    CAUCHY = "l1"
    NORMAL = "l2"

    def draw(self, rows: int, size: int, generator: torch.Generator) -> Tensor:
        """Independent standard numbers (rows, size), float64."""
        drawn = torch.empty(rows, size, dtype=torch.float64)
        if self is Law.CAUCHY:
            return drawn.cauchy_(generator=generator)
        return drawn.normal_(generator=generator)

    def factor(self, columns: int, failure: float) -> float:
        """By what an estimate from so many products is multiplied, to fail with that probability.

        Args:
            columns: k.
            failure: δ, in (0, 1).
        """
        return (geometric_factor if self is Law.CAUCHY else quadratic_factor)(columns, failure)


def geometric_factor(columns: int, failure: float) -> float:
    """e^L with exp(−k I(L)) ≤ δ, rounded up."""
    wanted = -math.log(failure) * _GUARD / columns
    return math.exp(_least(lambda L: geometric_rate(L) >= wanted)) * _GUARD


def geometric_rate(L: float) -> float:
    """I(L)."""
    y = 2.0 * L / math.pi
    return y * math.atan(y) - 0.5 * math.log1p(y * y)


def quadratic_factor(columns: int, failure: float) -> float:
    """(k/q)^½, q the quantile of probability δ of χ² with k degrees of freedom, rounded up."""
    shape = torch.tensor(0.5 * columns, dtype=torch.float64)

    def likely(shrink: float) -> bool:
        """Whether P(χ²_k ≤ k e^{−shrink}) ≤ δ."""
        quantile = 0.5 * columns * math.exp(-shrink)
        found = torch.special.gammainc(shape, torch.tensor(quantile, dtype=torch.float64))
        return float(found) * _GUARD <= failure

    return math.exp(0.5 * _least(likely)) * _GUARD


def _least(holds: Callable[[float], bool]) -> float:
    """Hardly above the least number at which a condition holds that then stays true."""
    high = 1.0
    while not holds(high):
        high *= 2.0
    low = 0.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


class NormEstimate:
    """The largest of m estimates of norms, gathered from blocks of products.

    Args:
        law: Of the projection.
        columns: k, the products of each estimate.
        estimators: m.
        failure: δ of the largest.
    """

    def __init__(self, law: Law, columns: int, estimators: int, failure: float) -> None:
        self.law, self.columns = law, columns
        self.factor = law.factor(columns, failure ** (1.0 / estimators))
        self._sums: list[Tensor] = []
        self._seen = 0

    def add(self, products: Tensor, error: Tensor) -> None:
        """Take products v·R_j (B, q, n) that are off by no more than so much, (B, n).

        A block belongs to one estimate: q divides k.
        """
        size = products.abs() + error[:, None]
        part = (size.log() if self.law is Law.CAUCHY else size.square()).sum(1)
        if self._seen % self.columns == 0:
            self._sums.append(part)
        else:
            self._sums[-1] = self._sums[-1] + part
        self._seen += products.shape[1]

    def norm(self) -> Tensor:
        """Upper bounds (B, n), ∞ where a product is not a number."""
        mean = torch.stack(self._sums).amax(0) / self.columns
        found = (mean.exp() if self.law is Law.CAUCHY else mean.sqrt()) * (self.factor * _GUARD)
        return torch.nan_to_num(found, nan=math.inf, posinf=math.inf)


@dataclass(frozen=True)
class Projection:
    """How many random numbers an estimate takes.

    Args:
        columns: k, the products of an estimate.
        estimators: m, the estimates of which the largest counts.
    """

    columns: int = 1024
    estimators: int = 1

    def estimate(self, law: Law, failure: float) -> NormEstimate:
        """An estimate that fails with that probability at most."""
        return NormEstimate(law, self.columns, self.estimators, failure)

    def blocks(self) -> Iterator[int]:
        """The numbers of products that are computed at a time: few, whatever memory there is.

        What is drawn must not depend on it.
        """
        size = math.gcd(self.columns, BLOCK)
        for _ in range(self.estimators * self.columns // size):
            yield size
