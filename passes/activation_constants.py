"""Activation constants: the ranges of σ′ and σ″ for every activation node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vercomp.activations import constants
from vercomp.errors import UnboundedCurvatureError
from vercomp.facts import CONSTANTS
from vercomp.pass_manager import Property, State


def _missing(state: State) -> str | None:
    missing = [
        node.name
        for node in state.graph.activations()
        if not state.facts.known(CONSTANTS, node.name)
    ]
    return f"{missing} have none" if missing else None


CONSTANTS_KNOWN = Property("every activation has its constants", _missing)


@dataclass(frozen=True)
class ActivationConstantsPass:
    """Derive the constants of every activation.

    Raises:
        UnboundedCurvatureError: Naming every activation node that has none, and why.
    """

    name: ClassVar[str] = "activation-constants"
    requires: ClassVar[tuple[Property, ...]] = ()
    establishes: ClassVar[tuple[Property, ...]] = (CONSTANTS_KNOWN,)

    def run(self, state: State) -> State:
        """The same graph, with a fact an activation node."""
        facts = state.facts
        refused: list[tuple[str, UnboundedCurvatureError]] = []
        for node in state.graph.activations():
            try:
                facts = facts.with_fact(CONSTANTS, constants(node.function), node.name)
            except UnboundedCurvatureError as error:
                refused.append((node.name, error))
        if refused:
            name, first = refused[0]
            others = [other for other, _ in refused[1:]]
            message = first.message + (f" (so do {', '.join(map(repr, others))})" if others else "")
            raise UnboundedCurvatureError(
                message,
                node=name,
                operator=first.operator,
                location=first.location,
                remedy=first.remedy,
            ) from first
        return state.with_facts(facts)
