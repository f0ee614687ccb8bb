"""Reading a package's weights and stored bounds back into its network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from safetensors.torch import load

from .network import VerifiedNetwork

N = TypeVar("N", bound=VerifiedNetwork)


def load_network(network: N, folder: Path) -> N:
    """Fill a network with the weights and bounds that lie in ``folder``.

    Raises:
        FileNotFoundError: The folder lacks net.safetensors or manifest.json.
    """
    paths = [*folder.glob("*.safetensors"), folder / "manifest.json", *folder.rglob("*.py")]
    return fill(network, {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths})


def fill(network: N, files: Mapping[str, bytes]) -> N:
    """Fill a network from the files of its package, by relative path.

    Stored bounds are keyed to the weights that they were proved for: a network whose weights differ
    computes its own. They are adopted only from a package whose code is what proved them, and whose
    manifest still holds what was written: another σ or another σ″ has other bounds.
    """
    fill_weights(network, files["net.safetensors"])
    manifest = json.loads(files["manifest.json"])
    if _unchanged(manifest["files"], files):
        network.adopt_stored(manifest, files)
    evaluating: N = network.eval()
    return evaluating


def _unchanged(promised: Mapping[str, str], files: Mapping[str, bytes]) -> bool:
    """Whether the Python files are exactly the files that the manifest lists."""
    found = {p: hashlib.sha256(c).hexdigest() for p, c in files.items() if p.endswith(".py")}
    return found == {p: digest for p, digest in promised.items() if p.endswith(".py")}


def fill_weights(network: VerifiedNetwork, weights: bytes) -> None:
    """Fill a network from the bytes of a package's weights, in the dtypes that they have there.

    Whatever torch's default dtype is: weights rounded to it would be another network's.
    """
    state = load(weights)
    for name, tensor in network.state_dict(keep_vars=True).items():
        if name in state:
            tensor.data = tensor.data.to(state[name].dtype)
    network.load_state_dict(state)
