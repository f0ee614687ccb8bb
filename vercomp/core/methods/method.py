"""What a method of certification is: what it needs, the bounds it proves, the radii it proves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from torch import Tensor

from ..graph import Graph
from ..network import VerifiedNetwork
from ..regions.ball_kind import BallKind
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
    """How far can each input move, in some norm, before another class is the largest?

    Args:
        x: Inputs, (B, *shape).
        y: Labels, (B,).
        kind: The norm.
        box: (lo, hi), float64, shaped like x, which lies inside: inputs outside do not count.
        targets: ``"all"``, ``"runner-up"``, or classes, (B,) or (B, K).
        radius: The radius asked about, or None.
        decide: Whether to settle no more than whether each radius exceeds ``radius``.
        evaluations: Gradient evaluations for each pair of input and target, at most.
        chunk: Inputs solved at once; None: what fits into the memory that is free.
    """

    x: Tensor
    y: Tensor
    kind: BallKind
    box: tuple[Tensor, Tensor] | None = None
    targets: str | Tensor = "all"
    radius: float | None = None
    decide: bool = False
    evaluations: int = 30
    chunk: int | None = None

    def rows(self, index: Tensor) -> Question:
        """The question about some of the inputs."""
        targets, box = self.targets, self.box
        if isinstance(targets, Tensor):
            targets = targets[index.to(targets.device)]
        if box is not None:
            box = (box[0][index], box[1][index])
        return replace(self, x=self.x[index], y=self.y[index], targets=targets, box=box)


class Method(ABC):
    """A way to prove something about a network.

    Attributes:
        name: What results call it.
        on_request: Whether it is used only where it is named, because it takes much longer than
            the methods before it.
    """

    name: ClassVar[str]
    on_request: ClassVar[bool] = False

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
            known: Radii (B, C) that are proved already for every target: only larger ones count.
        """
