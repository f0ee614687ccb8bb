"""Attacks: the worst perturbation found in a ball, and a proof of how bad any can be."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from ..bounds import BoundedNetwork
from ..inputs import check_inputs, check_radius
from .ball import solve_ball
from .cuts import cut_lower_bound, rigorous_cut, upper_norm
from .pairs import Bounded, own_gradient_mode
from .tasks import Part, ScreenedTask, split

EXACT_GAP = 1e-3
"""An attack is exact if margin and bound are this close, relative to the change of the margin."""

_NOISE = 1e-9
"""What rounding may leave between margin and bound where the margin hardly changes."""

_SHRINKS = 8

_COMPETES = 1e-4
"""Logits closer than this, relative to the largest, may swap when evaluated in float64."""


@dataclass(frozen=True)
class Attacks:
    """What :func:`attack` found for B inputs, on the device of the inputs; floats are float64.

    Args:
        point: The worst perturbed input found; ‖point − x‖ ≤ radius holds for the float64 numbers
            (rounding them to float32 may step outside), shape (B, *input_shape).
        margin: z_y − max over targets of z_t there, rounded up: the input is misclassified by the
            real-arithmetic network if it is not positive. Shape (B,).
        lower_bound: Proved: no point of the ball has a smaller margin, shape (B,).
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

    targets: str | Tensor
    evaluations: int
    chunk: int | None


class Attackable(BoundedNetwork):
    """A network whose margins can be attacked, and bounded from below."""

    def attack(
        self, x: Tensor, y: Tensor, radius: float, **options: Unpack[AttackOptions]
    ) -> Attacks:
        """The worst points of l2 balls, and proved bounds of how bad; see :func:`attack`."""
        with self.held():
            return attack(self, x, y, radius, **options)


@own_gradient_mode()
def attack(
    network: Bounded,
    x: Tensor,
    y: Tensor,
    radius: float,
    *,
    targets: str | Tensor = "all",
    evaluations: int = 30,
    chunk: int | None = None,
) -> Attacks:
    """Look for the least margin in the ball around each input, and bound it from below.

    The bound is the smallest over the targets of the best cut (:mod:`.cuts`) of each, evaluated in
    float64 with rounding accounted for. Inputs that are misclassified already are attacked like the
    others: their margins start negative.

    Args:
        network: The network.
        x: Inputs, float32 or float64, shape (B, *input_shape).
        y: Labels, shape (B,).
        radius: Of the ball, 2-norm, in the units of the inputs.
        targets: ``"all"`` other classes; or ``"runner-up"``, or a tensor of classes, shape (B,) or
            (B, K): then margin and bound speak of these targets alone.
        evaluations: Gradient evaluations a pair of input and target, at most.
        chunk: Inputs solved at once; by default what fits into the memory that is free.

    Raises:
        InputTypeError: Inputs that are not float32 or float64, labels or targets that are not
            integers.
        InputError: A wrong shape, NaN or infinity, a class out of range, a radius that is not
            positive.
    """
    rho = check_radius(radius)
    check_inputs(network, x, y)
    parts = [
        _Attack(part, rho).solve() for part in split(network, x, y, targets, evaluations, chunk)
    ]
    joined: dict[str, Any] = {
        field.name: torch.cat([getattr(part, field.name) for part in parts]).to(x.device)
        for field in fields(Attacks)
    }
    joined["point"] = joined["point"].reshape(x.shape)
    return Attacks(**joined)


class _Attack(ScreenedTask):
    """One chunk: B inputs with K targets each, on the network's device, inputs in float64."""

    def __init__(self, part: Part, radius: float) -> None:
        super().__init__(part)
        self.radius = radius
        self.bound = torch.full_like(self.kappa, -torch.inf)  # proved
        self.least = self.value.clone()  # screened

    def solve(self) -> Attacks:
        """The pair that may fall lowest first, then those that could fall below what it reached."""
        rows = torch.arange(len(self.x0), device=self.x0.device)
        closed = self._closed_form()
        first = closed.argmin(1)
        self._search(rows, first, torch.full_like(self.least[:, 0], torch.inf))
        reached = self.least[rows, first]
        left = closed < reached[:, None]
        left[rows, first] = False
        row, k = left.nonzero(as_tuple=True)
        self._search(row, k, reached[row])
        left[rows, first] = True
        # What was not searched, and where the search, which knows nothing of L, proved less.
        row, k = (~left | (self.bound < closed)).nonzero(as_tuple=True)
        if len(row) > 0:
            self._prove(row, k, self.x0[row])

        point = self._inside(self.point[rows, self.least.argmin(1)].double())
        margin, column = self._margin(point)
        clean, clean_column = self._margin(self.x0)
        # The search may end in nothing: then the input itself is the worst point found.
        worse = margin < clean
        point = torch.where(worse[:, None], point, self.x0)
        column = torch.where(worse, column, clean_column)
        margin = torch.where(worse, margin, clean)
        bound = self.bound.amin(1)
        return Attacks(
            point=point,
            margin=margin,
            lower_bound=bound,
            target=self.targets[rows, column],
            exact=margin - bound
            <= EXACT_GAP * (clean - margin).abs() + _NOISE * (1.0 + clean.abs()),
            prediction=self.logits.argmax(1),
            evaluations=torch.zeros_like(self.logits, dtype=torch.long).scatter(
                1, self.targets, self.count
            ),
        )

    def _closed_form(self) -> Tensor:
        """The bound from one gradient at x₀ for all pairs, screened, shape (B, K)."""
        cut, kappa, lipschitz = self.screened_cuts()
        bound = cut_lower_bound(cut, kappa, torch.full_like(kappa, self.radius), lipschitz)
        return bound.reshape(self.value.shape)

    def _search(self, row: Tensor, k: Tensor, enough: Tensor) -> None:
        """Search pairs (row, k) and prove the bounds that were found."""
        if len(row) == 0:
            return
        label, target = self.label[row], self.targets[row, k]
        solution = solve_ball(
            lambda x, pair: self.margins.screen(x, label[pair], target[pair]),
            self.x0[row].to(self.gradient),
            self.kappa[row, k].to(self.gradient),
            self.radius,
            self.value[row, k],
            self.gradient[row, k],
            evaluations=self.evaluations,
            enough=enough,
        )
        self.count[row, k] = solution.evaluations
        self.least[row, k] = solution.value
        self.point[row, k] = solution.point
        self._prove(row, k, solution.anchor.double())

    def _prove(self, row: Tensor, k: Tensor, x: Tensor) -> None:
        """The float64 bounds of pairs (row, k) from the cuts at x."""
        found = self.margins.linearize(x, self.label[row], self.targets[row, k])
        kappa = self.kappa[row, k]
        cut = rigorous_cut(found, x, self.x0[row], kappa)
        ball = torch.full_like(kappa, self.radius)
        proved = cut_lower_bound(cut, kappa, ball, self.lipschitz[row, k])
        self.bound[row, k] = torch.maximum(self.bound[row, k], proved)

    def _margin(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """min over targets of f at x (B, D), float64, rounded up; and its column.

        Only targets whose screened logits compete for the minimum are evaluated in float64; leaving
        one out can only raise the result, which stays an upper bound.
        """
        logits = self.margins.logits(x).to(x)
        others = logits.gather(1, self.targets)
        room = _COMPETES * (1.0 + logits.abs().amax(1, keepdim=True))
        # Written so that NaN competes.
        row, k = (~(others < others.amax(1, keepdim=True) - room)).nonzero(as_tuple=True)
        upper = torch.full_like(self.bound, torch.inf)
        if len(row) > 0:
            value, _, error, _ = self.margins.linearize(
                x[row], self.label[row], self.targets[row, k]
            )
            upper[row, k] = value + error
        return upper.min(1)

    def _inside(self, x: Tensor) -> Tensor:
        """x drawn back until ‖x − x₀‖ ≤ ρ holds for the numbers as they are; else x₀."""
        for _ in range(_SHRINKS):
            length = upper_norm(x - self.x0)[:, None]
            shrink = (self.radius / length) * (1.0 - 2.0**-40)
            x = torch.where(length > self.radius, self.x0 + shrink * (x - self.x0), x)
        inside = upper_norm(x - self.x0) <= self.radius
        return torch.where(inside[:, None], x, self.x0)
