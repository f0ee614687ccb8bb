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
from vercomp.facts import Facts
from vercomp.ir.check import check
from vercomp.ir.graph import Graph


@dataclass(frozen=True)
class State:
    """What passes work on: a graph, and the facts known about it."""

    graph: Graph
    facts: Facts = field(default_factory=Facts)

    def with_graph(self, graph: Graph) -> State:
        """Another graph; facts about the old one no longer hold."""
        return self if graph is self.graph else State(graph)

    def with_facts(self, facts: Facts) -> State:
        """The same graph, with more known about it."""
        return replace(self, facts=facts)


@dataclass(frozen=True)
class Property:
    """Something that holds of a state or does not.

    Args:
        name: What holds, as an adjective phrase: ``"affine chains are merged"``.
        violation: None where it holds, else what breaks it.
    """

    name: str
    violation: Callable[[State], str | None] = field(compare=False)


class Pass(Protocol):
    """One pass: a frozen dataclass with its contract as class variables."""

    name: ClassVar[str]
    requires: ClassVar[tuple[Property, ...]]
    establishes: ClassVar[tuple[Property, ...]]

    def run(self, state: State) -> State:
        """The state after the pass."""
        ...


def run_passes(state: State, passes: Iterable[Pass]) -> State:
    """Run passes in order.

    Raises:
        InternalError: A pass was given what it does not accept, or did not keep its contract.
        VercompError: Whatever a pass refuses of the user's model, unchanged.
    """
    check(state.graph)
    for current in passes:
        _hold(state, current.requires, f"the pass {current.name!r} requires that")
        state = current.run(state)
        try:
            check(state.graph)
        except InternalError as error:
            raise InternalError(f"after the pass {current.name!r}: {error}") from error
        _hold(state, current.establishes, f"the pass {current.name!r} promises that")
    return state


def _hold(state: State, properties: tuple[Property, ...], who: str) -> None:
    for wanted in properties:
        violation = wanted.violation(state)
        if violation is not None:
            raise InternalError(f"{who} {wanted.name}, but {violation}")
