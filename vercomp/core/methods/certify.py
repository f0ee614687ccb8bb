"""Certificates in the 2-norm from the global curvature bound: the dual for those that need it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from ..arithmetic.outward import up
from ..errors import InputError
from ..inputs import check_inputs, check_radius
from ..linearization import Linearization
from .certificates import EXACT_GAP, Certificates, assembled
from .cuts import cut_radius, rigorous_cut, screening_cut, upper_norm
from .dual import solve_dual
from .pairs import Bounded, own_gradient_mode
from .radii import certificates_of
from .tasks import Part, ScreenedTask, split
from .witnesses import BEYOND, GROWTH, Approach, Witnesses, step_to_zero

_SLACK = 1e-4
"""A pair is left unrefined once it exceeds another pair's certificate by this fraction."""

_NOISE = 1e-5
"""Screened certificates are off by less, relatively."""


@own_gradient_mode()
def certify(
    network: Bounded,
    x: Tensor,
    y: Tensor,
    *,
    targets: str | Tensor = "all",
    radius: float | None = None,
    decide: bool = False,
    evaluations: int = 30,
    chunk: int | None = None,
) -> Certificates:
    """Certify inputs in the 2-norm, for exactly the numbers given.

    Every certificate is the best cut (:mod:`.cuts`) over the points that the search
    (:mod:`.dual`) visited, evaluated in float64 with rounding accounted for. The closed form at x₀
    screens all pairs of an input and a target; the pair that looks nearest is refined first, then
    those that may still be nearer.

    Args:
        network: The network.
        x: Inputs, float32 or float64, shape (B, *input_shape).
        y: Labels, shape (B,).
        targets: ``"all"`` other classes; or ``"runner-up"``, or a tensor of classes, shape (B,) or
            (B, K): then the radius speaks of these targets alone, and another class may be nearer.
        radius: Fill ``certified`` and ``refuted`` for this radius.
        decide: Only settle whether each radius exceeds ``radius``, which is cheaper: radii are then
            valid lower bounds, refined no further than that takes.
        evaluations: Gradient evaluations a pair, at most.
        chunk: Inputs solved at once; by default what fits into the memory that is free.

    Raises:
        InputTypeError: Inputs that are not float32 or float64, labels or targets that are not
            integers.
        InputError: A wrong shape, NaN or infinity, a class out of range, a radius that is not
            positive, ``decide`` without a radius.
    """
    question = None if radius is None else check_radius(radius)
    if decide and question is None:
        raise InputError("decide needs a radius to decide about")
    check_inputs(network, x, y)
    parts = split(network, x, y, targets, evaluations, chunk)
    return assembled(certify_parts(parts, question, decide), x)


def certify_parts(
    parts: Iterable[Part], radius: float | None, decide: bool = False
) -> list[Certificates]:
    """Certificates of chunks of a question, whatever it claims.

    Where all pairs must hold, the nearest is refined in full and the others as far as it takes;
    where some are alternatives, or may fail, all of them are.
    """
    found = []
    for part in parts:
        task = _Certification(part)
        found.append(
            task.solve(radius, decide) if task.separable else task.solve_each(radius, decide)
        )
    return found


class _Certification(ScreenedTask):
    """One chunk: B inputs with K targets each, on the network's device, inputs in float64.

    ``point`` is the nearest screened witness of a pair. ``at_input`` says whether its closed form
    at the input has been evaluated in float64. ``aim`` and ``ahead`` lead from the input to where
    its margin should vanish: by the cut, and by the linearisation where the search ended.
    """

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        self.closed = self._closed_form()
        self.radius = torch.zeros_like(self.kappa)  # proved
        self.near = torch.full_like(self.kappa, torch.inf)  # distance of a screened witness
        self.broken = torch.zeros_like(self.kappa, dtype=torch.bool)  # f ≤ 0 proved at the input
        self.at_input = torch.zeros_like(self.broken)
        self.aim, self.ahead = torch.zeros_like(self.gradient), torch.zeros_like(self.gradient)

    def solve(self, question: float | None, decide: bool) -> Certificates:
        """Closed form for all pairs, the dual for those that matter, float64 for the last word."""
        asked = question if decide else None
        rows = torch.arange(len(self.x0), device=self.x0.device)
        first = self.closed.argmin(1)
        limit = torch.full_like(self.x0[:, 0], torch.inf if asked is None else asked)
        limit = limit * (1.0 + _SLACK)

        lead = (self.value > 0.0).all(1) & (self.closed[rows, first] <= limit)
        self._refine(rows[lead], first[lead], limit[lead], asked)
        # A pair beyond the certificate of another one cannot lower the minimum, nor can any pair
        # save an input that is broken within the radius asked about.
        proved = torch.where(lead, self.radius[rows, first], torch.inf)
        limit = torch.minimum(limit, proved * (1.0 + _SLACK))
        left = (self.closed <= limit[:, None]) & lead[:, None]
        left[rows, first] = False
        if asked is not None:
            left &= (self.near[rows, first] > asked)[:, None]
        row, k = left.nonzero(as_tuple=True)
        self._refine(row, k, limit[row], asked)

        # Where every pair was refined to more than its closed form that adds nothing.
        weak = self.radius < self.closed * (1.0 + _NOISE)
        missing = (weak & ~self.at_input).any(1)
        missing |= ~(self.radius > 0.0).all(1)
        self._prove_closed_forms(rows[missing])
        return self._certificates(question, asked)

    def solve_each(self, question: float | None, decide: bool) -> Certificates:
        """The radius of every pair by itself, for claims that hold although some pairs fail."""
        rows = torch.arange(len(self.x0), device=self.x0.device)
        row, k = (self.value > 0.0).nonzero(as_tuple=True)
        limit = torch.inf if question is None or not decide else question * (1.0 + _SLACK)
        self._refine(row, k, torch.full_like(self.radius[row, k], limit), None)
        broken = self.violated(self._prove_closed_forms(rows))
        made = certificates_of(self, self.table(self.radius), broken, "curvature", question)
        return replace(made, evaluations=self.count)

    def _closed_form(self) -> Tensor:
        """The certificate from one gradient at x₀ for all pairs, screened, shape (B, K)."""
        cut, kappa, lipschitz = self.screened_cuts()
        return cut_radius(cut, kappa, lipschitz).reshape(self.value.shape).to(self.kappa)

    def _refine(self, row: Tensor, k: Tensor, enough: Tensor, asked: float | None) -> None:
        """Run the dual on pairs (row, k) and prove what it found."""
        if len(row) == 0:
            return
        label, target = self.label[row], self.targets[row, k]
        solution = solve_dual(
            lambda x, pair: self.margins.screen(x, label[pair], target[pair]),
            self.x0[row].to(self.gradient),
            self.kappa[row, k].to(self.gradient),
            self.value[row, k],
            self.gradient[row, k],
            evaluations=self.evaluations,
            enough=enough,
            refuted=None if asked is None else torch.full_like(enough, asked),
        )
        self.count[row, k] = solution.evaluations
        self.near[row, k] = solution.distance.to(self.near)
        self.point[row, k] = solution.witness
        x = solution.point.double()
        value, gradient, *_ = self._prove(row, k, x)
        v = x - self.x0[row]
        farthest = GROWTH * torch.maximum(upper_norm(v), self.radius[row, k])
        self.ahead[row, k] = step_to_zero(value, gradient, v, farthest).to(self.ahead)
        slope = gradient + self.kappa[row, k][:, None] * v
        self.aim[row, k] = _down(slope, self.radius[row, k]).to(self.aim)
        # The search knows nothing of L, and float32 may have preferred a point that float64 does
        # not: the closed form still holds.
        weak = self.radius[row, k] < self.closed[row, k] * (1.0 - _SLACK)
        if weak.any():
            self._prove(row[weak], k[weak], self.x0[row[weak]])

    def _prove(self, row: Tensor, k: Tensor, x: Tensor) -> Linearization:
        """The float64 certificates of pairs (row, k) from the cuts at x; the larger ones stay."""
        found = self.margins.linearize(x, self.label[row], self.targets[row, k])
        kappa = self.kappa[row, k]
        cut = rigorous_cut(found, x, self.x0[row], kappa)
        proved = cut_radius(cut, kappa, self.lipschitz[row, k])
        self.radius[row, k] = torch.maximum(self.radius[row, k], proved)
        self.at_input[row, k] |= (x == self.x0[row]).all(1)
        return found

    def _prove_closed_forms(self, row: Tensor) -> Tensor:
        """The float64 closed form of every pair of some inputs; upper bounds of f there, (R, K).

        Targets of an input share the forward evaluation: it is cheaper for all than for those that
        were not refined one by one.
        """
        x0, targets, shape = self.x0[row], self.targets[row], self.targets[row].shape
        found = self.margins.linearize_all(x0, self.label[row], targets)
        flat = Linearization(
            found.value.flatten(),
            found.gradient.flatten(0, 1),
            found.value_error.flatten(),
            found.gradient_error.flatten(),
        )
        x = x0.repeat_interleave(shape[1], 0)
        kappa = self.kappa[row].flatten()
        cut = rigorous_cut(flat, x, x, kappa)
        proved = cut_radius(cut, kappa, self.lipschitz[row].flatten()).reshape(shape)
        self.radius[row] = torch.maximum(self.radius[row], proved)
        upper = up(found.value + found.value_error)
        self.broken[row] = upper <= 0.0
        return upper

    def _nearest(self) -> Tensor:
        """The column of the smallest certificate; of the smallest margin where that is 0."""
        return torch.where((self.radius > 0.0).all(1), self.radius.argmin(1), self.value.argmin(1))

    def _witnesses(self, row: Tensor, k: Tensor, enough: Tensor) -> tuple[Tensor, Tensor]:
        """Points with f ≤ 0 proved for pairs (row, k), and their distances, rounded up.

        Pairs with a witness within ``enough`` stop. Where no search came before, the points that
        this search visits may certify more than what is proved so far; then they do.
        """
        x0, label, target = self.x0[row], self.label[row], self.targets[row, k]
        kappa = self.kappa[row, k].to(self.gradient)
        best, anchor = self.radius[row, k].to(self.gradient), x0.to(self.gradient)

        def screen(x: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
            value, gradient = self.margins.screen(x, label[pair], target[pair])
            if self.evaluations > 1:  # then the dual has found better points
                return value, gradient
            v = x - x0[pair].to(x)
            radius = cut_radius(screening_cut(value, gradient, v, kappa[pair]), kappa[pair])
            gain = radius > best[pair]
            best[pair] = torch.where(gain, radius, best[pair])
            anchor[pair] = torch.where(gain[:, None], x, anchor[pair])
            return value, gradient

        def rigorous(x: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
            found = self._prove(row[pair], k[pair], x)
            return found.value + found.value_error, found.gradient

        def upper(x: Tensor, pair: Tensor) -> Tensor:
            value, error = self.margins.value(x, label[pair], target[pair])
            return value + error

        def looks_broken(x: Tensor, pair: Tensor) -> Tensor:
            logits = self.margins.logits(x)
            return self.margins.values(logits, label[pair], target[pair, None])[:, 0] <= 0.0

        found = Witnesses(x0, enough, upper, looks_broken)
        broken = self.broken[row, k]
        found.distance[broken] = 0.0
        found.point[broken] = x0[broken]
        seen = self.point[row, k] - x0.to(self.gradient)
        found.search(screen, Approach(seen, self.near[row, k].to(seen)), *self._starts(row, k))
        found.search_anew(rigorous)
        more = best > self.radius[row, k] * (1.0 + _NOISE)
        if more.any():
            self._prove(row[more], k[more], anchor[more].double())
        return found.point, found.distance

    def _starts(self, row: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """``aim`` and ``ahead`` of pairs (row, k), seen from the input where none was refined."""
        gradient = self.gradient[row, k]
        closed = _down(gradient, self.radius[row, k].to(gradient))
        refined = (self.count[row, k] > 1)[:, None]
        return (
            torch.where(refined, self.aim[row, k], closed),
            torch.where(refined, self.ahead[row, k], closed),
        )

    def _certificates(self, question: float | None, asked: float | None) -> Certificates:
        rows = torch.arange(len(self.x0), device=self.x0.device)
        k = self._nearest()
        radius = self.radius[rows, k]
        witness = torch.full_like(self.x0, torch.nan)
        distance = torch.full_like(radius, torch.inf)
        wanted = radius * (1.0 + EXACT_GAP) if asked is None else torch.full_like(radius, asked)
        open_rows = rows if asked is None else rows[radius <= asked]
        for column in (k, self.near.argmin(1)):
            point, length = self._witnesses(open_rows, column[open_rows], wanted[open_rows])
            better = length < distance[open_rows]
            chosen = open_rows[better]
            witness[chosen], distance[chosen] = point[better], length[better]
            # Another target's screened witness may be nearer than what was found for this one.
            other = self.near.amin(1) < distance * (1.0 - EXACT_GAP)
            open_rows = open_rows[(other & (distance > wanted))[open_rows]]
        # The witness search visits points of its own, and its cuts count too.
        k = self._nearest()
        # Where a pair is not proved, the column is that of the smallest screened margin, and
        # another pair's radius may be the one that is zero.
        radius = self.radius.amin(1)
        gap = torch.where(distance > 0.0, distance / radius - 1.0, 0.0)
        gap = torch.where(torch.isfinite(distance), gap, torch.inf)
        # Logits in the model's dtype may tie or swap where the proof still tells them apart.
        prediction = self.logits.argmax(1)
        if self.asked == "all":
            prediction = torch.where(radius > 0.0, self.label, prediction)
        return Certificates(
            radius=radius,
            target=self.targets[rows, k],
            exact=gap <= EXACT_GAP,
            gap=gap,
            witness=witness,
            prediction=prediction,
            radius_per_target=self.table(self.radius),
            evaluations=self.scattered(self.count, 0),
            method=("curvature",) * len(radius),
            certified=None if question is None else radius > question,
            refuted=None if question is None else distance <= question,
        )


def _down(slope: Tensor, radius: Tensor) -> Tensor:
    """The step (P, D) against a slope to slightly beyond a radius (P,)."""
    length: Tensor = torch.linalg.vector_norm(slope, dim=1)
    return -((1.0 + BEYOND) * radius / length)[:, None] * slope
