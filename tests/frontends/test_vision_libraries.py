"""Models of torchvision and timm, where these are installed, with smooth activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import vercomp

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def library(name: str) -> Any:
    """The library; a build for another torch raises RuntimeError when it is imported."""
    return pytest.importorskip(name, reason=f"needs {name}", exc_type=(ImportError, RuntimeError))


def exchanged(model: nn.Module, old: type[nn.Module], make: Callable[[], nn.Module]) -> nn.Module:
    """The model with every module of one kind replaced."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, old):
                setattr(parent, name, make())
    return model


def torchvision_resnet() -> nn.Module:
    """A ResNet with SiLU for ReLU, and average pooling for max pooling."""
    library("torchvision")
    from torchvision.models.resnet import BasicBlock, ResNet

    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)
    model.layer3 = model.layer4 = nn.Identity()
    model.fc = nn.Linear(128, 5)
    exchanged(model, nn.ReLU, nn.SiLU)
    return exchanged(model, nn.MaxPool2d, lambda: nn.AvgPool2d(2))


def torchvision_convnext() -> nn.Module:
    """A ConvNeXt (GELU, depthwise convolutions, layer scales) without its layer norms."""
    library("torchvision")
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    return exchanged(ConvNeXt(blocks, num_classes=5), nn.LayerNorm, nn.Identity)


def timm_resnet() -> nn.Module:
    """A ResNet with SiLU, and a convolution in the place of its max pooling."""
    library("timm")
    from timm.models.resnet import BasicBlock, ResNet

    return ResNet(
        BasicBlock,
        (1, 1, 1, 1),
        num_classes=5,
        channels=(8, 16, 16, 32),
        act_layer=nn.SiLU,
        replace_stem_pool=True,
    )


def timm_convnext() -> nn.Module:
    """A ConvNeXt without its layer norms."""
    library("timm")
    from timm.models.convnext import ConvNeXt

    model = ConvNeXt(num_classes=5, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))
    return exchanged(model, nn.LayerNorm, nn.Identity)


@pytest.mark.parametrize(
    "make",
    [torchvision_resnet, torchvision_convnext, timm_resnet, timm_convnext],
    ids=lambda make: make.__name__,
)
def test_smooth_models_are_certified(make: Callable[[], nn.Module]) -> None:
    model = make().eval()
    size = 32 if make is timm_convnext else 16  # it has four stages
    net = vercomp.compile(model, input_shape=(3, size, size))
    assert "curvature" in net.manifest["methods"]
    x = torch.rand(2, 3, size, size)
    y = model(x).argmax(1)
    torch.testing.assert_close(net.network(x), model(x), rtol=1e-4, atol=1e-5)
    found = net.certify(x, y, methods=("curvature",))
    assert (found.radius > 0).all()
    for radius in found.radius.tolist():
        attacks = net.attack(x, y, radius=radius, budget=10)
        assert (attacks.margin[found.radius >= radius] > 0).all()
