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

from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .core.arithmetic.rounded import Rounded
from .core.domains import rounding
from .core.functions import Elementwise
from .core.graph import Activate, Affine, Graph, Input, Term
from .core.maps.operators import Dense, Operator
from .core.methods.crown_loss import CrownLoss
from .core.pieces import Pieces, Turn
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


class Network(CrownLoss):
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


def load(folder: str | Path | None = None) -> Network:
    """The network with the weights and bounds in ``folder`` (this package's own by default)."""
    return load_network(Network(), Path(folder) if folder is not None else Path(__file__).parent)
