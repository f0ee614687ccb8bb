"""Spelling of linear maps: every expression computes what the map computes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from graphs import Emitted, activation, emit
from maps import MapCase, map_cases, parameter
from torch import Tensor

from vercomp.backends.torch import rules
from vercomp.backends.torch.rules import BUILTIN_RULES
from vercomp.backends.torch.spelling import broadcast, viewed
from vercomp.errors import UnsupportedError
from vercomp.ir.axis_maps import AlongAxis, Total
from vercomp.ir.check import check
from vercomp.ir.convolutions import AveragePool, TransposedConvolution, Window
from vercomp.ir.graph import Activate, Affine, Graph, Input, Term
from vercomp.ir.linear_maps import Dense, LinearMap, Permute, Reshape, Scale, compose, parts
from vercomp.ir.reference import stored
from vercomp.ir.selections import Gather, Pad, Slice

W, WT, KERNEL = parameter("w", 4, 6), parameter("wt", 6, 4), parameter("kernel", 4, 2, 3)
D, V = parameter("divisor", 2, 1), parameter("v", 4, 5)
SHUFFLED = tuple(torch.randperm(97, generator=torch.Generator().manual_seed(0)).tolist())
TWO = ((0, 1), (0, 1))


def other_cases() -> dict[str, LinearMap]:
    """What torch's functions cannot do by themselves, and what is spelled in more than one way."""
    up = parameter("up", 3, 2, 3, 3)
    return {
        "view": Dense(KERNEL, view=(4, 6)),
        "view of other sizes": Dense(KERNEL, view=(8, 3)),
        "transposed view": Dense(KERNEL, transposed=True, view=(6, 4)),
        "several parts": compose(
            Dense(WT, transposed=True),
            compose(
                Reshape((3, 2), (6,)),
                compose(Permute((2, 3), (1, 0)), Scale((2, 3), D, divide=True)),
            ),
        ),
        "to and from a number": compose(Reshape((), (1,)), Reshape((1, 1), ())),
        "a sum of everything": compose(Reshape((), (1,)), Total((2, 3), (0, 1))),
        "first entries": Slice((2, 7), 1, 0, 3),
        "last entries": Slice((2, 7), 0, 1, 2),
        "flip": Gather((2, 5), 1, (4, 3, 2, 1, 0)),
        "evenly spaced": Gather((2, 9), 1, (7, 5, 3, 1)),
        "from the end": Gather((9,), 0, (8, 7, 6, 5)),
        "one after another": Gather((2, 3), 1, (0, 1, 2, 0, 1, 2)),
        "nearest neighbours": Gather((2, 3), 1, (0, 0, 1, 1, 2, 2)),
        "one entry": Gather((2, 3), 1, (2,)),
        "shuffled": Gather((2, 97), 1, SHUFFLED),
        "reflection of a vector": Pad((5,), ((2, 1),), "reflect"),
        "replication of a volume": Pad((2, 2, 3, 2), ((0, 0), *((1, 1),) * 3), "replicate"),
        "reflection of all axes": Pad((3, 3, 3), ((1, 1),) * 3, "reflect"),
        "replication of more than three": Pad((2, 2, 2, 2), ((1, 0), *((1, 1),) * 3), "replicate"),
        "circle of too many axes": Pad(
            (2, 2, 2, 2, 2), ((1, 0), (0, 1), (0, 0), (1, 1), (0, 0)), "circular"
        ),
        "no padding": Pad((2, 3), ((0, 0), (0, 0))),
        "along a middle axis": AlongAxis((2, 5, 3, 2), 1, V),
        "along a middle axis, transposed": AlongAxis((2, 4, 3), 1, V, transposed=True),
        "along the last axis": AlongAxis((2, 5), 1, V),
        "sum over one axis": Total((2, 3, 4), (1,)),
        "transposed convolution, uneven": TransposedConvolution(
            (3, 4, 4), (2, 8, 7), up, Window.of((3, 3), (2, 2), ((0, 1), (1, 1)))
        ),
        "mean, uneven padding": AveragePool((2, 5, 5), Window.of((2, 2), (2, 2), TWO)),
        "mean, uneven padding not counted": AveragePool(
            (2, 5, 5), Window.of((2, 2), (2, 2), TWO), counted=((0, 0), (0, 0))
        ),
        "mean, some padding counted": AveragePool(
            (2, 5, 5), Window.of((3, 3), (2, 2), ((1, 1), (1, 1))), counted=TWO
        ),
        "mean, a wide padding": AveragePool((1, 4), Window.of((2,), (1,), ((2, 2),))),
        "mean, beyond the rim not counted": AveragePool(
            (2, 6, 6), Window.of((3, 3), (2, 2), TWO), counted=((0, 0), (0, 0))
        ),
        "sum, beyond the rim": AveragePool((2, 6), Window.of((3,), (2,), ((0, 1),)), divisor=1),
        "sum in two dimensions": AveragePool((2, 6, 4), Window.of((3, 2), (3, 2)), divisor=1),
        "mean in three dimensions": AveragePool((1, 4, 4, 4), Window.of((2, 2, 2), (2, 2, 1))),
    }


CASES = {
    **map_cases(),
    **{name: MapCase(linear, lambda x: x) for name, linear in other_cases().items()},
}


def emitted(linear: LinearMap) -> Emitted:
    """The map, an activation, and a head."""
    shape = linear.out_shape
    size = math.prod(shape)
    head = compose(Dense(parameter("head.matrix", 2, size)), Reshape(shape, (size,)))
    nodes = (
        Input("input", linear.in_shape),
        Affine("mapped", shape, (Term(linear, "input"),)),
        Activate("act", shape, "mapped", activation("tanh")),
        Affine("head", (2,), (Term(head, "act"),)),
    )
    return emit(check(Graph(nodes, "head")), ("hessian",))


@pytest.mark.parametrize("name", CASES)
def test_forward_and_operator_are_the_map(name: str) -> None:
    case = CASES[name]
    linear = case.map
    made = emitted(linear)
    x = torch.randn(5, *linear.in_shape, dtype=torch.float64)
    expected = linear.bind(stored).apply(x.flatten(1) if linear.in_shape else x[:, None])
    if name in map_cases():
        torch.testing.assert_close(case.torch(x).flatten(1), expected)
    found = made.module.net.maps(made.network).mapped
    torch.testing.assert_close(found.apply(x.flatten(1)), expected)
    assert found.shape == (expected.shape[1], x[0].numel())
    logits = torch.tanh(expected) @ parameter("head.matrix", 2, expected.shape[1]).value.T
    torch.testing.assert_close(made.network(x), logits)


SPELLED = {
    "convolution, stride 2": "F.conv2d(x, self.b_, stride=2, padding=1)",
    "convolution, uneven": (
        "F.conv2d(F.pad(x, (0, 1, 1, 2)), self.d, stride=(2, 1), dilation=(1, 2), groups=2)"
    ),
    "transposed convolution, output padding": (
        "F.conv_transpose2d(x, self.t_, stride=2, padding=1, output_padding=1)"
    ),
    "average pool, padding not counted": (
        "F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)"
    ),
    "average pool, beyond the rim": "F.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True)",
    "mean, uneven padding": "F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2)",
    "sum in two dimensions": "F.avg_pool2d(x, (3, 2), divisor_override=1)",
    "mean over axes": "x.mean((2, 3))",
    "sum over one axis": "x.sum(2)",
    "slice": "x[:, :, 1:6:2]",
    "first entries": "x[:, :, :3]",
    "last entries": "x[:, 1:]",
    "gather": "x[:, :, [0, 3, 0]]",
    "flip": "x.flip(2)",
    "evenly spaced": "x[:, :, range(7, 0, -2)]",
    "nearest neighbours": "x.repeat_interleave(2, 2)",
    "shuffled": "x[:, :, PICKS_0]",
    "pad, reflect": 'F.pad(x, (1, 3, 2, 1), mode="reflect")',
    "along a middle axis": 'torch.einsum("pq,bcqef->bcpef", self.v_, x)',
    "along an axis": "self.v_ @ x",
    "batch norm": "x / (self.spread[:, None, None] + 0.1).sqrt()",
    "scale": "x * self.s_[:, None, None]",
    "residual block without activation": "x + F.conv2d(x, self.n, padding=1)",
}


@pytest.mark.parametrize("name", SPELLED)
def test_as_one_would_write_it(name: str) -> None:
    assert f"        mapped = {SPELLED[name]}\n" in emitted(CASES[name].map).source


def test_a_long_list_of_indices_is_a_constant() -> None:
    source = emitted(CASES["shuffled"].map).source
    assert source.count("PICKS_0") == 3  # the constant, the forward pass and the operator
    assert "# 97 entries that are picked along an axis.\n# fmt: off\nPICKS_0 = [\n" in source


@pytest.mark.parametrize(
    ("shape", "view", "expected"),
    [
        ((3,), (3, 1, 1), "v[:, None, None]"),
        ((3,), (1, 3), "v[None]"),
        ((3, 1, 1), (3,), "v.flatten()"),
        ((3, 2, 2), (3, 4), "v.flatten(1)"),
        ((3, 4), (2, 6), "v.reshape(2, 6)"),
        ((2, 3), (2, 1, 3), "v[:, None]"),
        ((), (1,), "v[None]"),
    ],
)
def test_views(shape: tuple[int, ...], view: tuple[int, ...], expected: str) -> None:
    assert viewed("v", shape, view) == expected
    v: Tensor = torch.randn(shape)
    assert eval(expected, {"v": v}).shape == view  # noqa: S307


def test_views_that_broadcast_need_no_ones_in_front() -> None:
    assert broadcast("v", (3,), (1, 1, 3), 4) == "v"
    assert broadcast("v", (1, 3, 1), (3, 1), 4) == "v"
    assert broadcast("v", (3,), (1, 3, 1), 4) == "v[:, None]"
    assert broadcast("v", (1, 3, 1), (3, 1), 2) == "v[0]"  # where they would add an axis


@dataclass(frozen=True)
class Unknown(Reshape):
    """A map of somebody's own, without a rule."""


def test_a_map_without_a_rule_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"no rule for the linear map .*add_linear_map"):
        rules.forward(BUILTIN_RULES, Unknown((2,), (2,)), "x", lambda p: "net.p")


def test_every_builtin_map_has_a_rule() -> None:
    assert {type(part) for case in CASES.values() for part in parts(case.map)} >= set(BUILTIN_RULES)
