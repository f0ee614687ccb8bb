"""Curvature programs: by hand, against both theorems, and against exact Hessians."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from curvatures import DOUBLE, bound, hessians, kappa, margins, recorded, results
from graphs import activation, chain, decorated, plain, residual
from torch import Tensor

from vercomp.activations import constants
from vercomp.errors import MissingRuleError
from vercomp.ir.check import check
from vercomp.ir.graph import Activate, Affine, Graph, Input, Opaque, Term
from vercomp.ir.linear_maps import Dense, Parameter, identity
from vercomp.ir.reference import evaluate


def weight(graph: Graph, name: str) -> Tensor:
    return next(p.value for p in graph.parameters() if p.name == name).double()


def test_the_smallest_network_by_hand() -> None:
    """z = w₂ tanh(w₁ x + b₁): |z″| ≤ |c w₂| w₁² h with h = 4/(3√3), the same from both sides."""
    graph = chain(0, [1, 1, 1], ["tanh"])
    w1, w2 = (float(weight(graph, name)) for name in ("0.weight", "2.weight"))
    c = torch.tensor([[1.0], [-2.5]], dtype=torch.float64)
    expected = [abs(s * w2) * w1**2 * 4 / (3 * math.sqrt(3)) for s in (1.0, 2.5)]
    assert kappa(graph, c).tolist() == pytest.approx(expected, rel=1e-7)
    assert (kappa(graph, c) >= torch.tensor(expected, dtype=torch.float64)).all()


def test_two_inputs_meet_in_one_neuron_by_hand() -> None:
    """z = 3 softplus(x₁ + 2x₂): ∇² = 3 σ″ [1 2; 2 4], so κ(1) = 0 and κ(−1) = 3 · ¼ · 5."""
    graph = Graph(
        (
            Input("x", (2,)),
            Affine(
                "h",
                (1,),
                (Term(Dense(Parameter("w", torch.tensor([[1.0, 2.0]]))), "x"),),
            ),
            Activate("a", (1,), "h", activation("softplus")),
            Affine("z", (1,), (Term(Dense(Parameter("v", torch.tensor([[3.0]]))), "a"),)),
        ),
        "z",
    )
    found = kappa(check(graph), torch.tensor([[1.0], [-1.0]], dtype=torch.float64))
    assert found[0] == 0.0
    assert float(found[1]) == pytest.approx(15 / 4, rel=1e-8)
    slopes = bound(graph, torch.tensor([[1.0], [-2.0]], dtype=torch.float64)).lipschitz
    assert slopes.tolist() == pytest.approx([3 * math.sqrt(5), 6 * math.sqrt(5)], rel=1e-8)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus", "gelu", "silu"])
@pytest.mark.parametrize("widths", [[6, 9, 3], [9, 5, 3], [1, 7, 3], [4, 1, 3]])
def test_two_layers_are_theorem_3(name: str, widths: list[int]) -> None:
    """N of Theorem 3: the least over x of each Hessian coefficient, then λ_min(Wᵀ diag W)."""
    graph = chain(3, widths, [name])
    w1, w2, found = (
        weight(graph, "0.weight"),
        weight(graph, "2.weight"),
        constants(activation(name)),
    )
    c = margins(3)
    expected = []
    for row in c:
        coefficients = row @ w2
        least = torch.where(
            coefficients > 0, coefficients * found.h_lower, coefficients * found.h_upper
        ).clamp_max(0.0)
        expected.append(-float(torch.linalg.eigvalsh(w1.T @ torch.diag(least) @ w1)[0]))
    result = kappa(graph, c)
    assert result.tolist() == pytest.approx(expected, rel=1e-6)
    assert (result >= torch.tensor(expected, dtype=torch.float64) * (1 - 1e-12)).all()


def theorem_4(weights: list[Tensor], names: list[str], c: Tensor) -> float:
    """Equations (5) and (6), line by line: K = Σ_I h_I (r^(I))² max_j S_j^(L,I).

    r^(1) = ‖W¹‖, r^(I) = g ‖W^(I)‖ r^(I−1); S^(L,L−1) = |c W^(L)| and, from the top down,
    S^(L,I−1) = |W^(I)|ᵀ (g S^(L,I)).
    """
    found = [constants(activation(name)) for name in names]
    g, h = [f.g for f in found], [f.h for f in found]
    norms = [float(torch.linalg.matrix_norm(w, 2)) for w in weights]
    r = [norms[0]]
    for layer in range(1, len(names)):
        r.append(g[layer - 1] * norms[layer] * r[-1])
    s = (c @ weights[-1]).abs()
    total = 0.0
    for layer in reversed(range(len(names))):
        total += h[layer] * r[layer] ** 2 * float(s.max())
        s = weights[layer].abs().T @ (g[layer] * s)
    return total


@pytest.mark.parametrize("seed", range(12))
def test_never_looser_than_theorem_4(seed: int) -> None:
    depth = 1 + seed % 4
    names = [["tanh", "sigmoid", "gelu", "softplus", "silu"][(seed + k) % 5] for k in range(depth)]
    graph = chain(seed, [5, *[4 + (seed + k) % 5 for k in range(depth)], 3], names)
    weights = [weight(graph, f"{2 * k}.weight") for k in range(depth + 1)]
    c = margins(3)
    for row, result in zip(c, kappa(graph, c), strict=True):
        assert float(result) <= theorem_4(weights, names, row) * (1 + 1e-7)


def test_theorem_4_alone_is_met_where_theorem_3_has_nothing_to_add() -> None:
    """One neuron a layer: maxima and norms are the entries themselves."""
    graph = chain(5, [1, 1, 1, 1], ["tanh", "tanh"])
    weights = [weight(graph, f"{2 * k}.weight") for k in range(3)]
    c = torch.ones(1, 1, dtype=torch.float64)
    expected = theorem_4(weights, ["tanh", "tanh"], c[0])
    assert float(kappa(graph, c)) == pytest.approx(expected, rel=1e-7)


GRAPHS: dict[str, Callable[[], Graph]] = {
    **{
        f"chain {k}: {' '.join(names)}": lambda k=k, names=names: chain(  # type: ignore[misc]
            k, [3, *[4, 6, 2, 5][: len(names)], 3], names, scale=1.5
        )
        for k, names in enumerate(
            [
                ["sigmoid"],
                ["softplus", "tanh"],
                ["gelu", "silu"],
                ["tanh", "gelu", "softplus"],
                ["silu", "sigmoid", "tanh", "gelu"],
                ["sin", "mish", "elu"],
            ]
        )
    },
    "skips": lambda: residual(6, ["tanh", "silu", "softplus"]),
    "more skips": lambda: residual(7, ["gelu", "sigmoid", "tanh", "softplus"], width=3),
    "one of everything": decorated,
    "one of everything, again": lambda: decorated(1),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_no_exact_hessian_leaves_the_bounds(name: str) -> None:
    graph = GRAPHS[name]()
    c = margins(graph.outputs)
    below, above = kappa(graph, c), kappa(graph, -c)
    generator = torch.Generator().manual_seed(11)
    n = math.prod(graph.input.shape)
    points = torch.randn(24, n, generator=generator, dtype=torch.float64)
    points = points * torch.logspace(-1.5, 2, 24, dtype=torch.float64)[:, None]
    reached = 0.0
    for row, lower, upper in zip(c[::2], below[::2], above[::2], strict=True):
        eigenvalues = torch.linalg.eigvalsh(hessians(graph, row, points))
        assert float(eigenvalues.min()) >= -float(lower)
        assert float(eigenvalues.max()) <= float(upper)
        reached = max(reached, -float(eigenvalues.min()) / max(float(lower), 1e-300))
    assert reached > 0.0  # some point is curved: the test is not about nothing


def steepest(graph: Graph, c: Tensor) -> float:
    """−λ_min found by gradient ascent over inputs: how much of the bound is used."""
    points = torch.randn(16, graph.input.shape[0], dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([points], lr=0.05)

    def least(point: Tensor) -> Tensor:
        def margin(flat: Tensor) -> Tensor:
            return evaluate(graph, flat[None], DOUBLE)[graph.output][0] @ c

        return torch.linalg.eigvalsh(torch.func.hessian(margin)(point))[0]

    best = 0.0
    for _ in range(60):
        optimizer.zero_grad()
        values = torch.stack([least(point) for point in points])
        best = max(best, -values.min().item())
        values.sum().backward()
        optimizer.step()
    return best


def test_one_hidden_neuron_attains_its_bound() -> None:
    """With one neuron the bound is the supremum: search reaches it, so nothing smaller is true."""
    torch.manual_seed(0)
    graph = chain(8, [2, 1, 2], ["tanh"])
    c = margins(2)[0]
    reached, promised = steepest(graph, c), float(kappa(graph, c[None]))
    assert promised * (1 - 1e-4) <= reached <= promised


def test_paths_that_meet_are_added_not_maximised() -> None:
    """z = a + a for a = tanh(x): two paths double the coefficient of one node."""
    one = Parameter("one", torch.ones(1, 1))
    graph = check(
        Graph(
            (
                Input("x", (1,)),
                Affine("h", (1,), (Term(Dense(one), "x"),)),
                Activate("a", (1,), "h", activation("tanh")),
                Affine("z", (1,), (Term(Dense(one), "a"), Term(identity((1,)), "a"))),
            ),
            "z",
        )
    )
    c = torch.ones(1, 1, dtype=torch.float64)
    assert float(kappa(graph, c)) == pytest.approx(2 * 4 / (3 * math.sqrt(3)), rel=1e-7)


def test_opposite_paths_cancel_in_the_last_layer() -> None:
    one, minus = Parameter("one", torch.ones(1, 1)), Parameter("minus", -torch.ones(1, 1))
    graph = check(
        Graph(
            (
                Input("x", (1,)),
                Affine("h", (1,), (Term(Dense(one), "x"),)),
                Activate("a", (1,), "h", activation("tanh")),
                Affine("z", (1,), (Term(Dense(one), "a"), Term(Dense(minus), "a"))),
            ),
            "z",
        )
    )
    assert float(kappa(graph, torch.ones(1, 1, dtype=torch.float64))) < 1e-14


def test_sums_of_jacobians_where_terms_meet() -> None:
    """z = tanh(3x + 2x): ‖∂z/∂x‖ ≤ 5, hence κ = 25 h."""
    three, two = Parameter("3", torch.full((1, 1), 3.0)), Parameter("2", torch.full((1, 1), 2.0))
    one = Parameter("one", torch.ones(1, 1))
    graph = check(
        Graph(
            (
                Input("x", (1,)),
                Affine("h", (1,), (Term(Dense(three), "x"), Term(Dense(two), "x"))),
                Activate("a", (1,), "h", activation("tanh")),
                Affine("z", (1,), (Term(Dense(one), "a"),)),
            ),
            "z",
        )
    )
    c = torch.ones(1, 1, dtype=torch.float64)
    assert float(kappa(graph, c)) == pytest.approx(25 * 4 / (3 * math.sqrt(3)), rel=1e-7)
    assert float(bound(graph, c).lipschitz) == pytest.approx(5.0, rel=1e-8)


def test_the_lipschitz_constant_is_at_most_the_product_of_norms() -> None:
    """L ≤ ‖c A_3‖ g ‖A_2‖ g ‖A_1‖ on a chain, and no gradient exceeds it."""
    graph = chain(17, [4, 9, 7, 3], ["sigmoid", "tanh"])
    c = margins(3)
    first, second, last = (weight(graph, p.name) for p in graph.parameters() if len(p.shape) == 2)
    found = bound(graph, c).lipschitz
    norms = torch.linalg.matrix_norm(first, 2) * 0.25 * torch.linalg.matrix_norm(second, 2)
    assert (found <= (c @ last).norm(dim=1) * norms * (1.0 + 1e-6)).all()
    points = 2.0 * torch.randn(50, 4, dtype=torch.float64)
    for row, limit in zip(c, found, strict=True):
        leaf = points.clone().requires_grad_()
        (evaluate(graph, leaf, DOUBLE)[graph.output] @ row).sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.norm(dim=1).max() <= limit


def test_activations_at_both_ends() -> None:
    """tanh(x) as logits: Jacobian of the input is 1, coefficients of the output are c."""
    graph = check(Graph((Input("x", (2,)), Activate("a", (2,), "x", activation("tanh"))), "a"))
    c = torch.tensor([[1.0, -3.0]], dtype=torch.float64)
    assert float(kappa(graph, c)) == pytest.approx(3 * 4 / (3 * math.sqrt(3)), rel=1e-8)


def test_a_network_that_returns_its_input() -> None:
    """f = c·x: no curvature, and the Lipschitz constant ‖c‖."""
    c = torch.tensor([[3.0, -4.0], [0.0, 0.0]], dtype=torch.float64)
    found = bound(check(Graph((Input("x", (2,)),), "x")), c)
    assert found.curvature.tolist() == [0.0, 0.0]
    assert found.lipschitz.tolist() == pytest.approx([5.0, 0.0], rel=1e-12)
    assert float(found.lipschitz[0]) >= 5.0


def test_affine_networks_have_no_curvature() -> None:
    draw = Parameter("w", torch.randn(3, 2))
    graph = check(Graph((Input("x", (2,)), Affine("z", (3,), (Term(Dense(draw), "x"),))), "z"))
    found = bound(graph, margins(3))
    assert found.curvature.tolist() == [0.0] * 6
    assert list(found.norms) == ["z.0"]
    assert not found.shares


def test_identity_activations_add_nothing() -> None:
    graph = chain(9, [3, 4, 3], ["identity"])
    assert kappa(graph, margins(3)).tolist() == [0.0] * 6


def test_shares_sum_to_the_bound_and_norms_are_of_the_maps() -> None:
    graph = residual(10, ["tanh", "silu", "gelu"])
    found = bound(graph, margins(3))
    total = torch.stack(list(found.shares.values())).sum(0)
    assert torch.allclose(total, found.curvature, rtol=1e-12)
    assert set(found.shares) == {"a0", "a1", "a2"}
    w0 = weight(graph, "w0")
    assert float(found.norms["z0.0"]) == pytest.approx(float(torch.linalg.matrix_norm(w0, 2)))


def test_dead_neurons_and_repeated_rows() -> None:
    graph = chain(12, [3, 5, 4, 3], ["tanh", "softplus"])
    with torch.no_grad():
        for name in ("0.weight", "2.weight"):
            found = next(p.value for p in graph.parameters() if p.name == name)
            found[0] = 0.0
            found[2] = found[1]
    c = margins(3)
    points = torch.randn(10, 3, dtype=torch.float64)
    for row, lower in zip(c, kappa(graph, c), strict=True):
        assert math.isfinite(lower)
        assert float(torch.linalg.eigvalsh(hessians(graph, row, points)).min()) >= -float(lower)


@pytest.mark.parametrize("size", [1e-60, 1e60])
def test_weights_of_extreme_size(size: float) -> None:
    """κ scales by size³ through one activation; float64 weights may be far from one."""
    graph = chain(13, [3, 4, 3], ["sin"])
    c = margins(3)
    before = kappa(graph, c)
    for parameter in graph.parameters():
        if parameter.name.endswith("weight"):
            object.__setattr__(parameter, "value", parameter.value.double() * size)
    assert torch.allclose(kappa(graph, c) / size / size / size, before, rtol=1e-9)


def test_a_node_without_a_rule_is_refused() -> None:
    opaque = Opaque("p", (3,), ("x",), "Softmax", torch.softmax)
    graph = check(Graph((Input("x", (3,)), opaque), "p"))
    with pytest.raises(MissingRuleError, match="node 'p': the domain of Jacobian norms has no"):
        bound(graph, margins(3))


def test_affine_chains_need_not_be_merged() -> None:
    """A node sees through those before it: A(Bx) is bounded as (AB)x is."""
    graph = chain(15, [3, 5, 4, 6, 3], [])
    product = torch.eye(3, dtype=torch.float64)
    for layer in range(4):
        product = weight(graph, f"{2 * layer}.weight") @ product
    found = bound(graph, margins(3))
    assert found.curvature.tolist() == [0.0] * 6
    expected = (margins(3) @ product).norm(dim=1)
    assert (found.lipschitz >= expected * (1.0 - 1e-15)).all()
    torch.testing.assert_close(found.lipschitz, expected, rtol=1e-9, atol=0.0)


def test_the_program_holds_no_dead_step() -> None:
    steps, found = recorded(residual(16, ["tanh", "silu"]))
    read = {id(argument) for step in steps for argument in step.arguments}
    kept = {id(result) for result in results(found)}
    assert all(id(step) in read | kept for step in steps)
    assert all(step.name for step in steps)
    assert len({step.name for step in steps}) == len(steps)


def test_a_bias_changes_nothing() -> None:
    graph = chain(17, [3, 4, 3], ["gelu"])
    node = graph.node("layer0")
    assert isinstance(node, Affine)
    moved = Affine(
        node.name, node.shape, node.terms, (plain(Parameter("far", torch.full((4,), 9.0))),)
    )
    other = Graph(tuple(moved if n is node else n for n in graph.nodes), graph.output)
    assert torch.equal(kappa(graph, margins(3)), kappa(other, margins(3)))
