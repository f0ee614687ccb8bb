"""Linear maps as symbols: shapes, composition, parameters, and what they become."""

from __future__ import annotations

import pytest
import torch

from vercomp.ir.linear_maps import (
    Composition,
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

W = Parameter("w", torch.randn(4, 6))
S = Parameter("s", torch.randn(2, 1))
PARTS: list[LinearMap] = [
    Scale((2, 3), S),
    Permute((2, 3), (1, 0)),
    Reshape((3, 2), (6,)),
    Dense(W),
    Scale((4,), Parameter("d", torch.rand(1) + 1), divide=True),
    Reshape((4,), (2, 2)),
]


def test_shapes() -> None:
    assert (Dense(W).in_shape, Dense(W).out_shape) == ((6,), (4,))
    turned = Dense(W, transposed=True)
    assert (turned.in_shape, turned.out_shape) == ((4,), (6,))
    assert Permute((2, 3, 5), (2, 0, 1)).out_shape == (5, 2, 3)
    whole = compose(Dense(W), compose(PARTS[2], compose(PARTS[1], PARTS[0])))
    assert (whole.in_shape, whole.out_shape) == ((2, 3), (4,))


def test_composition_computes_one_after_the_other() -> None:
    whole: LinearMap = identity((2, 3))
    for part in PARTS:
        whole = compose(part, whole)
    assert isinstance(whole, Composition)
    assert not any(isinstance(part, Composition) for part in whole.maps)
    x = torch.randn(5, 6)
    y = x
    for part in PARTS:
        y = part.bind(stored).apply(y)
    operator = whole.bind(stored)
    assert torch.allclose(operator.apply(x), y, atol=1e-5)
    assert operator.shape == (4, 6)
    s = torch.randn(5, 4)
    assert torch.allclose(
        (operator.apply(x) * s).sum(1), (x * operator.adjoint(s)).sum(1), atol=1e-4
    )
    assert [p.name for p in whole.parameters()] == ["s", "w", "d"]


def test_composition_is_associative() -> None:
    a, b, c = PARTS[3], PARTS[2], PARTS[1]
    assert compose(a, compose(b, c)) == compose(compose(a, b), c)


def test_reshapes_merge_and_identities_vanish() -> None:
    there, back = Reshape((2, 3), (6,)), Reshape((6,), (2, 3))
    assert compose(back, there) == identity((2, 3))
    assert compose(Reshape((6,), (3, 2)), there) == Reshape((2, 3), (3, 2))
    assert compose(Dense(W), identity((6,))) == Dense(W)
    assert compose(identity((4,)), Dense(W)) == Dense(W)
    assert compose(identity((6,)), identity((6,))) == identity((6,))


def test_permutations_merge_and_cancel() -> None:
    last = Permute((2, 3, 4), (1, 2, 0))
    both = compose(Permute(last.out_shape, (0, 2, 1)), last)
    assert isinstance(both, Permute)
    x = torch.arange(24.0).reshape(2, 3, 4)
    expected = x.permute(1, 2, 0).permute(0, 2, 1)
    assert both.out_shape == expected.shape
    assert torch.equal(both.bind(stored).apply(x.flatten()), expected.flatten())
    assert str(compose(Permute(last.out_shape, (2, 0, 1)), last)) == "identity"


def test_maps_are_equal_by_their_parameters_identity() -> None:
    other = Parameter("w", W.value.clone())
    assert Dense(W) == Dense(W)
    assert Dense(W) != Dense(other)
    assert Dense(W) != Dense(W, transposed=True)


@pytest.mark.parametrize(
    ("linear", "text"),
    [
        (Dense(W), "dense[w]"),
        (Dense(W, transposed=True), "dense[wᵀ]"),
        (Scale((2, 3), S), "scale[s]"),
        (Scale((2, 3), S, divide=True), "scale[1/s]"),
        (Reshape((6,), (2, 3)), "reshape(2×3)"),
        (Reshape((2, 3), (2, 3)), "identity"),
        (Permute((2, 3), (1, 0)), "permute(1, 0)"),
        (compose(Dense(W), Reshape((2, 3), (6,))), "dense[w] · reshape(6)"),
    ],
)
def test_text(linear: LinearMap, text: str) -> None:
    assert str(linear) == text


def test_operators_share_the_parameters_memory() -> None:
    operator = Dense(W, transposed=True).bind(stored)
    assert operator.matrix.data_ptr() == W.value.data_ptr()  # type: ignore[union-attr]
