"""How regions are made, and what is refused: shapes, NaN, empty regions, by the row."""

from __future__ import annotations

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
        box: (lo, hi), numbers or tensors that broadcast to x; infinite ends are open.
        slab: (u, a, b): directions that broadcast to x, of any length but zero, and numbers or (B,)
            with a ≤ u·(x′ − x) ≤ b; infinite a or b are open.
        scales: s ≥ 0, broadcasting to x: with r = 1, a radius for each feature. A feature of scale
            zero is frozen. None stands for ones.

    Raises:
        InputTypeError: x is not a tensor of floating-point numbers.
        InputError: A wrong shape, NaN, a negative radius, lo > hi, a > b, or an empty region.
    """
    center, shape = _inputs("centers", x)
    limits = None if box is None else _limits(box, x)
    cut = None
    if slab is not None:
        direction = _like("direction of the slab", slab[0], x)
        low, high = (rows_of("ends of the slab", end, center) for end in slab[1:])
        cut = Slab(direction, low, high)
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


def _like(name: str, value: float | Tensor, x: Tensor) -> Tensor:
    """A number or a tensor that broadcasts to the inputs, as (B, D) in float64."""
    tensor = torch.as_tensor(value, dtype=torch.float64, device=x.device).detach()
    try:
        wide = tensor.broadcast_to(x.shape)
    except RuntimeError as error:
        raise InputError(
            f"{name} must broadcast to {tuple(x.shape)}, got {tuple(tensor.shape)}"
        ) from error
    return wide.flatten(1).clone()


def _limits(box: Limits, x: Tensor) -> tuple[Tensor, Tensor]:
    return _like("lower end of the box", box[0], x), _like("upper end of the box", box[1], x)
