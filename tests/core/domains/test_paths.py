"""Paths through sums: what they add up to, how many there are, and where they stop."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import matmul

import pytest
import torch
from curvatures import DOUBLE
from graphs import branching, chain, decorated, residual, residual_stream

from vercomp.core.domains import paths as paths_module
from vercomp.core.domains.paths import LIMIT, is_bounded_whole, paths
from vercomp.core.domains.values import Values
from vercomp.core.graph import Affine, Graph, Input, Node, Term
from vercomp.core.maps.monomials import Diagonal, Monomial
from vercomp.core.maps.operators import Dense, Operator
from vercomp.core.walk import forward
from vercomp.ir import graph as ir
from vercomp.ir.binding import bind

GRAPHS: dict[str, Callable[[], ir.Graph]] = {
    "a chain that is not merged": lambda: chain(0, [3, 4, 2, 3], []),
    "skips": lambda: residual(1, ["tanh", "silu", "tanh", "sigmoid"]),
    "a stream": lambda: residual_stream(6, "U"),
    "a stream behind scales": lambda: residual_stream(6, "Us"),
    "one of everything": decorated,
    "branches": branching,
}


@pytest.mark.parametrize("limit", [1, 3, LIMIT])
@pytest.mark.parametrize("scales", [False, True])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_node_is_the_sum_over_its_paths(
    name: str, scales: bool, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vercomp.core.domains.paths.LIMIT", limit)
    graph = bind(GRAPHS[name](), DOUBLE, biased=False)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, *graph.nodes[0].shape, dtype=torch.float64, generator=generator)
    values = forward(Values(x), graph)
    found = paths(graph, scales=scales)
    affine = [node for node in graph.nodes if isinstance(node, Affine)]
    assert list(found) == [node.name for node in affine]
    for node in affine:
        assert len(found[node.name]) <= max(limit, len(node.terms))
        total = torch.zeros_like(values[node.name].flatten(1))
        for path in found[node.name]:
            operator = reduce(matmul, [term.map for term in path.terms])
            total = total + operator.apply(values[path.start].flatten(1))
        expected = values[node.name].flatten(1)
        torch.testing.assert_close(total, expected, rtol=1e-10, atol=1e-10)


def test_paths_are_few_and_start_at_the_nearest_sums() -> None:
    found = paths(bind(residual_stream(12), DOUBLE), scales=True)
    assert max(len(through) for through in found.values()) == LIMIT
    assert [path.start for path in found["u3"]] == ["a0", "b0", "b1", "b2"]
    assert [path.start for path in found["u11"]] == ["h4", *(f"b{k}" for k in range(4, 11))]
    # The identities of the stream are no factors.
    assert [len(path.terms) for path in found["u3"]] == [1, 2, 2, 2]
    assert [path.names for path in found["u3"]][:2] == [("u3.0",), ("u3.0", "h1.1")]


def matrix(*rows: list[float]) -> Dense:
    return Dense(torch.tensor(rows, dtype=torch.float64))


def scale(*factors: float) -> Operator:
    return Diagonal.scaling(torch.tensor(factors, dtype=torch.float64), (2,))


IDENTITY = Monomial.identity(2)
FULL = matrix([1.0, 2.0], [3.0, 4.0])


def affine(name: str, *terms: tuple[Operator, str], disjoint: bool = False) -> Affine:
    found = tuple(Term(f"{name}.{k}", a, parent) for k, (a, parent) in enumerate(terms))
    return Affine(name, (2,), found, disjoint=disjoint)


def starts(outer: Operator, inner: Affine, *, scales: bool = True) -> list[str]:
    """Where the paths to a node begin that reads ``inner``, a node over a and b."""
    read = affine("z", (outer, inner.name))
    nodes: list[Node] = [Input("x", (2,)), affine("a", (IDENTITY, "x"), disjoint=True)]
    nodes += [affine("b", (IDENTITY, "x"), disjoint=True), inner, read]
    return [path.start for path in paths(Graph(tuple(nodes), "z"), scales=scales)["z"]]


def test_a_matrix_sees_through_a_sum_and_a_factor_only_for_norms() -> None:
    total = affine("s", (FULL, "a"), (IDENTITY, "b"))
    assert starts(FULL, total) == starts(FULL, total, scales=False) == ["a", "b"]
    assert starts(scale(2.0, 3.0), total) == ["a", "b"]
    assert starts(scale(2.0, 3.0), total, scales=False) == ["s"]
    assert starts(FULL @ scale(2.0, 3.0), total, scales=False) == ["a", "b"]
    assert starts(IDENTITY, total) == ["s"]


def test_concatenations_are_not_seen_through() -> None:
    halves = (matrix([1.0, 0.0], [0.0, 0.0]), "a"), (matrix([0.0, 0.0], [0.0, 1.0]), "b")
    assert starts(FULL, affine("s", *halves)) == ["a", "b"]
    assert starts(FULL, affine("s", *halves, disjoint=True)) == ["s"]


def test_no_more_paths_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    total = affine("s", (FULL, "a"), (FULL, "b"))
    monkeypatch.setattr(paths_module, "LIMIT", 2)
    assert starts(FULL, total) == ["a", "b"]
    monkeypatch.setattr(paths_module, "LIMIT", 1)
    assert starts(FULL, total) == ["s"]


def test_sums_that_are_bounded_as_a_whole() -> None:
    pair = (FULL, "a"), (FULL, "b")
    swap = Monomial(torch.tensor([1, 0]), 2)
    assert is_bounded_whole(affine("s", *pair))
    assert is_bounded_whole(affine("s", (FULL, "a"), (scale(2.0, 3.0), "b")))
    assert not is_bounded_whole(affine("s", *pair, disjoint=True))
    assert not is_bounded_whole(affine("s", (FULL, "a")))
    assert not is_bounded_whole(affine("s", (FULL, "a"), (IDENTITY, "b")))
    assert not is_bounded_whole(affine("s", (FULL, "a"), (swap, "b")))
