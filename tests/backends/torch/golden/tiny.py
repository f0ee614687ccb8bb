"""The network example: 2 inputs to 2 outputs.

    layer0 = affine(x)  [3]
    a0 = tanh(layer0)  [3]
    layer1 = affine(a0)  [4]
    a1 = softplus(layer1)  [4]
    layer2 = affine(a1, a0)  [2]

Forward pass in plain torch; bounds of curvature and of rounding as programs over the
same parameters. ``load()`` gives the network with its weights, ready to use.
"""

from __future__ import annotations

from functools import cache
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .core.arithmetic.operations import Arithmetic, Bound
from .core.arithmetic.rounded import Rounded
from .core.arithmetic.tensors import quadratic
from .core.domains import rounding
from .core.functions import Elementwise
from .core.graph import Activate, Affine, Graph, Input, Term
from .core.hessians import margins_along, margins_at
from .core.maps.operators import Dense, Operator
from .core.network import VerifiedNetwork
from .core.pieces import Pieces, Turn
from .core.regularizer import Regularizer, trainable
from .core.storage import load_network


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
    # Where σ, σ′ and σ″ turn, jump or end: bounds of the position, and of the value
    # there (at a jump, to the left and to the right of it). A sign for each piece.
    pieces=(
        Pieces(  # σ
            turns=(
                Turn((-inf, -inf), (-1.0, -1.0)),
                Turn((inf, inf), (1.0, 1.0)),
            ),
            signs="+",
            steepest=1.0,
        ),
        Pieces(  # σ′
            turns=(
                Turn((-inf, -inf), (0.0, 0.0)),
                Turn((0.0, 0.0), (1.0, 1.0)),
                Turn((inf, inf), (0.0, 0.0)),
            ),
            signs="+-",
            steepest=0.769800358919501,
        ),
        Pieces(  # σ″
            turns=(
                Turn((-inf, -inf), (0.0, 0.0)),
                Turn(
                    (-0.6584789484624084, -0.6584789484624083),
                    (0.7698003589195009, 0.769800358919501),
                ),
                Turn(
                    (0.6584789484624083, 0.6584789484624084),
                    (-0.769800358919501, -0.7698003589195009),
                ),
                Turn((inf, inf), (0.0, 0.0)),
            ),
            signs="+-+",
            steepest=2.0,
        ),
    ),
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
    # Where σ, σ′ and σ″ turn, jump or end: bounds of the position, and of the value
    # there (at a jump, to the left and to the right of it). A sign for each piece.
    pieces=(
        Pieces(  # σ
            turns=(
                Turn((-inf, -inf), (0.0, 0.0)),
                Turn((inf, inf), (inf, inf)),
            ),
            signs="+",
            steepest=1.0,
        ),
        Pieces(  # σ′
            turns=(
                Turn((-inf, -inf), (0.0, 0.0)),
                Turn((inf, inf), (1.0, 1.0)),
            ),
            signs="+",
            steepest=0.25,
        ),
        Pieces(  # σ″
            turns=(
                Turn((-inf, -inf), (0.0, 0.0)),
                Turn((0.0, 0.0), (0.25, 0.25)),
                Turn((inf, inf), (0.0, 0.0)),
            ),
            signs="+-",
            steepest=0.09622504486493763,
        ),
    ),
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


def graph(net: Any) -> Graph:
    """The nodes over those maps and biases: what analyses walk."""
    A, b = maps(net), biases(net)
    return Graph(
        (
            Input("x", (2,)),
            Affine("layer0", (3,), (Term("layer0", A.layer0, "x"),), b.layer0),
            Activate("a0", (3,), "layer0", TANH),
            Affine("layer1", (4,), (Term("layer1", A.layer1, "a0"),), b.layer1),
            Activate("a1", (4,), "layer1", SOFTPLUS),
            Affine(
                "layer2",
                (2,),
                (Term("layer2_0", A.layer2_0, "a1"), Term("layer2_1", A.layer2_1, "a0")),
                b.layer2,
            ),
        ),
        "layer2",
    )


def curvature(ops: Arithmetic, A: Maps, c: Tensor) -> Bound:
    """κ with ∇²(c·z) ≽ −κI, and L with ‖∇(c·z)‖ ≤ L, for every input and each row of c (P, C).

    ``ops`` is the arithmetic: rigorous for certificates, differentiable for training.
    """
    # ‖A‖ of layer0
    norm_layer0 = ops.norm2(A.layer0, name="norm_layer0")
    # ‖∂layer0/∂x‖ ≤ r_layer0 (equation 5)
    r_layer0_squared = ops.multiply(norm_layer0, norm_layer0)
    # g = sup |σ′| of a0
    g_a0 = ops.constant(TANH.g)
    # ‖∂a0/∂x‖ ≤ rho_a0 = g · ‖∂layer0/∂x‖
    rho_a0 = ops.multiply(g_a0, norm_layer0)
    rho_a0_squared = ops.multiply(rho_a0, rho_a0)
    # ‖A‖ of layer1
    norm_layer1 = ops.norm2(A.layer1, name="norm_layer1")
    # ‖∂layer1/∂x‖ ≤ r_layer1 (equation 5)
    r_layer1 = ops.multiply(norm_layer1, rho_a0)
    r_layer1_squared = ops.multiply(r_layer1, r_layer1)
    # g = sup |σ′| of a1
    g_a1 = ops.constant(SOFTPLUS.g)
    # ‖A‖ of layer2
    norm_layer2_0 = ops.norm2(A.layer2_0, name="norm_layer2_0")
    norm_layer2_1 = ops.norm2(A.layer2_1, name="norm_layer2_1")
    # The coefficients c = e_y − e_t of the margin, exactly.
    f_output = ops.exactly(c)
    # Back through layer2: Aᵀ mid ± |A|ᵀ rad
    f_a1 = ops.adjoint(A.layer2_0, f_output)
    f_a0 = ops.adjoint(A.layer2_1, f_output)
    # Back through a1: F ⊙ σ′
    f_layer1 = ops.through(f_a1, SOFTPLUS.first_range)
    # Back through layer1: Aᵀ mid ± |A|ᵀ rad
    f_a0_2 = ops.adjoint(A.layer1, f_layer1)
    f_a0_3 = ops.join(f_a0, f_a0_2)
    # Curvature of a1: −λ_min ≤ k_a1, with q = max(0, −min F ⊙ σ″)
    q_a1 = ops.concavity(f_a1, SOFTPLUS.second_range)
    q_a1_max = ops.row_max(q_a1)
    k_a1_norms = ops.multiply(q_a1_max, r_layer1_squared)
    w_a1 = ops.weighted_norm2_squared(A.layer1, q_a1, name="w_a1")
    k_a1_matrix = ops.multiply(w_a1, rho_a0_squared)
    k_a1 = ops.refine(k_a1_norms, k_a1_matrix)
    # Curvature of a0: −λ_min ≤ k_a0, with q = max(0, −min F ⊙ σ″)
    q_a0 = ops.concavity(f_a0_3, TANH.second_range)
    q_a0_max = ops.row_max(q_a0)
    k_a0_norms = ops.multiply(q_a0_max, r_layer0_squared)
    w_a0 = ops.weighted_norm2_squared(A.layer0, q_a0, name="w_a0")
    k_a0 = ops.refine(k_a0_norms, w_a0)
    # Back through layer2: norms by ‖A‖
    l_a1 = ops.row_norm(f_a1)
    l_a0 = ops.row_norm(f_a0)
    # Back through a1: norms by g
    l_layer1 = ops.multiply(g_a1, l_a1)
    # Back through layer1: norms by ‖A‖
    l_a0_2 = ops.multiply(norm_layer1, l_layer1)
    l_a0_3 = ops.add(l_a0, l_a0_2)
    # Back through a0: norms by g
    l_a0_4 = ops.row_norm(f_a0_3)
    l_a0_5 = ops.minimum(l_a0_3, l_a0_4)
    l_layer0 = ops.multiply(g_a0, l_a0_5)
    # Back through layer0: norms by ‖A‖
    l_input = ops.multiply(norm_layer0, l_layer0)
    # κ: the sum over the activations
    kappa = ops.add(k_a1, k_a0)
    norms = {
        "layer0": norm_layer0,
        "layer1": norm_layer1,
        "layer2_0": norm_layer2_0,
        "layer2_1": norm_layer2_1,
    }
    shares: dict[str, Tensor] = {"a1": k_a1, "a0": k_a0}
    return Bound(kappa, l_input, norms, shares)


class Network(VerifiedNetwork):
    """The network itself: batches (B, 2) to outputs (B, 2).

    An ordinary module: train it, move it, save it; bounds follow the weights.
    """

    input_shape = (2,)
    output_shape = (2,)

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
        """The outputs."""
        layer0 = F.linear(x, self.layer0_weight, self.layer0_bias)
        a0 = TANH.value(layer0)
        layer1 = F.linear(a0, self.layer2_weight, self.layer2_bias)
        a1 = SOFTPLUS.value(layer1)
        return F.linear(a1, self.layer4_weight, self.layer4_bias) + F.linear(a0, self.skip_weight)

    def nodes(self) -> Graph:
        """The graph over these parameters."""
        return graph(self)

    def hessian(self, x: Tensor, y: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        """∇²(z_y − z_t) at each input x (B, *input_shape), exactly (Lemma 1): (B, D, D).

        Of one output z, ∇²z. In the network's type if the inputs are in it, or else in float64; see
        core/hessians.py.
        """
        net, points, c = margins_at(self, x, y, t)
        return hessian_matrix(net, points, c).to(x.device)

    def hessian_vector_product(
        self, x: Tensor, y: Tensor | None, t: Tensor | None, v: Tensor
    ) -> Tensor:
        """∇²(z_y − z_t) v at each input, for directions v shaped like x; the same shape."""
        net, points, c, directions = margins_along(self, x, y, t, v)
        return hessian_product(net, points, c, directions).reshape(x.shape).to(x.device)


def hessian_matrix(net: Any, x: Tensor, c: Tensor) -> Tensor:
    """∇²(c·z) at flat points x (P, D), by Lemma 1: (P, D, D)."""
    A = maps(net)
    b = biases(net)
    B_x = torch.eye(x.shape[1]).to(x)
    layer0 = A.layer0.apply(x) + b.layer0.value
    a0 = TANH.value(layer0)
    layer1 = A.layer1.apply(a0) + b.layer1.value
    # B: the Jacobian of each node, (P, n, D).
    B_layer0 = A.layer0.apply_to_rows(B_x)
    B_a0 = TANH.first(layer0)[:, :, None] * B_layer0
    B_layer1 = A.layer1.apply_to_rows(B_a0)
    # F: the gradient of c·z with respect to each node, (P, n).
    F_a1 = A.layer2_0.adjoint(c)
    F_a0 = A.layer2_1.adjoint(c)
    F_layer1 = SOFTPLUS.first(layer1) * F_a1
    F_a0_2 = A.layer1.adjoint(F_layer1)
    F_a0_3 = F_a0 + F_a0_2
    return quadratic(B_layer1, F_a1 * SOFTPLUS.second(layer1)) + quadratic(
        B_layer0, F_a0_3 * TANH.second(layer0)
    )


def hessian_product(net: Any, x: Tensor, c: Tensor, v: Tensor) -> Tensor:
    """∇²(c·z) v at flat points x (P, D) for directions v (P, D): (P, D)."""
    A = maps(net)
    b = biases(net)
    layer0 = A.layer0.apply(x) + b.layer0.value
    a0 = TANH.value(layer0)
    layer1 = A.layer1.apply(a0) + b.layer1.value
    # V: the derivative of each node along v.
    V_layer0 = A.layer0.apply(v)
    V_a0 = TANH.first(layer0) * V_layer0
    V_layer1 = A.layer1.apply(V_a0)
    # F: the gradient of c·z with respect to each node.
    F_a1 = A.layer2_0.adjoint(c)
    F_a0 = A.layer2_1.adjoint(c)
    F_layer1 = SOFTPLUS.first(layer1) * F_a1
    F_a0_2 = A.layer1.adjoint(F_layer1)
    F_a0_3 = F_a0 + F_a0_2
    # G: the derivative of F along v.
    G_layer1 = SOFTPLUS.second(layer1) * V_layer1 * F_a1
    G_a0 = A.layer1.adjoint(G_layer1)
    G_layer0 = TANH.first(layer0) * G_a0
    G_layer0_2 = G_layer0 + TANH.second(layer0) * V_layer0 * F_a0_3
    return A.layer0.adjoint(G_layer0_2)


def load(folder: str | Path | None = None) -> Network:
    """The network with the weights and bounds in ``folder`` (this package's own by default)."""
    return load_network(Network(), Path(folder) if folder is not None else Path(__file__).parent)


@cache
def _own() -> Network:
    return load()


def hessian(x: Tensor, y: Tensor | None = None, t: Tensor | None = None) -> Tensor:
    """The Hessian with the weights stored beside this file; see :meth:`Network.hessian`."""
    return _own().hessian(x, y, t)


def hessian_vector_product(x: Tensor, y: Tensor | None, t: Tensor | None, v: Tensor) -> Tensor:
    """Its product with directions; see :meth:`Network.hessian_vector_product`."""
    return _own().hessian_vector_product(x, y, t, v)


def regularizer(network: Network, pairs_per_call: int | None = 16, every: int = 2) -> Regularizer:
    """The curvature bound as a term of a training loss, over the network's live parameters."""
    return Regularizer(
        curvature,
        maps,
        network,
        network.scores,
        trainable(network),
        pairs_per_call,
        every,
        symmetric=False,
    )
