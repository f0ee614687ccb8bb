"""The spelling of parts of torch expressions, shared by the rules of all linear maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from vercomp.ir.expressions import Call, Picks, Reading
from vercomp.ir.linear_maps import Parameter, Shape

Indices = tuple[int, ...]

Read = Callable[[Parameter | Indices], str]
"""The expression that reads a parameter (``self.fc1_weight``), or that lists indices."""


def atom(x: str) -> str:
    """Parenthesised where an operator or method would bind to a part only."""
    depth = 0
    for character in x:
        depth += (character in "([") - (character in ")]")
        if character == " " and depth == 0:
            return f"({x})"
    return x


def each(values: Iterable[object]) -> str:
    """One value for each axis: itself where all are equal, else a tuple."""
    listed = list(values)
    return repr(listed[0]) if len(set(listed)) == 1 else repr(tuple(listed))


def call(function: str, *arguments: str, **options: str | None) -> str:
    """A call; options that are None are left out."""
    named = [f"{name}={value}" for name, value in options.items() if value is not None]
    return f"{function}({', '.join([*arguments, *named])})"


def unless(default: object, values: Sequence[object]) -> str | None:
    """One value for each axis, or None where all are the default."""
    return None if all(value == default for value in values) else each(values)


def viewed(expression: str, shape: Shape, view: Shape) -> str:
    """A tensor of ``shape`` under another shape: new axes by None, as one would write it."""
    if shape == view:
        return expression
    picks = _new_axes(shape, view)
    if picks is not None:
        return f"{expression}[{', '.join(picks)}]"
    if shape[:1] == (1,) and shape[1:] == view:
        return f"{atom(expression)}[0]"
    if len(view) == 1 and shape:
        return f"{atom(expression)}.flatten()"
    if len(view) == 2 and view[0] == shape[:1][0]:
        return f"{atom(expression)}.flatten(1)"
    return f"{atom(expression)}.reshape({', '.join(map(str, view))})"


def broadcast(expression: str, shape: Shape, view: Shape, rank: int) -> str:
    """A tensor under another shape, to be broadcast: leading axes of length 1 are not written.

    Args:
        expression: The tensor.
        shape: Its shape.
        view: The shape under which it is read.
        rank: How many axes that has with which it is broadcast.
    """
    if len(shape) > rank:  # then the ones in front of it would add axes
        return viewed(expression, shape, view)
    short = _stripped(view)
    return expression if _stripped(shape) == short else viewed(expression, shape, short)


def _stripped(shape: Shape) -> Shape:
    start = next((k for k, length in enumerate(shape) if length != 1), len(shape))
    return shape[start:]


def _new_axes(shape: Shape, view: Shape) -> list[str] | None:
    """Indices that insert axes of length 1; None where the view differs in more than that."""
    picks, met = [], 0
    for length in view:
        if met < len(shape) and length == shape[met]:
            picks.append(":")
            met += 1
        elif length == 1:
            picks.append("None")
        else:
            return None
    if met < len(shape):
        return None
    while picks and picks[-1] == ":":
        picks.pop()
    return picks


def listed(indices: Indices) -> str:
    """Indices as a list, or as a range where they are evenly spaced."""
    steps = {b - a for a, b in pairwise(indices)}
    if len(indices) > 3 and len(steps) == 1 and 0 not in steps:
        (step,) = steps
        last = indices[-1] + (1 if step > 0 else -1)
        arguments = [indices[0], last] if step == 1 else [indices[0], last, step]
        return f"range({', '.join(map(str, arguments))})"
    return repr(list(indices))


def spelled(described: Call, read: Read) -> str:
    """The source of a call that describes an operator."""

    def text(argument: Any) -> str:
        if isinstance(argument, Call):
            return spelled(argument, read)
        if isinstance(argument, Picks):
            return read(argument.indices)
        if not isinstance(argument, Reading):
            return repr(argument)
        shape = argument.parameter.shape
        view, expression = argument.view or shape, read(argument.parameter)
        if argument.rank is None:
            expression = viewed(expression, shape, view)
        else:
            expression = broadcast(expression, shape, view, argument.rank)
        return f"{expression}.T" if argument.transposed else expression

    options = {name: text(argument) for name, argument in described.options.items()}
    return call(described.make.__qualname__, *map(text, described.arguments), **options)
