"""What every emitted network is: a module that knows its graph and the state of its weights."""

from __future__ import annotations

import ctypes
import hashlib
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .errors import ChangedWeightsError
from .graph import Graph

if TYPE_CHECKING:
    from .methods.method import Method
    from .tails import Tail


class VerifiedNetwork(nn.Module):
    """Base of emitted networks: an ordinary module, trainable like any other.

    What is proved about it holds for one state of its weights, which a hash of their bytes tells
    from any other.
    """

    methods: ClassVar[tuple[Method, ...]] = ()
    tail: ClassVar[Tail | None] = None
    input_shape: ClassVar[tuple[int, ...]]
    output_shape: ClassVar[tuple[int, ...]]

    def __init__(self) -> None:
        super().__init__()
        # In a tuple: a copy of the network is not a part of it, for nn.Module.
        self._double: tuple[tuple[str, Self, Graph], ...] = ()
        self._held: str | None = None
        self.views: dict[str, VerifiedNetwork] = {}

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, *output_shape) of a batch x (B, *input_shape)."""

    @abstractmethod
    def nodes(self) -> Graph:
        """The graph over these parameters."""

    def adopt_stored(self, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Take over what a package keeps beside the weights; a plain network needs nothing."""
        return

    @property
    def outputs(self) -> int:
        """The number of outputs, as the model has them."""
        return self.scores if self.tail is None else self.tail.outputs(self.scores)

    @property
    def scores(self) -> int:
        """The number of entries of :meth:`logits`."""
        return math.prod(self.output_shape)

    @property
    def classes(self) -> int:
        """What margins compare: the logits; of one logit z, zero and z, as two classes."""
        return max(2, self.scores)

    def logits(self, x: Tensor) -> Tensor:
        """What is compared to decide: the outputs, in front of the tail if there is one."""
        outputs: Tensor = self(x)
        return outputs

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
        """SHA-256 of names, types, shapes and bytes of all parameters and buffers.

        While the weights are held it is the one that they had when that began.
        """
        return self._held or self._hash()

    def _hash(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in self.state_dict().items():
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            flat = tensor.detach().cpu().contiguous()
            size = flat.numel() * flat.element_size()
            if size:
                # The bytes in place; a package must not need numpy for them.
                digest.update((ctypes.c_ubyte * size).from_address(flat.data_ptr()))
        return digest.hexdigest()

    @contextmanager
    def held(self) -> Iterator[None]:
        """One look at the weights for a whole computation, and another one when it is done.

        Raises:
            ChangedWeightsError: What was computed holds for neither state of the weights.
        """
        if self._held is not None:
            yield
            return
        self._held = self._hash()
        try:
            yield
            if self._hash() != self._held:
                raise ChangedWeightsError(
                    "the weights changed while they were being certified",
                    remedy="Certify between the steps of a training, not during one",
                )
        finally:
            self._held = None

    def in_double(self) -> tuple[Self, Graph]:
        """A float64 copy without gradients, and its graph, made once for a state of the weights.

        float32 weights are exact in float64, so that it computes the same real function.
        """
        fingerprint = self.fingerprint()
        if self._double:
            known, double, graph = self._double[0]
            if known == fingerprint and double.device == self.device:
                return double, graph
        double = type(self)()
        state = {
            name: tensor.detach().to(torch.float64) for name, tensor in self.state_dict().items()
        }
        double.load_state_dict(state, assign=True)
        double.requires_grad_(False)
        with torch.no_grad():
            graph = double.nodes()
        self._double = ((fingerprint, double, graph),)
        return double, graph

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_double": (), "_held": None, "views": {}}
