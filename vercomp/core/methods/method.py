"""What a method of certification is: what it needs, the bounds it proves, the radii it proves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..chance import Chance
from ..claims.claim import Stated
from ..graph import Graph
from ..network import VerifiedNetwork
from ..regions.ball_kind import BallKind
from ..regions.constructors import Ball
from ..regions.region import Region
from ..specifications import Specification
from .certificates import Certificates


class Obstacle(NamedTuple):
    """Why a method cannot take a network.

    Args:
        node: The node that it cannot take.
        reason: What it lacks there.
    """

    node: str
    reason: str


@dataclass(frozen=True)
class Question:
    """How far can each input move, in some norm, before a claim fails?

    Args:
        x: Inputs, (B, *shape).
        claim: What shall stay true, about these inputs.
        kind: The norm.
        box: (lo, hi), float64, shaped like x, which lies inside: inputs outside do not count.
        scales: s ≥ 0, float64, shaped like x: distances are ‖(x′ − x) ⊘ s‖, and features of scale
            zero do not move. None stands for ones.
        targets: ``"all"``, ``"runner-up"``, or classes, (B,) or (B, K), where the claim is that a
            label is the largest.
        radius: The radius asked about, or None.
        decide: Whether to settle no more than whether each radius exceeds ``radius``.
        evaluations: Gradient evaluations for each pair of input and target, at most.
        chunk: Inputs solved at once; None: what fits into the memory that is free.
        chance: What probable methods may risk; None where no method is probable.
    """

    x: Tensor
    claim: Stated
    kind: BallKind
    box: tuple[Tensor, Tensor] | None = None
    scales: Tensor | None = None
    targets: str | Tensor = "all"
    radius: float | None = None
    decide: bool = False
    evaluations: int = 30
    chunk: int | None = None
    chance: Chance | None = None

    def rows(self, index: Tensor) -> Question:
        """The question about some of the inputs."""
        targets, box, scales = self.targets, self.box, self.scales
        if isinstance(targets, Tensor):
            targets = targets[index.to(targets.device)]
        if box is not None:
            box = (box[0][index], box[1][index])
        if scales is not None:
            scales = scales[index]
        return replace(
            self,
            x=self.x[index],
            claim=self.claim.part(index),
            targets=targets,
            box=box,
            scales=scales,
        )

    def to(self, device: torch.device) -> Question:
        """The same question with its inputs, box and scales on another device."""
        box, scales = self.box, self.scales
        return replace(
            self,
            x=self.x.to(device),
            box=None if box is None else (box[0].to(device), box[1].to(device)),
            scales=None if scales is None else scales.to(device),
        )

    def balls(self, radii: Tensor, *, boxed: bool = True) -> Region:
        """The balls of these radii (B,) around the inputs, cut by the box if there is one.

        Args:
            radii: A radius for each input.
            boxed: Whether the box counts.
        """
        box = self.box if boxed else None
        radii = radii.to(self.x.device)
        return Ball(self.x.double(), radii, self.kind.name, box=box, scales=self.scales)


class Method(ABC):
    """A way to prove something about a network.

    Attributes:
        name: What results call it.
        on_request: Whether it is used only where it is named, because it takes much longer than
            the methods before it.
        probable: Whether its certificates hold with a probability 1 − δ over random numbers of its
            own, and are not proved. Such a method is used only where it is named, alone; its
            certificates carry δ, and its :meth:`bound` proves nothing.
    """

    name: ClassVar[str]
    on_request: ClassVar[bool] = False
    probable: ClassVar[bool] = False

    def usual(self, graph: Graph) -> bool:
        """Whether it is used on a network where no methods are named."""
        return not (self.on_request or self.probable)

    @abstractmethod
    def requires(self, graph: Graph) -> tuple[Obstacle, ...]:
        """What keeps the method from taking a network; empty where nothing does."""

    @abstractmethod
    def bound(
        self, network: VerifiedNetwork, region: Region, specification: Specification
    ) -> Tensor:
        """Proved lower bounds (B, R) of C z + d over the region; −∞ where nothing is proved."""

    @abstractmethod
    def certify(
        self, network: VerifiedNetwork, question: Question, known: Tensor | None = None
    ) -> Certificates:
        """Proved radii.

        Args:
            network: The network.
            question: The question.
            known: The table of radii that are proved already, such as ``radius_per_target``: only
                larger radii count.
        """

    def probable_bound(
        self,
        network: VerifiedNetwork,
        region: Region,
        specification: Specification,
        chance: Chance,
    ) -> Tensor:
        """Lower bounds (B, R) that hold, all of an input's together, with probability 1 − δ.

        Those of a method that is not probable hold with certainty.
        """
        return self.bound(network, region, specification)
