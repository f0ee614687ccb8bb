"""The curvature bound as a term of a training loss, over live parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .arithmetic import Bound
from .differentiable import Differentiable


class Regularizer(nn.Module):
    """K(W, y, t) of the certificate's own bound program, differentiable in the weights.

    ``reg(y, t)`` is the mean over a batch of κ with ∇²(z_y − z_t) ≽ −κI, ``reg()`` the mean over
    all pairs of classes, and :meth:`pairs` the whole matrix. Spectral norms follow by one
    warm-started power step a call; their vectors are buffers, saved with ``state_dict``.

    Args:
        program: The bound program: (arithmetic, parameters, c) to :class:`Bound`.
        parameters: Anything with the parameters as attributes; read anew at every call.
        classes: C.
        like: A parameter; its type and device are followed wherever its module is moved.
    """

    _c: Tensor

    def __init__(
        self,
        program: Callable[[Any, Any, Tensor], Bound],
        parameters: Any,
        classes: int,
        like: Tensor,
    ) -> None:
        super().__init__()
        self.arithmetic = Differentiable(like)
        self.classes = classes
        identity = torch.eye(classes, dtype=like.dtype, device=like.device)
        self._y, self._t = torch.nonzero(1.0 - identity, as_tuple=True)
        self.register_buffer("_c", identity[self._y] - identity[self._t], persistent=False)
        # In a tuple, so that the network's parameters are not also this module's.
        self._source = (program, parameters)
        with torch.no_grad():
            self.pairs()

    def pairs(self) -> Tensor:
        """κ for every ordered pair of classes, (C, C); zero on the diagonal."""
        program, parameters = self._source
        c = self._c.to(self.arithmetic.device, self.arithmetic.dtype)
        rows = program(self.arithmetic, parameters, c).curvature
        matrix = rows.new_zeros(self.classes, self.classes)
        return matrix.index_put((self._y.to(rows.device), self._t.to(rows.device)), rows)

    def forward(self, y: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        """The mean κ over pairs (y_i, t_i); over all targets, or all pairs, where left out."""
        matrix = self.pairs()
        if y is None:
            return matrix.sum() / (self.classes * (self.classes - 1))
        if t is None:
            return matrix[y].sum(1).mean() / (self.classes - 1)
        return matrix[y, t].mean()
