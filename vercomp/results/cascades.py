"""What a cascade answers and certifies, as arrays and as the numbers of tables and of the JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vercomp.results.summaries import Arrays, Summary

if TYPE_CHECKING:
    from torch import Tensor

    from vercomp.core.methods.cascade import CascadeCertificates, Rule
    from vercomp.core.methods.cascade_attack import CascadeAttacks

CERTIFIED = frozenset(("label", "prediction", "stage", "certified", "counted"))
"""The arrays of a cascade's ``certificates.npz``, beside ``index`` and ``seconds``."""

ATTACKED = frozenset(("label", "prediction", "counted", "point", "answer", "broken", "silenced"))
"""The arrays of a cascade's ``attacks.npz``, beside ``index`` and ``seconds``."""


def certified_arrays(found: CascadeCertificates, y: Tensor) -> dict[str, NDArray[Any]]:
    """The arrays of ``certificates.npz`` for inputs with labels y (B,)."""
    columns = {
        "label": y,
        "prediction": found.label,
        "stage": found.stage,
        "certified": found.certified,
        "counted": found.counted,
    }
    return {name: tensor.cpu().numpy() for name, tensor in columns.items()}


def attacked_arrays(found: CascadeAttacks, answer: Tensor, y: Tensor) -> dict[str, NDArray[Any]]:
    """The arrays of ``attacks.npz`` for inputs with labels y (B,) and these answers (B,)."""
    columns = {
        "label": y,
        "prediction": answer,
        "counted": answer == y,
        "point": found.point,
        "answer": found.label,
        "broken": found.broken,
        "silenced": found.silenced,
    }
    return {name: tensor.cpu().numpy() for name, tensor in columns.items()}


def certified_summary(arrays: Arrays, rule: Rule, stages: int, undecided: int = 0) -> Summary:
    """The summary of a cascade's certificates.

    An abstention is no correct answer, and no wrong one. ``certified_accuracy`` counts the inputs
    in whose balls no answer but the label occurs; ``counted_accuracy``, those that the paper
    counts, which is no certificate of the rule.

    Args:
        arrays: As :func:`certified_arrays` gives them.
        rule: The cascade's.
        stages: How many it has.
        undecided: Inputs that the time did not suffice for; they are not among the arrays.
    """
    correct, certified = arrays["label"] == arrays["prediction"], arrays["certified"]
    return {
        "n": len(correct),
        "classifier": "cascade",
        "stages": stages,
        **_asked(rule),
        "undecided": undecided,
        "clean_accuracy": float(correct.mean()),
        "abstained": float((arrays["prediction"] < 0).mean()),
        "answered_by_stage": [float((arrays["stage"] == k).mean()) for k in range(stages)],
        "certified_accuracy": float(certified.mean()),
        "certified_and_answered": float((certified & correct).mean()),
        "counted_accuracy": float(arrays["counted"].mean()),
        "seconds_per_input": float(arrays["seconds"].mean()),
    }


def attacked_summary(arrays: Arrays, rule: Rule, stages: int) -> Summary:
    """The summary of attacks on a cascade.

    ``attacked_accuracy`` counts the inputs in whose balls no answer but the label was found, which
    no certified accuracy exceeds; ``counted_and_broken`` those of ``counted_accuracy`` in whose
    balls another was.

    Args:
        arrays: As :func:`attacked_arrays` gives them.
        rule: The cascade's.
        stages: How many it has.
    """
    correct, broken = arrays["label"] == arrays["prediction"], arrays["broken"]
    return {
        "n": len(correct),
        "classifier": "cascade",
        "stages": stages,
        **_asked(rule),
        "clean_accuracy": float(correct.mean()),
        "abstained": float((arrays["prediction"] < 0).mean()),
        "attacked_accuracy": float((~broken).mean()),
        "attacked_and_answered": float((~broken & correct).mean()),
        "silenced": float((arrays["silenced"] & ~broken).mean()),
        "counted_accuracy": float(arrays["counted"].mean()),
        "counted_and_broken": float((arrays["counted"] & broken).mean()),
        "seconds_per_input": float(arrays["seconds"].mean()),
    }


def _asked(rule: Rule) -> Summary:
    return {
        "radius": rule.radius,
        "norm": rule.norm,
        "box": None if rule.box is None else list(rule.box),
        "methods": None if rule.methods is None else list(rule.methods),
    }


def left_over(arrays: Arrays) -> NDArray[np.intp]:
    """The places of the inputs on which a cascade abstains: what a next stage is trained on."""
    return np.flatnonzero(arrays["prediction"] < 0)
