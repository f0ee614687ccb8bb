"""The curvature bound as a term of a training loss, over live parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .arithmetic.differentiable import Differentiable
from .arithmetic.operations import Bound
from .arithmetic.recording import OnDemand
from .errors import WeightError
from .inputs import check_count, check_pair_weights, check_pairs
from .specifications import units


class Regularizer(nn.Module):
    """κ of the certificate's own bound program, differentiable in the weights.

    κ[y, t] is what the program proves when its norms are proved: ∇²(z_y − z_t) ≽ −κ[y, t]·I for
    every input. With −∇²(z_y − z_t) = ∇²(z_t − z_y), Theorem 3's (m, M) of z_y − z_t are
    (−κ[y, t], κ[t, y]).

    Here norms come from power iteration: each evaluation of a pair reads ‖diag(√q)A v‖² off the
    stored unit vector v and then moves v by one power step. Such a value never exceeds the bound
    and converges to it where the weights rest; where they move it lags behind. It steers
    training; it is never a promise. The gradient is that of the bound at singular vectors (u vᵀ
    for a norm, by the envelope theorem). Vectors are buffers, saved with ``state_dict``.

    In training mode a call evaluates ``pairs_per_call`` of the D pairs that it is asked for: those
    from the s-th on, in a fixed circular order, each with D/pairs_per_call times its weight. Over
    the D values of s the mean of value and gradient is exactly that over all D pairs; successive
    calls with the same pairs run through them. Vectors of pairs that are not evaluated stay. In
    evaluation mode, and in :meth:`pairs`, all pairs are evaluated.

    With ``every`` = k, one call in k evaluates anything in training mode, and has k times the
    gradient; the others return what is known from the calls before, and going backward from there
    leaves the weights' gradients as they are. The mean over k calls is the same, the cost a k-th
    (lazy regularisation: Karras et al., 2020).

    It computes in the parameters' type, also under autocast, and in float32 where that is half
    precision.

    Args:
        program: The bound program: (arithmetic, maps, c) to :class:`Bound`.
        maps: What the program takes as maps, over parameters.
        parameters: Anything with the parameters as attributes; read anew at every call.
        outputs: The number of outputs: of the classes, C. One output counts as two classes, zero
            and the output itself.
        like: A parameter; its type and device are followed wherever its module is moved.
        pairs_per_call: Pairs evaluated by one call in training mode; all where None.
        every: One call in so many evaluates them.
        symmetric: Whether every σ″ has a symmetric range, [−h, h]. The program on −c is then the
            mirror image of that on c, κ[t, y] = κ[y, t], and one of the two is evaluated.

    Attributes:
        latest: The most recent κ of every pair, (C, C), detached; zero on the diagonal.
    """

    latest: Tensor
    position: Tensor
    _c: Tensor
    _y: Tensor
    _t: Tensor

    def __init__(
        self,
        program: Callable[[Any, Any, Tensor], Bound],
        maps: Callable[[Any], Any],
        parameters: Any,
        outputs: int,
        like: Tensor,
        pairs_per_call: int | None = 16,
        every: int = 1,
        *,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        if pairs_per_call is not None:
            check_count("pairs_per_call", pairs_per_call)
        check_count("every", every)
        self.arithmetic = Differentiable(like)
        self.every, self._phase = every, 0
        rows = units(outputs).to(self.arithmetic.dtype)
        self.classes = len(rows)
        self.pairs_per_call = pairs_per_call
        self.symmetric = symmetric
        # In a tuple, so that the network's parameters are not also this module's.
        self._source = (program, maps, parameters)
        y, t = _in_circular_order(self.classes, symmetric)
        self.register_buffer("_y", y, persistent=False)
        self.register_buffer("_t", t, persistent=False)
        self.register_buffer("_c", rows[y] - rows[t], persistent=False)
        self.register_buffer("latest", rows.new_zeros(self.classes, self.classes))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        with torch.no_grad():
            self.pairs()

    def pairs(self) -> Tensor:
        """κ for every ordered pair of classes, (C, C); zero on the diagonal."""
        self._follow()
        return self._put(torch.zeros_like(self.latest), self._evaluate(None), None)

    def forward(self, y: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        """The mean κ over pairs (y_i, t_i); over all targets, or all pairs, where left out.

        Args:
            y: Labels, shape (B,), at least one.
            t: Targets, shape (B,); κ is 0 where a target is the label.

        Raises:
            InputTypeError: Not tensors of integers.
            InputError: A class out of range, other shapes, targets without labels.
        """
        check_pairs(y, t, self.classes)
        self._follow()
        with torch.no_grad():
            shares = self._shares(y, t)
        if self._rests():
            return _constant((shares * self.latest).sum())
        if y is None:
            return self._scaled(self._evaluate(self._next(self._chosen)).mean())
        return self._scaled(self._sum(shares))

    def weighted(self, weights: Tensor) -> Tensor:
        """Σ w[y, t] κ[y, t], for weights (C, C) that are not negative, without gradient.

        With the gradient of some loss in κ as weights, it gives that loss its gradient in the
        network's parameters.

        Raises:
            InputTypeError: Not a tensor of real numbers.
            InputError: Another shape; a weight that is negative, NaN or infinite.
        """
        check_pair_weights(weights, self.classes)
        self._follow()
        weights = weights.detach().to(self.latest)
        if self._rests():
            return _constant((weights * self.latest).sum())
        return self._scaled(self._sum(weights))

    def get_extra_state(self) -> Tensor:
        """Where among ``every`` calls the next one is: saved with the buffers, never on a GPU."""
        return torch.tensor(self._phase)

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from a state that :meth:`get_extra_state` gave."""
        self._phase = int(state) % self.every

    def _rests(self) -> bool:
        """Whether this call evaluates nothing; counts it.

        Modulo ``every``: torch.compile compiles this anew for every value that the count takes.
        """
        if not self.training or self.every == 1:
            return False
        rests = self._phase != 0
        self._phase = (self._phase + 1) % self.every
        return rests

    def _scaled(self, value: Tensor) -> Tensor:
        """The same value, with the gradient of the calls that rest as well."""
        if self.every == 1 or not self.training:
            return value
        return value + (self.every - 1) * (value - value.detach())

    def _sum(self, weights: Tensor) -> Tensor:
        """Σ w[y, t] κ[y, t], of the pairs whose turn it is."""
        with torch.no_grad():
            if self.symmetric:
                weights = weights + weights.mT
            weights = weights[self._y, self._t]
            rows = None
            if self._chosen < len(weights):
                rows, weights = self._turn(weights, self._chosen)
        return torch.dot(self._evaluate(rows), weights)

    @property
    def _chosen(self) -> int:
        """How many pairs a call evaluates."""
        count = len(self._y)
        if self.pairs_per_call is None or not self.training:
            return count
        return min(self.pairs_per_call, count)

    def _shares(self, y: Tensor | None, t: Tensor | None) -> Tensor:
        """The share of each pair in the mean that is asked for, (C, C)."""
        if y is None:
            return torch.full_like(self.latest, 1.0 / (self.classes * (self.classes - 1)))
        y = y.to(self.latest.device, torch.long)
        shares = torch.zeros_like(self.latest)
        if t is None:
            share = shares.new_full((), 1.0 / (len(y) * (self.classes - 1)))
            shares.index_put_((y,), share, accumulate=True)
        else:
            share = shares.new_full((), 1.0 / len(y))
            shares.index_put_((y, t.to(y)), share, accumulate=True)
        return shares

    def _next(self, chosen: int) -> Tensor | None:
        """The rows whose turn it is when all are asked for; None for all at once."""
        if chosen == len(self._y):
            return None
        places = torch.arange(chosen, device=self.position.device)
        rows = (places + self.position) % len(self._y)
        self.position.add_(chosen)
        return rows

    def _turn(self, weights: Tensor, chosen: int) -> tuple[Tensor, Tensor]:
        """The rows whose turn it is, and what they weigh. Shapes do not depend on values."""
        asked = weights > 0
        count = asked.sum().clamp_min(1)
        place = (asked.cumsum(0) - 1 - self.position) % count
        # Behind those that are asked for come others, which weigh nothing.
        rows = torch.where(asked, place, len(weights)).argsort(stable=True)[:chosen]
        self.position.add_(chosen)
        return rows, weights[rows] * (count / chosen).clamp_min(1.0).to(weights)

    def _evaluate(self, rows: Tensor | None) -> Tensor:
        """κ of some rows, or of all; kept in ``latest``."""
        program, maps, parameters = self._source
        c = self._c if rows is None else self._c[rows]
        self.arithmetic.rows = rows
        operations = OnDemand()
        with torch.autocast(c.device.type, enabled=False):
            bound = program(operations, maps(self.arithmetic.converted(parameters)), c)
            curvature: Tensor = operations.value(self.arithmetic, bound.curvature)
        with torch.no_grad():
            self._put(self.latest, curvature.detach(), rows)
        return curvature

    def _put(self, matrix: Tensor, curvature: Tensor, rows: Tensor | None) -> Tensor:
        """Write the κ of some rows, or of all, in their places."""
        y, t = (self._y, self._t) if rows is None else (self._y[rows], self._t[rows])
        matrix.index_put_((y, t), curvature)
        return matrix.index_put_((t, y), curvature) if self.symmetric else matrix

    def _follow(self) -> None:
        """Go where the parameters have gone."""
        dtype, device = self.arithmetic.dtype, self.arithmetic.device
        if self._c.dtype != dtype or self._c.device != device:
            with torch.inference_mode(False), torch.no_grad():
                self.to(device)
                self.to(dtype)


def trainable(network: nn.Module) -> Tensor:
    """A parameter of a network: what tells its regulariser where to compute, and in what type.

    Raises:
        WeightError: There is none.
    """
    widest = max(network.parameters(), key=lambda p: p.element_size(), default=None)
    if widest is None:
        raise WeightError("the network has no parameters that training could change")
    return widest


def _constant(value: Tensor) -> Tensor:
    """The same value; a loop that goes backward from it alone may, and nothing comes of it.

    While torch.compile traces, it is without gradient: a leaf must not leave a compiled region.
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        value.requires_grad_()
    return value


def _in_circular_order(classes: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """All pairs (y, t), or those with y < t, so that neighbours have different classes.

    Steps of about the golden section of their number, prime to it, through the sorted pairs.
    """
    y, t = torch.nonzero(torch.ones(classes, classes).triu(1), as_tuple=True)
    if not symmetric:
        y, t = torch.cat([y, t]), torch.cat([t, y])
    count = len(y)
    step = round(0.618 * count)
    while math.gcd(step, count) != 1:
        step += 1
    order = torch.arange(count) * step % count
    return y[order], t[order]
