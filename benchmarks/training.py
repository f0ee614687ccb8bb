"""Training for certificates: networks beside the figures of the papers, on whole test sets.

Usage: VERCOMP_DATA=… python -m benchmarks.training [ROW …] [--list] [--tables]

A row is DATASET-RADIUS-LAYERSxWIDTH-ACTIVATION-METHOD[-PENALTY], such as
``mnist-0.5-3x1024-sigmoid-crt-0.01``: a training by ``vercomp.train`` on the training split (a
twelfth of it held out to select by), then certificates for all targets and attacks on the whole
test set. Any row of the papers' tables can be asked for; without one, the set of ``ROWS`` is run,
in their order. ``record`` is the row that goes for the largest certified accuracy at 1.58. Rows of
training on bounds in any norm, ``mnist-linf-0.1-small-relu-ibp``, are those of
:mod:`benchmarks.training_bounds`.

What is finished is kept (build/benchmarks/training) and not done again; a training that was
interrupted resumes. The tables go into benchmarks/RESULTS.md, between two marks.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.sections import write_section
from benchmarks.training_bounds import bound_row, bound_tables, finished_bounds, run_bounds
from benchmarks.training_tables import Result, tables
from vercomp.compiled import CompiledNetwork
from vercomp.data import Dataset, load_data
from vercomp.outputs import write_atomically
from vercomp.train import Recipe, train
from vercomp.train.architectures import architecture
from vercomp.train.evaluation import Scores, certified, curvature_bounds
from vercomp.train.strongest import strongest

BUILD = Path("build/benchmarks/training")
NORMALISATION = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}
"""Mean and standard deviation of the training pixels; in front of the network, inside the proof."""

RECORD, RECORD_ROW = "record", "mnist-1.58-2x2048-softplus-dual-0.01"
ROWS = (
    *(
        f"mnist-0.5-{layers}x1024-sigmoid-{training}"
        for training in ("plain", "penalty-0.01", "crt-0.01", "dual-0.01")
        for layers in (2, 3, 4)
    ),
    *(
        f"{setting}-{layers}x1024-softplus-dual-0.01"
        for setting in ("mnist-1.58", "fashion-mnist-1.58", "fashion-mnist-0.5", "mnist-0.5")
        for layers in (2, 3, 4)
    ),
    *(
        f"mnist-0.5-{layers}x1024-sigmoid-penalty-{penalty}"
        for layers, penalty in ((2, 0.03), (3, 0.05), (4, 0.07))
    ),
    *(f"mnist-0.5-2x1024-sigmoid-{training}" for training in ("pgd", "trades")),
    *(
        f"mnist-0.5-{layers}x1024-sigmoid-crt-{penalty}"
        for layers in (2, 3, 4)
        for penalty in ("0", "0.03")
    ),
    *(f"mnist-0.5-{layers}x1024-tanh-dual-0.01" for layers in (2, 3, 4)),
)
CHECKED = 1000
SHAPE = (1, 28, 28)
FORM = re.compile(
    r"(mnist|fashion-mnist)-([\d.]+)-(\d)x(\d+)-(\w+)-(plain|penalty|pgd|trades|crt|dual)(?:-([\d.]+))?"
)


@dataclass(frozen=True)
class Row:
    """A network of the tables."""

    name: str
    dataset: str
    layers: int
    width: int
    activation: str
    recipe: Recipe

    @property
    def architecture(self) -> str:
        return f"mlp:{','.join([str(self.width)] * (self.layers - 1))}:{self.activation}"


def row(name: str) -> Row:
    """The row of a name; every number that the name leaves open is the same in all rows."""
    found = FORM.fullmatch(RECORD_ROW if name == RECORD else name)
    if found is None:
        raise SystemExit(f"{name!r} is no row: {FORM.pattern}")
    dataset, radius, layers, width, activation, method, penalty = found.groups()
    options: dict[str, Any] = {
        "method": method,
        "radius": float(radius),
        "penalty": float(penalty or 0.0),
        "epochs": 8,
        "learning_rate": 3e-3 if layers == "2" else 1e-3,
        "attack_steps": 2,
        "evaluate_every": 4,
        "validation": 2000,
        "precision": "medium",
    }
    if method == "penalty":
        options |= {"epochs": 15, "evaluate_every": 15}
    if method in ("crt", "dual"):
        options |= {"epochs": 15, "learning_rate": 3e-3 if layers == "2" else 2e-3}
        options["evaluate_every"] = 15
    if method in ("pgd", "trades"):
        options |= {"attack_steps": 5, "warm_start": False}
    if name == RECORD:
        options |= {"epochs": 60, "evaluate_every": 60, "learning_rate": 2e-3}
        options |= {"radius_ramp": 0.2, "shift": 1, "averaging": 0.998}
    return Row(name, dataset, int(layers), int(width), activation, Recipe(**options))


@cache
def data(dataset: str, split: str) -> Dataset:
    if "VERCOMP_DATA" not in os.environ:
        raise SystemExit("set VERCOMP_DATA to the folder that holds mnist/ and fashion-mnist/")
    folder = Path(os.environ["VERCOMP_DATA"]) / dataset
    return load_data(
        f"{dataset}:{folder}:{split}", input_shape=SHAPE, classes=10, tell=lambda line: None
    )


def trained(this: Row, folder: Path) -> tuple[CompiledNetwork, float]:
    """The network that validation selected, and the seconds of its training."""
    mean, std = NORMALISATION[this.dataset]
    model = architecture(this.architecture, SHAPE, 10, seed=this.recipe.seed)
    found = train(
        model,
        data(this.dataset, "train"),
        this.recipe,
        folder,
        input_shape=SHAPE,
        mean=mean,
        std=std,
        name=re.sub(r"\W", "_", this.name),
        progress=lambda values: say(f"  {this.name} {line(values)}"),
    )
    return found.network, found.seconds


def line(values: Mapping[str, Any]) -> str:
    kept = ("epoch", "loss", "attacked_accuracy", "curvature", "validation_certified_accuracy")
    parts = (
        f"{name} {values[name]:.4g}" for name in (*kept, "seconds") if values.get(name) is not None
    )
    return ", ".join(parts)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def evaluated(this: Row, network: CompiledNetwork, seconds: float) -> Result:
    """Everything in the tables, on the whole test set."""
    test = data(this.dataset, "test")
    x, y = test.x, test.y
    radius = this.recipe.radius
    scores, certifying = timed(lambda: certified(network, x, y, radius, runner_up=True))
    broken, attacking = timed(lambda: pgd(network, x, y, radius, scores))
    bounds, eigenvalues = timed(lambda: curvature_bounds(network, x, y))
    exact_attacks, exactness = timed(lambda: exact(network, x, y, scores))
    say(
        f"  {this.name}: {certifying:.0f} s certifying, {attacking:.0f} s PGD, "
        f"{eigenvalues:.0f} s eigenvalues, {exactness:.0f} s exact attacks"
    )
    return Result(
        name=f"{this.layers} × {this.width}",
        layers=this.layers,
        activation=this.activation,
        dataset=this.dataset,
        method=this.recipe.method,
        penalty=this.recipe.penalty,
        radius=radius,
        clean=scores.clean_accuracy,
        certified=scores.certified_accuracy,
        certified_runner_up=scores.certified_accuracy_runner_up,
        pgd=float((scores.correct & ~broken).double().mean()),
        mean_radius=scores.mean_radius,
        exact_certificates=scores.exact_fraction,
        exact_attacks=exact_attacks,
        K_lb=bounds.lower,
        K_ub=bounds.upper,
        seconds_training=seconds,
        seconds_certification=certifying,
        epochs=this.recipe.epochs,
        seed=this.recipe.seed,
    )


def pgd(network: CompiledNetwork, x: Tensor, y: Tensor, radius: float, scores: Scores) -> Tensor:
    """Which inputs PGD breaks (N,): it attacks those that are not certified, at full strength.

    Certified inputs cannot be broken; the first thousand of them are attacked all the same.
    """
    certain = scores.radii > radius
    tried = scores.correct & (~certain | (certain.cumsum(0) <= CHECKED))
    broken = torch.zeros_like(certain)
    broken[tried] = strongest(network.network, x[tried], y[tried], radius) <= 0
    if (broken & certain).any():
        raise SystemExit(f"{int((broken & certain).sum())} certificates are false")
    return broken


def exact(network: CompiledNetwork, x: Tensor, y: Tensor, scores: Scores) -> float:
    """The share of attacks at 0.5 that are provably worst, of the first thousand inputs."""
    x, y = x[:CHECKED][scores.correct[:CHECKED]], y[:CHECKED][scores.correct[:CHECKED]]
    found = network.attack(x, y, 0.5)
    return float(found.exact.double().mean())


def timed(work: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def run(this: Row) -> Result:
    """Train and evaluate, or read what was kept of an earlier run of the same row."""
    kept = BUILD / f"{this.name}.json"
    recipe = asdict(this.recipe)
    if kept.exists():
        found = json.loads(kept.read_text())
        if found["recipe"] == recipe:
            return Result(**found["result"])
    say(this.name)
    network, seconds = trained(this, BUILD / this.name)
    result = evaluated(this, network, seconds)
    write_atomically(kept, json.dumps({"recipe": recipe, "result": result}, indent=1).encode())
    return result


def finished() -> list[Result]:
    """All that is kept, of this and of earlier runs."""
    return [
        Result(**json.loads(path.read_text())["result"]) for path in sorted(BUILD.glob("*.json"))
    ]


def write_tables() -> None:
    """Put the tables of all finished rows between the marks in RESULTS.md."""
    bounds = bound_tables(finished_bounds(BUILD))
    versions = (
        f"vercomp {version('vercomp')}, torch {torch.__version__}, Python "
        f"{platform.python_version()}."
    )
    found = "\n".join(part for part in (tables(finished()), bounds) if part)
    write_section("training", f"{versions}\n\n{found}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--list", action="store_true", help="the rows that run without any given")
    parser.add_argument("--tables", action="store_true", help="write the tables of what is kept")
    arguments = parser.parse_args()
    names = arguments.rows or (RECORD, *ROWS)
    if arguments.list:
        print("\n".join(names))
        return
    if not arguments.tables:
        for name in names:
            bounds = bound_row(name)
            if bounds is None:
                run(row(name))
            else:
                run_bounds(bounds, BUILD, data, say)
            write_tables()
    write_tables()


if __name__ == "__main__":
    main()
