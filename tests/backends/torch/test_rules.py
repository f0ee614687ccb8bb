"""Spelling of linear maps: every expression computes what the map computes."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vercomp.backends.torch import rules
from vercomp.backends.torch.rules import BUILTIN_RULES
from vercomp.errors import UnsupportedError
from vercomp.ir.linear_maps import (
    Dense,
    LinearMap,
    Parameter,
    Permute,
    Reshape,
    Scale,
    compose,
    identity,
)
from vercomp.ir.reference import stored
from vercomp.runtime.monomials import Diagonal, Monomial
from vercomp.runtime.operators import Dense as DenseOperator


def parameter(name: str, *shape: int) -> Parameter:
    return Parameter(name, torch.randn(*shape, dtype=torch.float64))


W, WT, KERNEL = parameter("w", 4, 6), parameter("wt", 6, 4), parameter("kernel", 4, 2, 3)
S, D = parameter("s", 3), parameter("d", 2, 1)
MAPS: dict[str, LinearMap] = {
    "dense": Dense(W),
    "transposed": Dense(WT, transposed=True),
    "view": Dense(KERNEL, view=(4, 6)),
    "transposed view": Dense(KERNEL, transposed=True, view=(6, 4)),
    "scale": Scale((2, 3), S),
    "divide": Scale((2, 3), D, divide=True),
    "reshape": Reshape((2, 3), (3, 2)),
    "flatten": Reshape((2, 3), (6,)),
    "identity": identity((2, 3)),
    "permute": Permute((2, 3, 4), (2, 0, 1)),
    "all": compose(
        Dense(WT, transposed=True),
        compose(
            Reshape((3, 2), (6,)), compose(Permute((2, 3), (1, 0)), Scale((2, 3), D, divide=True))
        ),
    ),
    "tail": compose(Reshape((4,), (2, 2)), compose(Scale((4,), parameter("g", 4)), Dense(W))),
}


def read(p: Parameter) -> str:
    return f"net.{p.name}"


@pytest.mark.parametrize("name", MAPS)
def test_forward_and_operator_expressions(name: str) -> None:
    linear = MAPS[name]
    names: dict[str, Any] = {
        "torch": torch,
        "F": F,
        "Dense": DenseOperator,
        "Diagonal": Diagonal,
        "Monomial": Monomial,
        "net": SimpleNamespace(**{p.name: p.value for p in linear.parameters()}),
    }
    x = torch.randn(5, *linear.in_shape, dtype=torch.float64)
    expected = linear.bind(stored).apply(x.flatten(1)).reshape(5, *linear.out_shape)
    y: Tensor = x
    for position, part in enumerate(rules.parts(linear)):
        # As an expression of an expression, and of a name.
        for text in (f"x{position} - 0 * x{position}", f"x{position}"):
            names[f"x{position}"] = y
            value = eval(rules.forward(BUILTIN_RULES, part, text, read), names)  # noqa: S307
        y = value
    assert y.shape == expected.shape
    assert torch.allclose(y, expected, atol=1e-12)
    product = " @ ".join(rules.operator(BUILTIN_RULES, linear, read))
    operator = eval(product, names)  # noqa: S307
    assert torch.allclose(operator.apply(x.flatten(1)), expected.flatten(1), atol=1e-12)


@dataclass(frozen=True)
class Unknown(Reshape):
    """A map of somebody's own, without a rule."""


def test_a_map_without_a_rule_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"no rule for the linear map .*add_linear_map"):
        rules.operator(BUILTIN_RULES, Unknown((2,), (2,)), read)
