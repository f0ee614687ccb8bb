"""Training for certificates: attacks, objectives, schedules and the loop."""

from vercomp.train.loop import Training, train
from vercomp.train.recipe import Recipe

__all__ = ["Recipe", "Training", "train"]
