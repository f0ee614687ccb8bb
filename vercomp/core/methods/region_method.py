"""Methods that prove bounds in one region at a time: their radii are searched for.

Such a method implements ``requires`` and ``bound``. A radius is the largest of those tried at which
all rows of the specification are proved to be positive in the ball. Every radius that is tried is
proved by itself: nothing rests on how bounds change with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..network import VerifiedNetwork
from ..regions.constructors import Ball, Box
from ..specifications import Specification
from .certificates import Certificates, assembled
from .method import Method, Question
from .pairs import own_gradient_mode
from .radii import certificates_of, largest_radius
from .tasks import Task, split


class RegionMethod(Method):
    """A method that certifies by what :meth:`bound` proves in balls of one radius after another."""

    @own_gradient_mode()
    def certify(
        self, network: VerifiedNetwork, question: Question, known: Tensor | None = None
    ) -> Certificates:
        """The largest radius at which every margin stays positive."""
        start, parts = 0, []
        for part in split(
            network,
            question.x,
            question.y,
            question.targets,
            question.evaluations,
            question.chunk,
        ):
            task = Task(part)
            rows = torch.arange(start, start + len(task.x0))
            start += len(task.x0)
            own = question.rows(rows.to(question.x.device))
            proved = None if known is None else known[rows.to(known.device)].to(task.x0)
            parts.append(self._radii(network, task, own, proved))
        return assembled(parts, question.x)

    def _radii(
        self, network: VerifiedNetwork, task: Task, question: Question, known: Tensor | None
    ) -> Certificates:
        specification = task.specification()
        x = task.x0.reshape(len(task.x0), *network.input_shape)

        def proved(rows: Tensor, radii: Tensor, sign: float = 1.0) -> Tensor:
            box = None if sign < 0.0 else question.rows(rows.to(question.x.device)).box
            region = Ball(x[rows], radii, question.kind.name, box=box)
            asked = specification.rows(rows)
            asked = Specification(sign * asked.coefficients, asked.offsets, asked.groups)
            return self.bound(network, region, asked)

        everywhere = torch.arange(len(x), device=x.device)
        broken = (proved(everywhere, task.x0.new_zeros(len(x)), -1.0) >= 0.0).any(1)
        least = torch.zeros_like(task.x0[:, 0])
        if known is not None:
            least = known.gather(1, task.targets).amin(1)
        correct = (task.logits.argmax(1) == task.label) if task.asked == "all" else ~broken
        least = torch.where(
            correct & ~broken & self._whole_box(network, task, question), torch.inf, least
        )
        open_rows = torch.nonzero(correct & ~broken & least.isfinite())[:, 0]
        if question.decide and question.radius is not None:
            open_rows = open_rows[least[open_rows] <= question.radius]
        best = largest_radius(
            lambda rows, radii: (proved(open_rows[rows], radii) > 0.0).all(1),
            least[open_rows],
            self._first(task, question)[open_rows],
        )
        radius = least.clone()
        radius[open_rows] = best
        table = radius[:, None].expand(task.targets.shape).contiguous()
        return certificates_of(task, table, broken, self.name, question.radius)

    def _first(self, task: Task, question: Question) -> Tensor:
        """A radius to try first: the one to be decided about, or a hundredth of the input's size.

        Not of an input that is nearly zero, or nearly infinite: the search spans sixty doublings.
        """
        if question.decide and question.radius is not None:
            return torch.full_like(task.x0[:, 0], question.radius)
        size: Tensor = question.kind.norm(task.x0)
        return torch.clamp(0.01 * size, 1e-2, 1e6)

    def _whole_box(self, network: VerifiedNetwork, task: Task, question: Question) -> Tensor:
        """Inputs whose class is proved on all of the box, (B,): no radius is too large."""
        none = torch.zeros(len(task.x0), dtype=torch.bool, device=task.x0.device)
        if question.box is None or len(task.x0) == 0:
            return none
        low, high = (end.to(task.x0.device) for end in question.box)
        if not bool(low.isfinite().all() and high.isfinite().all()):
            return none
        lower = self.bound(network, Box(low, high), task.specification())
        return (lower > 0.0).all(1)
