"""Attacks: the worst perturbation found in a region, and a proof of how bad any can be."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from ..errors import InputError
from ..inputs import check_count, check_inputs, check_limits, check_radius, check_starts
from ..network import VerifiedNetwork
from ..regions.constructors import Ball
from ..regions.region import Region
from .curvature_attack import CurvatureAttack
from .nearest import Nearest, NearestOptions, nearest
from .pairs import Classifier, Margins, flattened, own_gradient_mode, placement
from .proved_margins import is_bounded, least_lower_bound, least_upper_margin
from .tasks import Part, Task, split
from .worst_points import WorstPoints

EXACT_GAP = 1e-3
"""An attack is exact if margin and bound are this close, relative to the change of the margin."""

STEPS, RUNS = 60, 8
"""Gradient evaluations a run of the search, and runs."""

_NOISE = 1e-9
"""What rounding may leave between margin and bound where the margin hardly changes."""


@dataclass(frozen=True)
class Attacks:
    """What :func:`attack` found for B inputs, on the device of the inputs; floats are float64.

    Args:
        point: The worst perturbed input found; it is proved to lie in the region, for the float64
            numbers (rounding them to float32 may step outside), shape (B, *input_shape).
        margin: z_y − max over targets of z_t there, rounded up: the input is misclassified by the
            real-arithmetic network if it is not positive. Shape (B,).
        lower_bound: Proved: no point of the region has a smaller margin, shape (B,); −∞ where
            nothing is.
        target: The class of that maximum, shape (B,).
        exact: margin − lower_bound is at most 1e-3 of the change of the margin, |margin(x) −
            margin|: the point is provably the worst, up to that. Shape (B,).
        prediction: The class of the largest logit of the unperturbed input, shape (B,).
        evaluations: Gradient evaluations spent in the search for each target, shape (B, C); 0 where
            the target was not asked for.
    """

    point: Tensor
    margin: Tensor
    lower_bound: Tensor
    target: Tensor
    exact: Tensor
    prediction: Tensor
    evaluations: Tensor


class AttackOptions(TypedDict, total=False):
    """The options of :func:`attack`, by name."""

    norm: str | float
    box: tuple[float | Tensor, float | Tensor] | None
    slab: tuple[Tensor, float | Tensor, float | Tensor] | None
    scales: Tensor | None
    targets: str | Tensor
    start: Tensor | None
    steps: int
    restarts: int | None
    budget: int | None
    evaluations: int
    chunk: int | None


class Attackable(VerifiedNetwork):
    """A network whose margins can be attacked."""

    def attack(
        self, x: Tensor, y: Tensor, radius: float, **options: Unpack[AttackOptions]
    ) -> Attacks:
        """The worst points of balls, and proved bounds of how bad; see :func:`attack`."""
        with self.held():
            return attack(self, x, y, radius, **options)

    def nearest(self, x: Tensor, y: Tensor, **options: Unpack[NearestOptions]) -> Nearest:
        """The nearest points found where another class takes over; see :func:`nearest`."""
        with self.held():
            return nearest(self, x, y, **options)


@own_gradient_mode()
def attack(
    network: Classifier,
    x: Tensor,
    y: Tensor,
    radius: float,
    *,
    norm: str | float = "l2",
    box: tuple[float | Tensor, float | Tensor] | None = None,
    slab: tuple[Tensor, float | Tensor, float | Tensor] | None = None,
    scales: Tensor | None = None,
    targets: str | Tensor = "all",
    start: Tensor | None = None,
    steps: int = STEPS,
    restarts: int | None = None,
    budget: int | None = None,
    evaluations: int = 30,
    chunk: int | None = None,
) -> Attacks:
    """Look for the least margin in the region around each input, and bound it from below.

    The region is the ball ‖(x′ − x) ⊘ s‖ ≤ radius, cut by the box and the slab. In the 2-norm the
    dual of global curvature bounds (:mod:`.curvature_attack`) comes first, where the network has
    them; what it does not prove to be the worst is searched on by gradients alone
    (:mod:`.worst_points`), in the model's dtype, and in float64 where gradients vanish in that.
    Where a margin is not positive after two runs, the others are saved. Inputs that are
    misclassified already are attacked like the others: their margins start negative.

    The bound is the smallest over the targets of the best cut (:mod:`.cuts`) of each in the 2-norm,
    and that of one Taylor expansion and of interval propagation in all others; it is evaluated in
    float64 with rounding accounted for.

    Args:
        network: The network.
        x: Inputs, float32 or float64, shape (B, *input_shape).
        y: Labels, shape (B,).
        radius: Of the ball, in the units of the inputs.
        norm: ``"l2"``, ``"linf"``, ``"l1"``, or another registered kind of ball.
        box: (lo, hi), numbers or tensors that broadcast to x, with x inside: perturbed inputs
            outside of it do not count.
        slab: (u, a, b), as of :func:`vercomp.Ball`: only a ≤ u·(x′ − x) ≤ b counts.
        scales: s, as of :func:`vercomp.Ball`: a radius for each feature, in units of ``radius``.
        targets: ``"all"`` other classes; or ``"runner-up"``, or a tensor of classes, shape (B,) or
            (B, K): then margin and bound speak of these targets alone.
        start: Points to begin at as well, shaped like x: a margin found there is not lost. With
            the points found in smaller balls, no larger ball gives a worse one.
        steps: Gradient evaluations a run of the search.
        restarts: Runs of the search, at most; 8 where None.
        budget: Gradient evaluations for each input in all runs, at most, in the place of
            ``restarts``: as many runs as that allows.
        evaluations: Gradient evaluations of the dual for each pair of input and target, at most.
        chunk: Inputs solved at once; by default what fits into the memory that is free.

    Raises:
        InputTypeError: Inputs that are not float32 or float64, labels or targets that are not
            integers.
        InputError: A wrong shape, NaN or infinity, a class out of range, a radius that is not
            positive, a region that is empty, both ``budget`` and ``restarts``.
    """
    rho = check_radius(radius)
    steps, runs = _effort(steps, restarts, budget)
    check_inputs(network, x, y)
    limits = None if box is None else check_limits(x, box)
    if start is not None:
        check_starts(x, start)
    where = placement(network, x)
    region = Ball(x, rho, norm, box=limits, slab=slab, scales=scales).to(where.device)
    begin = None if start is None else flattened(network, start, where)
    most = evaluations if budget is None else min(evaluations, budget)
    found, at = [], 0
    for part in split(network, x, y, targets, most, chunk):
        rows = slice(at, at + len(part.x0))
        own = None if begin is None else begin[rows]
        found.append(_attacked(part, region.rows(rows), rho, own, steps, runs))
        at += len(part.x0)
    joined: dict[str, Any] = {
        field.name: torch.cat([getattr(part, field.name) for part in found]).to(x.device)
        for field in fields(Attacks)
    }
    joined["point"] = joined["point"].reshape(x.shape)
    return Attacks(**joined)


def _effort(steps: int, restarts: int | None, budget: int | None) -> tuple[int, int]:
    """Gradient evaluations a run, and runs."""
    check_count("steps", steps)
    if budget is None:
        return steps, RUNS if restarts is None else check_count("restarts", restarts)
    if restarts is not None:
        raise InputError("budget says how many restarts there are", remedy="Give one of the two")
    check_count("budget", budget)
    return min(steps, budget), max(1, budget // steps)


def _attacked(
    part: Part, region: Region, radius: float, start: Tensor | None, steps: int, runs: int
) -> Attacks:
    """One chunk: the dual where it applies, the search where that leaves something open."""
    task, margins = Task(part), _labelled(part)
    clean, column = least_upper_margin(margins, task.x0, task.label, task.targets)
    state = _State(task, margins, region, task.x0, clean, column)
    dual = is_bounded(margins.network) and region.kind.name == "l2" and region.scales is None
    if dual:
        found = CurvatureAttack(part, radius).solve()  # its bound holds on parts of the ball, too
        bound, count = found.bound, found.evaluations
        state.offer(found.point)
    else:
        bound = least_lower_bound(margins, region, task.label, task.targets)
        count = torch.zeros_like(task.targets)
    if start is not None:
        state.offer(start)
    left = torch.nonzero(~state.exact(bound, clean))[:, 0]
    at: Margins | None = margins
    while at is not None and len(left):
        search = WorstPoints(
            at, region.rows(left), task.label[left], task.targets[left], state.point[left]
        )
        search.search(steps, runs)
        count[left] += search.evaluations
        points = state.point.clone()
        points[left] = task.x0[left] + search.point.double()
        state.offer(points)
        left = left[search.tangents.flat & (search.least > 0.0)]
        at = _wider(at)
    rows = torch.arange(len(clean), device=clean.device)
    return Attacks(
        point=state.point,
        margin=state.margin,
        lower_bound=bound,
        target=task.targets[rows, state.column],
        exact=state.exact(bound, clean),
        prediction=task.logits.argmax(1),
        evaluations=torch.zeros_like(task.logits, dtype=torch.long).scatter(1, task.targets, count),
    )


def _labelled(part: Part) -> Margins:
    """The margins of a part that is about labels, as all parts of an attack are."""
    assert isinstance(part.margins, Margins)  # noqa: S101 - split makes no others
    return part.margins


def _wider(margins: Margins) -> Margins | None:
    """The margins in float64, in which gradients vanish later; None where they are in it."""
    network = margins.network
    if not isinstance(network, VerifiedNetwork) or margins.where.dtype == torch.float64:
        return None
    double, _ = network.in_double()
    return Margins(double, margins.where._replace(dtype=torch.float64))


class _State:
    """The worst points of B regions so far, in float64: members, with margins rounded up."""

    def __init__(
        self,
        task: Task,
        margins: Margins,
        region: Region,
        point: Tensor,
        margin: Tensor,
        column: Tensor,
    ) -> None:
        self.task, self.region, self.margins = task, region, margins
        self.point, self.margin, self.column = point, margin, column
        inside = region.contains(point)
        if not bool(inside.all()):  # a slab, or a box, may leave the input out
            moved = region.project(point)
            self.point = torch.where(inside[:, None], point, moved)
            self.margin, self.column = self._at(self.point)

    def offer(self, point: Tensor) -> None:
        """Points near the regions, of which the worse ones count."""
        point = self._members(point)
        margin, column = self._at(point)
        worse = margin < self.margin
        self.point = torch.where(worse[:, None], point, self.point)
        self.column = torch.where(worse, column, self.column)
        self.margin = torch.where(worse, margin, self.margin)

    def exact(self, bound: Tensor, clean: Tensor) -> Tensor:
        """Where nothing is left to search for, (B,)."""
        room = EXACT_GAP * (clean - self.margin).abs() + _NOISE * (1.0 + clean.abs())
        return self.margin - bound <= room

    def _at(self, point: Tensor) -> tuple[Tensor, Tensor]:
        task = self.task
        return least_upper_margin(self.margins, point, task.label, task.targets)

    def _members(self, point: Tensor) -> Tensor:
        """The nearest members; where a region is too thin for any to be made, what is known."""
        point = torch.where(point.isfinite().all(1, keepdim=True), point, self.point)
        try:
            return self.region.project(point)
        except InputError:
            return torch.where(self.region.contains(point)[:, None], point, self.point)
