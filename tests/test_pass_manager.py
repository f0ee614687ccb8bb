"""The pass manager checks contracts and names the guilty pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from graphs import chain

from vercomp.errors import InternalError, UnsupportedError
from vercomp.ir.graph import Graph
from vercomp.pass_manager import Property, run_passes

IS_SMALL = Property(
    "the graph is small",
    lambda graph: None if len(graph.nodes) < 9 else f"it has {len(graph.nodes)} nodes",
)
IS_NAMED = Property(
    "the output is named 'y'",
    lambda graph: None if graph.output == "y" else f"it is named {graph.output!r}",
)


@dataclass(frozen=True)
class Name:
    """Names the output, or forgets to."""

    forget: bool = False
    name: ClassVar[str] = "name"
    requires: ClassVar[tuple[Property, ...]] = (IS_SMALL,)
    establishes: ClassVar[tuple[Property, ...]] = (IS_NAMED,)

    def run(self, graph: Graph) -> Graph:
        if self.forget:
            return graph
        *others, last = graph.nodes
        return Graph((*others, replace(last, name="y")), "y")


@dataclass(frozen=True)
class Break:
    """Drops the input."""

    name: ClassVar[str] = "break"
    requires: ClassVar[tuple[Property, ...]] = ()
    establishes: ClassVar[tuple[Property, ...]] = ()

    def run(self, graph: Graph) -> Graph:
        return Graph(graph.nodes[1:], graph.output)


@dataclass(frozen=True)
class Refuse:
    """Refuses the user's model."""

    name: ClassVar[str] = "refuse"
    requires: ClassVar[tuple[Property, ...]] = ()
    establishes: ClassVar[tuple[Property, ...]] = ()

    def run(self, graph: Graph) -> Graph:
        raise UnsupportedError("no", node="layer0")


SMALL = chain(0, [2, 3, 2], ["tanh"])
LARGE = chain(0, [2, 3, 3, 3, 3, 2], ["tanh"] * 4)


def test_a_pass_that_keeps_its_contract() -> None:
    assert run_passes(SMALL, [Name()]).output == "y"
    assert run_passes(SMALL, []) is SMALL


def test_a_requirement_that_does_not_hold() -> None:
    with pytest.raises(
        InternalError,
        match="the pass 'name' requires that the graph is small, but it has 10 nodes",
    ):
        run_passes(LARGE, [Name()])


def test_a_promise_that_is_not_kept() -> None:
    message = "the pass 'name' promises that the output is named 'y', but it is named 'layer1'"
    with pytest.raises(InternalError, match=message):
        run_passes(SMALL, [Name(forget=True)])


def test_an_ill_formed_result_names_the_pass() -> None:
    with pytest.raises(InternalError, match="after the pass 'break': node 'layer0': ill-formed"):
        run_passes(SMALL, [Name(), Break()])


def test_an_ill_formed_argument_blames_no_pass() -> None:
    with pytest.raises(InternalError, match=r"^node 'layer0': ill-formed graph"):
        run_passes(Graph(SMALL.nodes[1:], SMALL.output), [Name()])


def test_refusals_of_the_users_model_come_through_unchanged() -> None:
    with pytest.raises(UnsupportedError, match=r"^node 'layer0': no$"):
        run_passes(SMALL, [Refuse()])
