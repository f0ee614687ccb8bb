"""The methods of training: one file of this folder each, and no list of them.

A file declares its method by a row, and defines the class of its objective::

    METHOD = Method(
        name="mine",
        summary="cross entropy of margins that I bound",
        objective="MyTraining",
        propagated=True,
        norms=NORMS,
        numbers=(Number("mine_share", 0.5, "Share of the bounds in the loss.", low=0.0, high=1.0),),
        defaults={"radius_ramp": 0.5},
    )


    class MyTraining(Objective):
        def __call__(self, batch: Batch, now: Moment) -> Loss:
            region = self.region(batch.x, now.radius)
            lower = my_bounds(self.network, region, batch.y)  # a graph: self.network.nodes()
            share = self.recipe.number("mine_share")
            ...

That is all: the method is then in :data:`METHODS`, in ``--method``, with an option for each of its
numbers, in the trainer with its schedules, sweeps, resumption and reports. The row is read from the
file's source, where it is evaluated with ``Method``, ``Number`` and ``NORMS`` alone, so that the
command line lists all methods at once: the file itself, which imports torch, is imported where its
objective is made. A package of one's own calls :func:`register` with such a row.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING

from vercomp.errors import InternalError, PluginError, UsageError
from vercomp.train.method import NORMS, Method, Number

if TYPE_CHECKING:
    from torch import nn

    from vercomp.core.regularizer import Regularizer
    from vercomp.live import LiveNetwork
    from vercomp.train.objectives import Objective
    from vercomp.train.recipe import Recipe

_WORDS = {"Method": Method, "Number": Number, "NORMS": NORMS}
"""What a row is made of."""


def declared(source: str, name: str) -> Method:
    """The method that a file declares, without running the file.

    Args:
        source: The file's text.
        name: The file's module.

    Raises:
        InternalError: It declares none.
    """
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "METHOD":
            row = compile(ast.Expression(statement.value), name, "eval")
            method: Method = eval(row, dict(_WORDS))  # noqa: S307 - a file of ours
            return method
    raise InternalError(f"{name} has no METHOD = Method(...)")


def _ours() -> dict[str, Method]:
    """The methods of this folder: those that need least first, then by name."""
    found = {}
    for path in files(__name__).iterdir():
        module, _, ending = path.name.rpartition(".")
        if ending == "py" and not module.startswith("_"):
            name = f"{__name__}.{module}"
            method = declared(path.read_text(encoding="utf-8"), name)
            found[method.name] = method
            _HOMES[method.name] = f"{name}:{method.objective}"
    return {row.name: row for row in sorted(found.values(), key=lambda row: (row.needs, row.name))}


_HOMES: dict[str, str] = {}
_METHODS = _ours()
METHODS: Mapping[str, Method] = _METHODS
"""By name."""


def register(method: Method) -> None:
    """Make a method of the caller's own known, whose objective is a ``"package.module:Class"``.

    Raises:
        PluginError: Another method has its name, or says otherwise of a number that both have; or
            its objective is no such place.
    """
    if METHODS.get(method.name, method) != method:
        raise PluginError(f"a method of training named {method.name!r} is registered already")
    known = {number.name: number for other in METHODS.values() for number in other.numbers}
    for number in method.numbers:
        if known.get(number.name, number) != number:
            raise PluginError(
                f"the number {number.name!r} of method {method.name!r} is another method's already",
                remedy="Give it another name",
            )
    if not all(method.objective.partition(":")):
        raise PluginError(f"{method.objective!r} is no 'package.module:Class'")
    _METHODS[method.name] = method
    _HOMES[method.name] = method.objective


def objective(
    recipe: Recipe,
    model: nn.Module,
    regularizer: Regularizer | None,
    network: LiveNetwork | None = None,
) -> Objective:
    """The objective of a recipe's method.

    Args:
        recipe: The numbers.
        model: The model, or its DistributedDataParallel wrapper.
        regularizer: Its curvature bound, for methods that evaluate it.
        network: Its graph over live parameters, for methods that send regions through it.

    Raises:
        UsageError: What the method needs was not given.
    """
    method = METHODS[recipe.method]
    if method.bounded and regularizer is None:
        raise UsageError(
            f"method {recipe.method!r} needs a regulariser",
            remedy="Pass vercomp.regularizer(model, input_shape=...)",
        )
    if method.propagated and network is None:
        raise UsageError(
            f"method {recipe.method!r} needs the graph of the model",
            remedy="Pass vercomp.live.live_network(model, input_shape)",
        )
    module, _, name = _HOMES[recipe.method].partition(":")
    make: type[Objective] = getattr(import_module(module), name)
    return make(
        recipe,
        model,
        regularizer if method.bounded else None,
        network if method.propagated else None,
    )
