"""The search for parameters: estimates of the bound, batched, differentiable, in any precision.

Eigenvalues are estimated by a few warm-started power steps, scalar problems on a grid, and forms
are applied as products of maps: nothing here is proved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from .chain import Layer
from .parameters import Parameters
from .scalar import Grid, kinks

_POWER_STEPS = 3
_FIRST_POWER_STEPS = 20
_CELLS = 65
_SHARE = 0.4
"""θ at the start: T is 1/θ times as large as it must be."""


@dataclass(frozen=True)
class Pieces:
    """P regions, as in :class:`~.proof.Piece`, u of unit length.

    Args:
        radius: R, (P,).
        direction: u, (P, D).
        low: a ≥ −R, (P,).
        high: b ≤ R, (P,).
        middle: m, (P,), with x_c = x₀ + m u.
    """

    radius: Tensor
    direction: Tensor
    low: Tensor
    high: Tensor
    middle: Tensor


@dataclass
class Search:
    """The estimated bound of P problems as a function of their parameters.

    Args:
        layers: The chain, with matrices in the type that the search computes in.
        rows: c, (P, outputs).
        start: c·outputs + offset at the points x_c, (P,).
        centers: ẑ_k, (P, n) for each layer with an activation.
        intervals: Of the pre-activations, (P, n) each.
        pieces: The regions.
    """

    layers: Sequence[Layer]
    rows: Tensor
    start: Tensor
    centers: Sequence[Tensor]
    intervals: Sequence[Interval]
    pieces: Pieces
    grids: list[Grid] = field(init=False)
    vectors: list[Tensor] = field(init=False)
    steps: int = field(init=False, default=_FIRST_POWER_STEPS)

    def __post_init__(self) -> None:
        """Grids of the scalar problems, and random vectors to iterate with."""
        self.grids = [
            Grid.of(layer.function, z, *ends)  # type: ignore[arg-type]
            for layer, z, ends in zip(self.hidden, self.centers, self.intervals, strict=True)
        ]
        generator = torch.Generator().manual_seed(0)
        sizes = [self.pieces.direction.shape[1], *(z.shape[1] for z in self.centers[:-1])]
        self.vectors = [
            torch.randn(1, size, generator=generator)
            .to(self.rows)
            .expand(len(self.rows), -1)
            .contiguous()
            for size in sizes
        ]

    @property
    def hidden(self) -> Sequence[Layer]:
        """The layers with activations."""
        return self.layers[:-1]

    def initial(self) -> Parameters:
        """Tangents at ẑ, the middle chords, and the curvature that makes β vanish there."""
        slopes: list[Tensor] = []
        curvatures: list[Tensor] = []
        c = self.rows @ self.layers[-1].matrix
        for layer, z, ends, grid in self._downward():
            slope, bend, bent = _tangent(layer, c, z, ends)
            slopes.insert(0, slope)
            curvatures.insert(0, torch.where(bent, bend, grid.bend(c, slope)))
            c = (slope * c) @ layer.matrix
        chords = [grid.chords() for grid in self.grids[:-1]]
        shares = [torch.full_like(self.start, _SHARE) for _ in chords]
        found = Parameters(
            slopes, curvatures, [d for d, _ in chords], [1.0 / w for _, w in chords], shares
        )
        # One scalar problem then starts no worse than two: λ takes what T needs.
        for k in range(len(chords) - 1, -1, -1):
            weights = self._forms(found)[1]
            found.curvatures[k] = found.curvatures[k] + weights[k] * chords[k][1].square()
        return found

    def bound(self, parameters: Parameters) -> Tensor:
        """Estimates of the lower bounds, (P,), differentiable in the parameters."""
        apply, weights = self._forms(parameters)
        total = self.start
        c = self.rows @ self.layers[-1].matrix
        for k in range(len(self.hidden) - 1, -1, -1):
            last = k == len(self.hidden) - 1
            T: Tensor | float = 0.0 if last else weights[k]
            D = torch.zeros_like(c) if last else parameters.chords[k]
            slope = parameters.slopes[k]
            beta = self.grids[k].deficits(c, slope, T, D, parameters.curvatures[k])
            total = total - beta.sum(1)
            c = (slope * c) @ self.hidden[k].matrix
        return total + self._along(c, apply)

    def optimise(
        self, first: Parameters, steps: int, rate: float = 0.1, until: float = 0.0
    ) -> tuple[Parameters, Tensor]:
        """Adam on every parameter with a rate that falls along a cosine; the best that was seen.

        Args:
            first: Where the search starts.
            steps: How many steps it takes, at most.
            rate: The rate at first, in the scale of each parameter; slopes move slower.
            until: The search ends when all estimates are above this.
        """
        moves = Moves.of(first)
        slow = [{"params": moves.slopes, "lr": 0.05 * rate}, {"params": moves.others(), "lr": rate}]
        optimiser = torch.optim.Adam(slow)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        best, value = first, torch.full_like(self.start, -torch.inf)
        for _ in range(steps):
            with torch.enable_grad():
                current = moves.applied(first)
                bound = self.bound(current)
                optimiser.zero_grad()
                loss = -bound.nan_to_num(neginf=0.0).sum()
                loss.backward()  # type: ignore[no-untyped-call]
            better = bound.detach() > value
            value = torch.where(better, bound.detach(), value)
            best = current.where(better, best)
            optimiser.step()
            schedule.step()
            if bool((value > until).all()):
                break
        return best, value

    def _downward(self) -> list[tuple[Layer, Tensor, Interval, Grid]]:
        found = list(zip(self.hidden, self.centers, self.intervals, self.grids, strict=True))
        return found[::-1]

    def _forms(self, parameters: Parameters) -> tuple[_Apply, list[Tensor]]:
        """H as a product, and T_k of all layers but the last."""
        apply: _Apply = _Diagonal(parameters.curvatures[-1])
        weights: list[Tensor] = []
        for k in range(len(self.hidden) - 2, -1, -1):
            M = _PulledBack(self.hidden[k + 1].matrix, apply)
            root = parameters.weights[k].rsqrt()
            top = self._largest(_Scaled(M, root), k + 1)
            factor = top.clamp_min(1e-9) / parameters.shares[k]
            T = parameters.weights[k] * factor[:, None]
            apply = _Eliminated(
                M, parameters.curvatures[k], parameters.chords[k], T, parameters.shares[k]
            )
            weights.insert(0, T)
        return _PulledBack(self.hidden[0].matrix, apply), weights

    def _largest(self, apply: _Apply, which: int) -> Tensor:
        """λ_max (P,) by power steps, with the gradient of the Rayleigh quotient."""
        with torch.no_grad():
            v = self.vectors[which]
            size = torch.zeros_like(self.start)
            for _ in range(self.steps):
                w = apply(v)
                size = torch.maximum(size, w.norm(dim=1))
                # Shifted by the largest |λ| seen: the form may be indefinite.
                w = w + 0.5 * size[:, None] * v
                v = w / w.norm(dim=1, keepdim=True).clamp_min(1e-30)
            self.vectors[which] = v
        return (v * apply(v)).sum(1)

    def _along(self, g: Tensor, apply: _Apply) -> Tensor:
        """min over the slab of g·d − ½ dᵀHd, the direction u kept exact, on a grid of τ."""
        u, m = self.pieces.direction, self.pieces.middle[:, None]
        R = self.pieces.radius[:, None]
        Hu = apply(u)
        h_uu = (u * Hu).sum(1)
        h = Hu - h_uu[:, None] * u
        gamma = (g * u).sum(1)
        across = g - gamma[:, None] * u
        kappa = self._largest(_Across(apply, u), 0).clamp_min(0.0)
        share = torch.linspace(0.0, 1.0, _CELLS, dtype=g.dtype, device=g.device)
        low, high = self.pieces.low[:, None], self.pieces.high[:, None]
        t = low + (high - low) * share
        step = t - m
        a, b, d = (across**2).sum(1), (across * h).sum(1), (h**2).sum(1)
        q = a[:, None] - 2.0 * step * b[:, None] + step.square() * d[:, None]
        room = (R.square() - t.square()).clamp_min(1e-12 * R.square())
        value = gamma[:, None] * step - 0.5 * h_uu[:, None] * step.square()
        value = value - (q.clamp_min(1e-20) * room).sqrt() - 0.5 * kappa[:, None] * room
        self.steps = _POWER_STEPS
        return value.amin(1)


@dataclass
class Moves:
    """What the optimiser changes: differences from the first parameters, of order 1."""

    slopes: list[Tensor]
    curvatures: list[Tensor]
    chords: list[Tensor]
    weights: list[Tensor]
    shares: list[Tensor]

    @staticmethod
    def of(first: Parameters) -> Moves:
        """Zeros."""
        return Moves(
            *(
                [torch.zeros_like(value, requires_grad=True) for value in values]
                for values in vars(first).values()
            )
        )

    def others(self) -> list[Tensor]:
        """All that move faster than slopes."""
        return [*self.curvatures, *self.weights, *self.shares]

    def applied(self, first: Parameters) -> Parameters:
        """The parameters after these moves."""
        return Parameters(
            [s + move for s, move in zip(first.slopes, self.slopes, strict=True)],
            [
                c + (0.3 * c.abs() + 1e-3) * move
                for c, move in zip(first.curvatures, self.curvatures, strict=True)
            ],
            first.chords,
            [w * move.exp() for w, move in zip(first.weights, self.weights, strict=True)],
            [
                torch.sigmoid(torch.logit(s) + move)
                for s, move in zip(first.shares, self.shares, strict=True)
            ],
        )


class _Apply:
    """A symmetric matrix for each of P problems, as a function of vectors (P, n)."""

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass
class _Diagonal(_Apply):
    entries: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.entries * x


@dataclass
class _PulledBack(_Apply):
    """WᵀQW."""

    matrix: Tensor
    inner: _Apply

    def __call__(self, x: Tensor) -> Tensor:
        return self.inner(x @ self.matrix.T) @ self.matrix


@dataclass
class _Scaled(_Apply):
    """R M R for a diagonal R."""

    inner: _Apply
    root: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.root * self.inner(self.root * x)


@dataclass
class _Across(_Apply):
    """P H P for the projection P across u."""

    inner: _Apply
    u: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        x = x - (self.u * x).sum(1, keepdim=True) * self.u
        y = self.inner(x)
        return y - (self.u * y).sum(1, keepdim=True) * self.u


@dataclass
class _Eliminated(_Apply):
    """Λ + D [M + M T⁻¹ M / (1 − θ)] D."""

    inner: _Apply
    curvature: Tensor
    D: Tensor
    weights: Tensor
    share: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        y = self.inner(self.D * x)
        twice = self.inner(y / (self.weights * (1.0 - self.share)[:, None]))
        return self.curvature * x + self.D * (y + twice)


def _tangent(layer: Layer, c: Tensor, z: Tensor, ends: Interval) -> tuple[Tensor, Tensor, Tensor]:
    """The tangent's slope at ẑ; where c σ has a concave kink inside, a parabola's, with its λ.

    Above max(0, z) lies the parabola (z + w)²/(4w) for every w > 0: its slope at ẑ is (ẑ + w)/(2w)
    and its curvature 1/(2w).
    """
    function = layer.function
    assert function is not None  # noqa: S101 - only the last layer has none
    slope, bend = function.first(z), torch.zeros_like(z)
    bent = torch.zeros_like(z, dtype=torch.bool)
    for kink in kinks(function):
        below, above = (function.first(z.new_tensor(kink + side)) for side in (-1e-3, 1e-3))
        jump = above - below
        w = ((z - kink).square() + 0.2 * (0.5 * (ends.upper - ends.lower)).square()).sqrt()
        w = w.clamp_min(1e-6)
        inside = (ends.lower < kink) & (kink < ends.upper) & (c * jump < 0.0)
        share = ((z - kink + w) / (2.0 * w)).clamp(0.0, 1.0)
        slope = torch.where(inside, below + jump * share, slope)
        bend = torch.where(inside, (c * jump).abs() / (2.0 * w), bend)
        bent |= inside
    return slope, bend, bent


def in_type(layers: Sequence[Layer], dtype: torch.dtype) -> list[Layer]:
    """The layers with matrices of another type."""
    return [replace(layer, matrix=layer.matrix.to(dtype)) for layer in layers]


def centers_of(layers: Sequence[Layer], values: Mapping[str, Tensor]) -> list[Tensor]:
    """The pre-activations of the layers with activations."""
    return [values[layer.before] for layer in layers[:-1]]
