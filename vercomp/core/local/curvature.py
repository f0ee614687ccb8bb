"""Curvature in balls around a point: κ with ∇²f ≽ −κI there.

The Hessian of f is Σ_j J_jᵀ diag(F_j ⊙ σ″(z_j)) J_j, with J_j = ∂z_j/∂x and F_j = ∂f/∂a_j. Let τ_j
be an upper bound of −F_j ⊙ σ″(z_j) over the ball, of any sign. Jacobians telescope: with the
Jacobians B and P at the point and σ′(z_w) = s_w + δ_w, |δ_w| ≤ Δ_w,

    J_j = B_j + E_j,      E_j = Σ_w P_jw diag(δ_w) J_w            over the activations w before j,

so that, with C_w = Σ_j P_jwᵀ diag(τ_j) B_j,

    −∇²f ≼ Σ_j B_jᵀ diag(τ_j) B_j + Σ_w (C_wᵀ diag(δ_w) J_w + its transpose)
           + Σ_j E_jᵀ diag(τ_j⁺) E_j.

Of the second sum, the part with B_w in the place of J_w is at most, for any weights m_w > 0,

    B_wᵀ diag(m_w Δ_w) B_w + C_wᵀ diag(Δ_w / m_w) C_w,

and all of that is one matrix before an eigenvalue is taken. What is left is bounded by norms,

    y_w = ‖Δ_w^½ J_w‖ ≤ ‖Δ_w^½ B_w‖ + e_w,      e_w = ‖Δ_w^½ E_w‖ ≤ Σ_k ‖Δ_w^½ P_wk Δ_k^½‖ y_k,
    ‖(τ_j⁺^½ E_j)_j‖ ≤ Σ_w ‖(τ_j⁺^½ P_jw Δ_w^½)_j‖ y_w.

As the ball shrinks, Δ vanishes, and κ becomes −λ_min(∇²f(x₀)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .gradients import Coefficient, added, sandwich
from .gram import Weighted, along, gram_eigenvalue, gram_norm, top_vector
from .neighbourhood import Neighbourhood
from .products import GUARD, Matrix

_WIDEST = 1e6
"""Weights m of one layer differ by no more than this factor from their middle."""


class _Terms(NamedTuple):
    """The terms of one bound.

    Args:
        parts: Those whose sum the eigenvalue is of.
        tau: τ by activation.
        jacobians: B by activation.
        crossed: C by activation.
        rest: What norms bound, by activation.
    """

    parts: Weighted
    tau: dict[str, Tensor]
    jacobians: dict[str, Matrix]
    crossed: dict[str, Matrix]
    rest: dict[str, float]


@dataclass(frozen=True)
class LocalCurvature:
    """κ in one ball, and where it comes from.

    Args:
        bound: κ, proved: an upper bound of −λ_min(∇²f). It may be negative.
        terms: What it is made of; None where nothing finite is proved.
    """

    bound: float
    terms: _Terms | None = None


class BallCurvature:
    """One ball around one point: what curvature bounds of all rows share.

    Args:
        neighbourhood: Balls of the 2-norm, or regions inside of such balls.
        b: The number of the point.
        j: The number of its ball.
    """

    def __init__(self, neighbourhood: Neighbourhood, b: int, j: int) -> None:
        self.neighbourhood, self.b, self.j = neighbourhood, b, j
        self.expansion = neighbourhood.expansion
        self.delta = {name: motion.slope[b, j] for name, motion in neighbourhood.motions.items()}
        #: Bounds of ‖Δ^½ J‖ and ‖Δ^½ E‖ of every activation.
        self.reach: dict[str, float] = {}
        self.error: dict[str, float] = {}
        self.finite = all(bool(delta.isfinite().all()) for delta in self.delta.values())
        if self.finite:
            self._jacobian_errors()

    def bound(self, *found: dict[str, Coefficient]) -> LocalCurvature:
        """κ of one row, or one κ for several rows.

        Args:
            found: The coefficients of each row over the same balls. The largest τ of several rows
                is as good for each; what is said of shares is then of the first.
        """
        tau = self._concavity(found[0])
        for other in found[1:]:
            for name, weights in self._concavity(other).items():
                tau[name] = torch.maximum(tau[name], weights) if name in tau else weights
        if not self.finite or any(not bool(t.isfinite().all()) for t in tau.values()):
            return LocalCurvature(math.inf)
        jacobians: dict[str, Matrix] = {}
        for node in self.expansion.activations:
            matrix = self.expansion.jacobian(node.parent)
            if matrix is not None and node.name in tau:
                jacobians[node.name] = matrix.row(self.b)
        crossed = self._crossed(tau, jacobians)
        parts: Weighted = []
        rest: dict[str, float] = {}
        for name, B in jacobians.items():
            weights = tau[name]
            if name in crossed and self.reach[name] > 0.0:
                C, delta = crossed[name], self.delta[name]
                m = _balance(B, C, delta)
                weights = (weights + m * delta) + (weights.abs() + m * delta) * 1e-14
                parts.append((C, (delta / m) * GUARD))
                norm = gram_norm([(C, delta)]) if self.error[name] > 0.0 else 0.0
                rest[name] = 2.0 * norm * self.error[name] * GUARD
            parts.append((B, weights))
        second = self._stacked({name: t.clamp_min(0.0) for name, t in tau.items()})
        total = sum(second.values())
        extra = (sum(rest.values()) + total * total) * GUARD
        bound = gram_eigenvalue(parts) + extra
        bound += abs(bound) * 1e-12
        if math.isnan(bound):
            return LocalCurvature(math.inf)
        for name, value in second.items():
            rest[name] = rest.get(name, 0.0) + value * total
        return LocalCurvature(bound, _Terms(parts, tau, jacobians, crossed, rest))

    def shares(
        self, found: LocalCurvature, coefficients: dict[str, Coefficient]
    ) -> dict[str, tuple[float, float]]:
        """What each activation has of a bound, by name; estimates that sum to about the bound.

        Along the direction in which the bound is attained: first the curvature that its own term
        has at the point itself, then what is added to that because its slopes and coefficients
        move in the ball.

        Args:
            found: The bound of one row.
            coefficients: The coefficients of that row.
        """
        if found.terms is None or not found.terms.parts:
            return {}
        terms, result = found.terms, {}
        v = top_vector(terms.parts)
        for name, B in terms.jacobians.items():
            F, motion = coefficients[name], self.neighbourhood.motions[name]
            moved = B.value[0] @ v
            here = -F.value[self.b] * motion.bend[self.b if len(motion.bend) > 1 else 0]
            lost = float(((terms.tau[name] - here) * moved.square()).sum())
            if name in terms.crossed:
                across = terms.crossed[name].value[0] @ v
                lost += 2.0 * float((self.delta[name] * (moved * across).abs()).sum())
            lost += terms.rest.get(name, 0.0)
            result[name] = (float((here * moved.square()).sum()), lost)
        return result

    def _jacobian_errors(self) -> None:
        """y and e of the activations that others come behind."""
        behind = {
            source
            for node in self.expansion.activations
            for source in self.expansion.before(node.parent)
        }
        for node in self.expansion.activations:
            if node.name not in behind:
                continue
            delta = self.delta[node.name]
            error = 0.0
            for source, matrix in self.expansion.before(node.parent).items():
                if self.reach[source] > 0.0:
                    columns = matrix.row(self.b).columns_scaled(self._root(source))
                    error += gram_norm([(columns, delta)]) * self.reach[source] * GUARD
            jacobian = self.expansion.jacobian(node.parent)
            own = 0.0 if jacobian is None else gram_norm([(jacobian.row(self.b), delta)])
            self.error[node.name] = error * GUARD
            self.reach[node.name] = (own + error) * GUARD

    def _root(self, name: str) -> Tensor:
        """√Δ, rounded up."""
        return self.delta[name].sqrt() * GUARD

    def _stacked(self, weights: dict[str, Tensor]) -> dict[str, float]:
        """‖(w_j^½ P_jw Δ_w^½)_j‖ y_w of every activation w, for weights ≥ 0."""
        result: dict[str, float] = {}
        for source in self.expansion.activations:
            parts: Weighted = []
            for node in self.expansion.activations:
                matrix = self.expansion.before(node.parent).get(source.name)
                if matrix is not None and node.name in weights:
                    scaled = matrix.row(self.b).columns_scaled(self._root(source.name))
                    parts.append((scaled, weights[node.name]))
            if parts and self.reach[source.name] > 0.0:
                result[source.name] = gram_norm(parts) * self.reach[source.name] * GUARD
        return result

    def _crossed(self, tau: dict[str, Tensor], jacobians: dict[str, Matrix]) -> dict[str, Matrix]:
        """C of every activation that others come behind."""
        result: dict[str, Matrix] = {}
        for node in self.expansion.activations:
            if node.name not in jacobians:
                continue
            for source, matrix in self.expansion.before(node.parent).items():
                part = sandwich(matrix.row(self.b), tau[node.name][None], jacobians[node.name])
                result[source] = added(result.get(source), part)
        return result

    def _concavity(self, found: dict[str, Coefficient]) -> dict[str, Tensor]:
        """τ of every activation, (n,)."""
        result: dict[str, Tensor] = {}
        for node in self.expansion.activations:
            if node.name not in found:
                continue
            F, second = found[node.name], self.neighbourhood.motions[node.name].second
            value, away = F.value[self.b], F.away[self.b, self.j]
            if second is None:
                result[node.name] = torch.full_like(value, math.inf)
                continue
            ends = (value - away, value + away)
            turns = [each[self.b, self.j] for each in second]
            upper = torch.stack([-f * turn for f in ends for turn in turns]).amax(0)
            upper = upper + (value.abs() + away) * torch.stack(turns).abs().amax(0) * 1e-14
            result[node.name] = torch.where(upper.isnan(), math.inf, upper)
        return result


def _balance(B: Matrix, C: Matrix, delta: Tensor) -> Tensor:
    """m: in proportion to the lengths of rows, so that both of their parts are about as large."""
    rows = [torch.linalg.vector_norm(each.value[0], dim=1) for each in (B, C)]
    ratio = rows[1] / rows[0].clamp_min(1e-300)
    middle = float(ratio.median())
    if not 0.0 < middle < math.inf:
        middle = 1.0
    ratio = ratio.nan_to_num(middle).clamp(middle / _WIDEST, middle * _WIDEST)
    sizes = []
    for part in ([(B, delta * ratio)], [(C, delta / ratio)]):
        sizes.append(along(part, top_vector(part)))
    usable = sizes[0] > 0.0 and sizes[1] > 0.0
    weights: Tensor = ratio * (math.sqrt(sizes[1] / sizes[0]) if usable else 1.0)
    return weights
