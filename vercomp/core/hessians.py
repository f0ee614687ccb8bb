"""The questions that exact Hessians answer, checked and put into one type and place."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import InputError
from .inputs import check_directions, check_inputs, check_labels
from .network import VerifiedNetwork
from .specifications import units


def margins_at(
    network: VerifiedNetwork, x: Tensor, y: Tensor | None, t: Tensor | None
) -> tuple[VerifiedNetwork, Tensor, Tensor]:
    """The question for ∇²(z_y − z_t) at inputs x (B, *input_shape), checked.

    One output z needs no labels: they are then 1 and 0, and the margin is z.

    Returns:
        A network, its flat inputs (B, D) and its coefficients e_y − e_t (B, C), all in one type and
        on one device: the network itself if x is in its type, or else its copy in float64, where
        nothing of either is rounded and no gradient reaches the weights.

    Raises:
        InputTypeError: Inputs that are not float32 or float64, labels or targets that are not
            integers.
        InputError: A wrong shape, NaN or infinity, a class out of range.
    """
    if network.outputs == 1 and isinstance(x, Tensor) and x.ndim > 0:
        ones = torch.ones(len(x), dtype=torch.long)
        y, t = ones if y is None else y, 0 * ones if t is None else t
    if y is None or t is None:
        raise InputError(
            f"the network has {network.outputs} outputs, and a Hessian is that of z_y − z_t",
            remedy="Pass labels y and targets t",
        )
    check_inputs(network, x, y)
    check_labels("targets", t, network.classes, len(x))
    own = x.dtype == network.dtype
    used = network if own else network.in_double()[0]
    flat = x.flatten(1).to(used.device, x.dtype if own else torch.float64)
    compared = units(used.scores).to(flat)
    y, t = (labels.to(flat.device, torch.long) for labels in (y, t))
    return used, flat, compared[y] - compared[t]


def margins_along(
    network: VerifiedNetwork, x: Tensor, y: Tensor | None, t: Tensor | None, v: Tensor
) -> tuple[VerifiedNetwork, Tensor, Tensor, Tensor]:
    """The question for ∇²(z_y − z_t) v, checked: :func:`margins_at` and flat directions (B, D).

    Inputs in float32 count as float64 where the directions are.

    Raises:
        InputTypeError: As there; directions that are not float32 or float64.
        InputError: As there; directions of another shape than x, NaN or infinity in them.
    """
    used, flat, c = margins_at(network, x, y, t)
    check_directions(x, v)
    if v.dtype == torch.float64 != x.dtype:
        used, flat, c = margins_at(network, x.double(), y, t)
    return used, flat, c, v.flatten(1).to(flat)
