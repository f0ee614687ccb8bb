"""Whether a training was still on its way when it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FEW_STEPS = 200
"""Fewer steps than this hardly leave the warm-up behind."""

SINCE, RISE = 0.6, 0.05
"""A clean accuracy that rose by five points since three fifths of the training is still rising: the
schedules of radius and penalty are past, and the learning rate falls to zero in the meantime."""


def unconverged(history: Sequence[Mapping[str, Any]], steps: int) -> str | None:
    """Why a training looks far from converged; None where it does not.

    Args:
        history: A row an epoch, with the ``clean_accuracy`` of its batches.
        steps: How many steps there were.
    """
    if steps < FEW_STEPS:
        return f"it has taken {steps} steps, which is few"
    if not history:
        return None
    middle = history[max(0, round(SINCE * len(history)) - 1)]
    then, now = middle["clean_accuracy"], history[-1]["clean_accuracy"]
    if now - then <= RISE:
        return None
    return (
        f"the clean accuracy still rose from {100 * then:.1f} % in epoch {middle['epoch']} to "
        f"{100 * now:.1f} % in the last one"
    )
