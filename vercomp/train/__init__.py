"""Training for certificates: attacks, objectives, schedules and the loop.

    from vercomp.train import Recipe, train
    result = train(model, data, Recipe(radius=0.5), "runs/first", input_shape=(1, 28, 28))

Names are imported when they are first used: the command line reads recipes without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vercomp.train.loop import Training, train
    from vercomp.train.recipe import Recipe

_HOMES = {
    "Recipe": "vercomp.train.recipe",
    "Training": "vercomp.train.loop",
    "train": "vercomp.train.loop",
}

__all__ = ["Recipe", "Training", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vercomp.train' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
