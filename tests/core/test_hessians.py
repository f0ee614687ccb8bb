"""What a question about a Hessian may be, and the type of its answer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import vercomp
from vercomp.compiled import CompiledNetwork
from vercomp.errors import InputError, InputTypeError

X, V = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(0))
Y, T = torch.tensor([0, 1]), torch.tensor([1, 2])
TYPES = [torch.float32, torch.float64]


@cache
def example() -> CompiledNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 7), nn.Softplus(), nn.Linear(7, 3))
    return vercomp.compile(model, (5,))


def second_derivative(x: Tensor) -> Tensor:
    """∇²(z_y − z_t) by autograd, in float64."""
    network = copy.deepcopy(example().network).double()

    def margin(point: Tensor, y: Tensor, t: Tensor) -> Tensor:
        logits = network(point[None])[0]
        return logits[y] - logits[t]

    rows = zip(x.double(), Y, T, strict=True)
    return torch.stack(
        [
            torch.autograd.functional.hessian(lambda p, y=y, t=t: margin(p, y, t), x)
            for x, y, t in rows
        ]
    )


@pytest.mark.parametrize("own", [torch.float16, *TYPES])
@pytest.mark.parametrize("given", TYPES)
def test_the_hessian_is_in_the_networks_type_or_in_float64(
    own: torch.dtype, given: torch.dtype
) -> None:
    network = copy.deepcopy(example().network).to(own)
    found = network.hessian(X.to(given), Y, T)
    assert found.dtype == (own if own == given else torch.float64)
    tolerance = {torch.float16: 1e-2, torch.float32: 1e-5, torch.float64: 1e-12}
    close = 1e-5 if found.dtype == torch.float32 else tolerance[own]
    torch.testing.assert_close(found.double(), second_derivative(X), rtol=close, atol=close)
    for directions in TYPES:
        product = network.hessian_vector_product(X.to(given), Y, T, V.to(directions))
        assert product.dtype == (own if own == given == directions else torch.float64)
        expected = (second_derivative(X) @ V.double()[:, :, None])[:, :, 0]
        torch.testing.assert_close(product.double(), expected, rtol=close, atol=10 * close)


def test_gradients_reach_weights_in_the_networks_type_and_inputs_in_both() -> None:
    network = copy.deepcopy(example().network)
    for dtype, reached in ((torch.float32, True), (torch.float64, False)):
        x = X.to(dtype, copy=True).requires_grad_()
        network.zero_grad()
        network.hessian(x, Y, T).square().sum().backward()
        assert x.grad is not None
        assert all((p.grad is not None) == reached for p in network.parameters() if p.ndim == 2)


def test_no_inputs_and_labels_of_any_integer_type() -> None:
    net = example()
    none = torch.zeros(0, dtype=torch.int64)
    assert net.hessian(X[:0], none, none).shape == (0, 5, 5)
    assert net.hessian_vector_product(X[:0], none, none, X[:0]).shape == (0, 5)
    wanted = net.hessian(X, Y, T)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        assert torch.equal(net.hessian(X, Y.to(dtype), T.to(dtype)), wanted)
    assert not net.hessian(X, Y, Y).any()


Question = tuple[Callable[[], tuple[object, ...]], type[Exception], str]
QUESTIONS: list[Question] = [
    (
        lambda: (X[:, :4], Y, T),
        InputError,
        r"inputs must have the shape \(batch, 5\), got \(2, 4\)",
    ),
    (lambda: (X[0], Y, T), InputError, r"inputs must have the shape \(batch, 5\), got \(5,\)"),
    (lambda: (X * torch.nan, Y, T), InputError, "inputs must be finite: input 0 holds NaN"),
    (lambda: (X / 0.0, Y, T), InputError, "inputs must be finite: input 0 holds NaN"),
    (lambda: (X.half(), Y, T), InputTypeError, "float32 or float64, got torch.float16"),
    (lambda: (X.tolist(), Y, T), InputTypeError, "float32 or float64, got list"),
    (lambda: (X, Y + 2, T), InputError, r"labels must lie in 0\.\.2, got 3"),
    (lambda: (X, Y, -T), InputError, r"targets must lie in 0\.\.2, got -1"),
    (lambda: (X, Y[:1], T), InputError, r"labels must have the shape \(2,\), got \(1,\)"),
    (lambda: (X, Y, T[:1]), InputError, r"targets must have the shape \(2,\), got \(1,\)"),
    (lambda: (X, Y[:, None], T), InputError, r"labels must have the shape \(2,\), got \(2, 1\)"),
    (
        lambda: (X, Y, T.float()),
        InputTypeError,
        "targets must be a tensor of integers, got torch.f",
    ),
    (lambda: (X, Y > 0, T), InputTypeError, "labels must be a tensor of integers, got torch.bool"),
    (lambda: (X, 0, T), InputTypeError, "labels must be a tensor of integers, got int"),
]


@pytest.mark.parametrize(("question", "error", "message"), QUESTIONS)
def test_questions_that_cannot_be_meant_are_refused(
    question: Callable[[], tuple[object, ...]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        example().hessian(*question())  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        example().hessian_vector_product(*question(), V)  # type: ignore[arg-type, call-arg]


@pytest.mark.parametrize(
    ("v", "error", "message"),
    [
        (
            V[:, :4],
            InputError,
            r"directions must have the shape of the inputs, \(2, 5\), got \(2, 4",
        ),
        (V[0], InputError, r"directions must have the shape of the inputs, \(2, 5\), got \(5,\)"),
        (V * torch.nan, InputError, "directions must be finite: direction 0 holds NaN"),
        (V.bfloat16(), InputTypeError, "directions must be a tensor of float32 or float64"),
        (V.long(), InputTypeError, "directions must be a tensor of float32 or float64"),
        (None, InputTypeError, "directions must be a tensor of float32 or float64, got NoneType"),
    ],
)
def test_directions_that_cannot_be_meant_are_refused(
    v: Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        example().hessian_vector_product(X, Y, T, v)
