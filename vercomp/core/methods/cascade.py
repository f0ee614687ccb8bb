"""Cascades: several networks, of which the first that certifies its own class answers.

Algorithm 2 of Wong, Schmidt, Metzen and Kolter, *Scaling Provable Adversarial Defenses* (2018). Let
B(x) be the ball of the rule's norm and radius around x, cut by the rule's box if there is one. A
stage *certifies* c at x if it is proved to give c everywhere in B(x). The rule answers with the
class of the first stage that certifies one at x, and abstains if none does.

**What is certified.** If every stage gives y at x, then no point of B(x) has an answer other than
y: there the rule answers y, or abstains.

Proof: let x′ ∈ B(x), and let a stage answer c at x′. It certifies c at x′, so it gives c everywhere
in B(x′). Now ‖x − x′‖ = ‖x′ − x‖ is at most the radius, and x lies in the box, so that x ∈ B(x′).
So the stage gives c at x. But it gives y there: c = y. ∎

Nothing was asked of how stages certify but that what they prove is true; they may prove more at one
time than at another. The converse does not hold, and an answer need not exist at any point of B(x),
not even at x: abstention is no wrong answer.

**What is not certified.** That the first stage which certifies at x certifies y, the paper's count,
says nothing about the rule in B(x): at x′ another stage may certify another class, before that one
or after it has failed. Attacks find such points for most of these inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from ..errors import InputError, InputTypeError
from ..inputs import check_number, check_radius
from ..regions.ball_kind import ball_kind

if TYPE_CHECKING:
    from .cascade_attack import CascadeAttacks
    from .portfolio import Certifiable

ABSTAINS = -1
"""The answer where no stage certifies its class, and the number of the stage that gave it."""

_HERE = 1e-9
"""Of the radius: in so small a ball a class is proved to be the one at the input."""


@dataclass(frozen=True)
class Rule:
    """What a stage must prove to answer.

    Args:
        radius: Of the ball.
        norm: ``"linf"``, ``"l2"``, ``"l1"`` or another registered kind.
        box: (lo, hi): inputs lie inside, and points outside do not count; None: all count.
            Its ends are moved outward to the float32 numbers that they round to.
        methods: Names of the methods that prove it; None for those that a stage uses by itself.

    Raises:
        InputError: A radius that is not positive, a norm that does not exist, lo ≥ hi.
    """

    radius: float
    norm: str = "linf"
    box: tuple[float, float] | None = None
    methods: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", check_radius(self.radius))
        object.__setattr__(self, "norm", ball_kind(self.norm).name)
        if self.box is not None:
            low, high = (check_number("an end of the box", end) for end in self.box)
            if not low < high:
                raise InputError(f"the box ({low}, {high}) must have lo < hi")
            # A float32 input at an end lies inside, and stays there when it is read in float64.
            object.__setattr__(self, "box", (min(low, _single(low)), max(high, _single(high))))


class Answers(NamedTuple):
    """What a cascade answers at B inputs, on their device.

    Args:
        label: The class, (B,); −1 where it abstains.
        stage: The number of the stage that answered, counted from 0, (B,); −1 likewise.
    """

    label: Tensor
    stage: Tensor


@dataclass(frozen=True)
class CascadeCertificates:
    """What is known of a cascade's rule at B inputs with labels y, on their device.

    Args:
        label: What it answers, (B,); −1 where it abstains.
        stage: Which stage does, counted from 0, (B,); −1 likewise.
        certified: No point of the rule's ball has an answer other than y: every stage is proved to
            give y at the input. Shape (B,).
        counted: The paper's count: the answer is y. It is no certificate of the rule. Shape (B,).
    """

    label: Tensor
    stage: Tensor
    certified: Tensor
    counted: Tensor

    @property
    def abstained(self) -> Tensor:
        """Where the rule gives no answer, (B,)."""
        return self.label == ABSTAINS


class Cascade(nn.Module):
    """Networks in order, and the rule by which one of them answers.

    Args:
        stages: Networks that certify, with inputs of one shape and the same classes.
        rule: What they must prove.

    Raises:
        InputError: No stages, or stages that do not fit each other.
    """

    def __init__(self, stages: Sequence[Certifiable], rule: Rule) -> None:
        super().__init__()
        if not stages:
            raise InputError("a cascade needs a stage")
        shapes = {(tuple(stage.input_shape), stage.classes) for stage in stages}
        if len(shapes) > 1:
            listed = " and ".join(f"{shape} with {classes}" for shape, classes in sorted(shapes))
            raise InputError(
                "the stages of a cascade must take inputs of one shape and have the same classes: "
                f"there are inputs {listed} classes"
            )
        if any(stage.scores == 1 for stage in stages):
            raise InputError(
                "a stage of a cascade has one output, and no class to certify",
                remedy="Give it one output for each class",
            )
        self.stages = nn.ModuleList(stages)
        self.rule = rule

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self._each[0].input_shape)

    @property
    def classes(self) -> int:
        """The number of classes; an abstention is none of them."""
        return self._each[0].classes

    @property
    def _each(self) -> list[Certifiable]:
        return [cast("Certifiable", stage) for stage in self.stages]

    def forward(self, x: Tensor) -> Tensor:
        """What the rule answers at inputs (B, *input_shape): (B,), −1 where it abstains."""
        return self.predict(x).label

    def predict(self, x: Tensor) -> Answers:
        """What the rule answers, and which stage: see :class:`Answers`.

        Args:
            x: Inputs, float32 or float64, (B, *input_shape), inside the box if there is one.
        """
        label = torch.full((len(x),), ABSTAINS, dtype=torch.long, device=x.device)
        stage = label.clone()
        left = torch.arange(len(x), device=x.device)
        for number, network in enumerate(self._each):
            if not len(left):
                break
            points = x[left]
            own = classes_of(network, points)
            certified = self._proved(network, points, own, self.rule.radius, self.rule.methods)
            label[left[certified]] = own[certified]
            stage[left[certified]] = number
            left = left[~certified]
        return Answers(label, stage)

    def certify(self, x: Tensor, y: Tensor) -> CascadeCertificates:
        """What is known of the rule in the balls around inputs: see the proof above.

        Args:
            x: Inputs, float32 or float64, (B, *input_shape), inside the box if there is one.
            y: Labels (B,).
        """
        answer = self.predict(x)
        agreed = torch.ones_like(y, dtype=torch.bool)
        for network in self._each:
            methods = self.rule.methods
            if "interval" in [method.name for method in network.methods]:
                methods = ("interval",)  # the cheapest, and hardly anything moves
            agreed &= self._proved(network, x, y, _HERE * self.rule.radius, methods)
        return CascadeCertificates(answer.label, answer.stage, agreed, answer.label == y)

    def attack(
        self,
        x: Tensor,
        y: Tensor,
        *,
        steps: int = 40,
        restarts: int = 2,
        generator: torch.Generator | None = None,
    ) -> CascadeAttacks:
        """Points of the ball with a wrong answer; see :func:`.cascade_attack.attack`."""
        from .cascade_attack import attack

        return attack(self, x, y, steps=steps, restarts=restarts, generator=generator)

    def _proved(
        self,
        network: Certifiable,
        x: Tensor,
        y: Tensor,
        radius: float,
        methods: tuple[str, ...] | None,
    ) -> Tensor:
        """Where a network is proved to give y in all of the ball of this radius, (B,)."""
        found = network.certify(
            x,
            y,
            norm=self.rule.norm,
            box=self.rule.box,
            methods=methods,
            radius=radius,
            decide=True,
        )
        if getattr(found, "failure_probability", None) is not None:
            raise InputTypeError(
                "a cascade answers by what is proved, and a method of its rule is probable"
            )
        return found.radius > radius


def _single(number: float) -> float:
    """The float32 number that a number rounds to."""
    return float(torch.tensor(number, dtype=torch.float32))


def classes_of(network: Certifiable, x: Tensor) -> Tensor:
    """The class that a network gives at each input, (B,), in its own type."""
    with torch.no_grad():
        logits = network.logits(x.to(network.device, network.dtype)).flatten(1)
    return logits.argmax(1).to(x.device)
