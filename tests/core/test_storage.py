"""Stored networks: weights and bounds are read back, and believed only if they belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from curvatures import margins
from graphs import Emitted, chain, emit
from safetensors.torch import save
from torch import Tensor

from vercomp.core.bounds import MATRICES
from vercomp.core.graph import Graph
from vercomp.core.network import VerifiedNetwork
from vercomp.core.storage import fill, load_network


def example(seed: int = 0) -> Emitted:
    return emit(chain(seed, [4, 6, 5, 3], ["softplus", "gelu"]))


def test_adopted_bounds_bring_no_stale_evaluation() -> None:
    """Weights and bounds of another state are loaded after this one was evaluated."""
    network, other = example(0).network, example(1).network
    other_bounds = other.bounds()
    x, c = torch.randn(6, 4, dtype=torch.float64), margins(3)
    network.linearize(x, c)
    weights = save({name: value.contiguous() for name, value in other.state_dict().items()})
    entry, matrices = other_bounds.files()
    manifest = {"files": {}, "bounds": entry}
    files = {
        "net.safetensors": weights,
        MATRICES: matrices,
        "manifest.json": json.dumps(manifest).encode(),
    }
    fill(network, files)
    assert torch.equal(network.linearize(x, c).value, other.linearize(x, c).value)


def test_a_folder_that_lacks_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_network(example().network, tmp_path)


class Doubled(VerifiedNetwork):
    """A network that proves no bounds."""

    input_shape = output_shape = (2,)

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x

    def nodes(self) -> Graph:
        raise NotImplementedError


def test_a_network_without_bounds_takes_the_weights_alone() -> None:
    other = example().network
    entry, matrices = other.bounds().files()
    manifest = {"files": {}, "bounds": entry}
    files = {
        "net.safetensors": save({"factor": torch.tensor([2.0, 3.0])}),
        MATRICES: matrices,
        "manifest.json": json.dumps(manifest).encode(),
    }
    network = fill(Doubled(), files)
    assert network(torch.ones(1, 2)).tolist() == [[2.0, 3.0]]
    assert not network.training
