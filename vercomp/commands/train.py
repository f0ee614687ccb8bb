"""``vercomp train``: networks whose certificates are worth having."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vercomp.commands.models import open_model, open_source, scalar
from vercomp.commands.patience import Patience
from vercomp.commands.printing import check_json_path, deliver
from vercomp.data import Dataset, load_data, training_split
from vercomp.distributed import Processes, processes
from vercomp.errors import UsageError
from vercomp.outputs import RunFolder, write_atomically
from vercomp.report.tables import percent, training_table
from vercomp.report.training import Run, training_report
from vercomp.results.summaries import plain, to_json
from vercomp.train.architectures import architecture, is_architecture
from vercomp.train.evaluation import curvature_bounds
from vercomp.train.loop import Training, train
from vercomp.train.recipe import Recipe
from vercomp.train.samples import held_out as held_out_of
from vercomp.train.samples import split
from vercomp.train.selection import PACKAGE

RESULT, REPORT = "result.json", "report.html"
ENOUGH = 100  # inputs of a pair of classes in the paper's tables; of fewer, one in a hundred


@dataclass(frozen=True)
class Start:
    """What trainings begin with.

    Args:
        model: The network; each training begins with a copy.
        data: Inputs and labels, in its shape.
        options: What :func:`vercomp.train.train` is told of it.
    """

    model: nn.Module
    data: Dataset
    options: Mapping[str, Any]


def run(
    model: str,
    *,
    data: str,
    out: Path,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    input_shape: tuple[int, ...] | None,
    output: str | None,
    limit: int | None,
    json_path: str | None,
    penalty: tuple[float, ...],
    **numbers: Any,
) -> None:
    """Train once for each penalty: a line an epoch, a report and a table at the end."""
    with processes() as team:
        recipes = [Recipe(penalty=value, **numbers) for value in penalty]
        if len(recipes) > 1 and not recipes[0].bounded:
            raise UsageError(
                f"method {recipes[0].method!r} has no penalty, and cannot be swept over several",
                remedy="Give one --penalty, or a method with one: penalty, crt, dual",
            )
        source = training_split(data)
        check_json_path(json_path)
        seed = recipes[0].seed
        start = _start(model, source, (mean, std, input_shape, output), limit, seed, team)
        folders = [out]
        if len(recipes) > 1:
            words = [str(value).removesuffix(".0") for value in penalty]
            folders = [out / f"penalty-{word}" for word in words]
            if team.main:
                RunFolder(out, _sweep(model, source, recipes[0]), REPORT, ("penalty-*/", "*.png"))
        done = [
            _one(model, start, recipe, folder, team)
            for recipe, folder in zip(recipes, folders, strict=True)
        ]
    if not team.main:
        return
    if len(done) > 1:
        _write_report([each for each, _ in done], out)
    summaries = [summary for _, summary in done]
    table = training_table(summaries, f"{model} trained on {source}")
    deliver(summaries[0] if len(done) == 1 else {"runs": summaries}, json_path, table)
    team.say(f"{out / REPORT} shows how it went; networks: {', '.join(map(_network, folders))}")


def _start(
    model: str,
    source: str,
    outside: tuple[Any, Any, Any, Any],
    limit: int | None,
    seed: int,
    team: Processes,
) -> Start:
    """MODEL and DATA, each read in the shape that the other one asks for."""
    mean, std, shape, output = outside
    options: dict[str, Any] = {"mean": scalar(mean), "std": scalar(std)}
    network: nn.Module
    if is_architecture(model):
        data = load_data(source, shape, limit, tell=team.say)
        shape, classes = tuple(data.x.shape[1:]), max(int(data.y.max()) + 1, 2)
        network = architecture(model, shape, classes, seed)
        options |= {"input_shape": shape, "output": output, "name": re.sub(r"\W+", "_", model)}
        if mean is None and std is None:
            options |= _standardisation(data)
    elif ":" in model and not Path(model).exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # its weights may be drawn
            found = open_source(model, shape, output)
        data = load_data(source, found.input_shape, limit, tell=team.say)
        assert isinstance(found.model, nn.Module)  # noqa: S101 - it is no file
        network = found.model
        options |= {"input_shape": found.input_shape, "output": found.output}
    else:
        with Patience(f"compiling {model}", shown=team.main):
            package = open_model(model, mean=mean, std=std, input_shape=shape, output=output)
        shape, classes = tuple(package.network.input_shape), package.network.classes
        data = load_data(source, shape, limit, classes=classes, tell=team.say)
        network = package.network
        options = {"input_shape": shape, "name": package.name}  # the normalisation is inside
    return Start(network, data, options)


def _standardisation(data: Dataset) -> dict[str, float]:
    """A mean and a standard deviation for networks of ours: training is several times faster.

    Attacks and certificates are in the units of the data all the same.
    """
    deviation = float(data.x.double().std(correction=0))
    return {"mean": round(float(data.x.double().mean()), 4), "std": round(deviation, 4) or 1.0}


def _one(
    model: str, start: Start, recipe: Recipe, folder: Path, team: Processes
) -> tuple[Run, dict[str, Any]]:
    """A training, its report and its summary."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = recipe.fitted(len(start.data) - held_out_of(len(start.data), recipe))
    held_out = split(len(start.data), recipe)[1]
    team.say(
        f"training {model} by {recipe.method}, penalty {recipe.gamma:g}, on "
        f"{len(start.data) - len(held_out)} inputs; {len(held_out)} are held out; "
        f"{recipe.epochs} epochs in batches of {recipe.batch_size}, learning rate "
        f"{recipe.learning_rate:g}"
    )
    result = train(
        copy.deepcopy(start.model).to(device),
        start.data,
        recipe,
        folder,
        **start.options,
        processes=team,
        progress=lambda row: team.say(line(row, recipe)),
    )
    if result.unconverged is not None:
        team.say(
            f"the training is far from converged: {result.unconverged}. Give it more --epochs, a "
            "smaller --batch-size or a larger --learning-rate"
        )
    with Patience("measuring curvature", shown=team.main):
        x, y = start.data.x[held_out], start.data.y[held_out]
        bounds = _bounds(result, x, y) if team.main else None
    run = Run(
        name=f"penalty {recipe.gamma:g}",
        recipe=asdict(recipe),
        history=result.history,
        radii=result.radii,
        bounds=bounds,
        penalty=recipe.gamma,
        selected=result.best_epoch,
        about={"model": model, "data": start.data.name, "vercomp": version("vercomp")},
    )
    summary = _summary(model, start.data.name, recipe, result, bounds, folder)
    if team.main:
        write_atomically(folder / RESULT, (to_json(summary) + "\n").encode())
        _write_report([run], folder)
    return run, summary


def _bounds(result: Training, x: Tensor, y: Tensor) -> tuple[float, float] | None:
    """(K_lb, K_ub), of the pairs of classes that enough inputs have; None without curvature."""
    if not result.network.curved:
        return None
    enough = min(ENOUGH, 1 + len(x) // ENOUGH)
    found = curvature_bounds(result.network, x, y, at_least=enough)
    return (found.lower, found.upper) if found.pairs else None


def line(row: Mapping[str, Any], recipe: Recipe) -> str:
    """An epoch, on a line."""
    parts = [
        f"loss {row['loss']:.4f}",
        f"clean {percent(row['clean_accuracy'])}",
    ]
    if row["attacked_accuracy"] is not None:
        parts.append(f"attacked {percent(row['attacked_accuracy'])}")
    if row["bounded_accuracy"] is not None:
        parts.append(f"bounded {percent(row['bounded_accuracy'])}")
    if row["curvature"] is not None:
        parts.append(f"curvature {row['curvature']:.3g}")
    if "validation_certified_accuracy" in row:
        parts.append(
            f"held out: clean {percent(row['validation_clean_accuracy'])}, "
            f"certified {percent(row['validation_certified_accuracy'])}"
        )
    return f"epoch {row['epoch']} of {recipe.epochs}: {', '.join(parts)} ({row['seconds']:.0f} s)"


def _summary(
    model: str,
    data: str,
    recipe: Recipe,
    result: Training,
    bounds: tuple[float, float] | None,
    folder: Path,
) -> dict[str, Any]:
    best = result.history[result.best_epoch - 1]
    lower, upper = bounds or (None, None)
    return {
        "model": model,
        "data": data,
        "method": recipe.method,
        "radius": recipe.radius,
        "penalty": recipe.gamma,
        "epochs": recipe.epochs,
        "seed": recipe.seed,
        "best_epoch": result.best_epoch,
        "unconverged": result.unconverged,
        **{name: value for name, value in best.items() if name.startswith("validation_")},
        "curvature_lower_bound": lower,
        "curvature_upper_bound": upper,
        "seconds": result.seconds,
        "network": _network(folder),
    }


def _network(folder: Path) -> str:
    return str(folder / PACKAGE)


def _sweep(model: str, source: str, recipe: Recipe) -> dict[str, Any]:
    """What makes a sweep the same sweep; penalties may be added to it."""
    numbers = {name: value for name, value in asdict(recipe).items() if name != "penalty"}
    return {"command": "train", "model": model, "data": source, "recipe": plain(numbers)}


def _write_report(runs: list[Run], folder: Path) -> None:
    for name, content in training_report(runs).items():
        write_atomically(folder / name, content)
