"""What the regulariser costs in a training step.

Usage: python -m benchmarks.regularizer [--repetitions 40] [--threads N] [--quick]

A plain step is zero_grad, forward, cross entropy, backward and Adam, on random inputs, of L × 1024
networks on 784 inputs at batch 256 and of a small convolutional one. The other columns add
0.01 · reg(y): as it comes (16 pairs of classes at every second call), over the model's own
parameters (live) and over the compiled package's; at every call; and with all 90 pairs at every
call. Two steps are timed together, and kinds alternate, so that other work on the machine meets
them equally; the figures are medians, and the ratios those of the medians.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

import vercomp

BATCH, CLASSES, WIDTH, PIXELS = 256, 10, 1024, 784
STEPS = 2  # timed together: the regulariser rests at every second
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}


def dense(layers: int, activation: type[nn.Module]) -> nn.Sequential:
    """A network of so many dense layers."""
    modules: list[nn.Module] = []
    for layer in range(layers - 1):
        modules += [nn.Linear(WIDTH if layer else PIXELS, WIDTH), activation()]
    return nn.Sequential(*modules, nn.Linear(WIDTH, CLASSES))


def convolutional(activation: type[nn.Module]) -> nn.Sequential:
    """Two convolutions of stride 2 and two dense layers on 28 × 28 images."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        activation(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        activation(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 256),
        activation(),
        nn.Linear(256, CLASSES),
    )


Penalty = Callable[[Tensor], Tensor]


def stepper(network: nn.Module, penalty: Penalty | None) -> Callable[[], None]:
    """One training step of a network."""
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, PIXELS, generator=generator)
    y = torch.randint(CLASSES, (BATCH,), generator=generator)

    def step() -> None:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(network(x), y)
        if penalty is not None:
            loss = loss + 0.01 * penalty(y)
        loss.backward()
        optimiser.step()

    return step


def medians(steps: dict[str, Callable[[], None]], repetitions: int) -> dict[str, float]:
    """Median milliseconds of each step, in turn."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(repetitions + 3):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            if repetition >= 3:
                taken[name].append(1e3 * (time.perf_counter() - start) / STEPS)
    return {name: statistics.median(times) for name, times in taken.items()}


def row(name: str, network: nn.Module, repetitions: int) -> str:
    """One network's line of the table."""
    compiled = vercomp.compile(network, (PIXELS,), emit=("regularizer",))
    steps = {"plain": stepper(network, None)}
    kinds: dict[str, dict[str, Any]] = {
        "": {},
        " every call": {"every": 1},
        " all": {"every": 1, "pairs_per_call": None},
    }
    for label, options in kinds.items():
        steps[f"live{label}"] = stepper(network, vercomp.regularizer(network, (PIXELS,), **options))
    steps["package"] = stepper(compiled.network, compiled.regularizer())
    found = medians(steps, repetitions)
    plain = found.pop("plain")
    ratios = "".join(f"{time / plain:17.2f}" for time in found.values())
    return f"{name:26}{plain:10.1f}{ratios}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What the regulariser costs in a training step.")
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="3 × 1024 sigmoid alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(
        f"vercomp {version('vercomp')}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {options.threads} threads, batch {BATCH}, seed 0"
    )
    columns = ("default", "every call", "all, every call", "package")
    print(f"{'network':26}{'plain ms':>10}{''.join(f'{column:>17}' for column in columns)}")
    for layers in (3,) if options.quick else (2, 3, 4):
        for name, activation in ACTIVATIONS.items():
            if options.quick and name != "sigmoid":
                continue
            label = f"{layers} × {WIDTH} {name}"
            print(row(label, dense(layers, activation), options.repetitions), flush=True)
    if not options.quick:
        label = "2 convolutions, 2 dense"
        print(row(label, convolutional(nn.Softplus), options.repetitions), flush=True)


if __name__ == "__main__":
    main()
