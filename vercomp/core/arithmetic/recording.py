"""Operations written down before, or instead of, being run.

A program over an arithmetic is a straight line of operations. Handed a :class:`Recording` in the
place of an arithmetic, it leaves its steps behind. They can be printed as source, and run as far as
one of the results asks: training needs κ and neither the Lipschitz constant nor every norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from .operations import Arithmetic


class Step:
    """An operation with its arguments.

    Args:
        operation: Its name in the arithmetic.
        arguments: Earlier steps, or anything that the operation takes.
        name: What the program calls the result; empty where it has no name.
        note: The formula that this step and its neighbours compute.
    """

    def __init__(self, operation: str, arguments: tuple[Any, ...], name: str, note: str) -> None:
        self.operation = operation
        self.arguments = arguments
        self.name = name
        self.note = note


class Recording:
    """Stands in for an arithmetic and keeps every operation as a :class:`Step`.

    Args:
        taken: Names that no step may have.

    Attributes:
        steps: The steps, in the program's order.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.steps: list[Step] = []
        self._note = ""
        self._taken = set(taken)

    def note(self, formula: str) -> None:
        """Say which formula the next steps compute."""
        self._note = formula

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        """The operation of that name, recorded."""
        if operation.startswith("__"):
            raise AttributeError(operation)
        return partial(self._record, operation)

    def _record(self, operation: str, *arguments: Any, name: str = "") -> Step:
        step = Step(operation, arguments, self._unique(name), self._note)
        self.steps.append(step)
        return step

    def _unique(self, name: str) -> str:
        """The name, with a number behind it where another step has it."""
        unique, count = name, 1
        while unique and unique in self._taken:
            count += 1
            unique = f"{name}_{count}"
        self._taken.add(unique)
        return unique

    def needed(self, results: Iterable[Any]) -> list[Step]:
        """The steps on which some results depend, in the program's order."""
        wanted = {id(result) for result in results}
        kept = []
        for step in reversed(self.steps):
            if id(step) in wanted:
                wanted.update(id(argument) for argument in step.arguments)
                kept.append(step)
        return kept[::-1]


class OnDemand(Recording):
    """A recording that is run as far as one of its results asks."""

    def refine(self, a: Any, b: Any, *, name: str = "") -> Any:
        """b, which real arithmetic never puts above a: nothing that only a needs is run."""
        return b

    def value(self, arithmetic: Arithmetic, result: Any) -> Any:
        """The value of a result, by the steps that it depends on."""
        values: dict[int, Any] = {}
        for step in self.needed((result,)):
            arguments = [values.get(id(argument), argument) for argument in step.arguments]
            operation = getattr(arithmetic, step.operation)
            values[id(step)] = operation(*arguments, name=step.name)
        return values.get(id(result), result)
