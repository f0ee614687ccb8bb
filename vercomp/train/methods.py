"""The methods of training, each with what it needs: one row here, and one class of an objective.

Imports no torch, so that the command line lists the methods at once; a method's class is imported
where its objective is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from vercomp.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from vercomp.core.regularizer import Regularizer
    from vercomp.train.objectives import Objective
    from vercomp.train.recipe import Recipe


@dataclass(frozen=True)
class Method:
    """One method of training.

    Args:
        name: What recipes call it.
        summary: What its loss is, in a few words.
        objective: Where the class of its objective is, ``"module:Class"`` in this package.
        bounded: Whether it evaluates the curvature bound at every step, as a penalty or for
            attacks.
        attacked: Whether it attacks the inputs of a step.
        warm: Whether its attacks can begin at the perturbations that they found an epoch ago.
    """

    name: str
    summary: str
    objective: str
    bounded: bool = False
    attacked: bool = False
    warm: bool = False


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("plain", "cross entropy", "objectives:PlainTraining"),
        Method(
            "penalty",
            "cross entropy with the curvature bound as a penalty",
            "objectives:PlainTraining",
            bounded=True,
        ),
        Method(
            "pgd",
            "cross entropy at points of projected gradient ascent (Madry et al. 2018)",
            "objectives:AdversarialTraining",
            attacked=True,
            warm=True,
        ),
        Method(
            "trades",
            "cross entropy and a divergence at attacked points (Zhang et al. 2019)",
            "objectives:Trades",
            attacked=True,
        ),
        Method(
            "crt",
            "cross entropy at worst points found by Theorem 2, with the penalty (Singla and Feizi "
            "2020, section 6)",
            "objectives:CurvatureTraining",
            bounded=True,
            attacked=True,
            warm=True,
        ),
        Method(
            "dual",
            "crt with certified margins in the place of attacked ones",
            "dual:DualTraining",
            bounded=True,
            attacked=True,
            warm=True,
        ),
    )
}
"""By name, the simplest first."""


def objective(recipe: Recipe, model: nn.Module, regularizer: Regularizer | None) -> Objective:
    """The objective of a recipe's method.

    Raises:
        UsageError: A method that evaluates the curvature bound has no regulariser.
    """
    method = METHODS[recipe.method]
    if method.bounded and regularizer is None:
        raise UsageError(
            f"method {recipe.method!r} needs a regulariser",
            remedy="Pass vercomp.regularizer(model, input_shape=...)",
        )
    module, _, name = method.objective.partition(":")
    make: type[Objective] = getattr(import_module(f"vercomp.train.{module}"), name)
    return make(recipe, model, regularizer if method.bounded else None)
