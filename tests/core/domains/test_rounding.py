"""Every rule of the rounding analysis against the same computation in 60-digit arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vercomp.core.arithmetic import rounded
from vercomp.core.arithmetic.rounded import Rounded
from vercomp.core.domains import rounding
from vercomp.core.functions import Elementwise
from vercomp.core.graph import Activate, Affine, Graph, Input, Node, Term
from vercomp.core.maps.monomials import Diagonal, Monomial
from vercomp.core.maps.operators import Dense, Operator, Product
from vercomp.core.norms.bounds import norm2

MP = mpmath.MPContext()
MP.dps = 60
Vector = list[Any]


def tanh_first(z: Tensor) -> Tensor:
    return 1.0 - torch.tanh(z) ** 2


def sigmoid_first(z: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1.0 - s)


def unused(z: Tensor) -> Tensor:
    raise AssertionError("rounding never needs second derivatives")


@dataclass(frozen=True)
class Function:
    """An activation in float64 and in 60 digits."""

    computed: Elementwise
    value: Callable[[Any], Any]
    first: Callable[[Any], Any]


def logistic(z: Any) -> Any:
    return 1 / (1 + MP.exp(-z))


FUNCTIONS = {
    "tanh": Function(
        Elementwise(torch.tanh, tanh_first, unused, (0.0, 1.0), (-0.77, 0.77)),
        MP.tanh,
        lambda z: 1 - MP.tanh(z) ** 2,
    ),
    "sigmoid": Function(
        Elementwise(torch.sigmoid, sigmoid_first, unused, (0.0, 0.25), (-0.0963, 0.0963)),
        logistic,
        lambda z: logistic(z) * (1 - logistic(z)),
    ),
    "softplus": Function(
        Elementwise(F.softplus, torch.sigmoid, unused, (0.0, 1.0), (0.0, 0.25), 2.1e-9),
        lambda z: MP.log(1 + MP.exp(z)) if z < 200 else z + MP.exp(-z),
        logistic,
    ),
    "steep": Function(
        Elementwise(
            lambda z: 1000 * torch.tanh(z),
            lambda z: 1000 * tanh_first(z),
            unused,
            (0.0, 1000.0),
            (-770.0, 770.0),
        ),
        lambda z: 1000 * MP.tanh(z),
        lambda z: 1000 * (1 - MP.tanh(z) ** 2),
    ),
    "fast": Function(
        Elementwise(
            lambda z: torch.sin(100 * z),
            lambda z: 100 * torch.cos(100 * z),
            unused,
            (-100.0, 100.0),
            (-1e4, 1e4),
        ),
        lambda z: MP.sin(100 * z),
        lambda z: 100 * MP.cos(100 * z),
    ),
}


def random(seed: int, *shape: int, spread: float = 0.0) -> Tensor:
    """Normal entries times 10^(uniform in ±spread): large sums of mixed magnitudes cancel."""
    generator = torch.Generator().manual_seed(seed)
    size = 2 * torch.rand(*shape, dtype=torch.float64, generator=generator) - 1
    return torch.randn(*shape, dtype=torch.float64, generator=generator) * 10.0 ** (spread * size)


def exact(values: Tensor) -> Vector:
    return [MP.mpf(v) for v in values.tolist()]


def rows(values: Tensor) -> list[Vector]:
    return [exact(row) for row in values]


def apply(matrix: list[Vector], x: Vector) -> Vector:
    return [MP.fdot(row, x) for row in matrix]


def transpose(matrix: list[Vector]) -> list[Vector]:
    return [list(column) for column in zip(*matrix, strict=True)]


def add(*vectors: Vector) -> Vector:
    return [MP.fsum(entries) for entries in zip(*vectors, strict=True)]


def distance(a: Vector, b: Vector) -> Any:
    return MP.sqrt(MP.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def covered(found: Rounded, truth: list[Vector], *, loose: float = 1e6) -> None:
    """The error is below its bound in every row, and the bound is not absurd."""
    worst = max(distance(exact(v), t) for v, t in zip(found.value, truth, strict=True))
    for value, error, true in zip(found.value, found.error, truth, strict=True):
        assert distance(exact(value), true) <= MP.mpf(float(error))
        size = 1 + distance(true, [MP.zero] * len(true))
        assert float(error) <= loose * max(float(worst), 2.0**-53 * float(size))


def perturbed(value: Tensor, seed: int, size: float) -> tuple[Rounded, list[Vector]]:
    """A value whose bound is attained: the truth lies at that distance from it."""
    direction = random(seed, *value.shape)
    direction = size * direction / direction.norm(dim=1, keepdim=True)
    truth = [add(exact(v), exact(d)) for v, d in zip(value, direction, strict=True)]
    error = torch.tensor(
        [float(distance(exact(v), t)) * (1 + 1e-15) for v, t in zip(value, truth, strict=True)],
        dtype=torch.float64,
    )
    return Rounded(value, error), truth


def affine(*summands: tuple[Operator, float, Rounded], bias: Rounded | None = None) -> Rounded:
    """z = Σ A a + b, by the rule of the domain, from maps with their norms and what they read."""
    terms = tuple(Term(f"{k}", operator, "a") for k, (operator, _, _) in enumerate(summands))
    norms = {term.name: norm for term, (_, norm, _) in zip(terms, summands, strict=True)}
    values = [value for _, _, value in summands]
    node = Affine("z", (terms[0].map.shape[0],), terms, bias)
    return rounding.Values(norms, values[0]).affine(node, *values)


@pytest.mark.parametrize("spread", [0.0, 6.0])
@pytest.mark.parametrize("size", [0.0, 1e-9, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (40, 3), (12, 12)])
def test_affine_and_adjoint(shape: tuple[int, int], size: float, spread: float) -> None:
    m, n = shape
    matrix = random(1, m, n, spread=spread)
    operator = Dense(matrix)
    norm = norm2(operator)
    x, true_x = perturbed(random(2, 3, n, spread=spread), 3, size)
    bias = random(4, m, spread=spread)
    a = rows(matrix)
    z = affine((operator, norm, x), bias=rounding.offset(bias))
    covered(z, [add(apply(a, v), exact(bias)) for v in true_x], loose=1e4 * max(1, m * n))
    t, true_t = perturbed(random(5, 3, m, spread=spread), 6, size)
    s = rounding.adjoint(operator, norm, t)
    covered(s, [apply(transpose(a), v) for v in true_t], loose=1e4 * max(1, m * n))


def test_input_errors_are_amplified_by_the_whole_norm() -> None:
    """Along the leading singular vector the bound ‖A‖e is attained: nothing smaller would do."""
    matrix = random(7, 5, 5)
    sigma = torch.linalg.svdvals(matrix)
    value = torch.zeros(1, 5, dtype=torch.float64)
    x = Rounded(value, torch.tensor([1e-3], dtype=torch.float64))
    norm = norm2(Dense(matrix))
    z = affine((Dense(matrix), norm, x))
    assert float(z.error) >= 1e-3 * float(sigma[0])
    assert float(z.error) <= 1e-3 * float(sigma[0]) * (1 + 1e-8)
    s = rounding.adjoint(Dense(matrix), norm, x)
    assert float(s.error) >= 1e-3 * float(sigma[0])


def test_several_terms_offsets_and_rows_that_broadcast() -> None:
    """z = A₁a₁ + A₂a₂ + M p − q with a merged M: each part's rounding is in the bound."""
    w, d = random(8, 4, 6, spread=3), random(9, 6, spread=3)
    division = Diagonal.scaling(d, (6,), divide=True)
    merged = Dense(w) @ division
    second = Monomial(torch.tensor([0, 0, 2, 1]), 3, random(10, 4))
    a1, true1 = perturbed(random(11, 5, 6, spread=3), 12, 1e-10)
    a2, true2 = perturbed(random(13, 5, 3, spread=3), 14, 1e-10)
    p, q = random(15, 6, spread=3), random(16, 4, spread=3)
    bias = rounding.total([rounding.offset(p, merged), rounding.offset(q, negate=True)])
    assert bias.value.shape == (1, 4)
    z = affine((merged, norm2(merged), a1), (second, norm2(second), a2), bias=bias)
    assert z.value.shape == (5, 4)
    assert z.error.shape == (5,)
    exact_w = [[x / y for x, y in zip(r, exact(d), strict=True)] for r in rows(w)]
    exact_second = rows(second.apply(torch.eye(3, dtype=torch.float64)).T)
    moved, minus = apply(exact_w, exact(p)), [-v for v in exact(q)]
    truth = [
        add(apply(exact_w, v), apply(exact_second, v2), moved, minus)
        for v, v2 in zip(true1, true2, strict=True)
    ]
    covered(z, truth)
    covered(bias, [add(moved, minus)])


def test_catastrophic_cancellation() -> None:
    """(2⁶⁰ + x) − 2⁶⁰: the value may be lost, and the bound says so."""
    matrix = torch.tensor([[2.0**60, 1.0, -(2.0**60)]], dtype=torch.float64)
    x = torch.tensor([[1.0, 0.375, 1.0]], dtype=torch.float64)
    z = affine((Dense(matrix), norm2(Dense(matrix)), rounded.exact(x)))
    covered(z, [[MP.mpf("0.375")]], loose=1e30)
    total = rounding.total([rounded.exact(v) for v in (x[:, 1:2], matrix[:, :1], matrix[:, 2:])])
    covered(total, [[MP.mpf("0.375")]], loose=1e30)
    assert float(total.error) >= 0.375
    c = torch.tensor([[1.0, 1.0, -1.0]], dtype=torch.float64)
    f = rounding.dot(c, rounded.exact(torch.tensor([[2.0**60, 0.375, 2.0**60]]).double()))
    covered(f, [[MP.mpf("0.375")]], loose=1e30)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("scale", [1e-8, 1.0, 30.0])
@pytest.mark.parametrize("size", [0.0, 1e-10, 0.1])
def test_activation_and_chain(name: str, scale: float, size: float) -> None:
    function = FUNCTIONS[name]
    z, true_z = perturbed(scale * random(17, 6, 25), 18, size)
    a = rounding.activation(function.computed, z)
    covered(a, [[function.value(v) for v in row] for row in true_z], loose=1e9)
    s, true_s = perturbed(random(19, 6, 25, spread=3), 20, size)
    t = rounding.chain(function.computed, z, s)
    truth = [
        [function.first(v) * w for v, w in zip(zs, ss, strict=True)]
        for zs, ss in zip(true_z, true_s, strict=True)
    ]
    covered(t, truth, loose=1e9)


def test_chain_attains_both_of_its_terms() -> None:
    """σ′ steepest and s along it: the product rule's bound is nearly reached."""
    tanh = FUNCTIONS["tanh"]
    at = torch.tensor([[0.6584789484624084]], dtype=torch.float64)  # where tanh″ is extreme
    z = Rounded(at, torch.tensor([1e-4], dtype=torch.float64))
    s = Rounded(torch.tensor([[1e3]], dtype=torch.float64), torch.tensor([1e-1]).double())
    error = float(rounding.chain(tanh.computed, z, s).error)
    slope, nearby = tanh.first(MP.mpf(float(at))), tanh.first(MP.mpf(float(at)) - MP.mpf("1e-4"))
    assert float(abs(nearby * MP.mpf("1000.1") - slope * 1000)) <= error
    assert error <= 1.0 * 0.1 + 0.78 * 1e3 * 1e-4
    assert error >= 0.76 * 1e3 * 1e-4


def test_deviation_counts_for_both_points() -> None:
    """torch's softplus is x beyond 20: 2·10⁻⁹ less than log(1 + eˣ), there and elsewhere."""
    softplus = FUNCTIONS["softplus"]
    z = rounded.exact(torch.tensor([[20.000001, 30.0, 0.0]], dtype=torch.float64))
    a = rounding.activation(softplus.computed, z)
    off = distance(exact(a.value[0]), [softplus.value(v) for v in exact(z.value[0])])
    assert 2e-9 < float(off) < float(a.error)
    assert float(a.error) >= 2 * 2.1e-9 * 3**0.5


def test_values_whose_squares_underflow_have_no_zero_error() -> None:
    tiny = torch.full((1, 2), 1e-170, dtype=torch.float64) / 3
    matrix = torch.tensor([[1e100, -1e100 / 7]], dtype=torch.float64)
    z = affine((Dense(matrix), norm2(Dense(matrix)), rounded.exact(tiny)))
    covered(z, [apply(rows(matrix), exact(tiny[0]))])
    assert float(z.error) > 0.0


@pytest.mark.parametrize(
    ("outer", "inner", "x"),
    [(1e200, 1e-200, 1e-150), (1e-300, 1e-50, 1e100), (7e-200, 3e-200, 1.0)],
)
def test_factors_that_underflow_together_have_no_zero_error(
    outer: float, inner: float, x: float
) -> None:
    """What a factor loses the next one amplifies; a tiny norm times u must not vanish."""
    factors = [torch.tensor([[size / 3]], dtype=torch.float64) for size in (outer, inner)]
    operator = Product((Dense(factors[0]), Dense(factors[1])))
    value = torch.tensor([[x / 7]], dtype=torch.float64)
    truth = [MP.mpf(float(factors[0])) * MP.mpf(float(factors[1])) * MP.mpf(float(value))]
    argument = operator, norm2(operator), rounded.exact(value)
    for z in (
        affine(argument),
        rounding.adjoint(*argument),
        rounding.offset(value[0], operator),
    ):
        assert distance(exact(z.value[0]), truth) <= MP.mpf(float(z.error))
        assert float(z.error) <= 1e-100


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "steep"])
def test_whole_networks(name: str, seed: int) -> None:
    """f = c·z₃(a(z₂(a(z₁(x))))) with a division in front and its gradient, weights up to 10³."""
    function = FUNCTIONS[name]
    spread = 3.0 * (seed % 2)
    w = [random(seed + 30, 7, 5, spread=spread), random(seed + 60, 6, 7), random(seed + 90, 3, 6)]
    b = [random(seed + 120 + k, len(w[k]), spread=spread) for k in range(3)]
    d = random(seed + 150, 5, spread=1)
    x = random(seed + 180, 4, 5)
    c = torch.tensor([[1.0, -1.0, 0.0]], dtype=torch.float64).expand(4, 3)
    first = Dense(w[0]) @ Diagonal.scaling(d, (5,), divide=True)
    nodes: list[Node] = [Input("x", (5,))]
    for k, operator in enumerate([first, Dense(w[1]), Dense(w[2])]):
        term = Term(f"A{k}", operator, nodes[-1].name)
        bias = rounding.offset(b[k])
        nodes.append(Affine(f"z{k}", (operator.shape[0],), (term,), bias))
        if k < 2:
            nodes.append(Activate(f"a{k}", nodes[-1].shape, f"z{k}", function.computed))
    graph = Graph(tuple(nodes), "z2")
    norms = {t.name: norm2(t.map) for n in nodes if isinstance(n, Affine) for t in n.terms}
    found = rounding.linearize(graph, norms, x, c)

    exact_w = [rows(matrix) for matrix in w]
    exact_w[0] = [[p / q for p, q in zip(r, exact(d), strict=True)] for r in exact_w[0]]
    for i in range(4):
        a, slopes = exact(x[i]), []
        for k in range(3):
            z = add(apply(exact_w[k], a), exact(b[k]))
            if k < 2:
                slopes.append([function.first(v) for v in z])
                a = [function.value(v) for v in z]
        gradient = exact(c[i])
        for k in (2, 1, 0):
            gradient = apply(transpose(exact_w[k]), gradient)
            if k > 0:
                gradient = [p * q for p, q in zip(gradient, slopes[k - 1], strict=True)]
        off_value = abs(MP.mpf(float(found.value[i])) - (z[0] - z[1]))
        off_gradient = distance(exact(found.gradient[i]), gradient)
        assert off_value <= MP.mpf(float(found.value_error[i]))
        assert off_gradient <= MP.mpf(float(found.gradient_error[i]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_promised(bad: float) -> None:
    x = torch.tensor([[1.0, bad]], dtype=torch.float64)
    operator = Dense(random(21, 2, 2))
    z = affine((operator, norm2(operator), rounded.exact(x)))
    assert not torch.isfinite(z.error).any()
    a = rounding.activation(FUNCTIONS["tanh"].computed, z)
    f = rounding.dot(torch.ones(1, 2, dtype=torch.float64), a)
    assert not torch.isfinite(f.error).any()
