"""What changes from step to step: learning rate, radius, penalty, exponent.

Steps are counted from 0 over the whole training, so that a resumed one goes on where it was.
"""

from __future__ import annotations

import math

from vercomp.train.objectives import Moment
from vercomp.train.recipe import Recipe

WARM_UP = 200  # steps at most, and a tenth of all


def learning_rate(step: int, steps: int, peak: float, held: float = 0.0) -> float:
    """Linear to its peak over the first steps, then along a cosine; zero after the last.

    Args:
        step: Counted from 0.
        steps: Of the whole training.
        peak: The largest rate.
        held: Share of the training up to whose end the rate stays at its peak.
    """
    rising = min(WARM_UP, steps // 10)
    if step < rising:
        return peak * (step + 1) / rising
    since = max(rising, round(held * steps))
    if step < since:
        return peak
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - since) / (steps - since)))


def ramp(step: int, steps: int, share: float) -> float:
    """From 0 to 1, linearly over a share of all steps, then 1."""
    return min(1.0, step / (share * steps)) if share > 0 else 1.0


def moment(recipe: Recipe, step: int, steps: int) -> Moment:
    """Radius, penalty and exponent of a step."""
    grown = ramp(step, steps, recipe.radius_ramp)
    return Moment(
        radius=recipe.radius * grown,
        penalty=recipe.gamma * ramp(step, steps, recipe.penalty_ramp),
        exponent=recipe.exponent * grown,
        grown=grown,
    )
