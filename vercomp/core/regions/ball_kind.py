"""The interface of a kind of ball, and the register of kinds: each kind is one file.

A kind of ball knows the *unit coordinates* y only: x = x₀ + s ⊙ y, where the scales s are 1 unless
the user gives a radius for each feature. Its norm must depend on the absolute values |yᵢ| alone and
grow with each of them, as every (weighted) lp norm does.

Soundness rests on two methods, ``norm`` and ``dual_norm``, and on ``extents`` and ``reach``. The
others steer the search for a good bound or make points, and every bound and point is proved after.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from ..arithmetic.outward import times_up
from ..errors import InputError, InputTypeError
from .rounding import norm2_up


class BallKind(ABC):
    """The balls ‖y‖ ≤ r of one norm. Tensors are in float64, (..., D); radii and results (...).

    Attributes:
        name: The name by which :func:`register_ball` registers the kind.
        aliases: Other names, in small letters.
        is_box: Whether the ball is the box of its extents; then no multiplier is searched.
        smooth: Whether ``shrink`` is continuous in the multiplier; then fewer steps find it.
        symmetric: Whether the norm depends neither on the order of the coordinates nor on further
            coordinates that are zero; then rows of equal weights have equal dual norms.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    is_box: ClassVar[bool] = False
    smooth: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False

    @abstractmethod
    def norm(self, y: Tensor) -> Tensor:
        """Upper bound of ‖y‖, at most the factor 1 + 4(D + 8)u above it."""

    @abstractmethod
    def dual_norm(self, g: Tensor) -> Tensor:
        """Upper bound of ‖g‖_* = max g·y over ‖y‖ ≤ 1."""

    @abstractmethod
    def shrink(
        self, g: Tensor, rho: Tensor, multiplier: Tensor, lower: Tensor, upper: Tensor
    ) -> Tensor:
        """A minimiser y of g·y + ½ Σ ρᵢ yᵢ² + μ φ(y) over the box lower ≤ y ≤ upper.

        φ is a convex function of ‖y‖ that the kind chooses, so that ‖y‖ falls as μ grows.

        Args:
            g: The linear function, (N, D).
            rho: ρ ≥ 0, (N, D) or broadcast to it; zero for linear functions.
            multiplier: μ ≥ 0, (N,).
            lower: The lower end of the box, (N, D).
            upper: Its upper end, (N, D).
        """

    @abstractmethod
    def share(self, g: Tensor, y: Tensor, multiplier: Tensor) -> Tensor:
        """The part of g that the ball's constraint balances: minus μ times a subgradient of φ at y.

        ``y`` is what ``shrink`` returned for g, ρ = 0 and μ. The rest of g is left to the box.
        """

    @abstractmethod
    def multiplier_scale(self, g: Tensor, radius: Tensor) -> Tensor:
        """A μ ≥ 0 for which ``shrink`` lies in the ball if zero lies in the box."""

    @abstractmethod
    def draw(self, count: int, size: int, generator: torch.Generator | None) -> Tensor:
        """Random points of the unit ball, up to rounding; (count, size)."""

    def extents(self, size: int) -> Tensor:
        """Upper bounds of |yᵢ| over the unit ball, (size,)."""
        return torch.ones(size, dtype=torch.float64)

    def reach(self, scales: Tensor) -> Tensor:
        """Upper bound of ‖s ⊙ y‖₂ over the unit ball, for scales s ≥ 0."""
        return norm2_up(times_up(scales, self.extents(scales.shape[-1]).to(scales)))

    def multiplier(
        self, g: Tensor, radius: Tensor, lower: Tensor, upper: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Multipliers μ just left and right of the best for g·y on ball ∩ box; None: search them.

        It is asked where the box's minimiser lies outside the ball.
        """
        return None

    def steepest(self, g: Tensor, share: float) -> Tensor:
        """Directions of unit norm along which g·y falls fast, in the dtype of g; 0 where g is.

        Args:
            g: Gradients, (N, D).
            share: The share of the coordinates that move at most, where the norm's own steepest
                direction, max −g·y over ‖y‖ ≤ 1, would move very few.
        """
        size = self.norm(g.double()).to(g)[:, None]
        return torch.where(size > 0.0, -g / size, 0.0)

    def nearest(self, y: Tensor, radius: Tensor) -> Tensor | None:
        """The points of the ball nearest to y (N, D) in the 2-norm, in its dtype, up to rounding.

        None where there is no closed form.
        """
        return None

    def cuts(
        self, sign: float, radius: Tensor, direction: Tensor, low: Tensor, high: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Multipliers νᵢ to try for the least ±yᵢ on low ≤ u·y ≤ high and the ball, for every i.

        With each come upper bounds of ‖±eᵢ − νᵢu‖_*; both are (N, D). None by default: then the
        box of the extents and the slab say all.

        Args:
            sign: 1 or −1.
            radius: r, (N,).
            direction: u, (N, D), whose largest entry is in [1, 2).
            low: (N,).
            high: (N,).
        """
        return iter(())

    def slab_multiplier(
        self, g: Tensor, radius: Tensor, direction: Tensor, low: Tensor, high: Tensor
    ) -> Tensor | None:
        """The best multiplier ν of low ≤ u·y ≤ high on the ball; None if it has no closed form."""
        return None


def downhill(g: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """|yᵢ| of the box's point nearest to zero, and of the corner where g·y is least.

    As the multiplier falls, each coordinate moves from the first to the second.
    """
    near = torch.clamp(torch.zeros_like(g), lower, upper)
    far = torch.where(g < 0.0, upper, torch.where(g > 0.0, lower, near))
    return near.abs(), far.abs()


_kinds: dict[str, BallKind] = {}


def register_ball(kind: BallKind) -> None:
    """Make a kind of ball known by its name and aliases.

    Raises:
        InputError: Another kind has one of the names.
    """
    names = (kind.name, *kind.aliases)
    for name in names:
        if name in _kinds and type(_kinds[name]) is not type(kind):
            raise InputError(f"a ball named {name!r} is registered already")
    _kinds.update(dict.fromkeys(names, kind))


def ball_kind(p: str | float) -> BallKind:
    """The registered kind of ball of a name or an exponent: "l2", 2, "inf", math.inf, …

    Raises:
        InputTypeError: Neither a name nor a number.
        InputError: No such kind is registered.
    """
    if not isinstance(p, str | int | float):
        raise InputTypeError(f"a norm must be a name or a number, got {p!r}")
    name = p.strip().lower() if isinstance(p, str) else f"{p:g}"
    if name not in _kinds:
        known = ", ".join(sorted({kind.name for kind in _kinds.values()}))
        raise InputError(f"no ball is named {p!r}; known are {known}")
    return _kinds[name]
