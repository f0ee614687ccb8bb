"""Which network of a training is kept: the one that most validation inputs are certified for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vercomp.compiled import CompiledNetwork, load_package
from vercomp.distributed import Processes
from vercomp.outputs import write_package
from vercomp.train.evaluation import certified
from vercomp.train.recipe import Recipe

PACKAGE = "network"
"""The folder, within that of the training, of the network that is kept."""

BLOCK = 1024  # inputs certified at a time


class Selection:
    """Certifies networks on the validation split, and keeps the best.

    The best has the largest certified accuracy at ρ, over all targets; then the largest clean
    accuracy; then it is the first.

    Args:
        x: Validation inputs (V, *shape).
        y: Labels (V,).
        recipe: Its radius, ρ, norm and box are those of the certificates.
        folder: Where the best network lies, for as long as it is the best; None: in memory alone.
        processes: Those that share the inputs.
    """

    def __init__(
        self, x: Tensor, y: Tensor, recipe: Recipe, folder: Path | None, processes: Processes
    ) -> None:
        self.x, self.y, self.radius = x, y, recipe.radius
        self._asked: dict[str, Any] = {"norm": recipe.norm, "box": recipe.box}
        if recipe.certified_by:
            self._asked |= {"methods": recipe.certified_by, "decide": True}
        self.folder, self.processes = folder, processes
        self.radii: dict[int, NDArray[np.float64]] = {}
        self.best_epoch = 0
        self._score = (-1.0, -1.0)
        self._network: CompiledNetwork | None = None
        self._files: Mapping[str, bytes] = {}

    @property
    def network(self) -> CompiledNetwork:
        """The best so far."""
        if self._network is None:
            assert self.folder is not None  # noqa: S101 - a resumed run has one
            self._network = load_package(self.folder / PACKAGE)
        return self._network

    def evaluate(self, epoch: int, network: CompiledNetwork) -> dict[str, Any]:
        """Certify; keep the network if it is the best so far. What the epoch's row says of it."""
        radii, correct = self._certify(network)
        self.radii[epoch] = radii
        clean = float(correct.mean())
        share = float((correct & (radii > self.radius)).mean())
        if (share, clean) > self._score:
            self._score, self.best_epoch = (share, clean), epoch
            self._network, self._files = network, network.files
            if self.folder is not None and self.processes.main:
                network.save(self.folder / PACKAGE)
        curvature = None
        if network.curved:
            pairs = network.network.classes * (network.network.classes - 1)
            curvature = float(network.curvature()[1].sum()) / pairs
        return {
            "validation_clean_accuracy": clean,
            "validation_certified_accuracy": share,
            "validation_mean_radius": float(radii[correct].mean()) if correct.any() else None,
            "validation_curvature": curvature,
        }

    def _certify(self, network: CompiledNetwork) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Radii, 0 where misclassified, and what is classified correctly, of all inputs."""
        team = self.processes
        mine = slice(team.rank, None, team.size)
        x, y = self.x[mine], self.y[mine]
        blocks = [
            certified(network, x[rows], y[rows], self.radius, **self._asked)
            for rows in (slice(begin, begin + BLOCK) for begin in range(0, len(y), BLOCK))
        ]
        radii = np.empty(len(self.y), dtype=np.float64)
        correct = np.empty(len(self.y), dtype=np.bool_)
        # Of very few inputs a process may have none.
        found = torch.cat([torch.empty(0, dtype=torch.float64), *(b.radii for b in blocks)])
        right = torch.cat([torch.empty(0, dtype=torch.bool), *(b.correct for b in blocks)])
        for rank, share in enumerate(team.gather((found.numpy(), right.numpy()))):
            radii[rank :: team.size], correct[rank :: team.size] = share
        return radii, correct

    def state(self) -> dict[str, Any]:
        """What is known, and the files of the best network.

        These lie in a folder of their own as well, but a run may have been killed after it had
        replaced them and before it said so; one that resumes elsewhere may find another one best.
        """
        radii = {epoch: torch.from_numpy(values) for epoch, values in self.radii.items()}
        files = {name: _tensor(content) for name, content in self._files.items()}
        return {
            "radii": radii,
            "best_epoch": self.best_epoch,
            "score": self._score,
            "files": files,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; the folder holds its network afterwards."""
        self.radii = {epoch: values.numpy() for epoch, values in state["radii"].items()}
        self.best_epoch = state["best_epoch"]
        certified_share, clean = state["score"]
        self._score = (certified_share, clean)
        self._files = {
            name: content.numpy().tobytes() for name, content in state.get("files", {}).items()
        }
        if self._files and self.folder is not None and self.processes.main:
            write_package(self.folder / PACKAGE, self._files)
        self.processes.wait()


def _tensor(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytearray(content), dtype=np.uint8))
