"""The small steps that rewriting passes share, and maps over parameters seen under a shape."""

from __future__ import annotations

import torch

from vercomp.ir.graph import Affine, Graph, Input, Opaque, Term
from vercomp.ir.linear_maps import Dense, Parameter, Reshape, Scale, Sum, compose, identity, parts
from vercomp.ir.reference import stored, stored_as
from vercomp.ir.rewrite import is_identity, pruned, rewired, summed

SAME = Affine("same", (2,), (Term(identity((2,)), "x"),))
X = Input("x", (2,))


def test_identities():
    assert is_identity(SAME)
    assert not is_identity(X)
    twice = Affine("twice", (2,), (*SAME.terms, *SAME.terms))
    assert not is_identity(twice)


def test_rewiring_leaves_what_it_does_not_touch():
    assert rewired(SAME, {"y": "z"}) is SAME
    assert rewired(SAME, {"x": "z"}).parents == ("z",)
    opaque = Opaque("o", (2,), ("x", "same"), "f", lambda a, b: a)
    assert rewired(opaque, {"same": "x"}).parents == ("x", "x")


def test_pruning_keeps_the_input():
    lonely = Affine("lonely", (2,), (Term(identity((2,)), "same"),))
    assert pruned((X, SAME, lonely), "same") == Graph((X, SAME), "same")
    assert pruned((X, SAME), "x") == Graph((X,), "x")


def test_sums_factor_out_what_comes_first():
    a, b = (Dense(Parameter(name, torch.randn(2, 2, dtype=torch.float64))) for name in "ab")
    s = Scale((2,), Parameter("s", torch.randn(2, dtype=torch.float64)))
    assert summed([a]) is a
    assert summed([a, b]) == Sum((a, b))
    assert summed([identity((2,)), a]) == Sum((identity((2,)), a))
    assert summed([a, a]) == compose(Sum((identity((2,)), identity((2,)))), a)
    assert summed([a, compose(b, a)]) == compose(Sum((identity((2,)), b)), a)
    assert summed([Sum((a, b)), s]) == Sum((a, b, s))
    flat = Reshape((1, 2), (2,))
    both = summed([compose(s, compose(a, flat)), compose(b, compose(a, flat))])
    assert parts(both) == (flat, a, Sum((s, b)))
    x = torch.randn(3, 2, dtype=torch.float64)
    expected = sum(linear.bind(stored).apply(x) for linear in (compose(s, a), compose(b, a)))
    assert torch.allclose(both.bind(stored).apply(x), expected)


def test_a_kernel_seen_as_a_matrix():
    kernel = Parameter("conv.weight", torch.randn(5, 2, 3, 3))
    linear = Dense(kernel, view=(5, 18))
    assert (linear.in_shape, linear.out_shape) == ((18,), (5,))
    x = torch.randn(4, 2, 3, 3)
    expected = torch.nn.functional.conv2d(x, kernel.value).flatten(1)
    assert torch.allclose(linear.bind(stored).apply(x.flatten(1)), expected, atol=1e-5)
    turned = Dense(kernel, transposed=True, view=(5, 18))
    assert (turned.in_shape, turned.out_shape) == ((5,), (18,))


def test_stored_values_in_one_precision():
    parameter = Parameter("p", torch.ones(2, dtype=torch.float64))
    assert stored_as(torch.float32)(parameter).dtype == torch.float32
