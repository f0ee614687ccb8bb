"""The options of ``vercomp train``: one for every number of a recipe. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any

import click

from vercomp.commands.options import box
from vercomp.train.method import NORMS, Method
from vercomp.train.methods import METHODS
from vercomp.train.recipe import BY_DATA, INITIAL, PRECISIONS, TARGETS, USUAL, Recipe

WORDS = {
    "method": tuple(METHODS),
    "norm": NORMS,
    "target": TARGETS,
    "precision": PRECISIONS,
    "initial": INITIAL,
}
TYPES = {"int": (int, "N"), "float": (float, "NUMBER")}
HELP = {
    "method": "The loss. " + "; ".join(f"{m.name}: {m.summary}" for m in METHODS.values()) + ".",
    "radius": "Of the balls attacked and bounded, and of the certified accuracy that selects the "
    "network.",
    "norm": "Of the balls.",
    "box": "Limits of perturbed inputs: 0,1 for pixels in [0, 1]; others do not count.",
    "penalty": "Weight of the mean curvature bound; several, for a sweep: 0,0.005,0.01.",
    "epochs": "Passes over the training data.",
    "batch_size": "Inputs a step, over all processes.",
    "learning_rate": "Of Adam, at its largest; rises at first and falls to 0 along a cosine.",
    "held": "Share of the training up to whose end the learning rate does not fall.",
    "weight_decay": "Of Adam, decoupled.",
    "attack_steps": "Gradients an attack takes.",
    "target": "Class that crt and dual attack: at every step the largest logit; the one with the "
    "smallest certificate at the input; or the second largest there.",
    "radius_ramp": "Share of the training over which the radius grows from 0.",
    "penalty_ramp": "Share of the training over which the penalty grows from 0.",
    "warm_start": "Attacks begin at the perturbation of an epoch ago.",
    "exponent": "q of the generalised cross entropy; 0: cross entropy.",
    "temperature": "Divides the logits, or bounds, in the cross entropy.",
    "clean_weight": "Of the loss at the inputs themselves, beside that at attacked ones.",
    "trades_beta": "Weight of the divergence in trades.",
    "shift": "Augmentation: move images by up to N pixels.",
    "shift_chance": "Probability that an axis is moved at all.",
    "averaging": "Decay of the moving average of the weights that is kept; 0: none.",
    "validation": "Inputs held out to select by; a fifth of the data at most.",
    "evaluate_every": "Epochs between certifications of those.",
    "pairs_per_call": "Pairs of classes whose curvature bound a step evaluates.",
    "precision": "Of float32 products in training; medium: bfloat16, often faster.",
    "initial": "Weights to begin with: those of MODEL, or new ones that suit interval bounds.",
    "seed": "Of weights, split, order and attacks.",
}

Command = Callable[..., None]


def recipe_options(command: Command) -> Command:
    """A command with an option for every field of :class:`Recipe`, in its order.

    In the place of ``numbers`` each number of a method has an option of its own.
    """
    for name, methods in reversed(list(_owners().items())):
        command = _number_option(name, methods)(command)
    for field in reversed(fields(Recipe)):
        if field.name != "numbers":
            command = _option(field)(command)
    return command


def gathered(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of a recipe, from the values of all options: those of numbers in one place."""
    given = {name: options.pop(name) for name in _owners()}
    return {**options, "numbers": {name: v for name, v in given.items() if v is not None}}


def _owners() -> dict[str, list[Method]]:
    """The methods that have a number, by its name."""
    found: dict[str, list[Method]] = {}
    for method in METHODS.values():
        for number in method.numbers:
            found.setdefault(number.name, []).append(method)
    return found


def _number_option(name: str, methods: list[Method]) -> Callable[[Command], Command]:
    (number, *_) = (n for method in methods for n in method.numbers if n.name == name)
    defaults = ", ".join(
        f"{method.name}: {n.default:g}"
        for method in methods
        for n in method.numbers
        if n.name == name
    )
    return click.option(
        f"--{name.replace('_', '-')}",
        name,
        type=int if number.whole else float,
        metavar="N" if number.whole else "NUMBER",
        help=f"{number.help}  [default: {defaults}]",
    )


def _option(field: Field[Any]) -> Callable[[Command], Command]:
    name = "--" + field.name.replace("_", "-")
    default = field.default
    assert default is not MISSING  # noqa: S101 - every number has one
    settings: dict[str, Any] = {"default": default, "show_default": True, "help": HELP[field.name]}
    if field.name == "penalty":
        settings |= {"callback": _penalties, "metavar": "G[,G…]", "default": str(default)}
    elif field.name == "box":
        settings |= {"callback": box, "metavar": "LO,HI"}
    elif field.name in WORDS:
        settings["type"] = click.Choice(WORDS[field.name])
    elif field.type == "bool":
        name = f"{name}/--no-{name.removeprefix('--')}"
    else:
        settings["type"], settings["metavar"] = TYPES[str(field.type)]
        if field.name == "shift_chance":
            settings["show_default"] = "2N/(2N + 1)"
        elif field.name in USUAL:
            settings["show_default"] = "by the method"
        elif default == BY_DATA:
            settings["show_default"] = "by the size of the data"
    return click.option(name, field.name, **settings)


def _penalties(context: click.Context, option: click.Parameter, value: str) -> tuple[float, ...]:
    """A callback: different numbers separated by commas; their range is the recipe's to check."""
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no list of numbers") from error
    if len(set(numbers)) < len(numbers):
        raise click.BadParameter(f"{value!r} has a number twice")
    return numbers
