"""How the cost of convolutional networks grows: analysis, memory, certificates.

Usage: python -m benchmarks.scale [--images 100] [--quick]

Each row is measured in a process of its own, so that its peak memory is its own. The networks are
tanh networks of L convolutions and two dense layers, trained for a moment to tell ten noisy
patterns apart (no data set is needed); ``units`` are forward-backwards of the bare float32 model,
an image, on the same batch. Certificates are those of global curvature.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import platform
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn

import vercomp

CLASSES = 10


@dataclass(frozen=True)
class Setting:
    """One network: L convolutions of growing width on size × size images of three channels."""

    convolutions: int = 6
    width: int = 24
    size: int = 32

    def network(self) -> nn.Sequential:
        """Every second convolution halves the image and doubles the channels."""
        modules: list[nn.Module] = []
        channels, length = 3, self.size
        for layer in range(self.convolutions):
            stride = 1 + layer % 2
            following = self.width * 2 ** ((layer + 1) // 2)
            modules += [nn.Conv2d(channels, following, 3, stride=stride, padding=1), nn.Tanh()]
            channels, length = following, -(-length // stride)
        hidden = 704
        modules += [nn.Flatten(), nn.Linear(channels * length**2, hidden), nn.Tanh()]
        return nn.Sequential(*modules, nn.Linear(hidden, CLASSES))


def patterns(setting: Setting, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images in [0, 1]: one of ten smooth patterns, and noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(CLASSES, 3, 4, 4, generator=generator)
    templates = nn.functional.interpolate(coarse, size=setting.size, mode="bilinear")
    generator.manual_seed(seed)
    y = torch.randint(CLASSES, (count,), generator=generator)
    noise = torch.rand(count, *templates.shape[1:], generator=generator)
    return 0.8 * templates[y] + 0.2 * noise, y


def trained(setting: Setting) -> nn.Sequential:
    """A network that tells the patterns apart."""
    torch.manual_seed(0)
    network = setting.network()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(40):
        x, y = patterns(setting, 64, 1 + step)
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    return network.eval()


def peak_megabytes() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(setting: Setting, images: int, channel: Connection) -> None:
    """One row, sent through the channel."""
    module = trained(setting)
    x, y = patterns(setting, images, 0)
    before = peak_megabytes()
    start = time.perf_counter()
    compiled = vercomp.compile(module, input_shape=(3, setting.size, setting.size))
    network = compiled.network
    network.bounds()
    analysed = time.perf_counter() - start
    analysis_memory = peak_megabytes()

    def forward_backward() -> None:
        points = x.clone().requires_grad_()
        module(points).sum().backward()

    forward_backward()
    start = time.perf_counter()
    for _ in range(3):
        forward_backward()
    unit = (time.perf_counter() - start) / 3 / images
    start = time.perf_counter()
    certificates = network.certify(x, y, methods=("curvature",))
    certified = (time.perf_counter() - start) / images
    hidden = [0]
    for layer in module:
        if isinstance(layer, nn.Tanh):
            layer.register_forward_hook(lambda _m, _i, out: hidden.append(out[0].numel()))
    module(x[:1])
    channel.send(
        {
            **asdict(setting),
            "parameters": sum(p.numel() for p in module.parameters()),
            "hidden": sum(hidden),
            "seconds": analysed,
            "before": before,
            "analysis": analysis_memory,
            "peak": peak_megabytes(),
            "unit": 1e3 * unit,
            "pair": 1e3 * certified / (CLASSES - 1),
            "units": certified / (CLASSES - 1) / unit,
            "correct": float((certificates.prediction == y).double().mean()),
            "radius": float(certificates.radius.mean()),
            "kappa": float(-network.curvature()[0].min()),
        }
    )


def rows(settings: Iterator[Setting], images: int) -> Iterator[dict[str, float]]:
    """Measure each setting in a fresh process."""
    context = multiprocessing.get_context("spawn")
    for setting in settings:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=measure, args=(setting, images, sender))
        process.start()
        sender.close()
        try:
            yield receiver.recv()
        except EOFError:
            raise SystemExit(f"{setting} failed") from None
        finally:
            process.join()


def settings(quick: bool) -> Iterator[Setting]:
    """The network of the title first, then one axis at a time."""
    yield Setting()
    if not quick:
        yield from (Setting(convolutions=n) for n in (2, 4, 8))
        yield from (Setting(width=n) for n in (12, 48))
        yield from (Setting(size=n) for n in (16, 64))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="growth of cost with depth, width and image size")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="the first row alone")
    options = parser.parse_args()
    print(
        f"vercomp {version('vercomp')}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {torch.get_num_threads()} threads, seed 0; "
        f"{options.images} images × {CLASSES - 1} targets"
    )
    head = (
        "convs  width  image  parameters   hidden  analysis s  peak MB  + certify MB"
        "  fwd-bwd ms  ms a pair  units a pair  correct  mean radius"
    )
    print(head)
    measured = rows(itertools.chain(settings(options.quick)), options.images)
    for row in measured:
        print(
            f"{row['convolutions']:5d}  {row['width']:5d}  {row['size']:5d}  "
            f"{row['parameters']:10,d}  {row['hidden']:7,d}  {row['seconds']:10.1f}  "
            f"{row['analysis']:7.0f}  {row['peak']:12.0f}  {row['unit']:10.2f}  "
            f"{row['pair']:9.2f}  {row['units']:12.1f}  {row['correct']:7.0%}  "
            f"{row['radius']:11.3g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
