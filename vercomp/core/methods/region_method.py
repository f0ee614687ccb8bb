"""Methods that prove bounds in one region at a time: their radii are searched for.

Such a method implements ``requires`` and ``bound``. A radius is the largest of those tried at which
all rows of the specification are proved to be positive in the ball. Every radius that is tried is
proved by itself: nothing rests on how bounds change with it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import torch
from torch import Tensor

from ..network import VerifiedNetwork
from ..regions.constructors import Box
from ..specifications import Specification
from .certificates import Certificates, assembled
from .method import Method, Question
from .pairs import own_gradient_mode
from .radii import certificates_of, largest_radius
from .tasks import Task, split_claim


class RegionMethod(Method):
    """A method that certifies by what :meth:`bound` proves in balls of one radius after another."""

    @own_gradient_mode()
    def certify(
        self, network: VerifiedNetwork, question: Question, known: Tensor | None = None
    ) -> Certificates:
        """The largest radius at which the whole claim holds."""
        start, parts = 0, []
        for part in split_claim(network, question):
            task = Task(part)
            rows = torch.arange(start, start + len(task.x0))
            start += len(task.x0)
            own = question.rows(rows.to(question.x.device)).to(task.x0.device)
            proved = None if known is None else known[rows.to(known.device)].to(task.x0)
            parts.append(self._radii(network, task, own, proved))
        return assembled(parts, question.x)

    def _radii(
        self, network: VerifiedNetwork, task: Task, question: Question, known: Tensor | None
    ) -> Certificates:
        specification = task.specification()
        origin = question.balls(torch.zeros_like(task.x0[:, 0]), boxed=False)
        upper = -self.bound(network, origin, _negative(specification))
        broken = specification.violated(upper + 3.0 * task.slack)
        least = torch.zeros_like(task.x0[:, 0]) if known is None else task.smallest(known)
        correct = (task.logits.argmax(1) == task.label) if task.asked == "all" else ~broken
        least = torch.where(
            correct & ~broken & self._whole_box(network, task, question), torch.inf, least
        )
        open_rows = torch.nonzero(correct & ~broken & least.isfinite())[:, 0]
        if question.decide and question.radius is not None:
            open_rows = open_rows[least[open_rows] <= question.radius]

        trials = count(1)

        def proves(rows: Tensor, radii: Tensor) -> Tensor:
            inputs = open_rows[rows]
            asked = specification.rows(inputs)
            balls = question.rows(inputs).balls(radii)
            if not self.probable or question.chance is None:
                return _smallest(asked, self.bound(network, balls, asked))
            # A search chooses radii by what it found before: all of its trials share δ.
            chance = question.chance.of_trial(next(trials))
            return _smallest(asked, self.probable_bound(network, balls, asked, chance))

        radius = least.clone()
        radius[open_rows] = largest_radius(
            proves,
            least[open_rows],
            self._first(task, question)[open_rows],
            _smallest(specification, specification.values(task.logits))[open_rows],
            question.radius if question.decide else None,
        )
        made = certificates_of(task, task.filled(radius), broken, self.name, question.radius)
        if not self.probable or question.chance is None:
            return made
        failure = torch.full_like(made.radius, question.chance.failure)
        failure = torch.where(made.radius > least, failure, 0.0)
        return replace(made, failure_probability=failure)

    def _first(self, task: Task, question: Question) -> Tensor:
        """A radius to try first: just above the radius asked about where that is to be decided.

        Otherwise it is a hundredth of the input's size, but neither tiny nor huge where the input
        is: the search spans sixty doublings.
        """
        if question.decide and question.radius is not None:
            return torch.full_like(task.x0[:, 0], question.radius * (1.0 + 1e-9))
        size: Tensor = question.kind.norm(task.x0)
        if question.scales is not None:
            size = size / question.scales.flatten(1).amax(1).clamp_min(1e-300)
        return torch.clamp(0.01 * size, 1e-2, 1e6)

    def _whole_box(self, network: VerifiedNetwork, task: Task, question: Question) -> Tensor:
        """Inputs whose class is proved on all of the box, (B,): no radius is too large.

        It is not looked at where one radius is to be decided.
        """
        none = torch.zeros(len(task.x0), dtype=torch.bool, device=task.x0.device)
        if question.box is None or len(task.x0) == 0 or question.decide:
            return none
        low, high = question.box
        if not bool(low.isfinite().all() and high.isfinite().all()):
            return none
        rows = task.specification()
        return rows.decided(self.bound(network, Box(low, high), rows))


def _negative(rows: Specification) -> Specification:
    """−(C z + d) in the place of C z + d."""
    return replace(rows, coefficients=-rows.coefficients, offsets=-rows.offsets)


def _smallest(rows: Specification, bounds: Tensor) -> Tensor:
    """What decides, (B,): positive where the bounds (B, R) prove the whole specification."""
    finite = torch.where(bounds.isnan(), -torch.inf, bounds)
    return rows.radii(finite).amin(1)
