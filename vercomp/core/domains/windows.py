"""Coefficients that are zero but in a window: what an entry behind a few convolutions reads.

An entry of an image at (y, x) depends on a rectangle of every image before it, whose place moves
with (y, x) and whose size does not. Coefficients of such entries are kept for the rectangle alone.
A window may stick out of its image; coefficients there are zero, or are made so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph import Affine, AnyNode, Graph, Shape
from ..maps.convolution import Convolution
from ..maps.monomials import Monomial
from ..maps.operators import Operator, Product

IMAGE = 3
"""The axes of an image: channels, height, width."""

_SPATIAL = 2


class Window(NamedTuple):
    """Coefficients (Q, K, C, h, w) of K rows for each of Q places.

    Args:
        values: The coefficients in the window.
        top: The row of the image at which the window begins, (Q,); it may be negative.
        left: The same for columns.
    """

    values: Tensor
    top: Tensor
    left: Tensor

    @property
    def flat(self) -> Tensor:
        """The coefficients as rows (Q, K, C h w)."""
        return self.values.flatten(2)

    @property
    def size(self) -> tuple[int, int]:
        """(h, w)."""
        return self.values.shape[-2], self.values.shape[-1]

    def with_flat(self, values: Tensor) -> Window:
        """Other coefficients in the same window."""
        return self._replace(values=values.reshape(self.values.shape))

    def cut(self, images: Tensor, owner: Tensor, shape: Shape) -> Tensor:
        """The window's part of images (B, n), zero outside, (Q, C h w), of the place's owner."""
        height, width = self.values.shape[-2:]
        padded = F.pad(images.reshape(-1, *shape), (width, width, height, height))
        rows, columns = self._places(shape)
        rows = (rows + height).clamp(0, padded.shape[-2] - 1)
        columns = (columns + width).clamp(0, padded.shape[-1] - 1)
        channels = torch.arange(shape[0])[:, None, None]
        which = owner if len(images) > 1 else torch.zeros_like(owner)
        cut = padded[
            which[:, None, None, None], channels, rows[:, None, :, None], columns[:, None, None, :]
        ]
        return cut.flatten(1)

    def full(self, shape: Shape) -> Tensor:
        """The coefficients of whole images, (Q, K, n)."""
        count, rows, channels = self.values.shape[:3]
        y, x = self._places(shape)
        inside_y, inside_x = ((z >= 0) & (z < n) for z, n in zip((y, x), shape[1:], strict=True))
        inside = (inside_y[:, :, None] & inside_x[:, None, :])[:, None, None]
        places = y.clamp(0, shape[1] - 1)[:, :, None] * shape[2]
        places = (places + x.clamp(0, shape[2] - 1)[:, None, :]).reshape(count, 1, 1, -1)
        values = torch.where(inside, self.values, 0.0).flatten(-2)
        images = values.new_zeros(count, rows, channels, shape[1] * shape[2])
        return images.scatter_add_(-1, places.expand_as(values), values).flatten(2)

    def inside(self, shape: Shape) -> Window:
        """The same with zeros outside of the image."""
        y, x = self._places(shape)
        if bool(
            (y >= 0).all() and (y < shape[1]).all() and (x >= 0).all() and (x < shape[2]).all()
        ):
            return self
        good = ((y >= 0) & (y < shape[1]))[:, :, None] & ((x >= 0) & (x < shape[2]))[:, None, :]
        return self._replace(values=torch.where(good[:, None, None], self.values, 0.0))

    def adjoint(self, factor: Convolution) -> Window:
        """Aᵀ c for a convolution of images."""
        values = F.conv_transpose2d(
            self.values.flatten(0, 1),
            factor.kernel.to(self.values),
            None,
            factor.stride,
            0,
            0,
            factor.groups,
            factor.dilation,
        )
        (step_y, step_x), ((top, _), (left, _)) = factor.stride, factor.pads
        found = Window(
            values.reshape(*self.values.shape[:2], *values.shape[1:]),
            self.top * step_y - top,
            self.left * step_x - left,
        )
        return found.inside(factor.of)

    def plus(self, other: Window) -> Window | None:
        """The sum, in a window around both; None where they move differently."""
        above, beside = other.top - self.top, other.left - self.left
        if not bool((above == above[0]).all() and (beside == beside[0]).all()):
            return None
        dy, dx = int(above[0]), int(beside[0])
        h, w = self.values.shape[-2:]
        other_h, other_w = other.values.shape[-2:]
        up, left = max(0, -dy), max(0, -dx)
        height, width = max(h, dy + other_h) + up, max(w, dx + other_w) + left
        first = F.pad(self.values, (left, width - left - w, up, height - up - h))
        second = F.pad(
            other.values,
            (left + dx, width - left - dx - other_w, up + dy, height - up - dy - other_h),
        )
        return Window(first + second, self.top - up, self.left - left)

    def _places(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """The rows (Q, h) and columns (Q, w) of the image that the window covers."""
        height, width = self.values.shape[-2:]
        rows = self.top[:, None] + torch.arange(height)
        return rows, self.left[:, None] + torch.arange(width)


def factors(operator: Operator) -> tuple[Convolution, ...] | None:
    """The convolutions of images that an operator consists of, the last one first.

    None where it is anything else; nothing for a skip connection.
    """
    parts = operator.factors if isinstance(operator, Product) else (operator,)
    found = []
    for part in parts:
        if isinstance(part, Monomial) and part.is_identity:
            continue
        if not isinstance(part, Convolution) or part.dimensions != _SPATIAL:
            return None
        found.append(part)
    return tuple(found)


def most_coefficients(graph: Graph, node: Affine) -> int:
    """How many coefficients one entry of a node has, at most, at a node on the way back."""
    sizes: dict[str, tuple[int, int] | None] = {node.name: (1, 1)}
    most = 1
    for each in reversed(graph.nodes):
        if each.name not in sizes:
            continue
        here = fitting(sizes[each.name], each.shape)
        channels = each.shape[0] if here else math.prod(each.shape)
        most = max(most, channels * math.prod(here or ()))
        for parent, size in _sent(each, here):
            before = sizes.get(parent, (0, 0))
            both = size is not None and before is not None
            sizes[parent] = tuple(map(max, size, before)) if both else None  # type: ignore[assignment, arg-type]
    return most


def fitting(size: tuple[int, int] | None, shape: Shape) -> tuple[int, int] | None:
    """The size of a window if it is smaller than the image."""
    if size is None or len(shape) != IMAGE or math.prod(size) >= math.prod(shape[1:]):
        return None
    return size


def _sent(
    node: AnyNode, size: tuple[int, int] | None
) -> Iterator[tuple[str, tuple[int, int] | None]]:
    """The sizes of the windows of a node's parents."""
    terms = node.terms if isinstance(node, Affine) else ()
    for term in terms:
        parts, found = factors(term.map), size
        if parts is None or found is None:
            yield term.parent, None
            continue
        for part in parts:
            (h, w), (y, x) = found, part.stride
            found = (h - 1) * y + part.reach[0], (w - 1) * x + part.reach[1]
        yield term.parent, found
    if not terms:
        yield from ((parent, size) for parent in node.parents)
