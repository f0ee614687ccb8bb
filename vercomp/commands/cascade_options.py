"""What ``certify`` and ``attack`` take of a cascade, whose rule has a norm, a radius and a box."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click
from click.core import ParameterSource

from vercomp.errors import UsageError
from vercomp.outputs import CASCADE, kind_of

_BOTH = ("model", "data", "radius", "limit", "out", "csv_path", "json_path")
CERTIFY = (*_BOTH, "timeout", "max_memory", "left")
ATTACK = (*_BOTH, "steps", "restarts")
_BY_THE_RULE = "its rule says within what ball its stages prove what they answer, and how"
_REASONS = {
    "html": "pages are drawn of single networks, and --csv and --json hold its results",
    "compare": "runs of single networks are compared",
    "mean": "a normalisation is a part of its stages",
    "std": "a normalisation is a part of its stages",
    "input_shape": "its stages have the shape",
    "output": "its stages are compiled, and have one output",
    "budget": "--restarts says how long the attack searches",
}
"""Why an option is refused that has nothing to do with the rule."""


def is_cascade(model: str) -> bool:
    """Whether MODEL is the folder of a cascade."""
    return kind_of(model) == CASCADE


def only(options: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The options of these names.

    Raises:
        UsageError: Another option was given, which a cascade has no use for.
    """
    context = click.get_current_context()
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and option.name not in names:
            reason = _REASONS.get(option.name or "", _BY_THE_RULE)
            raise UsageError(f"{option.opts[0]} does not go with a cascade: {reason}")
    return {name: options[name] for name in names}
