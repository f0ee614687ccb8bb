"""Linear bounds: by hand, proved against unproved, in exact arithmetic, and without their slack."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from graph_table import GRAPHS
from graphs import chain, emit
from torch import Tensor, nn

import vercomp
from vercomp.core.domains import linear_forms, rounding
from vercomp.core.domains.linear_forms import LinearForms, ProvedForms
from vercomp.core.domains.refined_intervals import relax
from vercomp.core.graph import Activate, Graph
from vercomp.core.methods.interval import lower_bounds
from vercomp.core.regions.constructors import Ball
from vercomp.core.relaxation.lines import Line
from vercomp.core.specifications import Specification
from vercomp.core.walk import backward


def test_by_hand() -> None:
    """relu(x₁ + x₂) − 2 relu(x₁ − x₂) around (1, 0), radius 2 in l∞: [−3, 5] twice.

    Below relu lies the line z (the middle is positive), above it ⅝(z + 3); the bound is
    (x₁ + x₂) − 10/8 (x₁ − x₂) − 30/8 = −¼ x₁ + 9/4 x₂ − 15/4 ≥ −¾ − 9/2 − 15/4 = −9.
    """
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        model[2].weight.copy_(torch.tensor([[1.0, -2.0]]))
    net = vercomp.compile(model, (2,))
    region = vercomp.Ball(torch.tensor([[1.0, 0.0]]), 2.0, "linf")
    _, graph = net.network.in_double()
    relaxation = relax(graph, region)
    bound = relaxation.lower_bounds(graph.output, torch.ones(1, 1, 1, dtype=torch.float64))
    assert -9.0 - 1e-12 < float(bound) <= -9.0


def active(relaxation: object) -> object:
    """The lines that all rows share, as a function of the coefficients."""

    def lines(node: Activate, c: Tensor) -> Line:
        below, above = relaxation.lines[node.name]  # type: ignore[attr-defined]
        pick = c > 0.0
        return Line(
            torch.where(pick, below.slope[:, None], above.slope[:, None]),
            torch.where(pick, below.intercept[:, None], above.intercept[:, None]),
        )

    return lines


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_proved_lies_just_below_what_is_computed(name: str) -> None:
    """The two tables, and the two ways in which ProvedForms takes lines, agree but for rounding."""
    network = emit(GRAPHS[name]()).network
    _, graph = network.in_double()
    generator = torch.Generator().manual_seed(0)
    center = torch.randn(2, *network.input_shape, generator=generator, dtype=torch.float64)
    region = Ball(center, 0.05, "linf")
    relaxation = relax(graph, region)
    rows = torch.randn(2, 3, graph.outputs, generator=generator, dtype=torch.float64)
    lines = active(relaxation)
    loose = LinearForms(lines)  # type: ignore[arg-type]
    arrived = backward(loose, graph, rows).get(graph.nodes[0].name)
    computed = torch.zeros(2, 3, dtype=torch.float64) + loose.constant
    if arrived is not None:
        arrived = arrived.expand(2, -1, -1)
        computed = computed + (arrived * region.center[:, None]).sum(-1) + region.minimum(arrived)
    proved = relaxation.lower_bounds(graph.output, rows)
    each = relaxation.lower_bounds(graph.output, rows, lambda _: lines)  # type: ignore[arg-type,return-value]
    size = 1.0 + computed.abs()
    for bound in (proved, each):
        assert (bound <= computed + 1e-14 * size).all()
        assert (computed - bound <= 1e-7 * size).all()


def exact_values(graph: Graph, x: Tensor, rows: Tensor) -> list[Fraction]:
    """C z at a point in rational arithmetic, for a chain of affine nodes."""
    value = [Fraction(v) for v in x.tolist()]
    for node in graph.nodes[1:]:
        (term,) = node.terms  # type: ignore[union-attr]
        matrix = term.map.materialise().tolist()
        value = [sum(Fraction(w) * v for w, v in zip(row, value, strict=True)) for row in matrix]
        if node.bias is not None:  # type: ignore[union-attr]
            bias = node.bias.value[0].tolist()  # type: ignore[union-attr]
            value = [v + Fraction(b) for v, b in zip(value, bias, strict=True)]
    return [sum(Fraction(c) * v for c, v in zip(row, value, strict=True)) for row in rows.tolist()]


def excess_of_bounds(network: torch.nn.Module) -> int:
    """How many bounds of an affine network at a point exceed the exact value there."""
    _, graph = network.in_double()  # type: ignore[operator]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 12, generator=generator, dtype=torch.float64) * 1e3
    rows = torch.randn(1, 24, graph.outputs, generator=generator, dtype=torch.float64)
    relaxation = relax(graph, Ball(x, 0.0, "linf"))
    proved = relaxation.lower_bounds(graph.output, rows)[0].tolist()
    exact = exact_values(graph, x[0], rows[0])
    return sum(Fraction(p) > e for p, e in zip(proved, exact, strict=True))


def test_bounds_hold_in_exact_arithmetic_and_need_their_slack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At a point the bound is the value: what rounding takes decides on which side it falls."""
    network = emit(chain(1, [12, 30, 30, 30, 6], [])).network
    assert excess_of_bounds(network) == 0
    for module in (linear_forms, rounding):
        monkeypatch.setattr(module, "UNIT_ROUNDOFF", 0.0)
    monkeypatch.setattr(linear_forms, "_GUARD", 1.0)
    for name in ("down", "up"):
        monkeypatch.setattr(linear_forms, name, lambda value: value)
    assert excess_of_bounds(network) > 0


def test_a_nan_proves_nothing() -> None:
    network = emit(chain(0, [3, 5, 4], ["tanh"])).network
    _, graph = network.in_double()
    region = Ball(torch.zeros(2, 3, dtype=torch.float64), 0.1, "l2")
    relaxation = relax(graph, region)
    rows = torch.ones(2, 1, 4, dtype=torch.float64)
    rows[1] = torch.nan
    bounds = relaxation.lower_bounds(graph.output, rows)
    assert bounds[0].isfinite().all()
    assert (bounds[1] == -torch.inf).all()
    spoilt = ProvedForms(lambda node, c: Line(c * torch.nan, c), relaxation.intervals)
    arrived = backward(spoilt, graph, rows[:1].expand(2, -1, -1))
    assert (spoilt.minimum(region, arrived, graph.nodes[0].name) == -torch.inf).all()


def test_lines_are_at_least_as_good_as_intervals_on_affine_chains() -> None:
    network = emit(chain(2, [6, 9, 9, 4], [])).network
    _, graph = network.in_double()
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    relaxation = relax(graph, Ball(x, 0.5, "l1"))
    rows = torch.eye(4, dtype=torch.float64)
    lines = relaxation.lower_bounds(graph.output, rows[None])
    boxes = lower_bounds(graph, relaxation.intervals, Specification.of(rows))
    assert (lines >= boxes - 1e-9).all()
