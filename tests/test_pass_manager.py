"""The pass manager checks contracts and names the guilty pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from graphs import chain

from vercomp.errors import InternalError, UnsupportedError
from vercomp.facts import Fact
from vercomp.ir.graph import Graph
from vercomp.pass_manager import Property, State, run_passes

COUNTED: Fact[int] = Fact("node count")
IS_COUNTED = Property(
    "nodes are counted", lambda state: None if state.facts.known(COUNTED) else "nobody has"
)
IS_SMALL = Property(
    "the graph is small",
    lambda state: None if len(state.graph.nodes) < 9 else f"it has {len(state.graph.nodes)} nodes",
)


@dataclass(frozen=True)
class Count:
    """Counts nodes, or forgets to."""

    forget: bool = False
    name: ClassVar[str] = "count"
    requires: ClassVar[tuple[Property, ...]] = (IS_SMALL,)
    establishes: ClassVar[tuple[Property, ...]] = (IS_COUNTED,)

    def run(self, state: State) -> State:
        if self.forget:
            return state
        return state.with_facts(state.facts.with_fact(COUNTED, len(state.graph.nodes)))


@dataclass(frozen=True)
class Break:
    """Drops the input."""

    name: ClassVar[str] = "break"
    requires: ClassVar[tuple[Property, ...]] = ()
    establishes: ClassVar[tuple[Property, ...]] = ()

    def run(self, state: State) -> State:
        return state.with_graph(Graph(state.graph.nodes[1:], state.graph.output))


@dataclass(frozen=True)
class Refuse:
    """Refuses the user's model."""

    name: ClassVar[str] = "refuse"
    requires: ClassVar[tuple[Property, ...]] = ()
    establishes: ClassVar[tuple[Property, ...]] = ()

    def run(self, state: State) -> State:
        raise UnsupportedError("no", node="layer0")


SMALL = chain(0, [2, 3, 2], ["tanh"])
LARGE = chain(0, [2, 3, 3, 3, 3, 2], ["tanh"] * 4)


def test_a_pass_that_keeps_its_contract() -> None:
    assert run_passes(State(SMALL), [Count()]).facts.of(COUNTED) == 4


def test_a_requirement_that_does_not_hold() -> None:
    with pytest.raises(
        InternalError,
        match="the pass 'count' requires that the graph is small, but it has 10 nodes",
    ):
        run_passes(State(LARGE), [Count()])


def test_a_promise_that_is_not_kept() -> None:
    with pytest.raises(
        InternalError, match="the pass 'count' promises that nodes are counted, but nobody has"
    ):
        run_passes(State(SMALL), [Count(forget=True)])


def test_an_ill_formed_result_names_the_pass() -> None:
    with pytest.raises(InternalError, match="after the pass 'break': node 'layer0': ill-formed"):
        run_passes(State(SMALL), [Count(), Break()])


def test_an_ill_formed_argument_blames_no_pass() -> None:
    with pytest.raises(InternalError, match=r"^node 'layer0': ill-formed graph"):
        run_passes(State(Graph(SMALL.nodes[1:], SMALL.output)), [Count()])


def test_refusals_of_the_users_model_come_through_unchanged() -> None:
    with pytest.raises(UnsupportedError, match=r"^node 'layer0': no$"):
        run_passes(State(SMALL), [Refuse()])


def test_another_graph_loses_the_facts_about_the_old_one() -> None:
    state = run_passes(State(SMALL), [Count()])
    assert state.with_graph(SMALL) is state
    other = state.with_graph(replace(SMALL, output="layer0"))
    assert not other.facts.known(COUNTED)
