"""Randomised smoothing beside published figures: networks trained under noise, every 20th input.

Usage: VERCOMP_DATA=… python -m benchmarks.smoothing [ROW …] [--samples N] [--every K] [--list]

A row is LAYERS-ACTIVATION-SIGMA, such as ``2-sigmoid-0.25``: a network of so many layers, 1024
wide, trained on MNIST under normal noise of that deviation, smoothed with it, and certified
with 100,000 draws an input (appendix Table 5 of Singla and Feizi; their smoothing decides between
two classes, ours between one and all others, which certifies less). Everything is probable.

What is finished is kept (build/benchmarks/smoothing) and not done again; trainings and
certifications that were interrupted resume.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.images import data_folder
from benchmarks.published import MNIST, PUBLISHED
from benchmarks.training import NORMALISATION, SHAPE, data, line, say
from vercomp.commands import certify_smoothed
from vercomp.commands.questions import Confidence
from vercomp.train import Recipe, train
from vercomp.train.architectures import architecture

BUILD = Path("build/benchmarks/smoothing")
RADIUS, WIDTH, EVERY, EPOCHS = 0.5, 1024, 20, 10
FORM = re.compile(r"(\d)-(sigmoid|tanh|softplus|relu)-([\d.]+)")
ROWS = tuple(
    f"{layers}-{activation}-{sigma}"
    for layers in (2, 3, 4)
    for activation in ("sigmoid", "tanh")
    for sigma in ("0.25", "0.50", "1.0")
)


def trained(name: str, layers: int, activation: str, sigma: float) -> Path:
    """The folder of the network of a row, trained, or as far as it was and then to its end."""
    folder = BUILD / name
    mean, std = NORMALISATION[MNIST]
    recipe = Recipe(
        "noise",
        radius=RADIUS,
        epochs=EPOCHS,
        learning_rate=3e-3 if layers == 2 else 1e-3,
        precision="medium",
        numbers={"sigma": sigma},
    )
    widths = ",".join([str(WIDTH)] * (layers - 1))
    model = architecture(f"mlp:{widths}:{activation}", SHAPE, 10, seed=recipe.seed)
    title = re.sub(r"\W", "_", f"smoothed_{name}")
    train(
        model,
        data(MNIST, "train"),
        recipe,
        folder,
        input_shape=SHAPE,
        mean=mean,
        std=std,
        name=title,
        progress=lambda row: say(f"  {name}: {line(row)}"),
    )
    return folder / "network"


def run(name: str, samples: int, every: int) -> dict[str, Any]:
    """What a row comes to: the summary of its certificates."""
    found = FORM.fullmatch(name)
    if found is None:
        raise SystemExit(f"{name!r} is no row: {FORM.pattern}")
    layers, activation, sigma = int(found[1]), found[2], float(found[3])
    out = BUILD / f"{name}-{samples}-{every}"
    if not (out / "result.json").exists():
        certify_smoothed.run(
            str(trained(name, layers, activation, sigma)),
            data=f"{MNIST}:{data_folder() / MNIST}",
            radius=RADIUS,
            sampling={"sigma": sigma, "samples": samples, "every": every},
            confidence=Confidence(),
            timeout=None,
            max_memory=None,
            mean=None,
            std=None,
            input_shape=None,
            output=None,
            limit=None,
            out=out,
            earlier=(),
            csv_path=None,
            json_path=None,
        )
    summary: dict[str, Any] = json.loads((out / "result.json").read_text())
    return summary


def table(results: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Markdown: what was found beside what is published."""
    lines = [
        f"MNIST, l2 radius {RADIUS}: accuracies in per cent, of the smoothed classifier, probable.",
        "",
        "| layers, activation, σ | draws | inputs | clean | abstained | probably certified | "
        "published (two classes) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, summary in results:
        shares = [
            f"{100 * summary[key]:.2f}"
            for key in ("clean_accuracy", "abstained", "probably_certified_accuracy")
        ]
        cells = [name, str(summary["samples"]), str(summary["n"]), *shares, _published(name)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _published(name: str) -> str:
    """The published certified accuracy of a row, a dash where there is none."""
    layers, activation, sigma = name.split("-")
    for row in PUBLISHED:
        same = (row.dataset, row.layers, row.activation) == (MNIST, int(layers), activation)
        if same and row.method == f"smoothing {sigma}" and row.certified is not None:
            return f"{row.certified:.2f}"
    return "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--samples", type=int, default=100_000, help="draws an input")
    parser.add_argument("--every", type=int, default=EVERY, help="every so many inputs, one")
    parser.add_argument("--list", action="store_true", help="the rows that run without any given")
    arguments = parser.parse_args()
    names = arguments.rows or ROWS
    if arguments.list:
        print("\n".join(names))
        return
    print(table([(name, run(name, arguments.samples, arguments.every)) for name in names]))


if __name__ == "__main__":
    main()
