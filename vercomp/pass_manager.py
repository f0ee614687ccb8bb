"""Runs passes in order, and checks what each of them promised.

A pass is a frozen dataclass whose fields are its options. It names the properties that it requires
of what it is given and those that it establishes; the manager checks both, checks the graph's
well-formedness after every pass, and names the guilty one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

from vercomp.errors import InternalError
from vercomp.ir.check import check
from vercomp.ir.graph import Graph


@dataclass(frozen=True)
class Property:
    """Something that holds of a graph or does not.

    Args:
        name: What holds, as an adjective phrase: ``"affine chains are merged"``.
        violation: None where it holds, else what breaks it.
    """

    name: str
    violation: Callable[[Graph], str | None] = field(compare=False)


class Pass(Protocol):
    """One pass: a frozen dataclass with its contract as class variables.

    A pass that only puts together what stays the same function sets ``for_analysis = True`` as one
    more class variable: analyses walk its result, and the forward pass is printed without it.
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[Property, ...]]
    establishes: ClassVar[tuple[Property, ...]]

    def run(self, graph: Graph) -> Graph:
        """The graph after the pass; the same object where there was nothing to do."""
        ...


def run_passes(graph: Graph, passes: Iterable[Pass]) -> Graph:
    """Run passes in order.

    Raises:
        InternalError: A pass was given what it does not accept, or did not keep its contract.
        VercompError: Whatever a pass refuses of the user's model, unchanged.
    """
    check(graph)
    for current in passes:
        _hold(graph, current.requires, f"the pass {current.name!r} requires that")
        after = current.run(graph)
        # A pass that rebuilds the nodes leaves what stands behind the output as it is.
        kept = graph.tail is None or after.tail is not None
        graph = after if kept else replace(after, tail=graph.tail)
        try:
            check(graph)
        except InternalError as error:
            raise InternalError(f"after the pass {current.name!r}: {error}") from error
        _hold(graph, current.establishes, f"the pass {current.name!r} promises that")
    return graph


def printed(passes: Iterable[Pass]) -> list[Pass]:
    """The passes whose result the printed forward pass shows."""
    return [current for current in passes if not getattr(current, "for_analysis", False)]


def _hold(graph: Graph, properties: tuple[Property, ...], who: str) -> None:
    for wanted in properties:
        violation = wanted.violation(graph)
        if violation is not None:
            raise InternalError(f"{who} {wanted.name}, but {violation}")
