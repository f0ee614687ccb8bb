"""A bound program evaluated only as far as one of its results asks.

Training needs κ and neither the Lipschitz constant nor every norm. A program is a straight line of
operations; here they are written down first, and then those that the result depends on are run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .operations import Arithmetic


class Deferred:
    """An operation with its arguments, and its value once it has been run.

    Args:
        operation: What gives the value.
        arguments: Values, or operations that were deferred earlier.
    """

    def __init__(self, operation: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.operation = operation
        self.arguments = arguments
        self.value: Any = None


class OnDemand:
    """An :class:`~.operations.Arithmetic` that defers the operations of another.

    Args:
        arithmetic: The one whose operations they are.
    """

    def __init__(self, arithmetic: Arithmetic) -> None:
        self._arithmetic = arithmetic
        self._steps: list[Deferred] = []

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        """The operation of that name, deferred."""
        return partial(self._defer, getattr(self._arithmetic, operation))

    def refine(self, a: Any, b: Any) -> Any:
        """b, which real arithmetic never puts above a: nothing that only a needs is run."""
        return b

    def value(self, wanted: Any) -> Any:
        """The value of a result, by the steps that it depends on, in the program's order."""
        needed = {id(wanted)}
        for step in reversed(self._steps):
            if id(step) in needed:
                needed.update(id(argument) for argument in step.arguments)
        for step in self._steps:
            if id(step) in needed:
                step.value = step.operation(*[_value(argument) for argument in step.arguments])
        return wanted.value

    def _defer(self, operation: Callable[..., Any], *arguments: Any) -> Deferred:
        step = Deferred(operation, arguments)
        self._steps.append(step)
        return step


def _value(argument: Any) -> Any:
    return argument.value if isinstance(argument, Deferred) else argument
