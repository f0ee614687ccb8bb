"""Networks by name."""

from __future__ import annotations

import pytest
import torch

import vercomp
from vercomp.errors import UsageError
from vercomp.train.architectures import ACTIVATIONS, architecture, is_architecture


def shapes(model: torch.nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")]


def test_dense_layers() -> None:
    model = architecture("mlp:12,7:tanh", (1, 4, 4), 3)
    assert shapes(model) == [(12, 16), (7, 12), (3, 7)]
    assert model(torch.rand(5, 1, 4, 4)).shape == (5, 3)


def test_convolutions_then_dense_layers() -> None:
    model = architecture("convolutional:4x5s2,6x3,8x2s3:softplus:9", (2, 11, 8), 3)
    x = torch.rand(5, 2, 11, 8)
    assert shapes(model)[:3] == [(4, 2, 5, 5), (6, 4, 3, 3), (8, 6, 2, 2)]
    assert shapes(model)[4:] == [(3, 9)]
    assert model(x).shape == (5, 3)
    plain = architecture("convolutional:4x3s2:gelu", (2, 6, 6), 3)
    assert shapes(plain) == [(4, 2, 3, 3), (3, 36)]
    assert plain(torch.rand(1, 2, 6, 6)).shape == (1, 3)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_can_be_certified(activation: str) -> None:
    network = vercomp.compile(architecture(f"mlp:4:{activation}", (3,), 2), (3,))
    if network.curved:
        assert float(network.curvature()[1].max()) > 0
    x = torch.rand(2, 3)
    methods = ["curvature"] if network.curved else ["interval"]
    found = network.certify(x, network.network(x).argmax(1), methods=methods)
    assert (found.radius > 0).all()


def test_the_seed_decides_and_the_global_generator_stays() -> None:
    before = torch.get_rng_state()
    one, same, other = (architecture("mlp:4:tanh", (3,), 2, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one[1].weight, same[1].weight)
    assert not torch.equal(one[1].weight, other[1].weight)


def test_only_kinds_are_architectures() -> None:
    assert is_architecture("mlp:1:tanh")
    assert is_architecture("convolutional:nonsense")
    assert not is_architecture("package.mlp:callable")
    assert not is_architecture("mlp.onnx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mlp:8", "'mlp:8' is no architecture. Write mlp:WIDTHS:ACTIVATION"),
        ("mlp:8:tanh:8", "is no architecture"),
        ("mlp:8:sign", "no activation 'sign'. Known: elu, gelu"),
        ("mlp:8,,8:tanh", "'8,,8' are no widths"),
        ("mlp:0:tanh", "'0' are no widths"),
        ("convolutional:8:tanh", "'8' is no layer"),
        ("convolutional:8x3s0:tanh", "'8x3s0' is no layer"),
        ("convolutional:8x3:tanh:x", "'x' are no widths"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        architecture(text, (1, 8, 8), 10)


def test_convolutions_need_images() -> None:
    with pytest.raises(UsageError, match=r"takes images .* not inputs of shape \(64,\)"):
        architecture("convolutional:8x3:tanh", (64,), 10)
