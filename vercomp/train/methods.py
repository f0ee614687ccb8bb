"""The methods by name: what a recipe's word stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from vercomp.errors import UsageError
from vercomp.train.dual import DualTraining
from vercomp.train.objectives import (
    AdversarialTraining,
    CurvatureTraining,
    Objective,
    PlainTraining,
    Trades,
)

if TYPE_CHECKING:
    from vercomp.core.regularizer import Regularizer
    from vercomp.train.recipe import Recipe

_METHODS: dict[str, Callable[[Recipe, nn.Module, Regularizer | None], Objective]] = {
    "plain": lambda recipe, model, _: PlainTraining(recipe, model, None),
    "penalty": PlainTraining,
    "pgd": lambda recipe, model, _: AdversarialTraining(recipe, model, None),
    "trades": lambda recipe, model, _: Trades(recipe, model, None),
    "crt": CurvatureTraining,
    "dual": DualTraining,
}


def objective(recipe: Recipe, model: nn.Module, regularizer: Regularizer | None) -> Objective:
    """The objective of a recipe's method.

    Raises:
        UsageError: An unknown method; ``penalty``, ``crt`` or ``dual`` without a regulariser.
    """
    if recipe.method not in _METHODS:
        raise UsageError(f"no method {recipe.method!r}", remedy=f"Known: {', '.join(_METHODS)}")
    if recipe.bounded and regularizer is None:
        raise UsageError(
            f"method {recipe.method!r} needs a regulariser",
            remedy="Pass vercomp.regularizer(model, input_shape=...)",
        )
    return _METHODS[recipe.method](recipe, model, regularizer)
