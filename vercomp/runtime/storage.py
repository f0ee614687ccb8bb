"""Reading a package's weights and stored bounds back into its network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from safetensors.torch import load

from .network import Bounds, VerifiedNetwork

N = TypeVar("N", bound=VerifiedNetwork)


def load_network(network: N, folder: Path) -> N:
    """Fill a network with the weights and bounds that lie in ``folder``.

    Raises:
        FileNotFoundError: The folder lacks net.safetensors or manifest.json.
    """
    weights = (folder / "net.safetensors").read_bytes()
    return fill(network, weights, (folder / "manifest.json").read_bytes())


def fill(network: N, weights: bytes, manifest: bytes) -> N:
    """Fill a network from the bytes of a package's weights and manifest.

    The stored bounds are adopted as they are: they are keyed to the weights they were proved for,
    and a network whose weights differ computes its own.
    """
    fill_weights(network, weights)
    network.adopt(Bounds.from_json(json.loads(manifest)["bounds"]))
    return network.eval()


def fill_weights(network: VerifiedNetwork, weights: bytes) -> None:
    """Fill a network from the bytes of a package's weights, in the dtypes that they have there.

    Whatever torch's default dtype is: weights rounded to it would be another network's.
    """
    state = load(weights)
    for name, tensor in network.state_dict(keep_vars=True).items():
        if name in state:
            tensor.data = tensor.data.to(state[name].dtype)
    network.load_state_dict(state)
