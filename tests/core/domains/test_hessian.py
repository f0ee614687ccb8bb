"""Lemma 1, walked: Hessians and their products, by hand and by automatic differentiation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from curvatures import DOUBLE, hessians, margins
from graphs import chain, decorated, residual, residual_stream
from torch import Tensor

from vercomp.core import graph as core
from vercomp.core.arithmetic.recording import Recording
from vercomp.core.arithmetic.tensors import Tensors
from vercomp.core.domains.hessian import hessian, hessian_product
from vercomp.core.functions import Elementwise
from vercomp.core.graph import Activate, Affine, Input, Term
from vercomp.core.maps.operators import Dense
from vercomp.ir.activation import Activation
from vercomp.ir.binding import bind
from vercomp.ir.graph import Graph

Function = Callable[[Tensor], Tensor]


def derivative(function: Function) -> Function:
    return torch.func.grad(lambda z: function(z).sum())


def differentiated(activation: Activation) -> Elementwise:
    """An activation with the derivatives that automatic differentiation finds; no ranges."""
    first = derivative(activation.spelling)
    nan = (math.nan, math.nan)
    return Elementwise(activation.spelling, first, derivative(first), nan, nan)


def bound(graph: Graph) -> core.Graph:
    return bind(graph, DOUBLE, function=differentiated)


GRAPHS: dict[str, Callable[[], Graph]] = {
    "one layer": lambda: chain(0, [3, 5, 3], ["tanh"]),
    "layers": lambda: chain(1, [3, 5, 4, 3], ["softplus", "silu"]),
    "skips": lambda: residual(2, ["tanh", "gelu", "sigmoid"]),
    "a stream": lambda: residual_stream(3),
    "one of everything": lambda: decorated(3, torch.float64),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_hessians_are_autograds_and_products_are_theirs(name: str) -> None:
    graph = GRAPHS[name]()
    n = math.prod(graph.input.shape)
    generator = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(4, n, dtype=torch.float64, generator=generator)
    v = torch.randn(4, n, dtype=torch.float64, generator=generator)
    c = margins(graph.outputs)[:4]
    found = hessian(Tensors(), bound(graph), x, c, torch.eye(n, dtype=torch.float64))
    assert found is not None
    for point, row, matrix in zip(x, c, found, strict=True):
        expected = hessians(graph, row, point[None])[0]
        torch.testing.assert_close(matrix, expected, rtol=1e-9, atol=1e-11)
    product = hessian_product(Tensors(), bound(graph), x, c, v)
    along = (found @ v[:, :, None])[:, :, 0]
    torch.testing.assert_close(product, along, rtol=1e-9, atol=1e-11)


def square() -> Elementwise:
    ranges = (0.0, math.inf), (2.0, 2.0)
    return Elementwise(lambda z: z * z, lambda z: 2 * z, lambda z: 2 + 0 * z, *ranges)


def dense(rows: list[list[float]]) -> Dense:
    return Dense(torch.tensor(rows, dtype=torch.float64))


def test_a_square_of_a_square_by_hand() -> None:
    """f = −(x₁ + 2x₂)⁴: ∇²f = −12 (x₁ + 2x₂)² [1 2; 2 4]."""
    graph = core.Graph(
        (
            Input("x", (2,)),
            Affine("z", (1,), (Term("z", dense([[1.0, 2.0]]), "x"),)),
            Activate("a", (1,), "z", square()),
            Activate("b", (1,), "a", square()),
        ),
        "b",
    )
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    c = -torch.ones(2, 1, dtype=torch.float64)
    found = hessian(Tensors(), graph, x, c, torch.eye(2, dtype=torch.float64))
    assert found is not None
    assert found.tolist() == [[[-12, -24], [-24, -48]], [[-108, -216], [-216, -432]]]
    v = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    product = hessian_product(Tensors(), graph, x, c, v)
    assert product is not None
    assert product.tolist() == [[-12, -24], [216, 432]]


def nothing_curved() -> core.Graph:
    """An activation that the output does not read."""
    return core.Graph(
        (
            Input("x", (2,)),
            Activate("a", (2,), "x", square()),
            Affine("z", (1,), (Term("z", dense([[1.0, 2.0]]), "x"),)),
        ),
        "z",
    )


def test_where_no_activation_leads_to_the_output_there_is_none() -> None:
    x, c = torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    ops: Any = Recording()
    assert hessian(ops, nothing_curved(), x, c, torch.eye(2, dtype=torch.float64)) is None
    assert hessian_product(ops, nothing_curved(), x, c, x) is None
    assert not ops.steps


@pytest.mark.parametrize("name", GRAPHS)
def test_no_step_is_made_that_nothing_needs(name: str) -> None:
    graph, ops = bound(GRAPHS[name]()), Recording()
    recorder: Any = ops
    found = hessian(recorder, graph, "x", "c", "B_x")
    assert ops.needed([found]) == ops.steps
    ops.steps.clear()
    found = hessian_product(recorder, graph, "x", "c", "v")
    assert ops.needed([found]) == ops.steps
