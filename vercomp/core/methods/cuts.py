"""Cuts: what the value and the gradient at one point prove about a whole ball.

Let f be twice differentiable with ∇²f ≽ −κI everywhere, κ ≥ 0. Taylor at any point x̂ gives
f(x) ≥ f(x̂) + ∇f(x̂)·(x − x̂) − ½κ‖x − x̂‖². Written about the input x₀, with v = x̂ − x₀:

    f(x) ≥ A + p·(x − x₀) − ½κ‖x − x₀‖²,    A = f(x̂) − ∇f(x̂)·v − ½κ‖v‖²,    p = ∇f(x̂) + κv,

so with G = ‖p‖, for every x with ‖x − x₀‖ ≤ s:

    f(x) ≥ A − G s − ½κ s²                                                              (cut)

Two promises follow from one cut:

* no x with f(x) ≤ 0 is nearer to x₀ than the first root, r = 2A / (G + √(G² + 2κA)), if A > 0
  (infinite if G = κ = 0);
* over the ball of radius ρ, f is at least A − Gρ − ½κρ².

If ‖∇f‖ ≤ L everywhere as well, then along every ray from x₀ the bound falls no faster than L: for
any turn s₁ ≤ s, f(x) ≥ A − G s₁ − ½κ s₁² − L (s − s₁), and s₁ = (L − G)/κ is the best one. Both
promises take it up: where κ is large, as in deep networks, the cut holds near x₀ and L beyond.

The first is the dual of Theorem 1 (second_order_provable_defenses), corrected for inexact
minimisation: φ_η(x) = ½‖x − x₀‖² + η f(x) is (1 − ηκ)-strongly convex for 0 ≤ η < 1/κ, hence
min φ_η ≥ φ_η(x̂) − ‖∇φ_η(x̂)‖² / (2(1 − ηκ)), and ½r² is the maximum of the right-hand side over η
(S-lemma; a test maximises numerically). The second is in the same way the dual of Theorem 2. So η
guides the search for x̂ and never appears in a promise; every x̂ is sound, exact minimiser or not,
and at x̂ = x₀ the promise is the closed form from one gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..linearization import Linearization

_ROUNDOFF = 2.0**-53
_TINY = torch.finfo(torch.float64).tiny


class Cut(NamedTuple):
    """f(x) ≥ A − G s − ½κ s² for every x with ‖x − x₀‖ ≤ s; κ is kept by the caller.

    Args:
        constant: A, shape (P,).
        slope: G ≥ 0, shape (P,).
    """

    constant: Tensor
    slope: Tensor


def screening_cut(value: Tensor, gradient: Tensor, step: Tensor, kappa: Tensor) -> Cut:
    """The cut in the dtype given, to search with; it promises nothing.

    A few roundings are taken off A: far from x₀ it is a small difference of large terms, and what
    cancellation makes up must not win the search over an honest point.

    Args:
        value: f(x̂), shape (P,).
        gradient: ∇f(x̂), shape (P, D).
        step: v = x̂ − x₀, shape (P, D).
        kappa: κ ≥ 0, shape (P,).
    """
    linear, length = (gradient * step).sum(1), step.norm(dim=1)
    bend = 0.5 * kappa * length * length
    magnitude = value.abs() + gradient.norm(dim=1) * length + bend
    constant = value - linear - bend - 4.0 * torch.finfo(value.dtype).eps * magnitude
    return Cut(constant, torch.linalg.vector_norm(gradient + kappa[:, None] * step, dim=1))


def rigorous_cut(linearization: Linearization, x: Tensor, x0: Tensor, kappa: Tensor) -> Cut:
    """A lower bound of A and an upper bound of G that hold in real arithmetic.

    With u = 2⁻⁵³, e_f and e_g the errors of value and gradient, v̂ = fl(x̂ − x₀) (each entry off by
    at most u|v_i|) and any order of summation,

        |g·v − fl(g·v̂)| ≤ (D + 2)u ‖g‖‖v‖,    |κ‖v‖² − fl(κ‖v̂‖²)| ≤ (D + 6)u κ‖v‖²,

    to first order in Du, and the four additions that form A lose at most 4u times the sum of the
    magnitudes. All of it is below s = 4(D + 8)u (|f̂| + e_f + ‖g‖‖v‖ + e_g‖v‖ + κ‖v‖²), whose factor
    4 also covers the rounding of s itself; D times the smallest normal number covers underflow.
    In the same way ‖fl(g + κv̂) − (g + κv)‖ ≤ 3u κ‖v‖ + 2u‖p‖, the norm is off by (½D + 4)u of
    itself, and G ≤ (‖p̂‖ + e_g + 4(D + 8)u κ‖v‖)(1 + 4(D + 8)u).

    Args:
        linearization: f and ∇f at x̂ with their errors, float64, shapes (P,) and (P, D).
        x: x̂, float64, shape (P, D).
        x0: x₀, float64, shape (P, D).
        kappa: κ ≥ 0, float64, shape (P,): ∇²f ≽ −κI proved.
    """
    value, gradient, value_error, gradient_error = linearization
    step = x - x0
    slack = 4.0 * (step.shape[1] + 8) * _ROUNDOFF
    length = _norm(step)
    bend = kappa * length * length
    magnitude = value.abs() + value_error + (_norm(gradient) + gradient_error) * length + bend
    constant = value - value_error - (gradient * step).sum(1) - gradient_error * length - 0.5 * bend
    constant = constant - slack * magnitude - 4.0 * (step.shape[1] + 8) * _TINY
    slope = _norm(gradient + kappa[:, None] * step) + gradient_error + slack * kappa * length
    return Cut(constant, slope * (1.0 + slack))


def cut_radius(cut: Cut, kappa: Tensor, lipschitz: Tensor | None = None) -> Tensor:
    """The first root of the cut: no x with f(x) ≤ 0 is nearer. 0 where A ≤ 0 or NaN is met.

    In float64 the result is rounded down: every operation is good to a few units in the last place
    (√(2κ)√A and hypot neither underflow nor overflow where the root is representable), together
    less than 32u.

    Args:
        cut: A and G, shape (P,).
        kappa: κ ≥ 0, shape (P,).
        lipschitz: L ≥ 0, shape (P,): ‖∇f‖ ≤ L everywhere. The root of the cut that turns into the
            slope L at s₁ (any s₁ is valid, so its rounding does not matter).
    """
    constant = torch.where(torch.isfinite(cut.constant), cut.constant, 0.0).clamp(min=0.0)
    root = torch.hypot(cut.slope, (2.0 * kappa).sqrt() * constant.sqrt())
    radius = 2.0 * constant / (cut.slope + root) * (1.0 - 32.0 * _ROUNDOFF)
    radius = torch.where((constant > 0.0) & (radius >= 0.0), radius, 0.0)
    if lipschitz is None:
        return radius
    turn = _turn(cut, kappa, lipschitz)
    height = cut_lower_bound(Cut(constant, cut.slope), kappa, turn)
    beyond = (turn + height / lipschitz) * (1.0 - 32.0 * _ROUNDOFF)
    return torch.where(height > 0.0, torch.fmax(radius, beyond), radius)


def cut_lower_bound(
    cut: Cut, kappa: Tensor, radius: Tensor, lipschitz: Tensor | None = None
) -> Tensor:
    """A − Gρ − ½κρ², rounded down: a lower bound of f over the ball; −∞ where NaN is met.

    With L, the bound turns into the slope L at s₁ ≤ ρ: A − G s₁ − ½κ s₁² − L (ρ − s₁).
    """
    turn = radius if lipschitz is None else torch.fmin(_turn(cut, kappa, lipschitz), radius)
    linear, quadratic = cut.slope * turn, 0.5 * kappa * turn * turn
    if lipschitz is not None:
        linear = linear + torch.where(turn < radius, lipschitz * (radius - turn), 0.0)
    slack = 8.0 * _ROUNDOFF * (cut.constant.abs() + linear + quadratic) + 8.0 * _TINY
    bound = cut.constant - linear - quadratic - slack
    return torch.where(torch.isnan(bound), -torch.inf, bound)


def _turn(cut: Cut, kappa: Tensor, lipschitz: Tensor) -> Tensor:
    """s₁ = max(0, (L − G)/κ), where the cut's slope reaches L; huge where it never does."""
    turn = ((lipschitz - cut.slope) / kappa).clamp(min=0.0)
    return torch.nan_to_num(turn, nan=0.0)


def upper_norm(x: Tensor) -> Tensor:
    """‖x‖ of each row of a float64 (P, D) tensor, rounded up."""
    return _norm(x) * (1.0 + (x.shape[1] + 8) * _ROUNDOFF)


def _norm(x: Tensor) -> Tensor:
    """‖x‖ row by row, scaled so that no square underflows or overflows."""
    scale = torch.maximum(x.amax(1), -x.amin(1))
    safe = torch.where((scale > 0.0) & torch.isfinite(scale), scale, 1.0)
    relative: Tensor = torch.linalg.vector_norm(x / safe[:, None], dim=1)
    return safe * relative
