"""The search for parameters: estimates of the bound, batched, differentiable, in any precision.

Eigenvalues are estimated by a few warm-started power steps, scalar problems on a grid, and forms
are applied as products of maps: nothing here is proved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..arithmetic.operations import Interval
from ..graph import Activate, Affine, Graph
from .applied import Across, Applied, BehindActivation, BehindAffine, On
from .parameters import ByNode, Parameters
from .scalar import Grid
from .structure import activations, inner

_POWER_STEPS = 3
_FIRST_POWER_STEPS = 20
_CELLS = 65


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
        graph: The graph, with maps in the type that the search computes in.
        rows: c, (P, outputs).
        start: c·outputs + offset at the points x_c, (P,).
        centers: Values at the points, (P, n) for each node that an activation reads.
        intervals: Of the same nodes, (P, n) each.
        pieces: The regions.
    """

    graph: Graph
    rows: Tensor
    start: Tensor
    centers: Mapping[str, Tensor]
    intervals: Mapping[str, Interval]
    pieces: Pieces
    grids: dict[str, Grid] = field(init=False)
    vectors: dict[str, Tensor] = field(init=False)
    steps: int = field(init=False, default=_FIRST_POWER_STEPS)

    def __post_init__(self) -> None:
        """Grids of the scalar problems, and random vectors to iterate with."""
        self.inner = inner(self.graph)
        self.bending = activations(self.graph)
        self.first = self.graph.nodes[0].name
        self.grids = {
            node.name: Grid.of(
                node.function, self.centers[node.parent], *self.intervals[node.parent]
            )
            for node in self.bending
        }
        generator = torch.Generator().manual_seed(0)
        sizes = {self.first: self.pieces.direction.shape[1]}
        sizes |= {name: self.grids[name].v.shape[2] for name in self.inner}
        self.vectors = {
            name: torch.randn(1, size, generator=generator)
            .to(self.rows)
            .expand(len(self.rows), -1)
            .contiguous()
            for name, size in sizes.items()
        }

    def bound(self, parameters: Parameters) -> Tensor:
        """Estimates of the lower bounds, (P,), differentiable in the parameters."""
        form, weights = self.forms(parameters)
        total = self.start

        def slope(node: Activate, c: Tensor) -> Tensor:
            nonlocal total
            s, curvature = parameters.slopes[node.name], parameters.curvatures[node.name]
            T = weights.get(node.name, 0.0)
            D = parameters.chords.get(node.name, torch.zeros_like(c))
            total = total - self.grids[node.name].deficits(c, s, T, D, curvature).sum(1)
            return s

        g = self.coefficients(slope)
        return total + self._along(g, form)

    def checked(self, parameters: Parameters) -> Tensor:
        """The estimates (P,) with eigenvalues that are iterated for longer."""
        self.steps = _FIRST_POWER_STEPS
        with torch.no_grad():
            return self.bound(parameters).nan_to_num(nan=-torch.inf)

    def coefficients(self, slope: Callable[[Activate, Tensor], Tensor]) -> Tensor:
        """The coefficients (P, D) of the input: rows sent back, by a slope for each activation."""
        arrived = {self.graph.output: self.rows}
        for node in reversed(self.graph.nodes):
            c = arrived.get(node.name)
            if c is None:
                continue
            if isinstance(node, Affine):
                sent = [(term.parent, term.map.adjoint(c)) for term in node.terms]
            elif isinstance(node, Activate):
                sent = [(node.parent, slope(node, c) * c)]
            else:
                sent = []
            for name, part in sent:
                held = arrived.get(name)
                arrived[name] = part if held is None else held + part
        return arrived[self.first]

    def part(self, problems: Tensor) -> Search:
        """Some of the problems."""
        found = copy(self)
        found.rows, found.start = self.rows[problems], self.start[problems]
        found.centers = {name: z[problems] for name, z in self.centers.items()}
        found.intervals = {
            name: Interval(low[problems], high[problems])
            for name, (low, high) in self.intervals.items()
        }
        found.pieces = Pieces(*(value[problems] for value in vars(self.pieces).values()))
        found.grids = {
            name: Grid(grid.v[:, problems], grid.rise[:, problems])
            for name, grid in self.grids.items()
        }
        found.vectors = {name: v[problems] for name, v in self.vectors.items()}
        return found

    def forms(
        self, parameters: Parameters, spreads: Mapping[str, Tensor] | None = None
    ) -> tuple[Applied, ByNode]:
        """The form of the input as a product, and T of the activations that have one.

        Args:
            parameters: The parameters.
            spreads: Δ of some activations, at which T Δ² is added to Λ.
        """
        form = Applied()
        weights: ByNode = {}
        bending = {node.name for node in self.bending}
        for node in reversed(self.graph.nodes):
            if isinstance(node, Affine):
                form = BehindAffine(form, node)
            elif isinstance(node, Activate) and node.name in bending:
                curvature = parameters.curvatures[node.name]
                chord = parameters.chords.get(node.name)
                if chord is None:
                    form = BehindActivation(form, node, curvature)
                    continue
                share, scale = parameters.shares[node.name], parameters.weights[node.name]
                top = self._largest(On(form, node.name, scale.rsqrt()), node.name)
                T = scale * (top.clamp_min(1e-9) / share)[:, None]
                if spreads is not None and node.name in spreads:
                    curvature = curvature + T * spreads[node.name].square()
                form = BehindActivation(form, node, curvature, chord, T, share)
                weights[node.name] = T
        return form, weights

    def _largest(self, apply: Callable[[Tensor], Tensor], which: str) -> Tensor:
        """λ_max (P,) by power steps, with the gradient of the Rayleigh quotient."""
        with torch.no_grad():
            v = self.vectors[which]
            size = torch.zeros_like(self.start)
            for _ in range(self.steps):
                w = apply(v)
                size = torch.maximum(size, w.norm(dim=1))
                # Shifted by the largest |λ| seen: the form may be indefinite.
                w = w + 0.5 * size[:, None] * v
                length = w.norm(dim=1, keepdim=True)
                v = torch.where(length > 0.0, w / length.clamp_min(1e-30), v)
                v = v / v.norm(dim=1, keepdim=True).clamp_min(1e-30)
            self.vectors[which] = v
        return (v * apply(v)).sum(1)

    def _along(self, g: Tensor, form: Applied) -> Tensor:
        """min over the slab of g·d − ½ dᵀHd, the direction u kept exact, on a grid of τ."""
        u, m = self.pieces.direction, self.pieces.middle[:, None]
        R = self.pieces.radius[:, None]
        H = On(form, self.first)
        Hu = H(u)
        h_uu = (u * Hu).sum(1)
        h = Hu - h_uu[:, None] * u
        gamma = (g * u).sum(1)
        across = g - gamma[:, None] * u
        kappa = self._largest(Across(H, u), self.first).clamp_min(0.0)
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
