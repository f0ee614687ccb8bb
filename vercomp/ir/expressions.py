"""How a map becomes an operator, said once: evaluated it is the operator, printed it is source.

A linear map describes its operator as a call of a constructor of the core, over parameters that may
be read under another shape. :func:`evaluated` makes the call with the parameters' values;
:func:`spelled` writes it down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from vercomp.core.maps.operators import Operator
    from vercomp.ir.linear_maps import Parameter

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Reading:
    """A parameter as a constructor reads it.

    Args:
        parameter: The parameter.
        view: The shape under which its row-major entries are read; its own where None.
        transposed: Whether the matrix is transposed then.
        rank: The number of axes of the tensor with which it is broadcast; None where it is not.
    """

    parameter: Parameter
    view: Shape | None = None
    transposed: bool = False
    rank: int | None = None


@dataclass(frozen=True)
class Picks:
    """Indices, which may be too many to be written where they are used."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """A call of a constructor.

    Args:
        make: The constructor: a class of operators, or one of its static methods.
        arguments: Readings, picks, calls, or plain values.
        options: The same, by name; those that are None are left out.
    """

    make: Callable[..., Operator]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def call(make: Callable[..., Operator], *arguments: Any, **options: Any) -> Call:
    """The call with these arguments, without the options that are None."""
    given = {name: value for name, value in options.items() if value is not None}
    return Call(make, arguments, given)


def evaluated(described: Call, read: Callable[[Parameter], Tensor]) -> Operator:
    """The operator, over the parameters' values."""

    def value(argument: Any) -> Any:
        if isinstance(argument, Call):
            return evaluated(argument, read)
        if isinstance(argument, Picks):
            return argument.indices
        if not isinstance(argument, Reading):
            return argument
        tensor = read(argument.parameter)
        tensor = tensor if argument.view is None else tensor.reshape(argument.view)
        return tensor.T if argument.transposed else tensor

    arguments = [value(argument) for argument in described.arguments]
    options = {name: value(argument) for name, argument in described.options.items()}
    return described.make(*arguments, **options)


def constructors(described: Call) -> Iterator[tuple[str, str]]:
    """The modules and names of the classes whose constructors are called."""
    yield described.make.__module__, described.make.__qualname__.partition(".")[0]
    for argument in (*described.arguments, *described.options.values()):
        if isinstance(argument, Call):
            yield from constructors(argument)
