"""Training on bounds: rows of linf and l2 balls in [0, 1], beside Wong et al. (2018).

A row is ``mnist-NORM-RADIUS-NETWORK-relu-METHOD``, as in ``mnist-linf-0.1-small-relu-ibp``, and is
asked for like all others: ``python -m benchmarks.training mnist-linf-0.1-small-relu-ibp``. NETWORK
is ``small``, the small network of the paper, or the widths of dense layers, ``256,128``. The
network is trained on the training split, selected on inputs held out of it, certified on the whole
test set by intervals and lines, and attacked where it is not certified.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

from benchmarks.training_tables import DASH, markdown
from vercomp.compiled import CompiledNetwork
from vercomp.data import Dataset
from vercomp.outputs import write_atomically
from vercomp.train import Recipe, train
from vercomp.train.architectures import architecture
from vercomp.train.evaluation import certified

FORM = re.compile(
    r"(mnist)-(linf|l2)-([\d.]+)-(small|[\d,]+)-(relu|softplus)-(ibp|crown-ibp|mtl-ibp|sabr|coap)"
)
SMALL = "convolutional:16x4s2,32x4s2:{}:100"
SHAPE, BOX = (1, 28, 28), (0.0, 1.0)
BLOCK = 500


class BoundResult(TypedDict):
    """A network trained on bounds, on the whole test set; accuracies are shares.

    ``certified`` is over all targets, ``pgd`` what an attack leaves, an upper bound of it.
    """

    network: str
    norm: str
    radius: float
    method: str
    clean: float
    certified: float
    pgd: float
    epochs: int
    seconds_training: float
    seconds_certification: float


@dataclass(frozen=True)
class PublishedBound:
    """A row of a paper's table: errors in per cent, as printed.

    Args:
        table: Where it is printed.
        norm: Of the balls.
        radius: ρ.
        network: What the paper calls it.
        robust_error: The bound of the error under any perturbation.
        error: The error at the inputs.
    """

    table: str
    norm: str
    radius: float
    network: str
    robust_error: float
    error: float


WONG = "Wong et al. (2018), "
PUBLISHED_BOUNDS = (
    PublishedBound(f"{WONG}Table 2", "linf", 0.1, "small, exact", 4.48, 1.26),
    PublishedBound(f"{WONG}Table 2", "linf", 0.1, "small", 4.99, 1.37),
    PublishedBound(f"{WONG}Table 2", "linf", 0.1, "large", 3.67, 1.08),
    PublishedBound(f"{WONG}Table 2", "linf", 0.3, "small", 43.10, 14.87),
    PublishedBound(f"{WONG}Table 2", "linf", 0.3, "large", 45.66, 12.61),
    PublishedBound(f"{WONG}Table 4", "l2", 1.58, "small, exact", 56.48, 11.86),
    PublishedBound(f"{WONG}Table 4", "l2", 1.58, "small", 56.32, 13.11),
    PublishedBound(f"{WONG}Table 4", "l2", 1.58, "large", 55.47, 11.88),
)
"""Single models on MNIST, trained by COAP; "exact" without random projections."""


@dataclass(frozen=True)
class BoundRow:
    """A network of these tables."""

    name: str
    network: str
    activation: str
    recipe: Recipe

    @property
    def architecture(self) -> str:
        if self.network == "small":
            return SMALL.format(self.activation)
        return f"mlp:{self.network}:{self.activation}"


def bound_row(name: str) -> BoundRow | None:
    """The row of a name; None if it is none of these."""
    found = FORM.fullmatch(name)
    if found is None:
        return None
    _, norm, radius, network, activation, method = found.groups()
    recipe = Recipe(
        method,
        radius=float(radius),
        norm=norm,
        box=BOX,
        epochs=30,
        batch_size=128,
        learning_rate=1e-3,
        evaluate_every=30,
        validation=2000,
    )
    return BoundRow(name, network, activation, recipe)


def run_bounds(
    this: BoundRow, build: Path, data: Callable[[str, str], Dataset], say: Callable[[str], None]
) -> BoundResult:
    """Train and evaluate, or read what was kept of an earlier run of the same row."""
    kept = build / "bounds" / f"{this.name}.json"
    recipe = json.loads(json.dumps(asdict(this.recipe)))
    if kept.exists():
        found = json.loads(kept.read_text())
        if found["recipe"] == recipe:
            result: BoundResult = found["result"]
            return result
    say(this.name)
    done = train(
        architecture(this.architecture, SHAPE, 10, seed=this.recipe.seed),
        data("mnist", "train"),
        this.recipe,
        build / this.name,
        input_shape=SHAPE,
        name=re.sub(r"\W", "_", this.name),
        progress=lambda row: say(f"  {this.name} epoch {row['epoch']} {row['bounded_accuracy']}"),
    )
    result = evaluated_bounds(this, done.network, done.seconds, data("mnist", "test"), say)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(kept, json.dumps({"recipe": recipe, "result": result}, indent=1).encode())
    return result


def evaluated_bounds(
    this: BoundRow,
    network: CompiledNetwork,
    seconds: float,
    test: Dataset,
    say: Callable[[str], None],
) -> BoundResult:
    """Clean, certified and attacked accuracy on the whole of a test set.

    Raises:
        SystemExit: An attack enters a certificate.
    """
    recipe, count = this.recipe, len(test)
    clean = proved = left = 0
    spent = 0.0
    for start in range(0, count, BLOCK):
        x, y = test.x[start : start + BLOCK], test.y[start : start + BLOCK]
        begin = time.perf_counter()
        scores = certified(
            network, x, y, recipe.radius, decide=True, norm=recipe.norm, box=recipe.box,
            methods=("interval", "crown"),
        )  # fmt: skip
        spent += time.perf_counter() - begin
        certain = scores.radii > recipe.radius
        attack = network.attack(
            x[scores.correct], y[scores.correct], recipe.radius, norm=recipe.norm, box=recipe.box
        )
        broken = attack.margin <= 0.0
        if bool((broken & certain[scores.correct]).any()):
            raise SystemExit(f"{this.name}: a certificate is false")
        clean += int(scores.correct.sum())
        proved += int(certain.sum())
        left += int((~broken).sum())
        say(f"  {this.name}: {start + len(y)} of {count} certified and attacked")
    return BoundResult(
        network=f"{this.network} {this.activation}",
        norm=recipe.norm,
        radius=recipe.radius,
        method=recipe.method,
        clean=clean / count,
        certified=proved / count,
        pgd=left / count,
        epochs=recipe.epochs,
        seconds_training=seconds,
        seconds_certification=spent,
    )


def bound_tables(results: Sequence[BoundResult]) -> str:
    """A table for each norm and radius: ours, then what is published."""
    parts = []
    settings = {(result["norm"], result["radius"]) for result in results}
    for norm, radius in sorted(settings):
        head = ("network", "training", "clean", "certified", "PGD leaves", "epochs", "training, s")
        rows = [
            (
                result["network"],
                result["method"],
                f"{100 * result['clean']:.2f} %",
                f"**{100 * result['certified']:.2f} %**",
                f"{100 * result['pgd']:.2f} %",
                str(result["epochs"]),
                f"{result['seconds_training']:,.0f}",
            )
            for result in sorted(results, key=lambda each: (each["network"], each["method"]))
            if (result["norm"], result["radius"]) == (norm, radius)
        ]
        rows += [
            (
                f"{row.network} relu",
                f"coap, {row.table}",
                f"{100 - row.error:.2f} %",
                f"{100 - row.robust_error:.2f} %",
                *(DASH,) * 3,
            )
            for row in PUBLISHED_BOUNDS
            if (row.norm, row.radius) == (norm, radius)
        ]
        parts.append(f"### MNIST, {norm} radius {radius:g}: bounds\n\n{markdown(head, rows)}")
    return "\n".join(parts)


def finished_bounds(build: Path) -> list[BoundResult]:
    """All that is kept, of this and of earlier runs."""
    paths = sorted((build / "bounds").glob("*.json"))
    return [json.loads(path.read_text())["result"] for path in paths]
