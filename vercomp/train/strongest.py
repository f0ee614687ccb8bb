"""The attack that certificates are held against: an upper bound of what can be certified."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vercomp.train.balls import directions, project, random_directions
from vercomp.train.targets import competitors, margin, tangents

BATCH = 1000
TARGETED = 3
"""Restarts that aim at one class, at the nearest ones as tangents at the input have it."""

_INSIDE = 1.0 - 1e-9
_SHRINK = 0.005
"""Steps go from 2ρ down to this share of it: the first cross the ball, the last polish."""


def strongest(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    radius: float,
    *,
    steps: int = 30,
    restarts: int = 1,
    seed: int = 0,
) -> Tensor:
    """The least margin z_y − max over t ≠ y of z_t found in each ball, at most 0 where broken.

    Projected gradient descent on the margin in the 2-norm: from the centre with all classes as
    targets, from the centre at each of the nearest classes alone (without which the first one in
    reach hides the others), and from ``restarts`` random points of the sphere. The search runs in
    the model's own type; a margin counts as it is in float64 at a point that is in the ball in
    float64. An input that is broken is not attacked any further.

    It proves nothing about the inputs that it does not break: the share of those is an upper bound
    of every certified accuracy.

    Args:
        model: The network, (B, *shape) to (B, C).
        x: Inputs (N, *shape).
        y: Labels (N,).
        radius: ρ.
        steps: Gradient evaluations a start.
        restarts: Random starts.
        seed: Of those.

    Returns:
        (N,), float64.
    """
    search = copy.deepcopy(model).eval().requires_grad_(False)
    like = next(iter([*search.parameters(), *search.buffers()]), x)
    double = copy.deepcopy(search).double()
    device = like.device
    generator = torch.Generator().manual_seed(seed)
    least = torch.empty(len(x), dtype=torch.float64)
    for begin in range(0, len(x), BATCH):
        rows = slice(begin, begin + BATCH)
        attack = _Attack(
            search, double, x[rows].to(device, torch.float64), y[rows].to(device), radius, like
        )
        attack.run(steps, restarts, generator)
        least[rows] = attack.least.cpu()
    return least.to(x.device)


class _Attack:
    """One batch: inputs in float64, and the least margin of each so far."""

    def __init__(
        self,
        search: nn.Module,
        double: nn.Module,
        x: Tensor,
        y: Tensor,
        radius: float,
        like: Tensor,
    ) -> None:
        self.search, self.double, self.like = search, double, like
        self.x, self.y, self.radius = x, y, radius
        with torch.no_grad():
            self.least = _margins(double(x), y)

    def run(self, steps: int, restarts: int, generator: torch.Generator) -> None:
        """All starts, one after another, of what is not broken."""
        quick = True  # most of what breaks does so at once
        for start, target in self._starts(restarts, generator):
            rows = (self.least > 0.0).nonzero()[:, 0]
            if len(rows) == 0:
                return
            aimed = None if target is None else target[rows]
            self._descend(rows, start[rows], aimed, max(steps // 5, 1) if quick else steps)
            quick = False

    def _starts(
        self, restarts: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Perturbations to begin at, and targets; None: the largest competitor of each step."""
        x = self.x.to(self.like.dtype)
        centre = torch.zeros_like(x)
        yield centre, None
        found = tangents(self.search, x, self.y, self.radius, centre, candidates=2 * TARGETED)
        nearest = found.target.gather(1, found.least.argsort(1))
        for target in nearest[:, :TARGETED].unbind(1):
            yield centre, target
        yield centre, None
        for _ in range(restarts):
            yield self.radius * random_directions(x, generator), None

    def _descend(self, rows: Tensor, shift: Tensor, target: Tensor | None, steps: int) -> None:
        x, y = self.x[rows].to(shift), self.y[rows]
        best, point = torch.full_like(self.least[rows], torch.inf), shift
        for step in range(steps + 1):
            with torch.enable_grad():
                at = (x + shift).requires_grad_()
                z = self.search(at)
                f = _margins(z, y) if target is None else margin(z, y, target)
                (gradient,) = torch.autograd.grad(f.sum(), at)
            value = _margins(z.detach(), y).double()
            better = (value < best).reshape(-1, *(1,) * (x.ndim - 1))
            best, point = torch.minimum(best, value), torch.where(better, shift, point)
            length = 2.0 * self.radius * _SHRINK ** (step / steps)
            shift = project(shift - length * directions(gradient), self.radius)
        with torch.no_grad():
            shift = project(point.double(), self.radius * _INSIDE)
            proved = _margins(self.double(self.x[rows] + shift), y)
        self.least[rows] = torch.minimum(self.least[rows], proved)


def _margins(z: Tensor, y: Tensor) -> Tensor:
    """z_y − max over t ≠ y of z_t, (B,)."""
    return margin(z, y, competitors(z, y).argmax(1))
