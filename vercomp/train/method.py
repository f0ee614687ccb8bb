"""What a method of training says of itself. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

NORMS = ("l2", "linf", "l1")


@dataclass(frozen=True)
class Number:
    """A number of a recipe that one method has, or a few of them: an option of ``vercomp train``.

    Args:
        name: What recipes call it, in small letters with underscores.
        default: Its value where a recipe does not give it; a whole number if it has to be one.
        help: What it is, in a sentence.
        low: The least value that it may have.
        high: The largest.
    """

    name: str
    default: float
    help: str
    low: float = -math.inf
    high: float = math.inf

    @property
    def whole(self) -> bool:
        """Whether it is a whole number."""
        return isinstance(self.default, int)


@dataclass(frozen=True)
class Method:
    """One method of training.

    Args:
        name: What recipes call it.
        summary: What its loss is, in a few words.
        objective: The class of its objective: its name, for a file of
            :mod:`vercomp.train.methods`, or ``"package.module:Class"``.
        bounded: Whether it evaluates the curvature bound at every step, as a penalty or for
            attacks.
        attacked: Whether it attacks the inputs of a step.
        warm: Whether its attacks can begin at the perturbations that they found an epoch ago.
        propagated: Whether it sends regions through the network: its objective then has the graph
            over the live parameters as ``network``, and networks without curvature can be trained.
        last: Whether the network of the last epoch is kept, and no other evaluated: what the method
            trains for is not what certificates of the network say.
        certified_by: The methods of certification that select its network, which then only decide
            whether radii exceed ρ; without any, all usual ones that can take the network find the
            largest radii.
        norms: The norms of the balls that it is for.
        numbers: Its own numbers; :meth:`vercomp.train.recipe.Recipe.number` gives their values.
        defaults: Values of fields of the recipe that it has in the place of the usual ones.
    """

    name: str
    summary: str
    objective: str
    bounded: bool = False
    attacked: bool = False
    warm: bool = False
    propagated: bool = False
    last: bool = False
    certified_by: tuple[str, ...] = ()
    norms: tuple[str, ...] = ("l2",)
    numbers: tuple[Number, ...] = ()
    defaults: Mapping[str, float] = field(default_factory=dict)

    @property
    def needs(self) -> int:
        """How many things it needs beside the loss at a point."""
        return sum((self.bounded, self.attacked, self.warm, self.propagated))
