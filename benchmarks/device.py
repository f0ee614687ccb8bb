"""What certificates and training cost on a GPU, and whether they agree there with the CPU.

Usage: python -m benchmarks.device [--device cuda] [--inputs 2000] [--quick]

Every example's network and one network of every method are compiled once; a copy on the device then
answers the questions that the network on the CPU answers. Where there is no GPU the device is the
CPU itself: the script says so, and compares one run with another. The section goes into
benchmarks/RESULTS.md, between two marks. No data set is needed, and six minutes are enough.
"""

from __future__ import annotations

import argparse
import copy
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import vercomp
from benchmarks.regularizer import dense
from benchmarks.scale import peak_megabytes
from benchmarks.sections import write_section
from vercomp.core.bounds import walked
from vercomp.core.methods.attack import Attackable
from vercomp.core.methods.portfolio import Certifiable
from vercomp.distributed import Processes
from vercomp.train.logits import Logits
from vercomp.train.recipe import Recipe
from vercomp.train.stepper import Stepper

EXAMPLES = Path(__file__).parents[1] / "examples"
COMPARED, RADIUS, SEED = 64, 0.1, 0
CLOSE = 2e-5
"""What certificates of one network may differ by, relatively: their searches are in float32."""

SUMS = 1e-12
"""What bounds may differ by: the proofs run on the CPU, sums of intervals on the device."""


class Case(NamedTuple):
    """A compiled network, and the source that it was compiled from where that is a module."""

    name: str
    network: Certifiable
    source: nn.Module | None


def relu_network() -> nn.Sequential:
    """Without curvature: what is left are the methods that need none."""
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()).append(
        nn.Linear(256, 10)
    )


def cases(quick: bool) -> Iterator[Case]:
    """The examples, and networks of random weights that have every method between them."""
    modules: dict[str, nn.Module] = {
        "2 × 1024 softplus": dense(2, nn.Softplus),
        "3 × 1024 sigmoid": dense(3, nn.Sigmoid),
        "3 × 256 ReLU": relu_network(),
    }
    for path in sorted(EXAMPLES.glob("*/*.onnx")):
        yield Case(path.stem, _certifiable(vercomp.compile(path).network), None)
    for name, module in list(modules.items())[2 if quick else 0 :]:
        compiled = vercomp.compile(module.eval(), input_shape=(784,))
        yield Case(name, _certifiable(compiled.network), module)


def _certifiable(network: nn.Module) -> Certifiable:
    if not isinstance(network, Certifiable):
        raise SystemExit(f"{type(network).__name__} was compiled without certificates")
    return network


def inputs(case: Case, count: int) -> tuple[Tensor, Tensor]:
    """Inputs in [0, 1] and what the network takes them for."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.rand(count, *case.network.input_shape, generator=generator)
    with torch.no_grad():
        return x, case.network(x).argmax(1)


def farthest(one: Tensor, other: Tensor) -> float:
    """The largest relative difference; equal infinities do not differ."""
    other = other.to(one)
    scale = torch.maximum(one.abs(), other.abs()).clamp(min=1e-12)
    apart = torch.where(one == other, 0.0, (one - other).abs() / scale)
    return float(apart.nan_to_num(nan=torch.inf).max())


def disagreements(
    case: Case, moved: Certifiable, device: torch.device
) -> Iterator[tuple[str, float, float]]:
    """(what, largest relative difference, what is allowed) for every question of a case."""
    x, y = inputs(case, COMPARED)
    on = (x.to(device), y.to(device))
    for method in case.network.methods:
        for norm in ("l2", "linf"):
            ask = {"methods": (method.name,), "norm": norm}
            here, there = case.network.certify(x, y, **ask), moved.certify(*on, **ask)
            yield f"{method.name}, {norm}", farthest(here.radius, there.radius), CLOSE
    if isinstance(case.network, Attackable) and isinstance(moved, Attackable):
        # The copy has the bounds of the original: on the device they are proved anew.
        mine, theirs = case.network.bounds(), walked(moved)
        yield "curvature bounds", farthest(mine.curvature, theirs.curvature), SUMS
        yield "Lipschitz bounds", farthest(mine.lipschitz, theirs.lipschitz), SUMS
        bounds = [
            network.attack(*ask, RADIUS).lower_bound
            for network, ask in ((case.network, (x, y)), (moved, on))
        ]
        yield "bounds of attacks", farthest(*bounds), 1e-4
    if hasattr(case.network, "hessian"):
        few, t = slice(4), (y + 1) % case.network.classes
        mine = case.network.hessian(x[few].double(), y[few], t[few])
        theirs = moved.hessian(on[0][few].double(), on[1][few], t[few].to(device))
        yield "Hessians", farthest(mine.norm(dim=(1, 2)), theirs.norm(dim=(1, 2))), 1e-9


class Speed(NamedTuple):
    """What certifying took, for each input: microseconds, forward-backwards, kernel launches."""

    micros: float
    units: float
    launches: float | None
    megabytes: float


def speed(moved: Certifiable, x: Tensor, y: Tensor) -> Speed:
    """All targets, every method, the second of two runs."""
    leaf = x.clone().requires_grad_()

    def bare() -> None:
        torch.autograd.grad(moved(leaf).amax(1).sum(), leaf)

    moved.certify(x, y)
    seconds, unit = clocked(lambda: moved.certify(x, y), x), clocked(bare, x)
    launches, memory = None, peak_megabytes()
    if x.is_cuda:
        torch.cuda.reset_peak_memory_stats(x.device)
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            moved.certify(x, y)
        launches = sum(row.count for row in seen.key_averages()) / len(x)
        memory = torch.cuda.max_memory_allocated(x.device) / 2**20
    return Speed(1e6 * seconds / len(x), seconds / unit, launches, memory)


def clocked(work: Callable[[], object], like: Tensor, runs: int = 3) -> float:
    """The least seconds of a few runs, what the device still has to do included."""
    seconds = []
    for _ in range(runs):
        finish(like)
        start = time.perf_counter()
        work()
        finish(like)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def finish(like: Tensor) -> None:
    """Wait for the device."""
    if like.is_cuda:
        torch.cuda.synchronize(like.device)


def training_step(device: torch.device, method: str, steps: int) -> float:
    """Milliseconds of a step of ``vercomp train`` on 2 × 1024 softplus at batch 256."""
    torch.manual_seed(SEED)
    model = dense(2, nn.Softplus).to(device)
    recipe = Recipe(method=method, epochs=2, batch_size=256)
    x = torch.rand(256 * steps, 784, device=device)
    y = torch.randint(10, (256 * steps,), device=device)
    bound = None
    if recipe.bounded:
        bound = vercomp.regularizer(model, input_shape=(784,), every=1)
    logits = Logits(model, None, None, None, x, 1)
    stepper = Stepper(model, logits, bound, x, y, recipe, Processes())
    stepper.epoch(1)
    return 1e3 * clocked(lambda: stepper.epoch(2), x, 1) / steps


def report(device: torch.device, count: int, quick: bool) -> Iterator[str]:
    """The lines of the section."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    yield (
        f"vercomp {version('vercomp')}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, {device.type} ({card}), seed {SEED}; "
        f"python -m benchmarks.device --device {device} --inputs {count}{' --quick' * quick}"
    )
    if device.type == "cpu":
        yield "No GPU: the CPU is compared with itself, and its own speed is what is measured."
    torch.manual_seed(SEED)
    yield f"\n{'network':<20}{'question':<20}{'differs by':>12}{'allowed':>10}"
    timed = []
    for case in cases(quick):
        moved = copy.deepcopy(case.network).to(device)
        for what, found, allowed in disagreements(case, moved, device):
            wrong = "" if found <= allowed else "   DISAGREES"
            yield f"{case.name:<20}{what:<20}{found:12.1e}{allowed:10.0e}{wrong}"
        x, y = inputs(case, count)
        timed.append((case, speed(moved, x.to(device), y.to(device))))
    yield f"\n{'network':<20}{'µs an input':>12}{'units':>8}{'launches':>10}{'peak MB':>9}"
    for case, cost in timed:
        launches = "–" if cost.launches is None else f"{cost.launches:.2f}"
        yield (
            f"{case.name:<20}{cost.micros:12.1f}{cost.units:8.1f}{launches:>10}"
            f"{cost.megabytes:9.0f}"
        )
    steps = 2 if quick else 20
    plain, dual = (training_step(device, method, steps) for method in ("plain", "dual"))
    yield f"\na training step at 2 × 1024: plain {plain:.1f} ms, dual {dual:.1f} ms"


def main(arguments: list[str] | None = None) -> None:
    """Print the section and write it down."""
    parser = argparse.ArgumentParser(description="certificates and training on a GPU")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="fewer networks and steps")
    parser.add_argument("--dry", action="store_true", help="leave benchmarks/RESULTS.md alone")
    options = parser.parse_args(arguments)
    lines = []
    for line in report(torch.device(options.device), options.inputs, options.quick):
        print(line, flush=True)
        lines.append(line)
    if not options.dry:
        write_section("device", "\n".join(("```", *lines, "```", "")))
    if any("DISAGREES" in line for line in lines):
        raise SystemExit("the device disagrees with the CPU")


if __name__ == "__main__":
    main()
