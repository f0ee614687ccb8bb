"""Pairs (input, target) and the margins between them: what the solvers ask of a network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from ..arithmetic.outward import UNIT_ROUNDOFF, up
from ..errors import InputError
from ..linearization import Linearization
from ..memory import working_set
from ..specifications import Specification, units


class Classifier(Protocol):
    """A network with logits. Calling it is only used to search."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""

    @property
    def classes(self) -> int:
        """C, the number of logits."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Logits (B, C) of a batch (B, *input_shape), in the model's dtype."""


class Bounded(Classifier, Protocol):
    """A network whose curvature is bounded.

    ``linearize`` and ``curvature`` are promises about the real-arithmetic function of the weights.
    """

    def linearize(self, x: Tensor, c: Tensor) -> Linearization:
        """c·z and its gradient at x (P, D) for coefficients c (P, C), float64, with errors.

        Leading axes broadcast, as in :class:`~..linearization.Linearization`.
        """

    def bounds_of(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """κ and L of c·z for rows c (..., C), as in :meth:`curvature` and :meth:`lipschitz`."""

    def curvature(self) -> tuple[Tensor, Tensor]:
        """(lo, hi), each (C, C) float64: lo[y, t] I ≼ ∇²(z_y − z_t) ≼ hi[y, t] I everywhere."""

    def lipschitz(self) -> Tensor:
        """L (C, C) float64: ‖∇(z_y − z_t)‖ ≤ L[y, t] everywhere; infinite where unknown."""


class Placement(NamedTuple):
    """Where a network lives and what it computes in."""

    device: torch.device
    dtype: torch.dtype

    @property
    def search_dtype(self) -> torch.dtype:
        """What searches compute in: the model's dtype, or float32 if that is half as wide."""
        return self.dtype if self.dtype == torch.float64 else torch.float32


def placement(network: Classifier, x: Tensor) -> Placement:
    """Device and dtype of the network's parameters, or those of x where there are none."""
    if isinstance(network, nn.Module):
        for parameter in (*network.parameters(), *network.buffers()):
            if parameter.is_floating_point():
                return Placement(parameter.device, parameter.dtype)
    return Placement(x.device, x.dtype)


@contextmanager
def own_gradient_mode() -> Iterator[None]:
    """Whatever gradient mode the caller is in: tensors that autograd may use, nothing recorded."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def flattened(network: Classifier, x: Tensor, where: Placement) -> Tensor:
    """Inputs as float64 rows (B, D) on the network's device, independent of x."""
    rows = x.detach().reshape(len(x), math.prod(network.input_shape))
    return rows.to(where.device, torch.float64).clone()


class Pairs(ABC):
    """Functions f = c·z + d of a network's outputs, one for each pair of indices.

    For a classifier the pair is a label and a target; see :class:`Margins` and :class:`Rows`.

    Args:
        network: The network.
        where: Its device and dtype.
    """

    def __init__(self, network: Classifier, where: Placement) -> None:
        self.network = network
        self.where = where
        self.evaluate: Callable[[Tensor], Tensor] = getattr(network, "logits", network)

    @property
    def bounded(self) -> Bounded:
        """The network, where it was handed to what needs its curvature."""
        return cast(Bounded, self.network)

    @abstractmethod
    def bounds(self, label: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """κ ≥ 0 and L of pairs: ∇²f ≽ −κI and ‖∇f‖ ≤ L everywhere, in float64."""

    @abstractmethod
    def coefficients(self, label: Tensor, target: Tensor) -> Tensor:
        """c (..., C) in float64."""

    @abstractmethod
    def offsets(self, label: Tensor, target: Tensor) -> Tensor | float:
        """d (...) in float64."""

    @abstractmethod
    def values(self, logits: Tensor, label: Tensor, targets: Tensor) -> Tensor:
        """f (B, K) from outputs (B, C), in their dtype."""

    @abstractmethod
    def slack(self, label: Tensor, target: Tensor) -> Tensor | float:
        """What f must exceed to prove that its pair holds, and fall below to prove that it fails.

        Zero, but for what torch's functions may turn around behind the logits, and for numbers in d
        that are known within bounds.
        """

    def logits(self, x: Tensor) -> Tensor:
        """Logits (B, C) of flat inputs x (B, D), searched with and never promised."""
        return self.compared(self.evaluate(self._shaped(x)).detach())

    def compared(self, outputs: Tensor) -> Tensor:
        """What pairs are made of, (B, C): the outputs themselves."""
        return outputs

    def screen(self, x: Tensor, label: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """f (P,) and ∇f (P, D) at flat points x (P, D), through the model, in the dtype of x."""
        value, gradient = self.screen_all(x, label, target[:, None])
        return value[:, 0], gradient[:, 0]

    def screen_all(self, x: Tensor, label: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """f (B, K) and ∇f (B, K, D) for K targets of every input: one forward, K backwards.

        Only derivatives with respect to x are taken: parameters and their ``.grad`` are untouched,
        whether or not they require gradients.
        """
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            logits = self.evaluate(self._shaped(leaf))
            margins = self.values(logits, label, targets)
            count = targets.shape[1]
            gradients = []
            for k in range(count):
                # A network may be constant in x (dead, or pruned away): then there is no graph.
                (gradient,) = (
                    torch.autograd.grad(
                        margins[:, k].sum(), leaf, retain_graph=k + 1 < count, allow_unused=True
                    )
                    if margins.requires_grad
                    else (None,)
                )
                gradients.append(torch.zeros_like(leaf) if gradient is None else gradient)
        return margins.detach().to(x.dtype), torch.stack(gradients, 1).detach()

    def values_at(self, x: Tensor, label: Tensor, targets: Tensor) -> Tensor:
        """f (B, K) at flat points x (B, D), through the model, in the dtype of x."""
        return self.values(self.evaluate(self._shaped(x)).detach(), label, targets).to(x.dtype)

    def least(
        self, x: Tensor, label: Tensor, targets: Tensor, aim: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """f (B, K) at flat points x (B, D), one column of each row, and the gradient there (B, D).

        The column is that of the least f, or the one given, (B,). One forward and one backward.
        """
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            logits = self.network(self._shaped(leaf))
            margins = logits.gather(1, label[:, None]) - logits.gather(1, targets)
            column = margins.argmin(1) if aim is None else aim
            gradient = None
            if margins.requires_grad:
                chosen = margins.gather(1, column[:, None]).sum()
                (gradient,) = torch.autograd.grad(chosen, leaf, allow_unused=True)
        gradient = torch.zeros_like(leaf) if gradient is None else gradient
        return margins.detach().to(x.dtype), column, gradient.detach()

    def linearize(self, x: Tensor, label: Tensor, target: Tensor) -> Linearization:
        """f and ∇f at flat points x (P, D) in float64, with proved errors."""
        found = self.bounded.linearize(x, self.coefficients(label, target))
        return _moved(found, self.offsets(label, target), self.slack(label, target))

    def linearize_all(self, x: Tensor, label: Tensor, targets: Tensor) -> Linearization:
        """The same for K targets (B, K) of every point (B, D): one forward, K backwards."""
        c = self.coefficients(label[:, None], targets)
        found = self.bounded.linearize(x[:, None], c)
        # A margin without any path from the input has a gradient that knows nothing of K.
        wide = Linearization(
            found.value,
            found.gradient.expand(*targets.shape, x.shape[1]),
            found.value_error.expand(targets.shape),
            found.gradient_error.expand(targets.shape),
        )
        label = label[:, None]
        return _moved(wide, self.offsets(label, targets), self.slack(label, targets))

    def bytes_per_input(self) -> int:
        """What the backward pass of one more input keeps: measured on a batch of two and of one."""
        return max(self._saved(2) - self._saved(1), 0)

    def _saved(self, batch: int) -> int:
        total = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        shape = (batch, *self.network.input_shape)
        with (
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            x = torch.zeros(shape, device=self.where.device, dtype=self.where.dtype)
            self.evaluate(x.requires_grad_())
        return total

    def _shaped(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.network.input_shape).to(self.where.dtype)


def _moved(found: Linearization, offset: Tensor | float, slack: Tensor | float) -> Linearization:
    """c·z + d, with the rounding of the sum and the slack among the errors."""
    if isinstance(offset, float) and slack == 0.0:
        return found
    value = found.value + offset
    lost = up(found.value_error + up(value.abs() * UNIT_ROUNDOFF + slack))
    return found._replace(value=value, value_error=lost)


def slack_of(network: Classifier) -> float:
    """What logits must differ by, at least, for the tail to keep their order; 0 without a tail."""
    tail = getattr(network, "tail", None)
    return 0.0 if tail is None else float(tail.slack)


class Margins(Pairs):
    """The margins z_y − z_t of a network: c = e_y − e_t for a label y and a target t."""

    def compared(self, outputs: Tensor) -> Tensor:
        """The outputs; of one output z, zero and z."""
        if outputs.shape[1] > 1:
            return outputs
        return torch.cat([torch.zeros_like(outputs), outputs], 1)

    def bounds(self, label: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """From the bounds of all pairs of classes."""
        return self.kappa[label, target], self.lipschitz[label, target]

    @cached_property
    def kappa(self) -> Tensor:
        """κ (C, C): ∇²(z_y − z_t) ≽ −κI. A convex margin is treated as one without curvature."""
        lower, _ = self.bounded.curvature()
        return (-lower.to(self.where.device, torch.float64)).clamp(min=0.0)

    @cached_property
    def lipschitz(self) -> Tensor:
        """L (C, C): ‖∇f‖ ≤ L everywhere."""
        return self.bounded.lipschitz().to(self.where.device, torch.float64)

    def coefficients(self, label: Tensor, target: Tensor) -> Tensor:
        """c = e_y − e_t."""
        compared = self._compared
        return compared[label] - compared[target]

    def slack(self, label: Tensor, target: Tensor) -> float:
        """What the tail asks for."""
        return slack_of(self.network)

    @cached_property
    def _compared(self) -> Tensor:
        scores = getattr(self.network, "scores", self.network.classes)
        return units(scores, self.where.device)

    def offsets(self, label: Tensor, target: Tensor) -> float:
        """Margins have no offsets."""
        return 0.0

    def values(self, logits: Tensor, label: Tensor, targets: Tensor) -> Tensor:
        """z_y − z_t."""
        logits = self.compared(logits)
        return logits.gather(1, label[:, None]) - logits.gather(1, targets)


class Rows(Pairs):
    """The rows of a specification: the pair is the number of an input, and that of a row.

    Args:
        network: The network.
        where: Its device and dtype.
        specification: C (B, R, outputs) and d (B, R).
        slacks: (B, R).
    """

    def __init__(
        self, network: Classifier, where: Placement, specification: Specification, slacks: Tensor
    ) -> None:
        super().__init__(network, where)
        self.specification, self.slacks = specification, slacks

    def slack(self, label: Tensor, target: Tensor) -> Tensor:
        """The slacks of the rows."""
        return self.slacks[label, target]

    def bounds(self, label: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """From the bound program, on these rows."""
        kappa, lipschitz = self._bounds
        return kappa[label, target], lipschitz[label, target]

    @cached_property
    def _bounds(self) -> tuple[Tensor, Tensor]:
        kappa, lipschitz = self.bounded.bounds_of(self.specification.coefficients)
        return kappa.clamp(min=0.0), lipschitz

    def coefficients(self, label: Tensor, target: Tensor) -> Tensor:
        """The rows of C."""
        return self.specification.coefficients[label, target]

    def offsets(self, label: Tensor, target: Tensor) -> Tensor:
        """The entries of d."""
        return self.specification.offsets[label, target]

    def values(self, logits: Tensor, label: Tensor, targets: Tensor) -> Tensor:
        """C z + d, the products summed without a matrix product: it may round more."""
        c = self.coefficients(label[:, None], targets).to(logits)
        return (c * logits[:, None]).sum(-1) + self.offsets(label[:, None], targets).to(logits)


def chunks(margins: Pairs, inputs: int, targets: int, chunk: int | None) -> Iterator[slice]:
    """Slices of the inputs such that the pairs of one slice fit into what memory is free.

    A pair costs the solver's history, the float64 temporaries and what the network saves for its
    backward pass, once in the model's dtype and three times over in float64 with errors.

    An empty batch gives one empty slice.

    Args:
        margins: The network's margins.
        inputs: How many inputs there are.
        targets: Pairs an input.
        chunk: Inputs a slice, at least one, to override the estimate.
    """
    if chunk is None:
        size = math.prod(margins.network.input_shape)
        pair = 24 * size * margins.where.dtype.itemsize + 8 * size * 8
        pair += 8 * margins.bytes_per_input()
        chunk = max(1, working_set(margins.where.device) // (pair * max(targets, 1)))
    elif chunk < 1:
        raise InputError(f"chunk must be at least 1, got {chunk}")
    for start in range(0, max(inputs, 1), chunk):
        yield slice(start, min(start + chunk, inputs))
