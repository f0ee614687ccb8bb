"""The options of ``--methods smoothing``. Imports no torch."""

from __future__ import annotations

from typing import Any

import click

from vercomp.commands.options import positive, together
from vercomp.errors import UsageError

METHOD = "smoothing"
NAMES = ("sigma", "samples", "selection", "every")

smoothing_options = together(
    click.option(
        "--sigma",
        metavar="S",
        callback=positive,
        help="Certify the classifier smoothed by normal noise of this deviation, with --methods "
        "smoothing: another classifier than MODEL, and certificates that are probable.",
    ),
    click.option(
        "--samples",
        metavar="N",
        type=click.IntRange(min=1),
        help="Draws an input that bound a probability, for smoothing; 100000 by default.",
    ),
    click.option(
        "--selection",
        metavar="N",
        type=click.IntRange(min=1),
        help="Draws an input before those, that select the class; 100 by default.",
    ),
    click.option(
        "--every",
        metavar="K",
        type=click.IntRange(min=1),
        help="Every K-th input only, for smoothing.",
    ),
)


def pop_smoothing(options: dict[str, Any]) -> dict[str, Any] | None:
    """Take the options of smoothing out of those of ``certify``; None where it is not asked for.

    Raises:
        UsageError: They do not go together with the others.
    """
    given = {name: options.pop(name) for name in NAMES}
    given = {name: value for name, value in given.items() if value is not None}
    methods = options["methods"] or ()
    if METHOD not in methods:
        if given:
            names = ", ".join(f"--{name}" for name in given)
            raise UsageError(f"{names}: only --methods {METHOD} draws samples")
        return None
    if len(methods) > 1:
        raise UsageError(
            "smoothing certifies another classifier than the other methods do",
            remedy=f"Ask for --methods {METHOD} alone",
        )
    if "sigma" not in given:
        raise UsageError(
            "smoothing needs to know how much noise there is",
            remedy="Give --sigma S, in the units of the input, such as 0.25",
        )
    return given


def refuse_others(options: dict[str, Any]) -> None:
    """Refuse what smoothing has no answer to.

    Raises:
        UsageError: Another norm than l2, a box, scales, a question that is not about labels.
    """
    scales = options["scales"]  # of a file that need not exist: refused before it is opened
    if options["norm"] != "l2":
        raise UsageError(
            f"normal noise certifies in the 2-norm, not in {options['norm']}",
            remedy="Leave --norm out",
        )
    wrong = {
        "--box": options["box"] is not None,
        "--targets runner-up": options["targets"] != "all",
        "--decide": options["decide"],
        "--threshold, --deviation, --top or --groups": not options["question"].plain,
        "--labels predicted": options["question"].predicted,
        "--scales or --frozen": scales.file is not None or bool(scales.frozen),
    }
    for name, is_given in wrong.items():
        if is_given:
            raise UsageError(f"{name} does not go with --methods {METHOD}")
