"""A few pairs a call, in turn: what is unbiased, what is kept, what a checkpoint restores."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from graphs import Emitted, chain, emit
from torch import Tensor
from torch.fx import GraphModule

from vercomp.core.regularizer import Regularizer, trainable

Y, T = torch.tensor([0, 2, 1, 0, 3, 2, 2]), torch.tensor([1, 0, 2, 1, 0, 0, 2])
CALLS = {"all": (), "targets": (Y,), "pairs": (Y, T)}


def example(activations: tuple[str, str] = ("softplus", "gelu")) -> Emitted:
    emitted = emit(chain(0, [4, 6, 5, 4], list(activations)))
    emitted.network.double()
    return emitted


def held(emitted: Emitted, pairs_per_call: int | None) -> Regularizer:
    """Its vectors have converged and stay where they are."""
    found: Regularizer = emitted.module.regularizer(emitted.network, pairs_per_call, every=1)
    found.arithmetic.steps = 800
    with torch.no_grad():
        found.pairs()
    found.arithmetic.steps = 0
    return found


def gradients(emitted: Emitted, value: Tensor) -> list[Tensor]:
    weights = [p for name, p in emitted.network.named_parameters() if name.endswith("weight")]
    return list(torch.autograd.grad(value, weights))


@pytest.mark.parametrize("activations", [("softplus", "gelu"), ("tanh", "sigmoid")])
@pytest.mark.parametrize("asked", CALLS)
@pytest.mark.parametrize("chosen", [1, 2, 4])
def test_the_mean_over_a_round_is_the_mean_over_all_pairs(
    activations: tuple[str, str], asked: str, chosen: int
) -> None:
    emitted = example(activations)
    few, every = held(emitted, chosen), held(emitted, None)
    arguments = CALLS[asked]
    calls = 36  # a multiple of every number of distinct pairs that occurs: 12, 9, 6 and 4
    total = torch.stack([few(*arguments) for _ in range(calls)]).mean()
    expected = every(*arguments)
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)
    for found, wanted in zip(gradients(emitted, total), gradients(emitted, expected), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("asked", CALLS)
def test_means_are_over_the_pairs_asked_for(asked: str) -> None:
    emitted = example()
    every = held(emitted, None)
    matrix = every.pairs().detach()
    expected = {
        "all": matrix.sum() / 12,
        "targets": matrix[Y].sum(1).mean() / 3,
        "pairs": matrix[Y, T].mean(),  # a pair (y, y) counts, with κ = 0
    }
    assert every(*CALLS[asked]).item() == pytest.approx(expected[asked].item(), rel=1e-12)
    few = held(emitted, 2).eval()
    assert few(*CALLS[asked]).item() == pytest.approx(expected[asked].item(), rel=1e-9)
    assert int(few.position) == 0


@pytest.mark.parametrize("activations", [("softplus", "gelu"), ("tanh", "sigmoid")])
def test_any_weights(activations: tuple[str, str]) -> None:
    every = held(example(activations), None)
    weights = torch.rand(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = (every.pairs().detach() * weights).sum()
    assert every.weighted(weights).item() == pytest.approx(expected.item(), rel=1e-12)


def test_only_the_pairs_whose_turn_it_is_move() -> None:
    emitted = example()
    regularizer: Regularizer = emitted.module.regularizer(emitted.network, 5, every=1)
    before, vectors = regularizer.latest.clone(), copy.deepcopy(regularizer.arithmetic.state_dict())
    value = regularizer()
    changed = regularizer.latest != before
    assert changed.sum() == 5
    assert value.item() == pytest.approx(regularizer.latest[changed].mean().item(), rel=1e-12)
    moved = {
        name: int((vectors[name] != stored).any(1).sum())
        for name, stored in regularizer.arithmetic.state_dict().items()
    }
    assert set(moved.values()) == {1, 5}  # a norm's one vector, and those of the pairs
    regularizer()
    regularizer()
    assert (regularizer.latest != before).sum() == 12


def test_pairs_that_are_asked_for_come_first() -> None:
    emitted = example()
    regularizer = held(emitted, 3)
    for y, t in ((0, 1), (3, 2)):
        found = regularizer(torch.tensor([y]), torch.tensor([t]))
        assert found.item() == pytest.approx(regularizer.latest[y, t].item(), rel=1e-12)


def test_nothing_but_equal_classes_is_zero() -> None:
    regularizer = held(example(), 3)
    assert regularizer(Y, Y).item() == 0.0


def test_latest_is_refreshed_and_detached() -> None:
    emitted = example()
    regularizer = held(emitted, 3)
    matrix = regularizer.pairs()
    assert matrix.requires_grad
    assert not regularizer.latest.requires_grad
    assert torch.equal(regularizer.latest, matrix)
    with torch.no_grad():
        next(emitted.network.parameters()).mul_(2.0)
        assert torch.equal(regularizer.pairs(), regularizer.latest)
        assert not torch.allclose(matrix, regularizer.latest)


@pytest.mark.parametrize("asked", CALLS)
def test_a_checkpoint_continues_bit_for_bit(asked: str) -> None:
    emitted = example()
    first: Regularizer = emitted.module.regularizer(emitted.network, 5, every=1)
    for _ in range(7):
        first(*CALLS[asked])
    second: Regularizer = emitted.module.regularizer(emitted.network, 5, every=1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for _ in range(5):
        assert torch.equal(second(*CALLS[asked]), first(*CALLS[asked]))
        assert torch.equal(second.latest, first.latest)


@pytest.mark.parametrize("activations", [("tanh", "sigmoid"), ("tanh", "softplus")])
def test_symmetric_second_derivatives_make_the_bound_symmetric(
    activations: tuple[str, str],
) -> None:
    """The program on −c is the mirror image; all ordered pairs are evaluated here."""
    emitted = example(activations)
    network = emitted.network
    net = emitted.module.net
    ordered = Regularizer(net.curvature, net.maps, network, 4, trainable(network), None)
    ordered.arithmetic.steps = 800
    matrix = ordered.pairs().detach()
    symmetric = activations == ("tanh", "sigmoid")
    assert torch.allclose(matrix, matrix.mT, rtol=1e-9) == symmetric
    halved: Regularizer = emitted.module.regularizer(network, None, every=1)
    assert halved.symmetric == symmetric
    assert len(halved._y) == (6 if symmetric else 12)
    halved.arithmetic.steps = 800
    torch.testing.assert_close(halved.pairs().detach(), matrix, rtol=1e-9, atol=0.0)
    for arguments in CALLS.values():
        assert halved(*arguments).item() == pytest.approx(ordered(*arguments).item(), rel=1e-9)


def test_several_calls_before_one_backward_and_several_backwards() -> None:
    emitted = example()
    regularizer: Regularizer = emitted.module.regularizer(emitted.network, 5, every=1)
    twin = copy.deepcopy(regularizer.state_dict())
    together = gradients(emitted, regularizer() + regularizer(Y) + regularizer(Y, T))
    other: Regularizer = emitted.module.regularizer(emitted.network, 5, every=1)
    other.load_state_dict(twin)
    apart = [gradients(emitted, other(*arguments)) for arguments in CALLS.values()]
    for found, parts in zip(together, zip(*apart, strict=True), strict=True):
        torch.testing.assert_close(found, sum(parts, torch.zeros_like(found)))
    value = regularizer()
    value.backward(retain_graph=True)
    value.backward()


def test_neighbours_in_the_rotation_have_different_classes() -> None:
    emitted = emit(chain(0, [4, 6, 10], ["softplus"]))
    regularizer: Regularizer = emitted.module.regularizer(emitted.network)
    pairs = set(zip(regularizer._y.tolist(), regularizer._t.tolist(), strict=True))
    assert len(pairs) == 90
    for start in range(90):
        window = (torch.arange(16) + start) % 90
        assert regularizer._y[window].bincount(minlength=10).max() <= 5


def test_two_classes_are_one_or_two_pairs() -> None:
    for activation, expected in (("tanh", 1), ("softplus", 2)):
        emitted = emit(chain(0, [3, 4, 2], [activation]))
        regularizer = emitted.module.regularizer(emitted.network, 1)
        assert len(regularizer._y) == expected
        regularizer().backward()


@pytest.mark.parametrize("pairs", [0, -3])
def test_a_number_of_pairs_that_is_none(pairs: int) -> None:
    emitted = example()
    with pytest.raises(ValueError, match=f"pairs_per_call is {pairs}: at least 1, or None"):
        emitted.module.regularizer(emitted.network, pairs)


def test_classes_that_do_not_exist_are_refused() -> None:
    regularizer = held(example(), 3)
    with pytest.raises(IndexError):
        regularizer(torch.tensor([0]), torch.tensor([4]))


@pytest.mark.parametrize("name", CALLS)
def test_one_call_in_three_has_the_gradient_of_three(name: str) -> None:
    """The others say what is known, at no cost; the mean of gradients is that of every call."""
    emitted, arguments = example(), CALLS[name]
    lazy: Regularizer = emitted.module.regularizer(emitted.network, None, every=3)
    busy: Regularizer = emitted.module.regularizer(emitted.network, None, every=1)
    for _ in range(2):
        first = lazy(*arguments)
        expected = gradients(emitted, busy(*arguments))
        for found, wanted in zip(gradients(emitted, first), expected, strict=True):
            torch.testing.assert_close(found, 3.0 * wanted)
        before = lazy.latest.clone()
        for _ in range(2):
            known = lazy(*arguments)
            emitted.network.zero_grad()
            known.backward()  # in a loop that goes backward from the penalty by itself
            assert all(p.grad is None for p in emitted.network.parameters())
            assert known.item() == pytest.approx(first.item(), rel=1e-12)
        assert torch.equal(lazy.latest, before)
    lazy.eval()
    assert all(lazy(*arguments).requires_grad for _ in range(3))


def test_whose_turn_it_is_to_rest_is_saved() -> None:
    emitted = example()
    first: Regularizer = emitted.module.regularizer(emitted.network, 5)  # every second call
    assert first().requires_grad
    second: Regularizer = emitted.module.regularizer(emitted.network, 5)
    second.load_state_dict(first.state_dict())
    for _ in range(4):
        assert first().item() == second().item()
        assert torch.equal(first.latest, second.latest)
    with pytest.raises(ValueError, match="every is 0: at least 1"):
        emitted.module.regularizer(emitted.network, every=0)


# torch's tracing of functions with a backward of their own instantiates them, and warns of it.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_it_is_traced_once_for_calls_that_rest_and_once_for_others() -> None:
    """Not at every call: torch.compile gives up after eight."""
    traces = 0

    def backend(graph: GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        nonlocal traces
        traces += 1
        return graph

    compiled = torch.compile(
        example().module.regularizer(example().network, 5), backend=backend, fullgraph=True
    )
    for _ in range(10):
        compiled()
    assert traces == 2
