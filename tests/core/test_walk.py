"""The two walks, on a toy domain of a few lines: sizes forward, numbers of paths backward."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from vercomp.core.errors import MissingRuleError
from vercomp.core.graph import Dag
from vercomp.core.walk import Domain, backward, forward, result, rule


@dataclass(frozen=True)
class Source:
    """The start of a graph."""

    name: str
    shape: tuple[int, ...] = (2,)

    @property
    def parents(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True)
class Total:
    """A sum of earlier nodes."""

    name: str
    parents: tuple[str, ...]
    shape: tuple[int, ...] = (2,)


class Twice(Total):
    """A sum that counts twice where a domain says so."""


class Unknown(Source):
    """A kind that is a source by inheritance."""


@dataclass(frozen=True)
class Stranger:
    """A kind of node that no domain knows."""

    name: str
    parents: tuple[str, ...] = ("x",)
    shape: tuple[int, ...] = (2,)


class Number:
    """A value that says when nothing holds it any more."""

    def __init__(self, value: int, held: set[str], name: str) -> None:
        self.value, self.held, self.name = value, held, name
        held.add(name)

    def __del__(self) -> None:
        self.held.discard(self.name)


class Count(Domain[int]):
    """How many paths lead from the source to a node."""

    title = "numbers of paths"

    def __init__(self) -> None:
        self.visited: list[str] = []

    @rule(Source)
    def source(self, node: Source) -> int:
        self.visited.append(node.name)
        return 1

    @rule(Total)
    def total(self, node: Total, *parents: int) -> int:
        self.visited.append(node.name)
        return sum(parents)


class CountTwice(Count):
    """A domain that inherits rules, and has one of its own for a subclass of a kind."""

    @rule(Twice)
    def twice(self, node: Twice, *parents: int) -> int:
        return 2 * sum(parents)


class Overridden(Count):
    """A domain that has a rule of another name for a kind of its base."""

    @rule(Total)
    def least(self, node: Total, *parents: int) -> int:
        return min(parents)


class Arrivals(Domain[int]):
    """How many paths lead from a node to the output; contributions are joined by addition."""

    title = "numbers of ways out"

    def __init__(self) -> None:
        self.visited: list[str] = []
        self.joined: list[tuple[str, int, int]] = []

    @rule(Source)
    def source(self, node: Source, arrived: int) -> Iterator[tuple[str, int]]:
        self.visited.append(node.name)
        return iter(())

    @rule(Total)
    def total(self, node: Total, arrived: int) -> Iterator[tuple[str, int]]:
        self.visited.append(node.name)
        for parent in node.parents:
            yield parent, arrived

    def join(self, name: str, one: int, other: int) -> int:
        self.joined.append((name, one, other))
        return one + other


def diamond(kind: type[Total] = Total) -> Dag[Any]:
    """x → a, b; a, b → c; b, c, c → d, the output; and e, which the output does not read."""
    nodes = (
        Source("x"),
        Total("a", ("x",)),
        Total("b", ("x",)),
        kind("c", ("a", "b")),
        Total("e", ("c", "x")),
        Total("d", ("b", "c", "c")),
    )
    return Dag(nodes, "d")


def test_forward_gives_every_node_its_value_in_order() -> None:
    domain = Count()
    assert forward(domain, diamond()) == {"x": 1, "a": 1, "b": 1, "c": 2, "e": 3, "d": 5}
    assert domain.visited == ["x", "a", "b", "c", "e", "d"]


def test_forward_visits_only_what_is_asked_for() -> None:
    domain, graph = Count(), diamond()
    assert forward(domain, graph, only=graph.ancestors("c")) == {"x": 1, "a": 1, "b": 1}
    assert domain.visited == ["x", "a", "b"]
    assert forward(domain, graph, only=frozenset()) == {}


class Held(Domain[Number]):
    """Values of which it is known which are alive."""

    title = "living values"

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.alive: dict[str, set[str]] = {}

    @rule(Source, Total)
    def value(self, node: Source | Total, *parents: Number) -> Number:
        self.alive[node.name] = set(self.held)
        return Number(1 + sum(parent.value for parent in parents), self.held, node.name)


def test_result_frees_values_that_nothing_reads_any_more() -> None:
    nodes = (
        Source("x"),
        Total("a", ("x",)),
        Total("b", ("a", "a")),
        Total("c", ("b", "x")),
        Total("d", ("c",)),
    )
    domain = Held()
    found = result(domain, Dag(nodes, "d"))
    assert found.value == 8
    # When a node is computed, these are alive: its parents, and what is still to be read.
    assert domain.alive == {"x": set(), "a": {"x"}, "b": {"x", "a"}, "c": {"x", "b"}, "d": {"c"}}
    assert domain.held == {"d"}


def test_result_keeps_an_output_that_is_read() -> None:
    nodes = (Source("x"), Total("a", ("x",)), Total("b", ("a", "x")))
    assert result(Count(), Dag(nodes, "a")) == 1
    assert result(Count(), Dag(nodes, "x")) == 1


def test_backward_joins_what_arrives_and_skips_what_is_not_reached() -> None:
    domain = Arrivals()
    found = backward(domain, diamond(), 1)
    assert found == {"d": 1, "b": 3, "c": 2, "a": 2, "x": 5}
    assert domain.visited == ["d", "c", "b", "a", "x"]
    assert domain.joined == [("c", 1, 1), ("b", 1, 2), ("x", 3, 2)]


def test_none_is_a_value_like_any_other_until_something_joins_it() -> None:
    """A domain may send None for what is zero, say: the other contribution stands alone."""

    class Silent(Arrivals):
        @rule(Total)
        def total(self, node: Total, arrived: int) -> Iterator[tuple[str, Any]]:
            for parent in node.parents:
                yield parent, None if node.name == "d" else 7

    found = backward(Silent(), diamond(), 1)
    assert found == {"d": 1, "b": 7, "c": None, "a": 7, "x": 14}


def test_a_domain_that_walks_forward_only_cannot_join() -> None:
    class Lonely(Domain[int]):
        title = "lonely values"

        @rule(Source, Total)
        def anything(self, node: Source | Total, arrived: int) -> list[tuple[str, int]]:
            return [(parent, arrived) for parent in node.parents]

    with pytest.raises(NotImplementedError, match="Lonely walks forward only"):
        backward(Lonely(), diamond(), 1)


def test_rules_are_inherited_by_node_class_and_by_domain_class() -> None:
    graph = diamond(Twice)
    assert forward(Count(), graph)["c"] == 2
    assert forward(CountTwice(), graph)["c"] == 4
    assert forward(CountTwice(), graph)["d"] == 9
    assert forward(Overridden(), diamond())["d"] == 1
    assert forward(Count(), diamond())["d"] == 5  # a derived table leaves its base's as it was
    assert forward(Count(), Dag((Unknown("x"),), "x")) == {"x": 1}


@pytest.mark.parametrize("walk", [forward, result])
def test_a_missing_rule_names_node_domain_and_remedy(walk: Any) -> None:
    graph: Dag[Any] = Dag((Source("x"), Stranger("s")), "s")
    with pytest.raises(MissingRuleError) as caught:
        walk(Count(), graph)
    assert str(caught.value) == (
        "node 's': the domain of numbers of paths has no rule for nodes of the kind Stranger. "
        f"Give {__name__}.Count a method marked @rule(Stranger)"
    )
    with pytest.raises(MissingRuleError, match="the domain of numbers of ways out has no rule"):
        backward(Arrivals(), graph, 1)


def test_children_and_ancestors() -> None:
    graph = diamond()
    assert [node.name for node in graph.children("c")] == ["e", "d"]
    assert [node.name for node in graph.children("x")] == ["a", "b", "e"]
    assert graph.children("d") == ()
    assert graph.ancestors("d") == {"x", "a", "b", "c"}
    assert graph.ancestors("a", "b") == {"x"}
    assert graph.ancestors("a", "c") == {"x", "a", "b"}
    assert graph.ancestors("x") == graph.ancestors() == frozenset()
    assert graph.node("c").parents == ("a", "b")


def test_outputs_are_the_entries_of_the_output() -> None:
    assert Dag((Source("x", (2, 3)), Source("y", (7,))), "x").outputs == 6
    assert Dag((Source("x", ()),), "x").outputs == 1
