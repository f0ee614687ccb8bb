"""The network example: 2 inputs to 2 logits.

    layer0 = affine(x)  [3]
    a0 = tanh(layer0)  [3]
    layer1 = affine(a0)  [4]
    a1 = softplus(layer1)  [4]
    layer2 = affine(a1, a0)  [2]

Forward pass in plain torch; bounds of curvature and of rounding as programs over the
same parameters. ``load()`` gives the network with its weights, ready to use.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .runtime import rounding
from .runtime.arithmetic import Arithmetic, Bound
from .runtime.elementwise import Elementwise
from .runtime.hessians import margins_along, margins_at, quadratic
from .runtime.linearization import Linearization
from .runtime.network import VerifiedNetwork
from .runtime.operators import Dense, Operator
from .runtime.regularizer import Regularizer, trainable
from .runtime.rounding import Rounded, Summand
from .runtime.storage import load_network


def _tanh(z: Tensor) -> Tensor:
    """σ(z) = tanh(z)."""
    return torch.tanh(z)


def _tanh_first(z: Tensor) -> Tensor:
    """σ′(z) = 1 − tanh(z)²."""
    return 1 - torch.tanh(z) ** 2


def _tanh_second(z: Tensor) -> Tensor:
    """σ″(z) = −(2 − 2·tanh(z)²)·tanh(z)."""
    t = torch.tanh(z)
    return -t * (2 - 2 * t**2)


# Ranges of σ′ and σ″ over ℝ, rounded outward; exact: σ′ ∈ [0, 1], σ″ ∈ [−4·√3/9, 4·√3/9]
TANH = Elementwise(
    value=_tanh,
    first=_tanh_first,
    second=_tanh_second,
    first_range=(0.0, 1.0),
    second_range=(-0.769800358919501, 0.769800358919501),
)


def _softplus(z: Tensor) -> Tensor:
    """σ(z) = log(1 + exp(z))."""
    return F.softplus(z)


def _softplus_first(z: Tensor) -> Tensor:
    """σ′(z) = sigmoid(z)."""
    return torch.sigmoid(z)


def _softplus_second(z: Tensor) -> Tensor:
    """σ″(z) = (1 − sigmoid(z))·sigmoid(z)."""
    s = torch.sigmoid(z)
    return s * (1 - s)


# Ranges of σ′ and σ″ over ℝ, rounded outward; exact: σ′ ∈ [0, 1], σ″ ∈ [0, 1/4]
SOFTPLUS = Elementwise(
    value=_softplus,
    first=_softplus_first,
    second=_softplus_second,
    first_range=(0.0, 1.0),
    second_range=(0.0, 0.25),
    deviation=2.061153620314402e-09,
)


class Maps(NamedTuple):
    """The linear map A of every affine node z = Σ A a + b, on flat vectors."""

    layer0: Operator
    layer1: Operator
    layer2_0: Operator
    layer2_1: Operator


def maps(net: Any) -> Maps:
    """The maps over the parameters of ``net``: a Network, or live parameters."""
    return Maps(
        layer0=Dense(net.layer0_weight),
        layer1=Dense(net.layer2_weight),
        layer2_0=Dense(net.layer4_weight),
        layer2_1=Dense(net.skip_weight),
    )


class Biases(NamedTuple):
    """The bias b of every affine node, as a row, and a bound of its rounding."""

    layer0: Rounded
    layer1: Rounded
    layer2: Rounded


def biases(net: Any) -> Biases:
    """The biases over the parameters of ``net``."""
    layer0 = rounding.offset(net.layer0_bias)
    layer1 = rounding.offset(net.layer2_bias)
    layer2 = rounding.offset(net.layer4_bias)
    return Biases(layer0, layer1, layer2)


def curvature(ops: Arithmetic, net: Any, c: Tensor) -> Bound:
    """κ with ∇²(c·z) ≽ −κI, and L with ‖∇(c·z)‖ ≤ L, for every input and each row of c (P, C).

    ``ops`` is the arithmetic: rigorous for certificates, differentiable for training.
    """
    A = maps(net)
    # ‖A‖ of layer0
    norm_layer0 = ops.norm2(A.layer0, "norm_layer0")
    # ‖∂layer0/∂x‖ ≤ r_layer0 (equation 5)
    r_layer0_squared = ops.multiply(norm_layer0, norm_layer0)
    # g = sup |σ′| of a0
    g_a0 = ops.constant(TANH.g)
    # ‖∂a0/∂x‖ ≤ rho_a0 = g · ‖∂layer0/∂x‖
    rho_a0 = ops.multiply(g_a0, norm_layer0)
    rho_a0_squared = ops.multiply(rho_a0, rho_a0)
    # ‖A‖ of layer1
    norm_layer1 = ops.norm2(A.layer1, "norm_layer1")
    # ‖∂layer1/∂x‖ ≤ r_layer1 (equation 5)
    r_layer1 = ops.multiply(norm_layer1, rho_a0)
    r_layer1_squared = ops.multiply(r_layer1, r_layer1)
    # g = sup |σ′| of a1
    g_a1 = ops.constant(SOFTPLUS.g)
    # ‖A‖ of layer2
    norm_layer2 = ops.norm2(A.layer2_0, "norm_layer2")
    norm_layer2_2 = ops.norm2(A.layer2_1, "norm_layer2_2")
    # The coefficients c = e_y − e_t of the margin, exactly.
    f_output = ops.exactly(c)
    # Back through layer2: Aᵀ mid ± |A|ᵀ rad; norms by ‖A‖
    f_a1 = ops.adjoint(A.layer2_0, f_output)
    f_a0 = ops.adjoint(A.layer2_1, f_output)
    l_a1 = ops.row_norm(f_a1)
    l_a0 = ops.row_norm(f_a0)
    # Curvature of a1: −λ_min ≤ k_a1, with q = max(0, −min F ⊙ σ″)
    q_a1 = ops.concavity(f_a1, SOFTPLUS.second_range)
    q_a1_max = ops.row_max(q_a1)
    k_a1_norms = ops.multiply(q_a1_max, r_layer1_squared)
    w_a1 = ops.weighted_norm2_squared(A.layer1, q_a1, "w_a1")
    k_a1_matrix = ops.multiply(w_a1, rho_a0_squared)
    k_a1 = ops.refine(k_a1_norms, k_a1_matrix)
    # Back through a1: F ⊙ σ′; norms by g
    f_layer1 = ops.through(f_a1, SOFTPLUS.first_range)
    l_layer1 = ops.multiply(g_a1, l_a1)
    # Back through layer1: Aᵀ mid ± |A|ᵀ rad; norms by ‖A‖
    f_a0_2 = ops.adjoint(A.layer1, f_layer1)
    f_a0_3 = ops.join(f_a0, f_a0_2)
    l_a0_2 = ops.multiply(norm_layer1, l_layer1)
    l_a0_3 = ops.add(l_a0, l_a0_2)
    # Curvature of a0: −λ_min ≤ k_a0, with q = max(0, −min F ⊙ σ″)
    q_a0 = ops.concavity(f_a0_3, TANH.second_range)
    q_a0_max = ops.row_max(q_a0)
    k_a0_norms = ops.multiply(q_a0_max, r_layer0_squared)
    w_a0 = ops.weighted_norm2_squared(A.layer0, q_a0, "w_a0")
    k_a0 = ops.refine(k_a0_norms, w_a0)
    # Back through a0: F ⊙ σ′; norms by g
    l_a0_4 = ops.row_norm(f_a0_3)
    l_a0_5 = ops.minimum(l_a0_3, l_a0_4)
    l_layer0 = ops.multiply(g_a0, l_a0_5)
    # Back through layer0: Aᵀ mid ± |A|ᵀ rad; norms by ‖A‖
    l_input = ops.multiply(norm_layer0, l_layer0)
    # κ: the sum over the activations
    kappa = ops.add(k_a1, k_a0)
    norms = {
        "layer0": norm_layer0,
        "layer1": norm_layer1,
        "layer2_0": norm_layer2,
        "layer2_1": norm_layer2_2,
    }
    shares: dict[str, Tensor] = {"a1": k_a1, "a0": k_a0}
    return Bound(kappa, l_input, norms, shares)


def linearize(net: Any, norms: Mapping[str, float], x: Tensor, c: Tensor) -> Linearization:
    """f = c·z(x) and ∇f at flat points x (P, D), with bounds of the rounding."""
    A = maps(net)
    b = biases(net)
    z_x = rounding.exact(x)
    z_layer0 = rounding.affine([Summand(A.layer0, norms["layer0"], z_x)], b.layer0)
    z_a0 = rounding.activation(TANH, z_layer0)
    z_layer1 = rounding.affine([Summand(A.layer1, norms["layer1"], z_a0)], b.layer1)
    z_a1 = rounding.activation(SOFTPLUS, z_layer1)
    z_layer2 = rounding.affine(
        [
            Summand(A.layer2_0, norms["layer2_0"], z_a1),
            Summand(A.layer2_1, norms["layer2_1"], z_a0),
        ],
        b.layer2,
    )
    f = rounding.dot(c, z_layer2)
    # Backward: s is the gradient of f with respect to each node.
    s_layer2 = rounding.exact(c)
    s_a1 = rounding.adjoint(A.layer2_0, norms["layer2_0"], s_layer2)
    s_a0 = rounding.adjoint(A.layer2_1, norms["layer2_1"], s_layer2)
    s_layer1 = rounding.chain(SOFTPLUS, z_layer1, s_a1)
    s_a0 = rounding.total([s_a0, rounding.adjoint(A.layer1, norms["layer1"], s_layer1)])
    s_layer0 = rounding.chain(TANH, z_layer0, s_a0)
    s_x = rounding.adjoint(A.layer0, norms["layer0"], s_layer0)
    return Linearization(f.value[..., 0], s_x.value, f.error, s_x.error)


class Network(VerifiedNetwork):
    """The network itself: batches (B, 2) to logits (B, 2).

    An ordinary module: train it, move it, save it; bounds follow the weights.
    """

    input_shape = (2,)
    classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.layer0_weight = nn.Parameter(torch.empty(3, 2))
        self.layer0_bias = nn.Parameter(torch.empty(3))
        self.layer2_weight = nn.Parameter(torch.empty(4, 3))
        self.layer2_bias = nn.Parameter(torch.empty(4))
        self.layer4_weight = nn.Parameter(torch.empty(2, 4))
        self.layer4_bias = nn.Parameter(torch.empty(2))
        self.skip_weight = nn.Parameter(torch.empty(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        layer0 = F.linear(x, self.layer0_weight, self.layer0_bias)
        a0 = TANH.value(layer0)
        layer1 = F.linear(a0, self.layer2_weight, self.layer2_bias)
        a1 = SOFTPLUS.value(layer1)
        return F.linear(a1, self.layer4_weight, self.layer4_bias) + F.linear(a0, self.skip_weight)

    def bound_program(self, arithmetic: Any, c: Tensor) -> Bound:
        """The curvature program over these parameters."""
        return curvature(arithmetic, self, c)

    def evaluate_with_errors(
        self, x: Tensor, c: Tensor, norms: Mapping[str, float]
    ) -> Linearization:
        """Value, gradient and what rounding did to them."""
        return linearize(self, norms, x, c)

    def hessian(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """∇²(z_y − z_t) at each input x (B, *input_shape), exactly (Lemma 1): (B, D, D).

        In the network's type if the inputs are in it, or else in float64; see runtime/hessians.py.
        """
        net, points, c = margins_at(self, x, y, t)
        return hessian_matrix(net, points, c).to(x.device)

    def hessian_vector_product(self, x: Tensor, y: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """∇²(z_y − z_t) v at each input, for directions v shaped like x; the same shape."""
        net, points, c, directions = margins_along(self, x, y, t, v)
        return hessian_product(net, points, c, directions).reshape(x.shape).to(x.device)


def hessian_matrix(net: Any, x: Tensor, c: Tensor) -> Tensor:
    """∇²(c·z) at flat points x (P, D), by Lemma 1: (P, D, D)."""
    P, D = x.shape
    H = torch.zeros(P, D, D, dtype=x.dtype, device=x.device)
    A = maps(net)
    b = biases(net)
    layer0 = A.layer0.apply(x) + b.layer0.value
    a0 = TANH.value(layer0)
    layer1 = A.layer1.apply(a0) + b.layer1.value
    # B: the Jacobian of each node, (P, n, D).
    B_x = torch.eye(D, dtype=x.dtype, device=x.device)
    B_layer0 = A.layer0.apply_to_rows(B_x)
    B_a0 = TANH.first(layer0)[:, :, None] * B_layer0
    B_layer1 = A.layer1.apply_to_rows(B_a0)
    # F: the gradient of c·z with respect to each node, (P, n).
    F_layer2 = c
    F_a1 = A.layer2_0.adjoint(F_layer2)
    F_a0 = A.layer2_1.adjoint(F_layer2)
    H += quadratic(B_layer1, F_a1 * SOFTPLUS.second(layer1))
    F_layer1 = SOFTPLUS.first(layer1) * F_a1
    F_a0 = F_a0 + A.layer1.adjoint(F_layer1)
    H += quadratic(B_layer0, F_a0 * TANH.second(layer0))
    return H


def hessian_product(net: Any, x: Tensor, c: Tensor, v: Tensor) -> Tensor:
    """∇²(c·z) v at flat points x (P, D) for directions v (P, D): (P, D)."""
    A = maps(net)
    b = biases(net)
    layer0 = A.layer0.apply(x) + b.layer0.value
    a0 = TANH.value(layer0)
    layer1 = A.layer1.apply(a0) + b.layer1.value
    # V: the derivative of each node along v.
    V_x = v
    V_layer0 = A.layer0.apply(V_x)
    V_a0 = TANH.first(layer0) * V_layer0
    V_layer1 = A.layer1.apply(V_a0)
    # F: the gradient of c·z with respect to each node; G: its derivative along v.
    F_layer2 = c
    F_a1 = A.layer2_0.adjoint(F_layer2)
    F_a0 = A.layer2_1.adjoint(F_layer2)
    G_layer1 = SOFTPLUS.second(layer1) * V_layer1 * F_a1
    F_layer1 = SOFTPLUS.first(layer1) * F_a1
    F_a0 = F_a0 + A.layer1.adjoint(F_layer1)
    G_a0 = A.layer1.adjoint(G_layer1)
    G_layer0 = TANH.first(layer0) * G_a0
    G_layer0 = G_layer0 + TANH.second(layer0) * V_layer0 * F_a0
    return A.layer0.adjoint(G_layer0)


def load(folder: str | Path | None = None) -> Network:
    """The network with the weights and bounds in ``folder`` (this package's own by default)."""
    return load_network(Network(), Path(folder) if folder is not None else Path(__file__).parent)


@cache
def _own() -> Network:
    return load()


def hessian(x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """The Hessian with the weights stored beside this file; see :meth:`Network.hessian`."""
    return _own().hessian(x, y, t)


def hessian_vector_product(x: Tensor, y: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """Its product with directions; see :meth:`Network.hessian_vector_product`."""
    return _own().hessian_vector_product(x, y, t, v)


def regularizer(network: Network, pairs_per_call: int | None = 16, every: int = 2) -> Regularizer:
    """The curvature bound as a term of a training loss, over the network's live parameters."""
    return Regularizer(
        curvature,
        network,
        network.classes,
        trainable(network),
        pairs_per_call,
        every,
        symmetric=False,
    )
