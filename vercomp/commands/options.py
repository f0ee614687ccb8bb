"""Options that several commands share, and how the values of options are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vercomp.features import FEATURES

Value = str | None


def numbers(number: Callable[[str], Any], *, positive: bool) -> Callable[..., Any]:
    """A callback: numbers separated by commas, as a tuple."""
    kind = "whole numbers" if number is int else "numbers"

    def parse(context: click.Context, option: click.Parameter, value: Value) -> Any:
        if value is None:
            return None
        try:
            found = tuple(number(part) for part in value.split(","))
        except ValueError as error:
            raise click.BadParameter(f"{value!r} is no list of {kind}") from error
        if not all(math.isfinite(n) and (n > 0 or not positive) for n in found):
            wanted = "positive" if positive else "finite"
            raise click.BadParameter(f"{value!r}: every number must be {wanted}")
        return found

    return parse


def radius(context: click.Context, option: click.Parameter, value: Value) -> float | None:
    """A callback: a radius."""
    return positive(context, option, value, "a radius ")


def positive(
    context: click.Context, option: click.Parameter, value: Value, what: str = ""
) -> float | None:
    """A callback: a positive finite number."""
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no number") from error
    if not (math.isfinite(number) and number > 0):
        raise click.BadParameter(f"{what}must be positive and finite, not {value}")
    return number


def box(context: click.Context, option: click.Parameter, value: Value) -> Any:
    """A callback: two numbers, the first below the second."""
    limits = numbers(float, positive=False)(context, option, value)
    if limits is not None and (len(limits) != 2 or not limits[0] < limits[1]):
        raise click.BadParameter(f"{value!r} is not LO,HI with LO < HI")
    return limits


def groups(context: click.Context, option: click.Parameter, value: Value) -> Any:
    """A callback: groups of classes, separated by slashes."""
    parse = numbers(int, positive=False)
    return tuple(parse(context, option, part) for part in value.split("/")) if value else ()


def columns(context: click.Context, option: click.Parameter, value: Value) -> Any:
    """A callback: whole numbers and ranges of them."""
    found: list[int] = []
    for part in (value or "").split(",") if value is not None else ():
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise click.BadParameter(f"{value!r} is no list of columns such as 0,4,7-9")
        found += range(int(first), int(last if dash else first) + 1)
    return tuple(found)


def words(context: click.Context, option: click.Parameter, value: Value) -> Any:
    """A callback: names separated by commas."""
    if value is None:
        return None
    words = tuple(word.strip() for word in value.split(","))
    if not all(words):
        raise click.BadParameter(f"{value!r} is no list of names separated by commas")
    return words


def features(context: click.Context, option: click.Parameter, value: Value) -> Any:
    """A callback: names of features separated by commas."""
    names = words(context, option, value)
    for name in names or ():
        if name not in FEATURES:
            raise click.BadParameter(f"{name!r} is none of {', '.join(FEATURES)}")
    return names


Command = Callable[..., None]


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order in which the help lists them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


model_options = together(
    click.argument("model"),
    click.option(
        "--mean",
        metavar="NUMBERS",
        callback=numbers(float, positive=False),
        help="Mean of a normalisation outside the model: one number, or one a channel.",
    ),
    click.option(
        "--std",
        metavar="NUMBERS",
        callback=numbers(float, positive=True),
        help="Its standard deviation. Radii are in the units of the unnormalised input.",
    ),
    click.option(
        "--input-shape",
        metavar="SIZES",
        callback=numbers(int, positive=True),
        help="Shape of one input, such as 1,28,28; for package.module:callable.",
    ),
    click.option(
        "--output",
        metavar="NAME",
        help="Which result the logits are, for a model that returns several.",
    ),
)
DATA = "FILE.npz, digits, mnist:FOLDER, fashion-mnist:FOLDER, cifar10:FOLDER."
data_option = click.option("--data", metavar="DATA", help=DATA)
needed_data_option = click.option("--data", metavar="DATA", required=True, help=DATA)
limit_option = click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), help="First N inputs only."
)
norm_option = click.option(
    "--norm",
    metavar="NORM",
    default="l2",
    show_default=True,
    help="The norm that radii are in: l2, linf, l1.",
)
box_option = click.option(
    "--box",
    metavar="LO,HI",
    callback=box,
    help="Limits of perturbed inputs: 0,1 for pixels in [0, 1]. What lies outside does not count.",
)
json_option = click.option(
    "--json",
    "json_path",
    metavar="PATH",
    help="Write JSON to a file; '-': to standard output, and nothing else.",
)
compare_option = click.option(
    "--compare",
    "earlier",
    metavar="RUN",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Beside a finished run, a folder of --out or the .npz file in it; may be repeated.",
)
csv_option = click.option(
    "--csv",
    "csv_path",
    metavar="PATH",
    help="Write a row for each input to a file; '-': to standard output, and nothing else.",
)
html_option = click.option(
    "--html",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Draw the results as one HTML file for a browser: curves, classes, weakest inputs.",
)
run_option = click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the results; a run there resumes."
)
