"""The proved numbers that certificates rest on, for one state of a network's weights."""

from __future__ import annotations

import hashlib
import json
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from safetensors.torch import load, save
from torch import Tensor

from .arithmetic.operations import Arithmetic, Bound
from .arithmetic.rigorous import Rigorous
from .domains.curvature import curvature
from .domains.rounding import evaluate, linearize
from .errors import WeightError
from .linearization import Linearization
from .network import VerifiedNetwork
from .specifications import units

MATRICES = "bounds.safetensors"
"""The file of a package that holds the bounds of all pairs."""

_ROW_BYTES = 2**30
"""Pairs of classes are bounded so many at a time that their intervals take about so much."""


@dataclass(frozen=True)
class Bounds:
    """The rigorous evaluation of a network's curvature program, for one state of its weights.

    Args:
        fingerprint: Of the weights that the bounds are for.
        curvature: K (C, C), float64: ∇²(z_y − z_t) ≽ −K[y, t] I everywhere; 0 on the diagonal. For
            one output z it is that of two classes, zero and z.
        lipschitz: L (C, C), float64: ‖∇(z_y − z_t)‖ ≤ L[y, t] everywhere; 0 on the diagonal.
        norms: Proved ‖A‖₂ of every linear map.
        shares: For every activation, what it contributes to K (C, C).
    """

    fingerprint: str
    curvature: Tensor
    lipschitz: Tensor
    norms: Mapping[str, float]
    shares: Mapping[str, Tensor]

    def files(self) -> tuple[dict[str, Any], bytes]:
        """What a package keeps: an entry of its manifest, and the matrices as safetensors."""
        tensors = {"curvature": self.curvature, "lipschitz": self.lipschitz}
        tensors |= {f"share.{name}": share for name, share in self.shares.items()}
        matrices: bytes = save({name: t.contiguous().clone() for name, t in tensors.items()})
        entry = {
            "fingerprint": self.fingerprint,
            "norms": dict(self.norms),
            "matrices": hashlib.sha256(matrices).hexdigest(),
        }
        return {**entry, "checksum": checksum(entry)}, matrices

    @classmethod
    def stored(cls, entry: Mapping[str, Any], matrices: bytes) -> Self | None:
        """The inverse of :meth:`files`; None for bounds that were edited or damaged."""
        if entry.get("checksum") != checksum(entry):
            return None
        if entry["matrices"] != hashlib.sha256(matrices).hexdigest():
            return None
        tensors = load(matrices)
        shares = {
            name.removeprefix("share."): tensor
            for name, tensor in tensors.items()
            if name.startswith("share.")
        }
        norms = dict(entry["norms"])
        return cls(entry["fingerprint"], tensors["curvature"], tensors["lipschitz"], norms, shares)


def checksum(entry: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest's entry of bounds, to tell it from an edited or damaged one."""
    content = {key: value for key, value in entry.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class BoundedNetwork(VerifiedNetwork):
    """A network that proves bounds of its curvature.

    They are keyed to a hash of the weights' bytes, taken at every call (version counters miss
    writes through ``.data``): bounds of other weights are computed anew before anything is
    promised. A stale bound is a false certificate.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bounds: Bounds | None = None

    @abstractmethod
    def bound_program(self, arithmetic: Arithmetic, c: Tensor) -> Bound:
        """The curvature program on coefficient rows c (P, C), over these parameters."""

    def bounds(self) -> Bounds:
        """The rigorous bounds for the weights as they are now.

        Raises:
            WeightError: A weight is NaN or infinite.
        """
        fingerprint = self.fingerprint()
        if self._bounds is None or self._bounds.fingerprint != fingerprint:
            self._bounds = self._compute(fingerprint)
        return self._bounds

    def adopt_stored(self, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take over the bounds that a package keeps, unless they were edited or damaged."""
        found = Bounds.stored(manifest["bounds"], files.get(MATRICES, b""))
        if found is not None:
            self.adopt(found)

    def adopt(self, bounds: Bounds) -> None:
        """Take over stored bounds; they are used only while the weights have their fingerprint."""
        self._bounds = bounds

    def curvature(self) -> tuple[Tensor, Tensor]:
        """(lo, hi), each (C, C) float64, with lo·I ≼ ∇²(z_y − z_t) ≼ hi·I for every input."""
        curvature = self.bounds().curvature
        return -curvature, curvature.T.clone()

    def lipschitz(self) -> Tensor:
        """L (C, C), float64, with ‖∇(z_y − z_t)‖ ≤ L[y, t] for every input."""
        return self.bounds().lipschitz

    def linearize(self, x: Tensor, c: Tensor) -> Linearization:
        """f = c·z and ∇f at points x (P, D) in float64, with bounds of their rounding errors.

        Leading axes broadcast: x (B, 1, D) and c (B, K, C) share the forward evaluation.
        """
        norms = self.bounds().norms
        _, graph = self.in_double()
        with torch.no_grad():
            return linearize(graph, norms, x.double(), c.double())

    def enclose(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """f = c·z and a bound of its error, each (P,): :meth:`linearize` without the gradient."""
        norms = self.bounds().norms
        _, graph = self.in_double()
        with torch.no_grad():
            f = evaluate(graph, norms, x.double(), c.double())
        return f.value[..., 0], f.error

    def bounds_of(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """κ and L of c·z for any rows c (..., C): two tensors (...,), float64.

        Margins are among the bounds that are kept; other rows run the program once.
        """
        rows, place = torch.unique(
            coefficients.double().reshape(-1, coefficients.shape[-1]), dim=0, return_inverse=True
        )
        bounds = self.bounds()
        compared = units(self.scores, rows.device)
        entries = rows if self.scores > 1 else torch.cat([torch.zeros_like(rows), rows], 1)
        y, t = entries.argmax(1), entries.argmin(1)
        margins = (rows == compared[y] - compared[t]).all(1)
        kappa, lipschitz = bounds.curvature.to(rows)[y, t], bounds.lipschitz.to(rows)[y, t]
        if not bool(margins.all()):
            double, _ = self.in_double()
            with torch.no_grad():
                found = double.bound_program(Rigorous(self.device), rows[~margins])
            kappa[~margins], lipschitz[~margins] = found.curvature, found.lipschitz
        shape = coefficients.shape[:-1]
        return kappa[place].reshape(shape), lipschitz[place].reshape(shape)

    def _compute(self, fingerprint: str) -> Bounds:
        double, _ = self.in_double()
        return prove(self, double.bound_program, fingerprint)


def walked(network: VerifiedNetwork) -> Bounds:
    """The bounds of a network that has no program of its own, by the walk over its graph.

    Raises:
        WeightError: A weight is NaN or infinite.
    """
    _, graph = network.in_double()
    return prove(network, lambda ops, c: curvature(ops, graph, c), network.fingerprint())


def prove(
    network: VerifiedNetwork, program: Callable[[Arithmetic, Tensor], Bound], fingerprint: str
) -> Bounds:
    """The rigorous evaluation of a program over the network's float64 weights, for all pairs.

    Args:
        network: The network.
        program: The program over its float64 copy: (arithmetic, c) to bounds.
        fingerprint: Of the weights.

    Raises:
        WeightError: A weight is NaN or infinite.
    """
    for name, tensor in network.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise WeightError(
                "the parameter holds NaN or infinity",
                node=name,
                remedy="Nothing is proved of such weights; load others",
            )
    classes, compared = network.classes, units(network.scores, network.device)
    y, t = torch.nonzero(1.0 - torch.eye(classes, device=network.device), as_tuple=True)
    bound = _in_blocks(network, program, compared, y, t)

    def square(rows: Tensor) -> Tensor:
        matrix = torch.zeros(classes, classes, dtype=torch.float64)
        matrix[y.cpu(), t.cpu()] = rows.cpu()
        return matrix

    return Bounds(
        fingerprint,
        square(bound.curvature),
        square(bound.lipschitz),
        {name: float(norm) for name, norm in bound.norms.items()},
        {name: square(share) for name, share in bound.shares.items()},
    )


def _in_blocks(
    network: VerifiedNetwork,
    program: Callable[[Arithmetic, Tensor], Bound],
    compared: Tensor,
    y: Tensor,
    t: Tensor,
) -> Bound:
    """The program on all pairs, a block of rows after the other: intervals are as wide as layers.

    Norms do not depend on the rows and are proved once.
    """
    _, graph = network.in_double()
    units = sum(math.prod(node.shape) for node in graph.nodes)
    # Ends of intervals before and after an activation, and weights: about four numbers a unit.
    rows = max(1, _ROW_BYTES // (4 * 8 * max(1, units)))
    starts = range(0, max(1, len(y)), rows)
    ops = Rigorous(network.device, blocks=len(starts))
    found: list[Bound] = []
    with torch.no_grad():
        for start in starts:
            part = slice(start, start + rows)
            found.append(program(ops, compared[y[part]] - compared[t[part]]))
    return Bound(
        torch.cat([each.curvature for each in found]),
        torch.cat([each.lipschitz for each in found]),
        found[0].norms,
        {name: torch.cat([each.shares[name] for each in found]) for name in found[0].shares},
    )
