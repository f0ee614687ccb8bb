"""The solver side by side with Algorithm 1, on L × 1024 sigmoid networks and MNIST.

Usage: VERCOMP_DATA=… python -m benchmarks [--layers 2 3 4] [--images 150]

Targets are the runner-up classes, as in the paper. L counts weight layers. ``evaluations`` are
gradient evaluations a pair (mean / max), ``ms`` and ``units`` are an image's share of the
processor's time (the least of a few runs, because other work may share it), in milliseconds and in
forward-backwards of the bare model on the same batch. Everything runs in one thread, because a
thread that waits for another one spends the processor's time as well. Certificates are those of
global curvature.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import vercomp
from vercomp.core.methods.certificates import Certificates
from vercomp.core.methods.cuts import cut_radius, screening_cut
from vercomp.core.methods.dual import DualSolution, solve_dual

from .algorithm1 import algorithm1
from .boundary_attack import pgd_distance
from .images import mnist
from .networks import trained

T = TypeVar("T")


CURVATURE = ("curvature",)
RUNS = 5


def timed(work: Callable[[], T], runs: int = 1) -> tuple[T, float]:
    """What the work gives, and the least seconds of the processor that a run took."""
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return result, min(seconds)


def compare(layers: int, images: int, cache: Path) -> None:
    module = trained(f"sigmoid-{layers}x1024-5epochs", cache)
    compiled, seconds = timed(lambda: vercomp.compile(module, input_shape=(784,)))
    network = compiled.network
    x, y = mnist("test")
    x, y = x[:images], y[:images]
    with torch.no_grad():
        logits = module(x)
    right = logits.argmax(1) == y
    x, y, logits = x[right], y[right], logits[right]
    t = logits.scatter(1, y[:, None], -torch.inf).argmax(1)
    (lower, upper), bounding = timed(network.curvature)
    m, M = lower[y, t].float(), upper[y, t].float()
    count = len(x)
    kappa = (-m).clamp(min=0.0)

    function = margin_of(module, y, t)
    _, unit = timed(lambda: function(x), 5 * RUNS)
    print(
        f"\n{layers} × 1024 sigmoid, {count} of {images} images (correctly classified), "
        f"mean κ {kappa.mean():.4g}; compiled in {seconds:.1f} s, bounds in {bounding:.1f} s"
    )
    print(f"one forward-backward of the bare model: {1e3 * unit / count:.3f} ms an image")
    print(f"  {'':<46}{'mean radius':>12}{'of PGD':>9}{'evaluations':>15}{'ms':>9}{'units':>8}")

    distance, attacking = timed(lambda: pgd_distance(function, x))

    def row(name: str, radius: Tensor, evaluations: Tensor | None, seconds: float | None) -> None:
        share = (radius / distance).mean()
        spent = (
            ""
            if evaluations is None
            else (f"{evaluations.double().mean():.1f} / {int(evaluations.max())}")
        )
        cost = "" if seconds is None else f"{1e3 * seconds / count:9.2f}{seconds / unit:8.1f}"
        print(f"  {name:<46}{radius.mean():12.5f}{share:9.4f}{spent:>15}{cost}")

    def certify(**options: Any) -> Certificates:
        return compiled.certify(x, y, methods=CURVATURE, **options)

    found, seconds = timed(lambda: certify(targets="runner-up", evaluations=1), RUNS)
    row("closed form, float64 last word and witnesses", found.radius, torch.ones(1), seconds)

    def search() -> DualSolution:
        return solve_dual(
            lambda points, pair: margin_of(module, y[pair], t[pair])(points), x, kappa, *function(x)
        )

    solution, seconds = timed(search, RUNS)
    row("this solver, search alone (float32)", solution.radius, solution.evaluations, seconds)
    found, seconds = timed(lambda: certify(targets="runner-up"), RUNS)
    spent = found.evaluations.amax(1)
    row("this solver, float64 last word and witnesses", found.radius, spent, seconds)
    exact, everything = found.exact.double().mean(), timed(certify, RUNS)
    published, seconds = timed(lambda: algorithm1(function, x, m, M))
    step = published.point - x
    row("Algorithm 1: its distance", step.norm(dim=1), published.evaluations, seconds)
    value, gradient = function(published.point)
    dual = cut_radius(screening_cut(value, gradient, step, kappa), kappa)
    row("Algorithm 1: corrected dual at its last point", dual, None, None)
    row("PGD: the nearest adversarial point found", distance, None, attacking)
    ratio = published.evaluations.sum() / spent.sum()
    print(f"  {ratio:.0f} times fewer gradient evaluations than Algorithm 1")
    found, seconds = everything
    refined = found.evaluations[found.evaluations > 1].double()
    print(
        f"  exact (witness within 1e-3): {exact:.1%}; all targets: mean radius "
        f"{found.radius.mean():.5f}, {1e3 * seconds / count:.2f} ms an image, "
        f"{refined.numel() / count:.2f} of 9 pairs an image refined, "
        f"{refined.mean():.1f} evaluations each"
    )


def margin_of(module: nn.Module, y: Tensor, t: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """f = z_y − z_t and its gradient, by the bare model."""

    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        leaf = x.detach().requires_grad_()
        logits = module(leaf)
        f = (logits.gather(1, y[:, None]) - logits.gather(1, t[:, None]))[:, 0]
        (gradient,) = torch.autograd.grad(f.sum(), leaf)
        return f.detach(), gradient

    return function


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--cache", type=Path, default=Path("build/benchmarks"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"vercomp {version('vercomp')}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, one thread; "
        "the seed is the number of layers"
    )
    for layers in arguments.layers:
        compare(layers, arguments.images, arguments.cache)
