"""The values of a graph over operators, by hand and against torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vercomp.core.arithmetic.rounded import exact
from vercomp.core.domains.values import Values
from vercomp.core.functions import Elementwise
from vercomp.core.graph import Activate, Affine, Graph, Input, Node, Term
from vercomp.core.maps.convolution import Convolution
from vercomp.core.maps.monomials import Monomial
from vercomp.core.maps.operators import Dense
from vercomp.core.walk import forward, result

GENERATOR = torch.Generator().manual_seed(0)


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=GENERATOR).to(dtype)


def tanh() -> Elementwise:
    def unused(z: torch.Tensor) -> torch.Tensor:
        raise AssertionError("values need no derivative")

    return Elementwise(torch.tanh, unused, unused, (0.0, 1.0), (-0.77, 0.77))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_keep_their_shape_and_skips_are_added(dtype: torch.dtype) -> None:
    kernel, bias, matrix = draw(2, 2, 3, 3, dtype=dtype), draw(1, 32, dtype=dtype), draw(3, 32)
    matrix = matrix.to(dtype)
    conv = Convolution.sliding(kernel, (2, 4, 4), padding=1)
    nodes: tuple[Node, ...] = (
        Input("x", (2, 4, 4)),
        Affine("z", (2, 4, 4), (Term("z", conv, "x"),), exact(bias)),
        Activate("a", (2, 4, 4), "z", tanh()),
        Affine("s", (2, 4, 4), (Term("s", conv, "a"), Term("i", Monomial.identity(32), "x"))),
        Affine("y", (3,), (Term("y", Dense(matrix), "s"),)),
    )
    x = draw(5, 2, 4, 4, dtype=dtype)
    found = forward(Values(x), Graph(nodes, "y"))
    z = F.conv2d(x, kernel, padding=1) + bias.reshape(2, 4, 4)
    s = x + F.conv2d(torch.tanh(z), kernel, padding=1)
    expected = {"x": x, "z": z, "a": torch.tanh(z), "s": s, "y": s.flatten(1) @ matrix.T}
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == dtype
        torch.testing.assert_close(found[name], value)
    assert torch.equal(result(Values(x), Graph(nodes, "y")), found["y"])
    assert result(Values(x[:0]), Graph(nodes, "y")).shape == (0, 3)


def test_by_hand() -> None:
    """z = 2x + 1, a = tanh(z), y = 3a − x."""
    two, three, minus = (Dense(torch.tensor([[v]])) for v in (2.0, 3.0, -1.0))
    nodes: tuple[Node, ...] = (
        Input("x", (1,)),
        Affine("z", (1,), (Term("z", two, "x"),), exact(torch.ones(1, 1))),
        Activate("a", (1,), "z", tanh()),
        Affine("y", (1,), (Term("y0", three, "a"), Term("y1", minus, "x"))),
    )
    x = torch.tensor([[-0.5], [0.0], [1.0]])
    found = forward(Values(x), Graph(nodes, "y"))
    assert found["z"].tolist() == [[0.0], [1.0], [3.0]]
    torch.testing.assert_close(found["y"], 3.0 * torch.tanh(2.0 * x + 1.0) - x)
