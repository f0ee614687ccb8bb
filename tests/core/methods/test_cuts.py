"""Cuts against exact rational arithmetic, and against the dual that they are the maximum of."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from certifiables import sphere
from torch import Tensor

from vercomp.core.linearization import Linearization
from vercomp.core.methods.cuts import (
    Cut,
    cut_lower_bound,
    cut_radius,
    rigorous_cut,
    screening_cut,
    upper_norm,
)


def random_problem(seed: int, dimension: int, pairs: int = 40) -> tuple[Tensor, ...]:
    """f, ∇f, x̂, x₀, κ over many orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def scale() -> Tensor:
        return 10.0 ** (2.0 * normal(pairs))

    x0 = normal(pairs, dimension)
    step = normal(pairs, dimension) * scale()[:, None] * 1e-3
    return (
        normal(pairs).abs() * scale(),
        normal(pairs, dimension) * scale()[:, None],
        x0 + step,
        x0,
        scale(),
    )


def rational(tensor: Tensor) -> list[Fraction]:
    return [Fraction(float(entry)) for entry in tensor.reshape(-1)]


@pytest.mark.parametrize("dimension", [1, 2, 7, 100])
def test_the_rigorous_cut_holds_in_exact_arithmetic(dimension: int) -> None:
    value, gradient, x, x0, kappa = random_problem(dimension, dimension)
    value[:20] += 30.0 * (gradient * (x - x0)).sum(1).abs()[:20]
    errors = 1e-9 * torch.ones_like(value)
    cut = rigorous_cut(Linearization(value, gradient, errors, errors), x, x0, kappa)
    radius = cut_radius(cut, kappa)
    rho = torch.full_like(kappa, 0.3)
    bound = cut_lower_bound(cut, kappa, rho)
    assert (radius > 0.0).sum() > 10
    for i in range(len(value)):
        k, e = Fraction(float(kappa[i])), Fraction(float(errors[i]))
        g, v = rational(gradient[i]), rational(x[i])
        v = [a - b for a, b in zip(v, rational(x0[i]), strict=True)]
        square = sum(a * a for a in v)
        # The worst f and ∇f within the errors: f − e, and ∇f turned by e along v or along p.
        # (e‖v‖)² and G² are compared squared: roots are not rational.
        constant = Fraction(float(value[i])) - e - sum(a * b for a, b in zip(g, v, strict=True))
        constant -= k * square / 2
        room = constant - Fraction(float(cut.constant[i]))
        assert room >= 0
        assert room * room >= e * e * square
        slope = Fraction(float(cut.slope[i])) - e
        assert slope >= 0
        assert slope * slope >= sum((a + k * b) ** 2 for a, b in zip(g, v, strict=True))

        a, G, r = (Fraction(float(entry[i])) for entry in (*cut, radius))
        if r > 0:
            assert a - G * r - k * r * r / 2 >= 0
        s = Fraction(float(rho[i]))
        assert Fraction(float(bound[i])) <= a - G * s - k * s * s / 2


@pytest.mark.parametrize("dimension", [1, 7, 100])
def test_the_rigorous_cut_is_not_wasteful(dimension: int) -> None:
    value, gradient, x, x0, kappa = random_problem(dimension, dimension)
    value += 3.0 * (gradient * (x - x0)).sum(1).abs() + kappa * ((x - x0) ** 2).sum(1)
    zero = torch.zeros_like(value)
    cut = rigorous_cut(Linearization(value, gradient, zero, zero), x, x0, kappa)
    plain = screening_cut(value, gradient, x - x0, kappa)
    torch.testing.assert_close(cut.constant, plain.constant, rtol=1e-10, atol=0.0)
    torch.testing.assert_close(cut.slope, plain.slope, rtol=1e-10, atol=0.0)


def test_the_radius_is_the_corrected_dual_maximised_over_eta() -> None:
    value, gradient, x, x0, kappa = random_problem(3, 5, pairs=200)
    v = x - x0
    # Near the boundary, where x̂ usually is.
    value = 0.3 * value + (gradient * v).sum(1) + 0.5 * kappa * (v * v).sum(1)
    radius = cut_radius(screening_cut(value, gradient, v, kappa), kappa)
    eta = torch.linspace(0.0, 1.0, 20001, dtype=torch.float64)[None, :-1] ** 4 / kappa[:, None]
    phi = 0.5 * (v * v).sum(1)[:, None] + eta * value[:, None]
    # ‖∇φ_η‖² = ‖v + ηg‖², expanded to keep the array small.
    residual = (v * v).sum(1)[:, None] + 2.0 * eta * (v * gradient).sum(1)[:, None]
    residual = residual + eta * eta * (gradient * gradient).sum(1)[:, None]
    dual = phi - residual / (2.0 * (1.0 - eta * kappa[:, None]))
    best = (2.0 * dual.amax(1).clamp(min=0.0)).sqrt()
    assert (radius > 0.0).sum() > 100
    rounding = 1e-14 * (phi.abs() + residual / (1.0 - eta * kappa[:, None])).amax(1)
    assert (0.5 * best**2 <= 0.5 * radius**2 + rounding).all()
    torch.testing.assert_close(best, radius, rtol=1e-4, atol=1e-6)


def test_at_the_input_it_is_the_closed_form() -> None:
    value, gradient, _, x0, kappa = random_problem(1, 4)
    zero = torch.zeros_like(value)
    cut = rigorous_cut(Linearization(value, gradient, zero, zero), x0, x0, kappa)
    norm = gradient.norm(dim=1)
    expected = 2.0 * value / (norm + (norm**2 + 2.0 * kappa * value).sqrt())
    torch.testing.assert_close(cut_radius(cut, kappa), expected, rtol=1e-12, atol=0.0)


def test_without_curvature_it_is_the_distance_to_a_plane_or_infinite() -> None:
    radius = cut_radius(
        Cut(torch.tensor([3.0, 3.0, 0.0]), torch.tensor([2.0, 0.0, 0.0])), torch.zeros(3)
    )
    assert radius.tolist() == [1.5, torch.inf, 0.0]


def test_every_point_gives_the_distance_where_the_curvature_bound_is_attained() -> None:
    network = sphere()
    x0 = torch.tensor([[0.3, 0.0, 0.0]], dtype=torch.float64).expand(50, -1)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    c = torch.tensor([[1.0, -1.0]], dtype=torch.float64).expand(50, -1)
    kappa = torch.ones(50, dtype=torch.float64)
    radius = cut_radius(rigorous_cut(network.linearize(x, c), x, x0, kappa), kappa)
    assert (radius <= 0.7).all()
    torch.testing.assert_close(radius, torch.full_like(radius, 0.7), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize(
    "broken", ["value", "gradient", "value_error", "gradient_error", "kappa", "x"]
)
@pytest.mark.parametrize("content", [torch.nan, torch.inf])
def test_nan_and_infinity_certify_nothing(broken: str, content: float) -> None:
    parts = {
        "value": torch.tensor([5.0]),
        "gradient": torch.tensor([[1.0, 2.0]]),
        "value_error": torch.tensor([0.0]),
        "gradient_error": torch.tensor([0.0]),
        "x": torch.tensor([[0.1, 0.0]]),
        "kappa": torch.tensor([1.0]),
    }
    parts = {name: part.double() for name, part in parts.items()}
    parts[broken].view(-1)[0] = content
    x, kappa = parts.pop("x"), parts.pop("kappa")
    cut = rigorous_cut(Linearization(**parts), x, torch.zeros_like(x), kappa)
    assert cut_radius(cut, kappa).tolist() == [0.0]
    bound = cut_lower_bound(cut, kappa, torch.tensor([0.1], dtype=torch.float64))
    assert bound.tolist() == [-torch.inf]


@pytest.mark.parametrize("scale", [1e-180, 1e-300, 1e150])
def test_squares_that_underflow_or_overflow_do_not_widen_the_certificate(scale: float) -> None:
    gradient = torch.tensor([[3.0, 4.0]], dtype=torch.float64) * scale
    zero = torch.zeros(1, dtype=torch.float64)
    linearization = Linearization(
        torch.tensor([10.0 * scale], dtype=torch.float64), gradient, zero, zero
    )
    origin = torch.zeros(1, 2, dtype=torch.float64)
    radius = cut_radius(rigorous_cut(linearization, origin, origin, zero), zero)
    assert radius <= 2.0
    torch.testing.assert_close(radius, torch.tensor([2.0]).double(), rtol=1e-6, atol=0.0)


def test_upper_norm_is_an_upper_bound() -> None:
    x = torch.randn(30, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for row, norm in zip(x, upper_norm(x), strict=True):
        exact = sum(entry * entry for entry in rational(row))
        assert Fraction(float(norm)) ** 2 >= exact
        assert float(norm) <= float(row.norm()) * (1.0 + 1e-14)


def saturating(s: Tensor, kappa: float, lipschitz: float, slope: float, height: float) -> Tensor:
    """The function of s ≥ 0 that falls as fast as it may: f″ = −κ until f′ = −L, straight then."""
    turn = (lipschitz - slope) / kappa
    bent = height - slope * s - 0.5 * kappa * s**2
    at_turn = height - slope * turn - 0.5 * kappa * turn**2
    return torch.where(s <= turn, bent, at_turn - lipschitz * (s - turn))


@pytest.mark.parametrize("height", [0.1, 1.0, 10.0, 1000.0])
def test_a_cut_that_turns_is_attained(height: float) -> None:
    """Along a ray nothing falls faster than the bound, and the worst function falls just so."""
    kappa, lipschitz, slope = 3.0, 5.0, 2.0
    values = [torch.tensor([v], dtype=torch.float64) for v in (height, slope, kappa, lipschitz)]
    cut = Cut(values[0], values[1])
    radius = cut_radius(cut, values[2], values[3])
    at_root = saturating(radius, kappa, lipschitz, slope, height)
    assert 0.0 <= float(at_root) <= 1e-13 * height
    assert float(radius) >= float(cut_radius(cut, values[2]))
    for rho in (0.3, 1.0, 4.0):
        ball = torch.tensor([rho], dtype=torch.float64)
        truth = float(saturating(ball, kappa, lipschitz, slope, height))
        bound = float(cut_lower_bound(cut, values[2], ball, values[3]))
        assert truth - 1e-13 * (1.0 + height) <= bound <= truth


def test_a_cut_that_turns_is_rounded_down() -> None:
    generator = torch.Generator().manual_seed(3)
    draws = torch.rand(200, 4, generator=generator, dtype=torch.float64)
    height, slope, kappa, steeper = (10.0 ** (6.0 * draws - 3.0)).unbind(1)
    lipschitz = slope + steeper
    found = cut_radius(Cut(height, slope), kappa, lipschitz)
    for A, G, K, L, r in zip(height, slope, kappa, lipschitz, found, strict=True):
        A, G, K, L, s = (Fraction(float(v)) for v in (A, G, K, L, r))
        turn = min(max((L - G) / K, Fraction(0)), s)
        assert A - G * turn - K * turn**2 / 2 - L * (s - turn) >= 0


@pytest.mark.parametrize(
    ("kappa", "lipschitz", "expected"),
    [(0.0, 0.0, torch.inf), (0.0, torch.inf, 0.5), (2.0, torch.inf, None), (2.0, torch.nan, None)],
)
def test_extreme_lipschitz_constants(kappa: float, lipschitz: float, expected: float) -> None:
    slope = 0.0 if lipschitz == 0.0 else 2.0
    cut = Cut(torch.ones(1).double(), torch.full((1,), slope).double())
    bend, limit = torch.full((1,), kappa).double(), torch.full((1,), lipschitz).double()
    radius = cut_radius(cut, bend, limit)
    if expected is None:
        expected = float(cut_radius(cut, bend))
    assert float(radius) == pytest.approx(expected, rel=1e-12)
