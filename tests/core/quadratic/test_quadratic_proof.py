"""Proved quadratic bounds against samples, for random and for optimised parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from random_networks import SHAPES, Case, Chain, Residual
from torch import Tensor

from vercomp.core.arithmetic.operations import Interval
from vercomp.core.graph import Activate, Affine, Graph, Input, Term
from vercomp.core.maps.operators import Dense
from vercomp.core.quadratic import forms, proof, scalar
from vercomp.core.quadratic.optimiser import optimise
from vercomp.core.quadratic.parameters import Parameters
from vercomp.core.quadratic.structure import obstacle

SEEDS = (0, 1, 2, 3)
"""Of networks of every depth."""


@pytest.mark.parametrize("shape", SHAPES)
def test_no_bound_is_above_a_value(shape: type[Chain]) -> None:
    finite = 0
    for seed in SEEDS:
        case = Case(seed, shape)
        least = case.least()
        search = case.search()
        first, scales = case.first(search)
        best, _ = optimise(search, first, scales, 20)
        for parameters in (first, best, case.random_parameters(), case.random_parameters()):
            bound = case.bound(parameters)
            finite += math.isfinite(bound)
            assert bound <= least + 1e-12, (seed, bound, least)
    assert finite > 3 * len(SEEDS)


@pytest.mark.parametrize("shape", SHAPES)
def test_estimate_and_proof_agree(shape: type[Chain]) -> None:
    for seed in (0, 3, 6):
        case = Case(seed, shape)
        best, estimate = optimise(case.search(), *case.first(), 40)
        proved = case.bound(best)
        assert abs(proved - float(estimate)) < 0.05 * (1.0 + abs(proved))


@pytest.mark.parametrize("shape", SHAPES)
def test_lines_are_a_member_of_the_family(shape: type[Chain]) -> None:
    for seed in SEEDS:
        case = Case(seed, shape)
        linear, search = case.linear(), case.search()
        lines = case.mixed(search, *(node.name for node in search.bending))
        # λ = 0 leaves a form of rounding errors alone; the last minimum is bounded on cells.
        assert case.bound(lines) >= linear - 1e-3 * (1.0 + abs(linear))
        best, _ = case.first(search)
        assert float(search.checked(best)) >= float(search.checked(lines)) - 1e-9


def test_the_form_of_the_smallest_residual_block() -> None:
    """f = c·σ(x + W₂ σ(W₁ x)): the form on both branches together, derived by hand."""
    generator = torch.Generator().manual_seed(0)
    n, m = 3, 5
    W1, W2 = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((m, n), (n, m)))
    first, last, D = (torch.randn(k, generator=generator, dtype=torch.float64) for k in (m, n, m))
    weights = torch.rand(m, generator=generator, dtype=torch.float64) + 0.5
    sigma = Case(0).network.graph.nodes[2].function  # type: ignore[union-attr]
    graph = Graph(
        (
            Input("x", (n,)),
            Affine("z1", (m,), (Term("W1", Dense(W1), "x"),)),
            Activate("a1", (m,), "z1", sigma),
            Affine(
                "z2",
                (n,),
                (Term("I", Dense(torch.eye(n).double()), "x"), Term("W2", Dense(W2), "a1")),
            ),
            Activate("a2", (n,), "z2", sigma),
        ),
        "a2",
    )
    share = torch.tensor(0.3, dtype=torch.float64)
    found = forms.all_forms(
        graph,
        Parameters({}, {"a1": first, "a2": last}, {"a1": D}, {"a1": weights}, {"a1": share}),
    )
    assert found is not None
    H, excess, found_weights = found
    T, M = found_weights["a1"], W2.T @ torch.diag(last) @ W2
    theta = float(torch.linalg.eigvalsh(M / T.sqrt() / T.sqrt()[:, None])[-1])
    assert 0.99 * 0.3 < theta <= 0.3
    assert torch.allclose(T / weights, (T / weights)[:1].expand(m))
    B = torch.eye(n).double() + W2 @ torch.diag(D) @ W1
    p = W2.T @ torch.diag(last) @ B
    expected = B.T @ torch.diag(last) @ B + W1.T @ torch.diag(first) @ W1
    expected = expected + p.T @ torch.diag(1.0 / T) @ p / 0.7
    assert torch.allclose(H, expected, rtol=1e-6, atol=1e-6)
    assert excess < 1e-10


def _value(form: forms.Form, x: dict[str, Tensor]) -> float:
    total = sum(float(x[v] @ Q @ x[w]) * (1 + (v != w)) for (v, w), Q in form.blocks.items())
    total += sum(float(x[v] @ (d * x[v])) for v, d in form.diagonals.items())
    return total + sum(epsilon * float(x[v] @ x[v]) for v, epsilon in form.excess.items())


def test_a_form_never_falls_below_the_one_that_it_replaces() -> None:
    """The inequality of one activation, at random points with the worst w among them."""
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int, generator: torch.Generator = generator) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        form = forms.Form({"o": 0, "z": 1, "a": 2})
        for one, other in (("o", "o"), ("a", "a"), ("o", "z"), ("o", "a"), ("z", "a"), ("z", "z")):
            form.add(one, other, random(4, 4), 1e-3)
        before = forms.Form(form.order, dict(form.blocks), {}, dict(form.excess))
        D, weights = random(4), random(4).abs() + 0.1
        node = Activate("a", (4,), "z", Case(0).network.graph.nodes[2].function)  # type: ignore[union-attr]
        curvature = random(4)
        T = forms.through_activation(form, node, curvature, D, weights, 0.5)
        assert T is not None
        for _ in range(50):
            x = {"o": random(4), "z": random(4)}
            p = before.blocks["a", "a"] @ (D * x["z"])
            p = p + before.blocks["o", "a"].T @ x["o"] + before.blocks["z", "a"].T @ x["z"]
            slack = torch.diag(T) - before.blocks["a", "a"]
            for w in (torch.linalg.solve(slack, p), random(4)):
                value = _value(before, {**x, "a": D * x["z"] + w}) - w @ (T * w)
                assert _value(form, x) - x["z"] @ (curvature * x["z"]) >= value - 1e-9 * (
                    1.0 + abs(value)
                )


def test_tight_as_the_region_shrinks() -> None:
    case = Case(4)
    case.ends = (-math.inf, math.inf)
    case.point = case.center
    for radius in (1e-2, 1e-3):
        case.radius = radius
        case.look()
        gap = case.least() - case.bound(case.first()[0])
        assert 0.0 <= gap < 30.0 * radius**2


def _breaks() -> Iterator[tuple[str, object]]:
    yield "deficits", lambda function, problem: 0.0 * scalar.deficits(function, problem)
    yield "all_forms", lambda *args: _halved(forms.all_forms(*args))


def _halved(found: tuple[Tensor, float, dict[str, Tensor]] | None) -> object:
    if found is None:
        return None
    return 0.0 * found[0], 0.0, {name: 0.0 * T for name, T in found[2].items()}


@pytest.mark.parametrize(("name", "broken"), list(_breaks()))
def test_what_is_broken_is_noticed(
    name: str, broken: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, name, broken)
    false = 0
    for seed in SEEDS:
        case = Case(seed)
        first = case.mixed(case.search())
        if name == "deficits":  # without any curvature in the forms, all rests on the deficits
            first = case.random_parameters()
            first.curvatures = {k: 0.0 * c for k, c in first.curvatures.items()}
        false += case.bound(first) > case.least() + 1e-9
    assert false > 0


def test_forms_too_large_to_factorise_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Case(0, Residual).network.graph
    assert obstacle(graph) is None
    # Behind the sum of a block and its input a form is on both: twice seven.
    monkeypatch.setattr("vercomp.core.quadratic.structure.LARGEST", 13)
    found = obstacle(graph)
    assert found is not None
    assert "on 14 entries" in found[1]
    assert obstacle(Case(0).network.graph) is None


def test_an_interval_that_is_not_finite_proves_nothing() -> None:
    case = Case(0)
    parameters = case.random_parameters()
    name = case.search().bending[0].parent
    lower, upper = case.place.intervals[name]
    changed = Interval(lower, torch.full_like(upper, math.inf))
    case.place = proof.Place(
        case.place.piece, case.place.values, {**case.place.intervals, name: changed}
    )
    assert case.bound(parameters) == -math.inf
