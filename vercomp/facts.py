"""What analyses found out: typed facts about nodes, kept beside the graph and never on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from vercomp.errors import InternalError
from vercomp.ir.activation import ActivationConstants

T = TypeVar("T")

GRAPH = ""
"""The subject of facts about the whole graph."""


@dataclass(frozen=True)
class Fact(Generic[T]):
    """The key of a fact: its name, and by its type parameter the type of its value."""

    name: str


CONSTANTS: Fact[ActivationConstants] = Fact("activation constants")
"""Of each activation node: g_L ≤ σ′ ≤ g_U and h_L ≤ σ″ ≤ h_U over ℝ, rounded outward."""


@dataclass(frozen=True)
class Facts:
    """An immutable collection of facts; adding one gives a new collection."""

    entries: Mapping[tuple[str, str], Any] = field(default_factory=dict)

    def of(self, fact: Fact[T], subject: str = GRAPH) -> T:
        """The value of a fact about a node (or about the graph).

        Raises:
            InternalError: No pass has established it.
        """
        key = (fact.name, subject)
        if key not in self.entries:
            raise InternalError(f"no pass has established the fact {fact.name!r}", node=subject)
        return cast(T, self.entries[key])

    def known(self, fact: Fact[Any], subject: str = GRAPH) -> bool:
        """Whether a pass has established the fact."""
        return (fact.name, subject) in self.entries

    def with_fact(self, fact: Fact[T], value: T, subject: str = GRAPH) -> Facts:
        """These facts and one more (or one replaced)."""
        return Facts({**self.entries, (fact.name, subject): value})
