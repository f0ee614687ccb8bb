"""What every emitted network is: a module that knows its bounds, and when they are stale."""

from __future__ import annotations

import ctypes
import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .arithmetic import Bound
from .errors import ChangedWeightsError, WeightError
from .linearization import Linearization
from .rigorous import Rigorous


@dataclass(frozen=True)
class Bounds:
    """The rigorous evaluation of a network's bound program, for one state of its weights.

    Args:
        fingerprint: Of the weights that the bounds are for.
        curvature: K (C, C), float64: ∇²(z_y − z_t) ≽ −K[y, t] I everywhere; 0 on the diagonal.
        lipschitz: L (C, C), float64: ‖∇(z_y − z_t)‖ ≤ L[y, t] everywhere; 0 on the diagonal.
        norms: Proved ‖A‖₂ of every linear map.
        shares: For every activation, what it contributes to K (C, C).
    """

    fingerprint: str
    curvature: Tensor
    lipschitz: Tensor
    norms: Mapping[str, float]
    shares: Mapping[str, Tensor]

    def to_json(self) -> dict[str, Any]:
        """Plain data; floats survive the way through JSON exactly."""
        content: dict[str, Any] = {
            "fingerprint": self.fingerprint,
            "curvature": self.curvature.tolist(),
            "lipschitz": self.lipschitz.tolist(),
            "norms": dict(self.norms),
            "shares": {name: share.tolist() for name, share in self.shares.items()},
        }
        return {**content, "checksum": checksum(content)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`."""
        return cls(
            fingerprint=data["fingerprint"],
            curvature=torch.tensor(data["curvature"], dtype=torch.float64),
            lipschitz=torch.tensor(data["lipschitz"], dtype=torch.float64),
            norms=dict(data["norms"]),
            shares={
                name: torch.tensor(share, dtype=torch.float64)
                for name, share in data["shares"].items()
            },
        )


def checksum(bounds: Mapping[str, Any]) -> str:
    """SHA-256 of stored bounds, to tell them from edited or damaged ones."""
    content = {key: value for key, value in bounds.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class VerifiedNetwork(nn.Module):
    """Base of emitted networks.

    A network is trainable like any module. Its bounds are keyed to a hash of the weights' bytes,
    taken at every call (version counters miss writes through ``.data``): bounds of other weights
    are computed anew before anything is promised. A stale bound is a false certificate.
    """

    input_shape: ClassVar[tuple[int, ...]]
    classes: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self._bounds: Bounds | None = None
        # In a tuple: a copy of the network is not a part of it, for nn.Module.
        self._double: tuple[VerifiedNetwork, ...] = ()
        self._held: Bounds | None = None

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of a batch x (B, *input_shape)."""

    @abstractmethod
    def bound_program(self, arithmetic: Any, c: Tensor) -> Bound:
        """The bound program on coefficient rows c (P, C), over these parameters."""

    @abstractmethod
    def evaluate_with_errors(
        self, x: Tensor, c: Tensor, norms: Mapping[str, float]
    ) -> Linearization:
        """f = c·z and ∇f at x (P, D), with bounds of the rounding; for a float64 network."""

    @property
    def dtype(self) -> torch.dtype:
        """The type that the network computes in: that of its first parameter."""
        first = next(iter([*self.parameters(), *self.buffers()]), None)
        return torch.get_default_dtype() if first is None else first.dtype

    @property
    def device(self) -> torch.device:
        """Where the network's first tensor lies."""
        first = next(iter(self.state_dict().values()), None)
        return torch.device("cpu") if first is None else first.device

    def fingerprint(self) -> str:
        """SHA-256 of names, types, shapes and bytes of all parameters and buffers."""
        digest = hashlib.sha256()
        for name, tensor in self.state_dict().items():
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            flat = tensor.detach().cpu().contiguous()
            size = flat.numel() * flat.element_size()
            if size:
                # The bytes in place; a package must not need numpy for them.
                digest.update((ctypes.c_ubyte * size).from_address(flat.data_ptr()))
        return digest.hexdigest()

    def bounds(self) -> Bounds:
        """The rigorous bounds for the weights as they are now.

        Raises:
            WeightError: A weight is NaN or infinite.
        """
        if self._held is not None:
            return self._held
        fingerprint = self.fingerprint()
        if self._bounds is None or self._bounds.fingerprint != fingerprint:
            self._bounds = self._compute_bounds(fingerprint)
            self._double = ()
        return self._bounds

    @contextmanager
    def held(self) -> Iterator[None]:
        """One look at the weights for a whole computation, and another one when it is done.

        Raises:
            ChangedWeightsError: What was computed holds for neither state of the weights.
        """
        self._held, before = self.bounds(), self._held
        try:
            yield
            if self.fingerprint() != self._held.fingerprint:
                raise ChangedWeightsError(
                    "the weights changed while they were being certified",
                    remedy="Certify between the steps of a training, not during one",
                )
        finally:
            self._held = before

    def adopt(self, bounds: Bounds) -> None:
        """Take over stored bounds; they are used only while the weights have their fingerprint."""
        self._bounds = bounds
        self._double = ()  # it may hold the weights that the old bounds were for

    def curvature(self) -> tuple[Tensor, Tensor]:
        """(lo, hi), each (C, C) float64, with lo·I ≼ ∇²(z_y − z_t) ≼ hi·I for every input."""
        curvature = self.bounds().curvature
        return -curvature, curvature.T.clone()

    def lipschitz(self) -> Tensor:
        """L (C, C), float64, with ‖∇(z_y − z_t)‖ ≤ L[y, t] for every input."""
        return self.bounds().lipschitz

    def linearize(self, x: Tensor, c: Tensor) -> Linearization:
        """f = c·z and ∇f at points x (P, D) in float64, with bounds of what rounding did.

        Leading axes broadcast: x (B, 1, D) and c (B, K, C) share the forward evaluation.
        """
        bounds = self.bounds()
        if not self._double or self._double[0].device != self.device:
            self._double = (self.in_double(),)
        with torch.no_grad():
            return self._double[0].evaluate_with_errors(x.double(), c.double(), bounds.norms)

    def in_double(self) -> VerifiedNetwork:
        """A float64 copy without gradients: float32 weights are exact in float64."""
        double = type(self)()
        state = {
            name: tensor.detach().to(torch.float64) for name, tensor in self.state_dict().items()
        }
        double.load_state_dict(state, assign=True)
        return double.requires_grad_(False)

    def _compute_bounds(self, fingerprint: str) -> Bounds:
        for name, tensor in self.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise WeightError(
                    "the parameter holds NaN or infinity",
                    node=name,
                    remedy="Nothing is proved of such weights; load others",
                )
        double = self.in_double()
        device = self.device
        identity = torch.eye(self.classes, dtype=torch.float64, device=device)
        y, t = torch.nonzero(1.0 - identity, as_tuple=True)
        with torch.no_grad():
            bound = double.bound_program(Rigorous(device), identity[y] - identity[t])

        def square(rows: Tensor) -> Tensor:
            matrix = torch.zeros(self.classes, self.classes, dtype=torch.float64)
            matrix[y.cpu(), t.cpu()] = rows.cpu()
            return matrix

        return Bounds(
            fingerprint,
            square(bound.curvature),
            square(bound.lipschitz),
            {name: float(norm) for name, norm in bound.norms.items()},
            {name: square(share) for name, share in bound.shares.items()},
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_double": (), "_held": None}
