"""Constructors of regions, for users: they check everything that they are given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError, InputTypeError
from .ball_kind import ball_kind
from .checks import checked, radius_of, refuse, rows_of
from .geometry import Slab
from .region import Region

Limits = tuple[float | Tensor, float | Tensor]


def Ball(  # noqa: N802
    x: Tensor,
    radius: float | Tensor,
    p: str | float = "l2",
    *,
    box: Limits | None = None,
    slab: tuple[Tensor, float | Tensor, float | Tensor] | None = None,
    scales: Tensor | None = None,
) -> Region:
    """The balls ‖(x′ − x) ⊘ s‖_p ≤ r around a batch of inputs, cut by a box and a slab.

    Args:
        x: The centers, (B, *shape). A center may lie outside the box.
        radius: r ≥ 0, a number or (B,).
        p: The norm: "l1", "l2", "linf", 1, 2, "inf", math.inf, or the name of a registered kind.
        box: (lo, hi), numbers or tensors that broadcast to x; infinite ends are open. The box is
            widened to hold centers that lie inside as their own type sees it: a float32 center may
            be clipped to an end that float32 rounds.
        slab: (u, a, b): directions that broadcast to x, of any length but zero, and numbers or (B,)
            with a ≤ u·(x′ − x) ≤ b; infinite a or b are open.
        scales: s ≥ 0, broadcasting to x: with r = 1, a radius for each feature. A feature of scale
            zero is frozen. None stands for ones.

    Raises:
        InputTypeError: x is not a tensor of floating-point numbers, or another argument is not what
            it should be.
        InputError: A wrong shape, NaN, a negative radius, lo > hi, a > b, or an empty region.
    """
    center, shape = _inputs("centers", x)
    limits = None if box is None else _limits(box, x)
    cut = None
    if slab is not None:
        direction, *ends = _parts("slab", "(u, a, b)", slab, 3)
        low, high = (rows_of("ends of the slab", end, center) for end in ends)
        cut = Slab(_like("direction of the slab", direction, x), low, high)
    weights = None if scales is None else _like("scales", scales, x)
    size = radius_of(radius, center)
    return checked(Region(ball_kind(p), shape, center, size, limits, cut, weights))


def Box(lo: Tensor, hi: Tensor) -> Region:  # noqa: N802
    """The boxes lo ≤ x ≤ hi, (B, *shape) each. The point x₀ of ``minimum`` is the middle.

    Raises:
        InputTypeError: lo or hi is not a tensor of floating-point numbers.
        InputError: A wrong shape, NaN or infinity, or lo > hi.
    """
    lower, shape = _inputs("lower ends", lo)
    upper, other = _inputs("upper ends", hi)
    if shape != other or len(lower) != len(upper):
        raise InputError(f"lo and hi must have one shape, got {tuple(lo.shape)}, {tuple(hi.shape)}")
    middle = torch.clamp(0.5 * lower + 0.5 * upper, lower, upper)
    unlimited = torch.full_like(lower[:, 0], torch.inf)
    return checked(Region(ball_kind("linf"), shape, middle, unlimited, (lower, upper)))


def _inputs(name: str, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Inputs (B, *shape) as (B, D) in float64, and their shape."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise InputTypeError(f"{name} must be a tensor of floating-point numbers, got {kind}")
    shape = tuple(x.shape[1:])
    if x.ndim < 2 or shape.count(0):
        raise InputError(f"{name} must have the shape (batch, …), got {tuple(x.shape)}")
    flat = x.detach().double().flatten(1)
    refuse(~flat.isfinite().all(1), name, "must be finite")
    return flat, shape


def _parts(name: str, form: str, value: object, count: int) -> Sequence[float | Tensor]:
    """The parts of an argument that is a tuple of numbers and tensors.

    Raises:
        InputTypeError: It is none, or has another number of parts.
    """
    if not isinstance(value, tuple | list) or len(value) != count:
        raise InputTypeError(
            f"{name} must be {form}, got {type(value).__name__}"
            + (f" of {len(value)}" if isinstance(value, tuple | list) else ""),
            remedy=f"Pass {name}={form}, numbers or tensors",
        )
    return value


def _like(name: str, value: float | Tensor, x: Tensor) -> Tensor:
    """A number or a tensor that broadcasts to the inputs, as (B, D) in float64.

    Raises:
        InputTypeError: Neither a number nor a tensor.
        InputError: It does not broadcast.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        raise InputTypeError(f"{name} must be a number or a tensor, got {type(value).__name__}")
    tensor = torch.as_tensor(value, dtype=torch.float64, device=x.device).detach()
    try:
        wide = tensor.broadcast_to(x.shape)
    except RuntimeError as error:
        raise InputError(
            f"{name} must broadcast to {tuple(x.shape)}, got {tuple(tensor.shape)}"
        ) from error
    return wide.flatten(1).clone()


def _limits(box: Limits, x: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of a box, moved to where centers lie that are inside as their own type sees it."""
    lo, hi = _parts("box", "(lo, hi)", box, 2)
    low, high = _like("lower end of the box", lo, x), _like("upper end of the box", hi, x)
    own = x.detach().flatten(1)
    center = own.double()
    return (
        torch.where(own >= low.to(own.dtype), torch.minimum(low, center), low),
        torch.where(own <= high.to(own.dtype), torch.maximum(high, center), high),
    )
