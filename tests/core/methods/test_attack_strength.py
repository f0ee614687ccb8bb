"""The attack leaves no more inputs unbroken than three starts of 60 plain PGD steps do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vercomp
from vercomp.core.network import VerifiedNetwork
from vercomp.data import load_data

ONNX = Path(os.environ.get("VERCOMP_DATA", "/nowhere")) / "onnx"
ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "softplus": nn.Softplus}


def broken_by_pgd(
    network: VerifiedNetwork,
    x: Tensor,
    y: Tensor,
    radius: float,
    norm: str,
    loss: str,
    box: tuple[float, float] | None = None,
) -> Tensor:
    """Inputs that three starts (the input, and two random ones) of 60 steps break, in float32."""
    generator = torch.Generator().manual_seed(0)
    broken = network(x).argmax(1) != y
    for start in range(3):
        shift = torch.zeros_like(x)
        if start:
            drawn = torch.randn(x.shape, generator=generator)
            shift = _onto(radius * torch.randn(x.shape, generator=generator).sign(), radius, norm)
            shift = 0.5 * (shift + _onto(drawn, radius, norm))
        for step in range(60):
            point = (x + shift).requires_grad_()
            z = network(point)
            if loss == "cross entropy":
                value = F.cross_entropy(z, y, reduction="sum")
            else:
                others = z.scatter(1, y[:, None], -torch.inf).amax(1)
                value = (others - z.gather(1, y[:, None])[:, 0]).sum()
            (gradient,) = torch.autograd.grad(value, point)
            way = gradient.sign() if norm == "linf" else F.normalize(gradient.flatten(1)).view_as(x)
            length = radius * (0.5 if step < 30 else 0.05)
            shift = _onto(shift + length * way, radius, norm)
            if box is not None:
                shift = (x + shift).clamp(*box) - x
            broken |= (network(x + shift).argmax(1) != y).detach()
    return broken


def _onto(shift: Tensor, radius: float, norm: str) -> Tensor:
    if norm == "linf":
        return shift.clamp(-radius, radius)
    length = shift.flatten(1).norm(dim=1).reshape(-1, *(1,) * (shift.ndim - 1))
    return shift * (radius / length.clamp_min(1e-30)).clamp_max(1.0)


def attacked_at_most_as_pgd_leaves(
    network: VerifiedNetwork,
    x: Tensor,
    y: Tensor,
    radius: float,
    norm: str,
    box: tuple[float, float] | None = None,
) -> None:
    found = network.attack(x, y, radius, norm=norm, box=box)  # type: ignore[operator]
    left = int(((found.prediction == y) & (found.margin > 0.0)).sum())
    assert left < len(x)  # something breaks
    for loss in ("margin", "cross entropy"):
        assert left <= int((~broken_by_pgd(network, x, y, radius, norm, loss, box)).sum())


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    train, test = load_data("digits:train", (64,)), load_data("digits", (64,), limit=100)
    return train.x.float(), train.y, test.x.float(), test.y


@pytest.mark.parametrize(
    ("activation", "depth", "width", "gain"),
    [
        ("sigmoid", 3, 60, 20.0),
        ("sigmoid", 2, 40, 40.0),
        ("tanh", 3, 60, 4.0),
        ("relu", 3, 60, 1.0),
        ("softplus", 2, 40, 1.0),
    ],
)
def test_small_and_steep_networks(
    activation: str,
    depth: int,
    width: int,
    gain: float,
    digits: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    x, y, test_x, test_y = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        size = 64
        for _ in range(depth):
            dense = nn.Linear(size, width)
            dense.weight.data *= gain
            layers += [dense, ACTIVATIONS[activation]()]
            size = width
        model = nn.Sequential(*layers, nn.Linear(size, 10))
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(15):
            for rows in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
    network = vercomp.compile(model, (64,)).network
    attacked_at_most_as_pgd_leaves(network, test_x, test_y, 0.25, "l2")
    attacked_at_most_as_pgd_leaves(network, test_x, test_y, 0.05, "linf", (0.0, 1.0))


@pytest.mark.slow
@pytest.mark.skipif(not ONNX.is_dir(), reason="needs VERCOMP_DATA, a folder with onnx/ and mnist/")
@pytest.mark.parametrize(
    ("name", "scale", "radius"),
    [
        ("colt_mnist_0.1", 1.0, 0.1),
        ("Convnet_avgpool", 1.0, 0.03),
        ("logsig_200_100_50", 255.0, 0.03),
        ("tansig_200_100_50", 255.0, 0.03),
    ],
)
def test_public_networks(name: str, scale: float, radius: float) -> None:
    network = vercomp.compile(ONNX / f"{name}.onnx").network
    data = load_data(f"mnist:{ONNX.parent}", tuple(network.input_shape), 50)
    x, box = data.x.float() * scale, (0.0, scale)
    attacked_at_most_as_pgd_leaves(network, x, data.y, radius * scale, "linf", box)
    attacked_at_most_as_pgd_leaves(network, x, data.y, 20.0 * radius * scale, "l2", box)
