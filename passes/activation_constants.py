"""Activation constants: the ranges of σ′ and σ″ for every activation node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vercomp.activations import curvature_constants
from vercomp.errors import UnboundedCurvatureError
from vercomp.facts import CONSTANTS
from vercomp.ir.graph import Activate
from vercomp.pass_manager import Property, State


def _missing(state: State) -> str | None:
    missing = [
        node.name
        for node in state.graph.activations()
        if not state.facts.known(CONSTANTS, node.name)
    ]
    return f"{missing} have none" if missing else None


CONSTANTS_KNOWN = Property("every activation has its constants", _missing)

_Refusal = tuple[Activate, UnboundedCurvatureError]


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
        refused: list[_Refusal] = []
        for node in state.graph.activations():
            try:
                facts = facts.with_fact(CONSTANTS, curvature_constants(node.function), node.name)
            except UnboundedCurvatureError as error:
                refused.append((node, error))
        if refused:
            raise _all_at_once(refused)
        return state.with_facts(facts)


def _all_at_once(
    refused: list[tuple[Activate, UnboundedCurvatureError]],
) -> UnboundedCurvatureError:
    """One refusal, or all of them as lines of one."""
    errors = [
        UnboundedCurvatureError(
            error.message,
            node=node.name,
            operator=str(node.function),
            location=node.origin or None,
            remedy=error.remedy if len(refused) == 1 else None,
        )
        for node, error in refused
    ]
    if len(errors) == 1:
        return errors[0]
    lines = "".join(f"\n  {error}" for error in errors)
    remedies = "\n".join(dict.fromkeys(error.remedy or "" for _, error in refused))
    return UnboundedCurvatureError(
        f"{len(errors)} activations without bounded curvature:{lines}\n{remedies}"
    )
