"""Many margins of each input at once, as searches see them: a forward, and one backward at most."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .pairs import Margins


class Least(NamedTuple):
    """The margins of N points, and the way down one of them.

    Args:
        values: f of all targets, (N, K).
        column: Which of them, (N,).
        gradient: Its gradient, (N, D); zero where it is not a number.
    """

    values: Tensor
    column: Tensor
    gradient: Tensor


def values(margins: Margins, x: Tensor, label: Tensor, targets: Tensor) -> Tensor:
    """f (N, K) at flat points x (N, D), in the dtype of x; infinite where it is not a number."""
    found = margins.values(margins.logits(x), label, targets).to(x.dtype)
    return torch.nan_to_num(found, nan=torch.inf)


def least(
    margins: Margins, x: Tensor, label: Tensor, targets: Tensor, aim: Tensor | None = None
) -> Least:
    """f (N, K) at flat points x (N, D), with the gradient of the least, or of the column ``aim``.

    Only derivatives with respect to x are taken.
    """
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        shaped = leaf.reshape(len(x), *margins.network.input_shape).to(margins.where.dtype)
        found = margins.values(margins.network(shaped), label, targets)
        column = found.argmin(1) if aim is None else aim
        gradient = None
        if found.requires_grad:  # a network may be constant in x
            chosen = found.gather(1, column[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, leaf, allow_unused=True)
    gradient = torch.zeros_like(leaf) if gradient is None else gradient
    seen = torch.nan_to_num(found.detach().to(x.dtype), nan=torch.inf)
    return Least(seen, column, torch.nan_to_num(gradient.detach()))
