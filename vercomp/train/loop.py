"""A training from its first step to the network that it is for."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.package import weights
from vercomp.compiled import CompiledNetwork
from vercomp.core.regularizer import Regularizer
from vercomp.data import Dataset
from vercomp.distributed import Processes
from vercomp.driver import analyse, compile, translate  # noqa: A004
from vercomp.errors import InputDataError, UnsupportedError, UsageError
from vercomp.ir.printer import to_text
from vercomp.live import live_network, regularizer
from vercomp.outputs import RunFolder, write_atomically
from vercomp.registry import Options, registry
from vercomp.results.summaries import plain
from vercomp.train import checkpoint
from vercomp.train.convergence import unconverged
from vercomp.train.initialisation import interval_weights
from vercomp.train.logits import Logits
from vercomp.train.methods import METHODS
from vercomp.train.recipe import Recipe
from vercomp.train.samples import WEIGHTS, held_out, number, split
from vercomp.train.selection import PACKAGE, Selection
from vercomp.train.stepper import Row, Stepper

HISTORY, RADII = "history.json", "radii.npz"
FILES = (HISTORY, RADII, f"{PACKAGE}/", "report.html", "*.png")
"""What lies in the folder of a training beside run.json, result.json and the checkpoint."""

KEEP = 60.0  # seconds between checkpoints, between evaluations

ALONE = Processes()
Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Training:
    """What a training has come to.

    Args:
        network: The network that was selected, compiled.
        history: A row an epoch: ``epoch``, ``loss``, ``learning_rate``, ``radius``, ``penalty``,
            ``clean_accuracy`` and ``attacked_accuracy`` of the batches, ``bounded_accuracy`` (the
            share with positive bounds, up to rounding), ``curvature``, ``seconds``; where the
            network was evaluated, ``validation_clean_accuracy``,
            ``validation_certified_accuracy`` (at ρ, all targets), ``validation_mean_radius``,
            ``validation_curvature`` (the mean κ over pairs).
        radii: Epoch → (V,) certified radii on the validation split, 0 where misclassified.
        best_epoch: Whose network was selected.
        seconds: Spent in epochs, evaluations included, by interrupted runs before it too.
        unconverged: Why it looks as if more training would have helped; None where it does not.
    """

    network: CompiledNetwork
    history: list[Row]
    radii: dict[int, NDArray[np.float64]]
    best_epoch: int
    seconds: float
    unconverged: str | None = None


def train(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    folder: Path | str | None = None,
    *,
    input_shape: Sequence[int],
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    output: str | int | None = None,
    name: str | None = None,
    processes: Processes = ALONE,
    progress: Progress | None = None,
) -> Training:
    """Train a network for its certificates, and select it by them.

    A part of the data is held out; every few epochs the network is compiled and certified there,
    and the best is kept. Nothing else is looked at: give the training split alone. The global
    random state is left as it was.

    Args:
        model: The network, on the device that it is to be trained on; also a compiled package's
            ``network``. Trained in place: afterwards it has the weights of the last step, not those
            of the selected network.
        data: Inputs and labels to train on and to select by.
        recipe: Every number of the training; those that are left open follow the size of the data.
        folder: Where the training keeps its state: one that is new, or of this very training, which
            is then resumed and ends with the same weights, bit for bit on the same machine with the
            same number of threads. None: nothing is written.
        input_shape: Of one input.
        mean: Of a normalisation outside the model, as for :func:`vercomp.compile`. Attacks and
            certificates are in the units of the unnormalised input.
        std: Its standard deviation.
        output: Which result the logits are, as for :func:`vercomp.compile`.
        name: What the selected network is called; by default as its class.
        processes: Those that ``torchrun`` started (:func:`vercomp.distributed.processes`); each
            calls this function with the same arguments. They take one step together.
        progress: Receives each epoch's row of the history.

    Raises:
        UnsupportedError: The network cannot be certified, which is found out before it is trained.
        UsageError: The recipe does not fit the data or the processes.
        InputDataError: The data does not fit the network.
        OutputFolderError: The folder holds something else, or cannot be written.
        DivergenceError: The loss is no longer a finite number.
    """
    shape = tuple(input_shape)
    recipe = recipe.fitted(len(data) - held_out(len(data), recipe))
    if recipe.initial == "intervals":
        interval_weights(model, number(recipe.seed, WEIGHTS))
    layout = _analysed(model, shape, Options(mean, std), output)
    _check(data, shape, layout)
    like = _first_parameter(model)
    if recipe.shift and len(shape) < 2:
        raise UsageError(f"shift moves images, and the inputs have shape {shape}")
    training, validation = split(len(data), recipe)
    x, y = data.x.to(like), data.y.to(like.device)
    bound = None
    told: dict[str, Any] = {"mean": mean, "std": std, "output": output}
    if recipe.bounded:  # at every step: an attack costs more, and takes its steps from the bound
        bound = _curvature_bound(model, shape, told, recipe)
    network = live_network(model, shape, **told) if recipe.propagated else None
    logits = Logits(model, mean, std, output, like, len(shape))
    stepper = Stepper(model, logits, bound, x[training], y[training], recipe, processes, network)
    home = None if folder is None else Path(folder)
    if home is not None and processes.main:
        RunFolder(home, _description(layout, data, recipe), checkpoint.CHECKPOINT, FILES)
    processes.wait()
    selection = Selection(data.x[validation], data.y[validation], recipe, home, processes)
    run = _Run(stepper, selection, home)
    run.resume()
    title = name or type(model).__name__

    def compiled() -> CompiledNetwork:
        weights = stepper.weights.eval()
        return compile(weights, shape, mean=mean, std=std, output=output, name=title)

    with torch.random.fork_rng([like.device] if like.is_cuda else []):
        for epoch in range(len(run.history) + 1, recipe.epochs + 1):
            row = run.epoch(epoch, recipe, compiled)
            if progress is not None:
                progress(row)
    model.eval()
    seconds = sum(row["seconds"] for row in run.history)
    steps = stepper.order.steps * recipe.epochs
    short = unconverged(run.history, steps)
    return Training(
        selection.network, run.history, selection.radii, selection.best_epoch, seconds, short
    )


class _Run:
    """The history so far, and what is kept of a run in its folder."""

    def __init__(self, stepper: Stepper, selection: Selection, folder: Path | None) -> None:
        self.stepper, self.selection, self.folder = stepper, selection, folder
        self.history: list[Row] = []
        self._kept = time.monotonic()

    def resume(self) -> None:
        """Go on where the last checkpoint was written, if there is one."""
        state = None if self.folder is None else checkpoint.read(self.folder)
        if state is not None:
            self.stepper.load(state["stepper"])
            self.selection.load(state["selection"])
            self.history = state["history"]
            self._publish()  # a kill may have come between these files and the checkpoint

    def epoch(self, epoch: int, recipe: Recipe, compiled: Callable[[], CompiledNetwork]) -> Row:
        """One epoch, with an evaluation where it is due; its row of the history."""
        begin = time.perf_counter()
        row = self.stepper.epoch(epoch)
        due = epoch % recipe.evaluate_every == 0 and not recipe.keeps_last
        evaluated = due or epoch == recipe.epochs
        if evaluated:
            row |= self.selection.evaluate(epoch, compiled())
        row["seconds"] = time.perf_counter() - begin
        self.history.append(row)
        self.keep(soon=not evaluated)
        return row

    def keep(self, *, soon: bool) -> None:
        """Write the state down; soon: only if the last time was a while ago."""
        if self.folder is None or not self.stepper.processes.main:
            return
        if soon and time.monotonic() - self._kept < KEEP:
            return
        parts = {"stepper": self.stepper.state(), "selection": self.selection.state()}
        checkpoint.write(self.folder, {**parts, "history": self.history})
        self._publish()
        self._kept = time.monotonic()

    def _publish(self) -> None:
        """Write what others read of the checkpoint: the history, and the radii of every epoch."""
        if self.folder is None or not self.stepper.processes.main:
            return
        history = json.dumps(plain(self.history), indent=1, allow_nan=False)
        write_atomically(self.folder / HISTORY, history.encode() + b"\n")
        buffer = io.BytesIO()
        radii = {str(epoch): found for epoch, found in self.selection.radii.items()}
        np.savez(buffer, **radii)  # type: ignore[arg-type]
        write_atomically(self.folder / RADII, buffer.getvalue())


def _analysed(
    model: nn.Module, shape: tuple[int, ...], options: Options, output: str | int | None
) -> Layout:
    """The analysed graph of what is to be trained: a refusal comes before the first step."""
    found = registry()
    mode = model.training
    layout, _ = analyse(translate(model.eval(), shape, found, output), found, options, "network")
    model.train(mode)
    return layout


def _first_parameter(model: nn.Module) -> Tensor:
    """What says the type and the device of the data; one of the parameters can be trained."""
    like = next(model.parameters(), None)
    if like is None or not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError("the model has no parameter that can be trained")
    return like


def _curvature_bound(
    model: nn.Module, shape: tuple[int, ...], told: dict[str, Any], recipe: Recipe
) -> Regularizer:
    """The curvature bound of a model, for a method that evaluates it at every step.

    Raises:
        UnsupportedError: The model has no curvature; the remedy names the methods that need none.
    """
    try:
        return regularizer(model, shape, **told, pairs_per_call=recipe.pairs_per_call, every=1)
    except UnsupportedError as error:
        others = (name for name, row in METHODS.items() if not row.bounded)
        raise UnsupportedError(
            f"method {recipe.method!r} bounds curvature, and {error.message}",
            node=error.node,
            operator=error.operator,
            location=error.location,
            remedy=f"Choose smooth activations, or another method: {', '.join(others)}",
        ) from error


def _check(data: Dataset, shape: tuple[int, ...], layout: Layout) -> None:
    if tuple(data.x.shape[1:]) != shape:
        raise InputDataError(
            f"inputs have shape {tuple(data.x.shape[1:])}, the model takes {shape}",
            location=data.name,
        )
    if not data.x.isfinite().all():
        raise InputDataError("inputs hold NaN or infinity", location=data.name)
    classes = layout.graph.outputs
    if classes == 1:
        raise UsageError(
            "the model has one output, and a classifier has one for each class",
            remedy="Give the model two outputs",
        )
    for label in (int(data.y.max()), int(data.y.min())):
        if not 0 <= label < classes:
            raise InputDataError(
                f"there is a label {label}, but the model has {classes} classes",
                location=data.name,
            )


def _description(layout: Layout, data: Dataset, recipe: Recipe) -> dict[str, Any]:
    """What makes a training the same training."""
    source = hashlib.sha256(to_text(layout.graph).encode())
    source.update(weights(layout))
    return {
        "command": "train",
        "vercomp": version("vercomp"),
        "model": source.hexdigest(),
        "data": _digest(data.x, data.y),
        "recipe": asdict(recipe),
    }


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().reshape(-1).data)
    return digest.hexdigest()
