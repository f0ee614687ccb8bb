"""Quadratic forms sent backward through a chain, as matrices, proved.

With v_k = z_k − ẑ_k, w_k = σ(z_k) − σ(ẑ_k) − D_k v_k, so that v_{k+1} = W_{k+1}(D_k v_k + w_k), and
T_k diagonal and positive with M ≼ θT_k for a θ < 1,

    v_{k+1}ᵀ Q_{k+1} v_{k+1} ≤ v_kᵀ (Q_k − Λ_k) v_k + w_kᵀ T_k w_k,
    Q_k = Λ_k + D_k [M + M T_k⁻¹ M / (1 − θ)] D_k,        M ≽ W_{k+1}ᵀ Q_{k+1} W_{k+1},

because the maximum of (D v + w)ᵀM(D v + w) − wᵀT w over w is vᵀD [M + M(T − M)⁻¹M] D v, and
(T − M)⁻¹ ≼ T⁻¹/(1 − θ). Every form may be replaced by a larger one. So what is stored is a float64
matrix and a number ε that covers all rounding: the form is Q̂ + εI exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF, frobenius
from .chain import Layer
from .eigenvalues import largest_eigenvalue

_GUARD = 1.0 + 1e-9
"""Covers the rounding of the few operations that make up an error bound."""


@dataclass(frozen=True)
class Form:
    """x ↦ xᵀ(Q̂ + εI)x.

    Args:
        matrix: Q̂, symmetric, in float64.
        excess: ε ≥ 0.
    """

    matrix: Tensor
    excess: float


def pulled_back(form: Form | Tensor, layer: Layer) -> Form:
    """A form at least Wᵀ Q W.

    Args:
        form: Q; a vector stands for a diagonal matrix.
        layer: Where W stands.
    """
    W = layer.matrix
    size = frobenius(W)
    if isinstance(form, Tensor):
        product = W.T @ (form[:, None] * W)
        inner, excess = float(form.abs().max()), 0.0
    else:
        product = W.T @ (form.matrix @ W)
        inner, excess = frobenius(form.matrix), form.excess
    matrix = 0.5 * (product + product.T)
    terms = 4.0 * (max(W.shape) + 4) * UNIT_ROUNDOFF
    lost = terms * size * size * inner + excess * size * size
    # W is Ŵ up to an error: its own square, and twice its product with the form.
    lost += layer.error * (2.0 * size + layer.error) * (inner + excess)
    return Form(matrix, lost * _GUARD + 1e-290)


@dataclass(frozen=True)
class Step:
    """A form at one layer, and the weights of the second error there.

    Args:
        form: Q_k.
        weights: T_k, exactly as it is stored.
    """

    form: Form
    weights: Tensor


def eliminated(M: Form, curvature: Tensor, D: Tensor, weights: Tensor, share: float) -> Step | None:
    """Q_k from M, with weights that are scaled so that M ≼ θT is proved.

    Args:
        M: The form behind the activations.
        curvature: Λ_k as a vector.
        D: D_k as a vector.
        weights: T_k > 0 as a vector, up to a factor that is found here.
        share: θ in (0, 1), to be met as nearly as the estimate of the eigenvalue allows.

    Returns:
        None if nothing can be proved, as for weights that are not positive numbers.
    """
    if not bool(((weights > 0.0) & weights.isfinite()).all()):
        return None
    root = weights.rsqrt()
    scaled = root[:, None] * M.matrix * root
    scaled = 0.5 * (scaled + scaled.T)
    # The roots and the products round; the excess is at most ε max 1/T.
    lost = 8.0 * UNIT_ROUNDOFF * frobenius(scaled) + M.excess * float((1.0 / weights).max())
    top = largest_eigenvalue(scaled) + lost * _GUARD
    if not math.isfinite(top):
        return None
    factor = max(top, 1e-12) / share
    T = weights * factor
    theta = max(top, 0.0) / factor * _GUARD
    if not theta < 1.0:
        return None
    gain = 1.0 / (1.0 - theta) * _GUARD
    half = M.matrix * T.rsqrt()
    bracket = M.matrix + gain * (half @ half.T)
    size, half_size = frobenius(M.matrix), frobenius(half)
    inverse = float((1.0 / T).max()) * _GUARD
    lost = M.excess + gain * (
        2.0 * M.excess * half_size * math.sqrt(inverse) + M.excess * M.excess * inverse
    )
    terms = 4.0 * (len(T) + 8) * UNIT_ROUNDOFF
    lost += terms * (size + gain * half_size * half_size)
    matrix = D[:, None] * bracket * D
    steep = float(D.abs().max())
    matrix = 0.5 * (matrix + matrix.T)
    matrix.diagonal().add_(curvature)
    excess = lost * steep * steep + 8.0 * UNIT_ROUNDOFF * frobenius(matrix)
    excess += 2.0 * UNIT_ROUNDOFF * float(curvature.abs().max())
    return Step(Form(matrix, excess * _GUARD + 1e-290), T)


def all_forms(
    layers: Sequence[Layer],
    curvatures: Sequence[Tensor],
    slopes: Sequence[Tensor],
    weights: Sequence[Tensor],
    shares: Sequence[float],
) -> tuple[Form, list[Tensor]] | None:
    """The form of the input, H, and the weights T_k of all layers but the last; None without proof.

    Args:
        layers: Those with activations.
        curvatures: Λ_k.
        slopes: D_k, of all but the last.
        weights: T_k up to factors, of all but the last.
        shares: θ_k, of all but the last.
    """
    form: Form | Tensor = curvatures[-1]
    found: list[Tensor] = []
    for k in range(len(layers) - 2, -1, -1):
        M = pulled_back(form, layers[k + 1])
        step = eliminated(M, curvatures[k], slopes[k], weights[k], shares[k])
        if step is None:
            return None
        form = step.form
        found.insert(0, step.weights)
    return pulled_back(form, layers[0]), found
