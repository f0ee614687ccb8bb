"""The network example: 2×6×6 inputs to 3 outputs.

    conv1 = affine(x)  [4×6×6]
    act1 = silu(conv1)  [4×6×6]
    block_conv1 = affine(act1)  [4×6×6]
    act2 = silu(block_conv1)  [4×6×6]
    block_conv2 = affine(act2, act1)  [4×6×6]
    act3 = silu(block_conv2)  [4×6×6]
    fc = affine(act3)  [3]

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
from .core.maps.convolution import Convolution
from .core.maps.monomials import Diagonal, Monomial
from .core.maps.operators import Dense, Operator
from .core.network import VerifiedNetwork
from .core.pieces import Pieces, Turn
from .core.regularizer import Regularizer, trainable
from .core.storage import load_network


def _silu(z: Tensor) -> Tensor:
    """σ(z) = z/(1 + exp(−z))."""
    return F.silu(z, inplace=False)


def _silu_first(z: Tensor) -> Tensor:
    """σ′(z) = z·(1 − sigmoid(z))·sigmoid(z) + sigmoid(z)."""
    s = torch.sigmoid(z)
    return s * z * (1 - s) + s


def _silu_second(z: Tensor) -> Tensor:
    """σ″(z) = (1 − sigmoid(z))·(2 + z − 2·z·sigmoid(z))·sigmoid(z)."""
    s = torch.sigmoid(z)
    return s * (1 - s) * (2 + z - 2 * s * z)


# Ranges of σ′ and σ″ over ℝ, rounded outward; enclosed by interval branch and bound: σ′, σ″
SILU = Elementwise(
    value=_silu,
    first=_silu_first,
    second=_silu_second,
    first_range=(-0.0998393201375091, 1.0998393201955363),
    second_range=(-0.0369143732015469, 0.500000000029104),
    # Where σ, σ′ and σ″ turn, jump or end: bounds of the position, and of the value
    # there (at a jump, to the left and to the right of it). A sign for each piece.
    pieces=(
        Pieces(  # σ
            turns=(
                Turn((-inf, -inf), (0.0, 0.0)),
                Turn(
                    (-1.278464542761074, -1.2784645427610737),
                    (-0.2784645427610738, -0.27846454276107374),
                ),
                Turn((inf, inf), (inf, inf)),
            ),
            signs="-+",
            steepest=1.0998393201955363,
        ),
        Pieces(  # σ′
            turns=(
                Turn((-inf, -inf), (0.0, 0.0)),
                Turn(
                    (-2.399357280515468, -2.3993572805154675),
                    (-0.09983932012886693, -0.09983932012886691),
                ),
                Turn(
                    (2.3993572805154675, 2.399357280515468),
                    (1.0998393201288668, 1.099839320128867),
                ),
                Turn((inf, inf), (1.0, 1.0)),
            ),
            signs="-+-",
            steepest=0.500000000029104,
        ),
        Pieces(  # σ″
            turns=(
                Turn((-inf, -inf), (0.0, 0.0)),
                Turn(
                    (-3.435840993535111, -3.4358409935351104),
                    (-0.036914373199893186, -0.03691437319989318),
                ),
                Turn((0.0, 0.0), (0.5, 0.5)),
                Turn(
                    (3.4358409935351104, 3.435840993535111),
                    (-0.036914373199893186, -0.03691437319989318),
                ),
                Turn((inf, inf), (0.0, 0.0)),
            ),
            signs="-+-+",
            steepest=0.3112398048336311,
        ),
    ),
)


class Maps(NamedTuple):
    """The linear map A of every affine node z = Σ A a + b, on flat vectors."""

    conv1: Operator
    block_conv1: Operator
    block_conv2_0: Operator
    block_conv2_1: Operator
    fc: Operator


def maps(net: Any) -> Maps:
    """The maps over the parameters of ``net``: a Network, or live parameters."""
    conv1 = Diagonal.scaling(net.bn1_weight[:, None, None], (4, 6, 6))
    conv1 = conv1 @ Diagonal.standardising(net.bn1_running_var[:, None, None], 1e-05, (4, 6, 6))
    conv1 = conv1 @ Convolution.sliding(net.conv1_weight, (2, 6, 6), padding=1)
    block_conv1 = Diagonal.scaling(net.block_bn1_weight[:, None, None], (4, 6, 6))
    block_conv1 = block_conv1 @ Diagonal.standardising(
        net.block_bn1_running_var[:, None, None], 1e-05, (4, 6, 6)
    )
    block_conv1 = block_conv1 @ Convolution.sliding(net.block_conv1_weight, (4, 6, 6), padding=1)
    block_conv2_0 = Diagonal.scaling(net.block_bn2_weight[:, None, None], (4, 6, 6))
    block_conv2_0 = block_conv2_0 @ Diagonal.standardising(
        net.block_bn2_running_var[:, None, None], 1e-05, (4, 6, 6)
    )
    block_conv2_0 = block_conv2_0 @ Convolution.sliding(
        net.block_conv2_weight, (4, 6, 6), padding=1
    )
    return Maps(
        conv1=conv1,
        block_conv1=block_conv1,
        block_conv2_0=block_conv2_0,
        block_conv2_1=Monomial.identity(144),
        fc=Dense(net.fc_weight) @ Convolution.averaging((4, 6, 6), 2),
    )


class Biases(NamedTuple):
    """The bias b of every affine node, as a row, and a bound of its rounding."""

    conv1: Rounded
    block_conv1: Rounded
    block_conv2: Rounded
    fc: Rounded


def biases(net: Any) -> Biases:
    """The biases over the parameters of ``net``."""
    M = Diagonal.scaling(net.bn1_weight[:, None, None], (4, 6, 6))
    M = M @ Diagonal.standardising(net.bn1_running_var[:, None, None], 1e-05, (4, 6, 6))
    conv1_0 = rounding.offset(net.conv1_bias[:, None, None].expand(4, 6, 6), M)
    conv1_1 = rounding.offset(net.bn1_running_mean[:, None, None].expand(4, 6, 6), M, negate=True)
    conv1_2 = rounding.offset(net.bn1_bias[:, None, None].expand(4, 6, 6))
    conv1 = rounding.total([conv1_0, conv1_1, conv1_2])
    M = Diagonal.scaling(net.block_bn1_weight[:, None, None], (4, 6, 6))
    M = M @ Diagonal.standardising(net.block_bn1_running_var[:, None, None], 1e-05, (4, 6, 6))
    block_conv1_0 = rounding.offset(
        net.block_bn1_running_mean[:, None, None].expand(4, 6, 6), M, negate=True
    )
    block_conv1_1 = rounding.offset(net.block_bn1_bias[:, None, None].expand(4, 6, 6))
    block_conv1 = rounding.total([block_conv1_0, block_conv1_1])
    M = Diagonal.scaling(net.block_bn2_weight[:, None, None], (4, 6, 6))
    M = M @ Diagonal.standardising(net.block_bn2_running_var[:, None, None], 1e-05, (4, 6, 6))
    block_conv2_0 = rounding.offset(
        net.block_bn2_running_mean[:, None, None].expand(4, 6, 6), M, negate=True
    )
    block_conv2_1 = rounding.offset(net.block_bn2_bias[:, None, None].expand(4, 6, 6))
    block_conv2 = rounding.total([block_conv2_0, block_conv2_1])
    fc = rounding.offset(net.fc_bias)
    return Biases(conv1, block_conv1, block_conv2, fc)


def graph(net: Any) -> Graph:
    """The nodes over those maps and biases: what analyses walk."""
    A, b = maps(net), biases(net)
    return Graph(
        (
            Input("x", (2, 6, 6)),
            Affine("conv1", (4, 6, 6), (Term("conv1", A.conv1, "x"),), b.conv1),
            Activate("act1", (4, 6, 6), "conv1", SILU),
            Affine(
                "block_conv1",
                (4, 6, 6),
                (Term("block_conv1", A.block_conv1, "act1"),),
                b.block_conv1,
            ),
            Activate("act2", (4, 6, 6), "block_conv1", SILU),
            Affine(
                "block_conv2",
                (4, 6, 6),
                (
                    Term("block_conv2_0", A.block_conv2_0, "act2"),
                    Term("block_conv2_1", A.block_conv2_1, "act1"),
                ),
                b.block_conv2,
            ),
            Activate("act3", (4, 6, 6), "block_conv2", SILU),
            Affine("fc", (3,), (Term("fc", A.fc, "act3"),), b.fc),
        ),
        "fc",
    )


def curvature(ops: Arithmetic, A: Maps, c: Tensor) -> Bound:
    """κ with ∇²(c·z) ≽ −κI, and L with ‖∇(c·z)‖ ≤ L, for every input and each row of c (P, C).

    ``ops`` is the arithmetic: rigorous for certificates, differentiable for training.
    """
    # ‖A‖ of conv1
    norm_conv1 = ops.norm2(A.conv1, name="norm_conv1")
    # ‖∂conv1/∂x‖ ≤ r_conv1 (equation 5)
    r_conv1_squared = ops.multiply(norm_conv1, norm_conv1)
    # g = sup |σ′| of act1
    g_act1 = ops.constant(SILU.g)
    # ‖∂act1/∂x‖ ≤ rho_act1 = g · ‖∂conv1/∂x‖
    rho_act1 = ops.multiply(g_act1, norm_conv1)
    rho_act1_squared = ops.multiply(rho_act1, rho_act1)
    # ‖A‖ of block_conv1
    norm_block_conv1 = ops.norm2(A.block_conv1, name="norm_block_conv1")
    # ‖∂block_conv1/∂x‖ ≤ r_block_conv1 (equation 5)
    r_block_conv1 = ops.multiply(norm_block_conv1, rho_act1)
    r_block_conv1_squared = ops.multiply(r_block_conv1, r_block_conv1)
    # g = sup |σ′| of act2
    g_act2 = ops.constant(SILU.g)
    # ‖∂act2/∂x‖ ≤ rho_act2 = g · ‖∂block_conv1/∂x‖
    rho_act2 = ops.multiply(g_act2, r_block_conv1)
    rho_act2_squared = ops.multiply(rho_act2, rho_act2)
    # ‖A‖ of block_conv2
    norm_block_conv2_0 = ops.norm2(A.block_conv2_0, name="norm_block_conv2_0")
    norm_block_conv2_1 = ops.norm2(A.block_conv2_1, name="norm_block_conv2_1")
    # ‖∂block_conv2/∂x‖ ≤ r_block_conv2 = Σ‖A‖ρ (equation 5)
    r_block_conv2 = ops.multiply(norm_block_conv2_0, rho_act2)
    r_block_conv2_2 = ops.multiply(norm_block_conv2_1, rho_act1)
    r_block_conv2_3 = ops.add(r_block_conv2, r_block_conv2_2)
    r_block_conv2_squared = ops.multiply(r_block_conv2_3, r_block_conv2_3)
    # g = sup |σ′| of act3
    g_act3 = ops.constant(SILU.g)
    # ‖A‖ of fc
    norm_fc = ops.norm2(A.fc, name="norm_fc")
    # The coefficients c = e_y − e_t of the margin, exactly.
    f_output = ops.exactly(c)
    # Back through fc: Aᵀ mid ± |A|ᵀ rad
    f_act3 = ops.adjoint(A.fc, f_output)
    # Back through act3: F ⊙ σ′
    f_block_conv2 = ops.through(f_act3, SILU.first_range)
    # Back through block_conv2: Aᵀ mid ± |A|ᵀ rad
    f_act2 = ops.adjoint(A.block_conv2_0, f_block_conv2)
    f_act1 = ops.adjoint(A.block_conv2_1, f_block_conv2)
    # Back through act2: F ⊙ σ′
    f_block_conv1 = ops.through(f_act2, SILU.first_range)
    # Back through block_conv1: Aᵀ mid ± |A|ᵀ rad
    f_act1_2 = ops.adjoint(A.block_conv1, f_block_conv1)
    f_act1_3 = ops.join(f_act1, f_act1_2)
    # Curvature of act3: −λ_min ≤ k_act3, with q = max(0, −min F ⊙ σ″)
    q_act3 = ops.concavity(f_act3, SILU.second_range)
    q_act3_max = ops.row_max(q_act3)
    k_act3_norms = ops.multiply(q_act3_max, r_block_conv2_squared)
    w_act3 = ops.weighted_norm2_squared(A.block_conv2_0, q_act3, name="w_act3")
    w_act3_2 = ops.weighted_norm2_squared(A.block_conv2_1, q_act3, name="w_act3_2")
    k_act3_matrix = ops.multiply(w_act3, rho_act2_squared)
    k_act3_matrix_2 = ops.multiply(w_act3_2, rho_act1_squared)
    b_act3 = ops.square_root(k_act3_matrix)
    b_act3_2 = ops.square_root(k_act3_matrix_2)
    b_act3_3 = ops.add(b_act3, b_act3_2)
    k_act3_matrix_3 = ops.multiply(b_act3_3, b_act3_3)
    k_act3 = ops.refine(k_act3_norms, k_act3_matrix_3)
    # Curvature of act2: −λ_min ≤ k_act2, with q = max(0, −min F ⊙ σ″)
    q_act2 = ops.concavity(f_act2, SILU.second_range)
    q_act2_max = ops.row_max(q_act2)
    k_act2_norms = ops.multiply(q_act2_max, r_block_conv1_squared)
    w_act2 = ops.weighted_norm2_squared(A.block_conv1, q_act2, name="w_act2")
    k_act2_matrix = ops.multiply(w_act2, rho_act1_squared)
    k_act2 = ops.refine(k_act2_norms, k_act2_matrix)
    # Curvature of act1: −λ_min ≤ k_act1, with q = max(0, −min F ⊙ σ″)
    q_act1 = ops.concavity(f_act1_3, SILU.second_range)
    q_act1_max = ops.row_max(q_act1)
    k_act1_norms = ops.multiply(q_act1_max, r_conv1_squared)
    w_act1 = ops.weighted_norm2_squared(A.conv1, q_act1, name="w_act1")
    k_act1 = ops.refine(k_act1_norms, w_act1)
    # Back through fc: norms by ‖A‖
    l_act3 = ops.row_norm(f_act3)
    # Back through act3: norms by g
    l_block_conv2 = ops.multiply(g_act3, l_act3)
    # Back through block_conv2: norms by ‖A‖
    l_act2 = ops.multiply(norm_block_conv2_0, l_block_conv2)
    l_act1 = ops.multiply(norm_block_conv2_1, l_block_conv2)
    # Back through act2: norms by g
    l_act2_2 = ops.row_norm(f_act2)
    l_act2_3 = ops.minimum(l_act2, l_act2_2)
    l_block_conv1 = ops.multiply(g_act2, l_act2_3)
    # Back through block_conv1: norms by ‖A‖
    l_act1_2 = ops.multiply(norm_block_conv1, l_block_conv1)
    l_act1_3 = ops.add(l_act1, l_act1_2)
    # Back through act1: norms by g
    l_act1_4 = ops.row_norm(f_act1_3)
    l_act1_5 = ops.minimum(l_act1_3, l_act1_4)
    l_conv1 = ops.multiply(g_act1, l_act1_5)
    # Back through conv1: norms by ‖A‖
    l_input = ops.multiply(norm_conv1, l_conv1)
    # κ: the sum over the activations
    kappa = ops.add(k_act3, k_act2)
    kappa_2 = ops.add(kappa, k_act1)
    norms = {
        "conv1": norm_conv1,
        "block_conv1": norm_block_conv1,
        "block_conv2_0": norm_block_conv2_0,
        "block_conv2_1": norm_block_conv2_1,
        "fc": norm_fc,
    }
    shares: dict[str, Tensor] = {"act3": k_act3, "act2": k_act2, "act1": k_act1}
    return Bound(kappa_2, l_input, norms, shares)


class Network(VerifiedNetwork):
    """The network itself: batches (B, 2, 6, 6) to outputs (B, 3).

    An ordinary module: train it, move it, save it; bounds follow the weights.
    """

    input_shape = (2, 6, 6)
    output_shape = (3,)

    def __init__(self) -> None:
        super().__init__()
        self.conv1_weight = nn.Parameter(torch.empty(4, 2, 3, 3))
        self.conv1_bias = nn.Parameter(torch.empty(4))
        self.bn1_weight = nn.Parameter(torch.empty(4))
        self.bn1_bias = nn.Parameter(torch.empty(4))
        self.register_buffer("bn1_running_var", torch.empty(4))
        self.register_buffer("bn1_running_mean", torch.empty(4))
        self.block_conv1_weight = nn.Parameter(torch.empty(4, 4, 3, 3))
        self.block_bn1_weight = nn.Parameter(torch.empty(4))
        self.block_bn1_bias = nn.Parameter(torch.empty(4))
        self.register_buffer("block_bn1_running_var", torch.empty(4))
        self.register_buffer("block_bn1_running_mean", torch.empty(4))
        self.block_conv2_weight = nn.Parameter(torch.empty(4, 4, 3, 3))
        self.block_bn2_weight = nn.Parameter(torch.empty(4))
        self.block_bn2_bias = nn.Parameter(torch.empty(4))
        self.register_buffer("block_bn2_running_var", torch.empty(4))
        self.register_buffer("block_bn2_running_mean", torch.empty(4))
        self.fc_weight = nn.Parameter(torch.empty(3, 36))
        self.fc_bias = nn.Parameter(torch.empty(3))

    def forward(self, x: Tensor) -> Tensor:
        """The outputs."""
        conv1 = F.conv2d(x, self.conv1_weight, self.conv1_bias, padding=1)
        conv1 = F.batch_norm(
            conv1, self.bn1_running_mean, self.bn1_running_var, self.bn1_weight, self.bn1_bias
        )
        act1 = SILU.value(conv1)
        block_conv1 = F.conv2d(act1, self.block_conv1_weight, padding=1)
        block_conv1 = F.batch_norm(
            block_conv1,
            self.block_bn1_running_mean,
            self.block_bn1_running_var,
            self.block_bn1_weight,
            self.block_bn1_bias,
        )
        act2 = SILU.value(block_conv1)
        block_conv2 = F.conv2d(act2, self.block_conv2_weight, padding=1)
        block_conv2 = F.batch_norm(
            block_conv2,
            self.block_bn2_running_mean,
            self.block_bn2_running_var,
            self.block_bn2_weight,
            self.block_bn2_bias,
        )
        block_conv2 = block_conv2 + act1
        act3 = SILU.value(block_conv2)
        return F.linear(F.avg_pool2d(act3, 2).flatten(1), self.fc_weight, self.fc_bias)

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
    conv1 = A.conv1.apply(x) + b.conv1.value
    act1 = SILU.value(conv1)
    block_conv1 = A.block_conv1.apply(act1) + b.block_conv1.value
    act2 = SILU.value(block_conv1)
    block_conv2 = A.block_conv2_0.apply(act2) + A.block_conv2_1.apply(act1) + b.block_conv2.value
    # B: the Jacobian of each node, (P, n, D).
    B_conv1 = A.conv1.apply_to_rows(B_x)
    B_act1 = SILU.first(conv1)[:, :, None] * B_conv1
    B_block_conv1 = A.block_conv1.apply_to_rows(B_act1)
    B_act2 = SILU.first(block_conv1)[:, :, None] * B_block_conv1
    B_block_conv2 = A.block_conv2_0.apply_to_rows(B_act2) + A.block_conv2_1.apply_to_rows(B_act1)
    # F: the gradient of c·z with respect to each node, (P, n).
    F_act3 = A.fc.adjoint(c)
    F_block_conv2 = SILU.first(block_conv2) * F_act3
    F_act2 = A.block_conv2_0.adjoint(F_block_conv2)
    F_act1 = A.block_conv2_1.adjoint(F_block_conv2)
    F_block_conv1 = SILU.first(block_conv1) * F_act2
    F_act1_2 = A.block_conv1.adjoint(F_block_conv1)
    F_act1_3 = F_act1 + F_act1_2
    return (
        quadratic(B_block_conv2, F_act3 * SILU.second(block_conv2))
        + quadratic(B_block_conv1, F_act2 * SILU.second(block_conv1))
        + quadratic(B_conv1, F_act1_3 * SILU.second(conv1))
    )


def hessian_product(net: Any, x: Tensor, c: Tensor, v: Tensor) -> Tensor:
    """∇²(c·z) v at flat points x (P, D) for directions v (P, D): (P, D)."""
    A = maps(net)
    b = biases(net)
    conv1 = A.conv1.apply(x) + b.conv1.value
    act1 = SILU.value(conv1)
    block_conv1 = A.block_conv1.apply(act1) + b.block_conv1.value
    act2 = SILU.value(block_conv1)
    block_conv2 = A.block_conv2_0.apply(act2) + A.block_conv2_1.apply(act1) + b.block_conv2.value
    # V: the derivative of each node along v.
    V_conv1 = A.conv1.apply(v)
    V_act1 = SILU.first(conv1) * V_conv1
    V_block_conv1 = A.block_conv1.apply(V_act1)
    V_act2 = SILU.first(block_conv1) * V_block_conv1
    V_block_conv2 = A.block_conv2_0.apply(V_act2) + A.block_conv2_1.apply(V_act1)
    # F: the gradient of c·z with respect to each node.
    F_act3 = A.fc.adjoint(c)
    F_block_conv2 = SILU.first(block_conv2) * F_act3
    F_act2 = A.block_conv2_0.adjoint(F_block_conv2)
    F_act1 = A.block_conv2_1.adjoint(F_block_conv2)
    F_block_conv1 = SILU.first(block_conv1) * F_act2
    F_act1_2 = A.block_conv1.adjoint(F_block_conv1)
    F_act1_3 = F_act1 + F_act1_2
    # G: the derivative of F along v.
    G_block_conv2 = SILU.second(block_conv2) * V_block_conv2 * F_act3
    G_act2 = A.block_conv2_0.adjoint(G_block_conv2)
    G_act1 = A.block_conv2_1.adjoint(G_block_conv2)
    G_block_conv1 = SILU.first(block_conv1) * G_act2
    G_block_conv1_2 = G_block_conv1 + SILU.second(block_conv1) * V_block_conv1 * F_act2
    G_act1_2 = A.block_conv1.adjoint(G_block_conv1_2)
    G_act1_3 = G_act1 + G_act1_2
    G_conv1 = SILU.first(conv1) * G_act1_3
    G_conv1_2 = G_conv1 + SILU.second(conv1) * V_conv1 * F_act1_3
    return A.conv1.adjoint(G_conv1_2)


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
