"""The networks that the benchmarks train themselves, plainly: once, with a stated seed, and cached.

A name says all that distinguishes one: ``sigmoid-3x1024-5epochs`` has three weight layers, 784 →
1024 → 1024 → 10, and learns MNIST for five epochs; ``saturated`` in the place of the activation is
a sigmoid network that is trained at a constant rate until most of its neurons are flat;
``residual-20epochs`` is a residual softplus network of six convolutions for CIFAR-10.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .images import CIFAR_SHAPE, cifar10, mnist

CACHE = Path("build/benchmarks")
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "relu": nn.ReLU,
}
FORM = re.compile(
    rf"(?:({'|'.join(ACTIVATIONS)}|saturated)-(\d)x(\d+)|residual)-(\d+)epochs", re.ASCII
)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
"""Of the pixels of CIFAR-10, a channel each."""


@dataclass(frozen=True)
class Training:
    """A plain training: the cross entropy by Adam, and nothing else.

    Args:
        name: What the cached file is called.
        data: ``"mnist"`` or ``"cifar10"``.
        build: Makes the untrained network.
        seed: Of the weights and the order of the images.
        epochs: Passes over the training images.
        rate: The first learning rate.
        decays: Whether the rate falls to zero along a cosine.
        flips: Whether images are mirrored at random.
    """

    name: str
    data: str
    build: Callable[[], nn.Module]
    seed: int
    epochs: int
    rate: float = 1e-3
    decays: bool = True
    flips: bool = False


def normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> nn.Conv2d:
    """(x − mean) / std of each channel, as a convolution of 1 × 1.

    As a subtraction and a division, auto_LiRPA would lose the region of l1 and l2 in them: its
    intervals of what follows are then those of the centre alone.
    """
    channels = len(mean)
    layer = nn.Conv2d(channels, channels, 1)
    scale = 1.0 / torch.tensor(std)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(scale)[:, :, None, None])
        layer.bias = nn.Parameter(-torch.tensor(mean) * scale, requires_grad=False)
    return layer.requires_grad_(False)


class Residual(nn.Module):
    """x ↦ σ(x + W₂ σ(W₁ x + b₁) + b₂) with 3 × 3 convolutions."""

    def __init__(self, channels: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            activation(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(x + self.branch(x))
        return y


def perceptron(layers: int, width: int, activation: str) -> nn.Sequential:
    """``layers`` weight layers: 784 → width → … → 10 with activations between."""
    modules: list[nn.Module] = []
    inputs = 784
    for _ in range(layers - 1):
        modules += [nn.Linear(inputs, width), ACTIVATIONS[activation]()]
        inputs = width
    return nn.Sequential(*modules, nn.Linear(inputs, 10))


def residual() -> nn.Sequential:
    """Six convolutions in a stem, two residual blocks and a stride between them: softplus."""
    return nn.Sequential(
        normalisation(MEAN, STD),
        nn.Conv2d(CIFAR_SHAPE[0], 16, 3, stride=2, padding=1),
        nn.Softplus(),
        Residual(16, nn.Softplus),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.Softplus(),
        Residual(32, nn.Softplus),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def training(name: str) -> Training:
    """What a name says.

    Raises:
        SystemExit: The name is of no network.
    """
    found = FORM.fullmatch(name)
    if found is None:
        raise SystemExit(f"{name!r} is no network that is trained here: {FORM.pattern}")
    kind, layers, width, epochs = found.groups()
    if kind is None:
        return Training(name, "cifar10", residual, 0, int(epochs), flips=True)
    depth, activation = int(layers), "sigmoid" if kind == "saturated" else kind

    def build() -> nn.Module:
        return perceptron(depth, int(width), activation)

    return Training(name, "mnist", build, depth, int(epochs), decays=kind != "saturated")


def trained(name: str, cache: Path = CACHE) -> nn.Module:
    """The trained network, from ``cache`` if it is there; a minute or two otherwise."""
    plan = training(name)
    path = cache / f"{name}.pt"
    if path.exists():
        network = plan.build()
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    start = time.perf_counter()
    network = fitted(plan)
    seconds = time.perf_counter() - start
    print(f"trained {name}: {accuracy(network, plan):.2%} in {seconds:.0f} s", file=sys.stderr)
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return network


def fitted(plan: Training, batch: int = 64) -> nn.Module:
    """Train from the beginning."""
    torch.manual_seed(plan.seed)
    network = plan.build()
    x, y = images(plan, "train")
    optimiser = torch.optim.Adam(network.parameters(), lr=plan.rate)
    steps = plan.epochs * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(plan.epochs):
        for index in torch.randperm(len(x))[: len(x) // batch * batch].reshape(-1, batch):
            inputs = x[index]
            if plan.flips:
                mirrored = torch.rand(batch, 1, 1, 1) < 0.5
                inputs = torch.where(mirrored, inputs.flip(-1), inputs)
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(inputs), y[index]).backward()
            optimiser.step()
            if plan.decays:
                schedule.step()
    return network.eval()


def images(plan: Training, split: str) -> tuple[Tensor, Tensor]:
    """The images and labels that a training is about."""
    return mnist(split) if plan.data == "mnist" else cifar10(split)


def accuracy(network: nn.Module, plan: Training) -> float:
    """On the test images."""
    x, y = images(plan, "test")
    with torch.no_grad():
        right = torch.cat([network(part).argmax(1) for part in x.split(1000)]) == y
    return float(right.double().mean())
