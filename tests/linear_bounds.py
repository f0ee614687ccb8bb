"""Attacks on bounds of rows C z over regions, and the regions that tests of linear bounds share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import vercomp
from vercomp.core.regions.region import Region

KINDS = ("l1", "l2", "linf", "box", "l2 cut", "linf slab", "l2 slab and box")


def region_of(kind: str, center: Tensor, radius: float, seed: int = 0) -> Region:
    """A region around points (B, *shape): a ball, a box, or a ball cut by a box and a slab."""
    generator = torch.Generator().manual_seed(seed)
    center = center.double()
    if kind == "box":
        width = radius * torch.rand(center.shape, generator=generator, dtype=torch.float64)
        return vercomp.Box(center - width, center + 0.5 * width)
    norm, _, parts = kind.partition(" ")
    box = slab = None
    if "cut" in parts or "box" in parts:
        box = (center - 0.3 * radius, center + 0.2 * radius)
    if "slab" in parts:
        direction = torch.randn(center.shape, generator=generator, dtype=torch.float64)
        half = 0.1 * radius * direction.flatten(1).norm(dim=1)
        slab = (direction, -half, 2.0 * half)
    return vercomp.Ball(center, radius, norm, box=box, slab=slab)


def least_values(
    function: Callable[[Tensor], Tensor], region: Region, rows: Tensor, *, samples: int = 64
) -> Tensor:
    """The smallest values (B, R) of C z that samples and conditional gradient steps find.

    Args:
        function: z at a batch of points, in float64.
        region: The inputs.
        rows: C, (B, R, n).
    """
    batch, count = rows.shape[:2]
    generator = torch.Generator().manual_seed(1)
    drawn = region.sample(samples, generator)

    def values(points: Tensor) -> Tensor:
        z = function(points.flatten(0, 1)).reshape(batch, points.shape[1], -1)
        return torch.einsum("bro,bpo->brp", rows, z)

    found = values(drawn)
    best, where = found.min(-1)
    index = where.reshape(batch, count, *(1,) * len(region.shape)).expand(-1, -1, *region.shape)
    point = drawn.gather(1, index)
    for step in range(12):
        leaf = point.detach().requires_grad_()
        z = function(leaf.flatten(0, 1)).reshape(batch, count, -1)
        (gradient,) = torch.autograd.grad((rows * z).sum(), leaf)
        corner = region.argmin(gradient)
        point = region.project(point + (corner - point) / (1.0 + 0.5 * step))
        z = function(point.flatten(0, 1)).reshape(batch, count, -1)
        best = torch.minimum(best, (rows * z).sum(-1))
    return best.detach()


def margins(labels: Tensor, classes: int) -> Tensor:
    """The rows e_y − e_t of all t ≠ y, (B, C − 1, C)."""
    return vercomp.Specification.margins(labels, classes).coefficients
