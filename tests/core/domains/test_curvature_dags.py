"""Curvature of residual sums, concatenations and shared weights: by hand, and against Hessians."""

from __future__ import annotations

import math

import pytest
import torch
from curvatures import bound, derivatives, kappa, margins, recorded
from graphs import Draw, activation, residual_stream

from passes.merge_affine import MergeAffine
from vercomp.ir.axis_maps import Total
from vercomp.ir.check import check
from vercomp.ir.convolutions import AveragePool, Convolution, TransposedConvolution, Window
from vercomp.ir.graph import Activate, Affine, Graph, Input, Node, Term
from vercomp.ir.linear_maps import (
    Dense,
    LinearMap,
    Parameter,
    Permute,
    Reshape,
    Scale,
    Shape,
    compose,
    identity,
)
from vercomp.ir.selections import Gather, Pad
from vercomp.pass_manager import State, run_passes

MINUS = torch.tensor([[-1.0]], dtype=torch.float64)
"""−z: the side on which the curvature of softplus shows."""


def matrix(name: str, rows: list[list[float]]) -> Dense:
    return Dense(Parameter(name, torch.tensor(rows, dtype=torch.float64)))


def affine(name: str, *terms: tuple[LinearMap, str]) -> Affine:
    return Affine(name, terms[0][0].out_shape, tuple(Term(*term) for term in terms))


def softplus(name: str, parent: str, *shape: int) -> Activate:
    return Activate(name, shape, parent, activation("softplus"))


def graph_of(*nodes: Node) -> Graph:
    return check(Graph(nodes, nodes[-1].name))


def test_a_residual_block_by_hand() -> None:
    """−b for b = softplus(x + 3a), a = softplus(2x); softplus has g = 1 and h = ¼.

    ρ_a = 2, r_b = 1 + 3·2 = 7. F_b = −1: k_b = ¼·7². F_a ∈ [−3, 0]: k_a = ¾·2².
    Hence κ(−1) = 12.25 + 3, κ(1) = 0, and |f′| ≤ 7.
    """
    graph = graph_of(
        Input("x", (1,)),
        affine("h", (matrix("two", [[2.0]]), "x")),
        softplus("a", "h", 1),
        affine("s", (identity((1,)), "x"), (matrix("three", [[3.0]]), "a")),
        softplus("b", "s", 1),
    )
    found = bound(graph, torch.cat([MINUS, -MINUS]))
    assert found.shares["b"][0].item() == pytest.approx(12.25, rel=1e-8)
    assert found.shares["a"][0].item() == pytest.approx(3.0, rel=1e-8)
    assert found.curvature.tolist() == pytest.approx([15.25, 0.0], rel=1e-8)
    assert found.lipschitz.tolist() == pytest.approx([7.0, 7.0], rel=1e-8)


def test_a_concatenation_by_hand() -> None:
    """−(b₁ + 2b₂) for b = softplus([3a₁; a₂]), a₁ = softplus(x), a₂ = softplus(2x).

    The rows of [3a₁; a₂] are disjoint: r² = 3²·1² + 1²·2² = 13. F_b = (−1, −2), q = (¼, ½):
    k_b = min(½·13, ¼·3²·1² + ½·1²·2²) = 4.25. F_a₁ ∈ [−3, 0]: ¾·1²; F_a₂ ∈ [−2, 0]: ½·2².
    Hence κ = 4.25 + 0.75 + 2. |f′| ≤ 3·1 + 2·2.
    """
    graph = graph_of(
        Input("x", (1,)),
        softplus("a1", "x", 1),
        affine("h2", (matrix("two", [[2.0]]), "x")),
        softplus("a2", "h2", 1),
        affine(
            "cat",
            (compose(Pad((1,), ((0, 1),)), matrix("three", [[3.0]])), "a1"),
            (Pad((1,), ((1, 0),)), "a2"),
        ),
        softplus("b", "cat", 2),
        affine("z", (matrix("out", [[1.0, 2.0]]), "b")),
    )
    found = bound(graph, MINUS)
    shares = {name: value.item() for name, value in found.shares.items()}
    assert shares == pytest.approx({"b": 4.25, "a1": 0.75, "a2": 2.0}, rel=1e-8)
    assert found.curvature.item() == pytest.approx(7.0, rel=1e-8)
    assert found.lipschitz.item() == pytest.approx(7.0, rel=1e-8)


def test_one_weight_at_two_places_by_hand() -> None:
    """−softplus(2 softplus(2x)): the weight is one, the nodes are two.

    r₁ = 2, r₂ = 4. k₂ = ¼·4², F₁ ∈ [−2, 0]: k₁ = ½·2². κ = 4 + 2, |f′| ≤ 4.
    """
    w = matrix("w", [[2.0]])
    graph = graph_of(
        Input("x", (1,)),
        affine("h1", (w, "x")),
        softplus("a1", "h1", 1),
        affine("h2", (w, "a1")),
        softplus("a2", "h2", 1),
    )
    found = bound(graph, MINUS)
    assert found.curvature.item() == pytest.approx(6.0, rel=1e-8)
    assert found.lipschitz.item() == pytest.approx(4.0, rel=1e-8)


def test_maps_side_by_side_by_hand() -> None:
    """z = diag(1, 0)a + diag(0, 1)b with ρ_a = ρ_b = 1: r = √2, where the sum of norms gives 2."""
    graph = graph_of(
        Input("x", (2,)),
        softplus("a", "x", 2),
        affine("h", (Permute((2,), (0,)), "x")),
        softplus("b", "h", 2),
        affine(
            "s",
            (matrix("first", [[1.0, 0.0], [0.0, 0.0]]), "a"),
            (matrix("second", [[0.0, 0.0], [0.0, 1.0]]), "b"),
        ),
        softplus("t", "s", 2),
        affine("z", (matrix("out", [[1.0, 1.0]]), "t")),
    )
    # q = (¼, ¼): k_t = ¼·r² = ½, not ¼·2².
    assert bound(graph, MINUS).shares["t"].item() == pytest.approx(0.5, rel=1e-8)


def test_a_sum_is_seen_through_by_hand() -> None:
    """u = W s for s = x + B a, where WB = 0: u = Wx whatever a is, and r_u = ‖W‖ = √2.

    Seen as a chain, ‖W‖(1 + ‖B‖ρ_a) = √2(1 + √2). F_u = −1, k_u = ¼·2; backward, F_s from u and
    from z is (0, −1) − [0, 1]·(1, 1), and BᵀF_s = 1 exactly: k_a = 0 for −z.
    """
    graph = graph_of(
        Input("x", (2,)),
        affine("h", (matrix("mean", [[1.0, 0.0]]), "x")),
        softplus("a", "h", 1),
        affine("s", (identity((2,)), "x"), (matrix("B", [[1.0], [-1.0]]), "a")),
        affine("u", (matrix("W", [[1.0, 1.0]]), "s")),
        softplus("b", "u", 1),
        affine("z", (matrix("second", [[0.0, 1.0]]), "s"), (matrix("one", [[1.0]]), "b")),
    )
    found = bound(graph, MINUS)
    assert found.shares["b"].item() == pytest.approx(0.5, rel=1e-8)
    assert found.shares["a"].item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("readers", ["U", "s"])
def test_programs_grow_linearly_with_depth(readers: str) -> None:
    def steps(blocks: int) -> int:
        return len(recorded(residual_stream(blocks, readers))[0])

    assert steps(40) - steps(30) == steps(30) - steps(20)


@pytest.mark.parametrize("readers", ["U", "s", "Us"])
def test_seeing_through_sums_is_tighter_than_not(
    readers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, c = residual_stream(5, readers), margins(3)
    found = bound(graph, c)
    monkeypatch.setattr("vercomp.core.domains.paths.LIMIT", 1)
    blind = bound(graph, c)
    assert (found.curvature <= blind.curvature * (1.0 + 1e-9)).all()
    assert found.curvature.mean() < 0.9 * blind.curvature.mean()
    assert (found.lipschitz <= blind.lipschitz * (1.0 + 1e-9)).all()


SHAPE: Shape = (2, 3, 3)
SAME = Window.of((3, 3), pads=((1, 1), (1, 1)))


def random_graph(seed: int) -> Graph:
    """Twelve steps on images of 2×3×3: maps, sums, concatenations, activations, shared weights."""
    draw = Draw(seed, torch.float64)
    nodes: list[Node] = [Input("x", SHAPE)]
    values = ["x"]
    shared = draw("shared", 2, 2, 3, 3, scale=1.5)

    def older() -> str:
        return values[-1 - draw.integer(0, min(3, len(values) - 1))]

    def branch(name: str) -> LinearMap:
        kernel = draw(name, 2, 2, 3, 3, scale=1.5)
        return (
            identity(SHAPE),
            Convolution(SHAPE, shared, SAME),
            TransposedConvolution(SHAPE, SHAPE, kernel, SAME),
            Scale(SHAPE, draw(f"{name}s", 2), view=(2, 1, 1)),
            Gather(SHAPE, 2, (2, 0, 2)),
            AveragePool(SHAPE, SAME),
            Convolution(SHAPE, kernel, SAME),
        )[draw.integer(0, 6)]

    def total(name: str, count: int) -> Affine:
        return affine(name, *((branch(f"{name}.{j}"), older()) for j in range(count)))

    def activated(name: str, parent: str) -> Activate:
        function = ["tanh", "softplus", "gelu", "sigmoid"][draw.integer(0, 3)]
        return Activate(name, SHAPE, parent, activation(function))

    nodes.append(activated("n", "x"))
    values.append("n")
    for k in range(12):
        name = f"n{k}"
        kind = draw.integer(0, 4)
        if kind < 2:
            nodes.append(total(name, 1 + 2 * kind))
        elif kind == 2:
            parts = [
                (compose(Pad(SHAPE, (pads, (0, 0), (0, 0))), branch(f"{name}.{j}")), older())
                for j, pads in enumerate([(0, 2), (2, 0)])
            ]
            nodes.append(affine(f"{name}.cat", *parts))
            narrow = Convolution((4, 3, 3), draw(name, 2, 4, 1, 1), Window.of((1, 1)))
            nodes.append(affine(name, (narrow, f"{name}.cat")))
        else:
            nodes.append(activated(name, older()))
        values.append(name)
    dense = compose(Dense(draw("head", 3, 18)), Reshape(SHAPE, (18,)))
    pooled = compose(Dense(draw("pool", 3, 2)), Total(SHAPE, (1, 2), mean=True))
    nodes.append(affine("z", (dense, values[-1]), (pooled, values[-3])))
    return run_passes(State(graph_of(*nodes)), [MergeAffine()]).graph


def curved(seeds: range) -> list[int]:
    """Seeds of graphs in which the output depends on an activation."""
    return [seed for seed in seeds if list(random_graph(seed).activations())]


@pytest.mark.parametrize("seed", curved(range(20)))
def test_a_random_graph_stays_within_its_bounds(seed: int) -> None:
    assert_within_bounds(random_graph(seed), seed)


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
@pytest.mark.parametrize("readers", ["U", "s", "Us", "ssU"])
def test_a_residual_network_stays_within_its_bounds(
    readers: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far coefficients and gradients see, each through sums of its own."""
    monkeypatch.setattr("vercomp.core.domains.paths.LIMIT", limit)
    assert_within_bounds(residual_stream(4, readers, limit), limit)


def assert_within_bounds(graph: Graph, seed: int) -> None:
    """No Hessian and no gradient at random points leaves the bounds of any margin."""
    c = margins(3)[::2]
    below, above = bound(graph, c), kappa(graph, -c)
    generator = torch.Generator().manual_seed(seed)
    n = math.prod(graph.input.shape)
    points = torch.randn(6, n, generator=generator, dtype=torch.float64)
    points = points * torch.logspace(-1, 1.5, 6, dtype=torch.float64)[:, None]
    jacobian, hessian = derivatives(graph, points)
    eigenvalues = torch.linalg.eigvalsh(torch.einsum("rc,pcij->rpij", c, hessian))
    assert (eigenvalues.amin((1, 2)) >= -below.curvature).all()
    assert (eigenvalues.amax((1, 2)) <= above).all()
    slopes = torch.einsum("rc,pci->rpi", c, jacobian).norm(dim=2).amax(1)
    assert (slopes <= below.lipschitz).all()
