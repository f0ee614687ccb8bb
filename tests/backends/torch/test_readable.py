"""The forward pass is printed from the unmerged graph: every layer once, with its own bias."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vercomp
from vercomp.errors import InternalError


def forward_of(net: vercomp.CompiledNetwork) -> list[str]:
    """The statements of the printed forward pass."""
    source = net.files["net.py"].decode()
    body = source.split("def forward", 1)[1].split("def nodes", 1)[0]
    return [line.strip() for line in body.splitlines()[2:] if line.strip()]


class Shared(nn.Module):
    """Convolutions with one kernel, each with a bias of its own."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(2, 2, 3, 3) / 4)
        for index in range(count):
            self.register_parameter(f"bias{index}", nn.Parameter(torch.randn(2)))
        self.fc = nn.Linear(32, 3)

    def convolved(self, x: Tensor, index: int) -> Tensor:
        return F.conv2d(x, self.kernel, getattr(self, f"bias{index}"), padding=1)

    def head(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(torch.tanh(x).flatten(1))
        return out


class Residual(Shared):
    def forward(self, x: Tensor) -> Tensor:
        first = x + self.convolved(torch.tanh(x), 1)
        second = first + self.convolved(torch.sigmoid(first), 0)
        return self.head(second)


class Twice(Shared):
    """A sum of equal branches, with a bias on one of them."""

    def forward(self, x: Tensor) -> Tensor:
        a = torch.tanh(x)
        b = a + self.bias0[:, None, None]
        return self.head(a + b + self.convolved(x, 1) + (x + a))


class Anything(Shared):
    """Convolutions, sums and activations in an order that a seed decides."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)  # noqa: S311
        super().__init__(count := draw.randint(2, 4))
        self.steps: list[tuple[str, int, int]] = []
        unread, left, values = {0}, list(range(count)), 1
        while left or len(unread) > 1:
            a, b = (draw.choice([*sorted(unread), draw.randrange(values)]) for _ in range(2))
            kind = draw.choice(["convolve", "add", "add", "tanh", "double"])
            if kind == "convolve" and left:
                b = left.pop(0)
            elif kind == "convolve" or (kind == "add" and a == b):
                continue
            self.steps.append((kind, a, b))
            unread -= {a, b} if kind == "add" else {a}
            unread.add(values)
            values += 1

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for kind, a, b in self.steps:
            if kind == "convolve":
                values.append(self.convolved(values[a], b))
            elif kind == "add":
                values.append(values[a] + values[b])
            else:
                values.append(torch.tanh(values[a]) if kind == "tanh" else 2 * values[a])
        return self.head(values[-1])


def test_two_convolutions_that_share_a_kernel_keep_their_biases() -> None:
    assert forward_of(vercomp.compile(Residual(2), input_shape=(2, 4, 4))) == [
        "tanh = TANH.value(x)",
        "conv2d = x + F.conv2d(tanh, self.kernel, self.bias1, padding=1)",
        "sigmoid = SIGMOID.value(conv2d)",
        "conv2d_1 = conv2d + F.conv2d(sigmoid, self.kernel, self.bias0, padding=1)",
        "tanh_1 = TANH.value(conv2d_1)",
        "return F.linear(tanh_1.flatten(1), self.fc_weight, self.fc_bias)",
    ]


def calls_of(monkeypatch: pytest.MonkeyPatch, model: nn.Module, x: Tensor) -> list[list[Tensor]]:
    """What every convolution of a forward pass is called with: its input and its bias."""
    calls, convolve = [], F.conv2d

    def noted(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        calls.append([x, bias])
        return convolve(x, weight, bias, padding=padding)

    with monkeypatch.context() as patched:
        patched.setattr(F, "conv2d", noted)
        model(x)
    return calls


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 4, 5, 6])
def test_every_convolution_is_printed_once_with_its_input_and_its_bias(
    seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = (Twice(2) if seed is None else Anything(seed)).double()
    net = vercomp.compile(model, input_shape=(2, 4, 4), emit=("hessian",))
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(net.network(x), model(x))
    ours, theirs = (calls_of(monkeypatch, m, x) for m in (net.network, model))
    assert len(ours) == len(theirs)
    for one in theirs:
        (same,) = [other for other in ours if torch.equal(other[1], one[1])]
        torch.testing.assert_close(same[0], one[0])


def test_a_printed_forward_pass_that_is_another_function_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Break the printing on purpose: a bias is left out."""
    from vercomp.backends.torch import readable

    monkeypatch.setattr(
        readable, "replace", lambda node, **changes: _without_carried(node, changes)
    )
    with pytest.raises(InternalError, match="computes something else than the graph"):
        vercomp.compile(
            nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2)), nn.Tanh(), nn.Flatten()),
            input_shape=(3,),
        )


def _without_carried(node: Any, changes: dict[str, Any]) -> Any:
    return dataclasses.replace(
        node, **{**changes, "offsets": ()} if "terms" in changes else changes
    )
