"""The networks of the solver benchmark: L × 1024 sigmoid on MNIST, trained once and cached."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from vercomp.data import load_data

WIDTH = 1024


def mnist(split: str) -> tuple[Tensor, Tensor]:
    """Images (N, 784) in [0, 1] and labels (N,) of the split ``"train"`` or ``"test"``."""
    if "VERCOMP_DATA" not in os.environ:
        raise SystemExit("set VERCOMP_DATA to the folder that holds mnist/ with its four idx files")
    folder = Path(os.environ["VERCOMP_DATA"]) / "mnist"
    data = load_data(
        f"mnist:{folder}:{split}", input_shape=(784,), classes=10, tell=lambda line: None
    )
    return data.x, data.y


def sigmoid_network(layers: int) -> nn.Sequential:
    """``layers`` weight layers: 784 → 1024 → … → 10 with sigmoids between."""
    modules: list[nn.Module] = []
    width = 784
    for _ in range(layers - 1):
        modules += [nn.Linear(width, WIDTH), nn.Sigmoid()]
        width = WIDTH
    return nn.Sequential(*modules, nn.Linear(width, 10))


def trained(layers: int, cache: Path, *, epochs: int = 5) -> nn.Sequential:
    """The trained network, from ``cache`` if it is there; a minute or two an L otherwise."""
    network = sigmoid_network(layers)
    path = cache / f"sigmoid-{layers}x{WIDTH}-{epochs}epochs.pt"
    if path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    torch.manual_seed(layers)
    network = sigmoid_network(layers)
    x, y = mnist("train")
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    batch, start = 64, time.perf_counter()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * (len(x) // batch))
    for _ in range(epochs):
        for index in torch.randperm(len(x))[: len(x) // batch * batch].reshape(-1, batch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x[index]), y[index]).backward()
            optimiser.step()
            schedule.step()
    x, y = mnist("test")
    with torch.no_grad():
        accuracy = (network(x).argmax(1) == y).double().mean()
    seconds = time.perf_counter() - start
    print(f"trained {path.stem}: {accuracy:.2%} in {seconds:.0f} s", file=sys.stderr)
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return network.eval()
