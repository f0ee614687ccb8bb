"""Random regions of every kind, and what is true of them in exact and in high precision."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor
from weighted_l2 import weights

from vercomp.core.regions import Ball, Region

KINDS = ("l1", "l2", "linf", "weighted-l2")
PARTS = ("ball", "box", "slab", "box+slab")
DIMENSIONS = (1, 2, 6)


class Case(NamedTuple):
    kind: str
    parts: str
    size: int
    radius: float = 0.7
    scaled: bool = False
    outside: bool = False
    seed: int = 0

    def __str__(self) -> str:
        words = [self.kind, self.parts, str(self.size), f"r={self.radius:g}", f"#{self.seed}"]
        words += ["scaled"] * self.scaled + ["outside"] * self.outside
        return " ".join(words)


CASES = [Case(*key) for key in itertools.product(KINDS, PARTS, DIMENSIONS)]
CASES += [Case(k, parts, 5, scaled=True, seed=1) for k in KINDS for parts in PARTS]
CASES += [Case(k, parts, 4, outside=True, seed=3) for k in KINDS for parts in ("box", "box+slab")]
CASES += [
    Case(k, parts, 3, radius=r)
    for k in KINDS
    for parts in PARTS
    for r in (0.0, 1e-300, 1e-9, 1e200)
]
# The fourth kind has no multiplier in closed form, so each of its cases takes long.
CASES = [case for case in CASES if case.kind != "weighted-l2" or case.size != 6]
CASES = [case for case in CASES if case.kind != "weighted-l2" or case.radius in (0.7, 1e-300)]
LARGE = [Case(k, parts, 784, seed=7) for k in KINDS for parts in PARTS]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def region(case: Case, rows: int = 3) -> Region:
    """Regions that hold a common point by construction, whatever else they are."""
    generator = torch.Generator().manual_seed(1000 * case.seed + case.size)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    plain = case.radius == 0.7
    center = normal(rows, case.size) if plain else torch.zeros(rows, case.size).double()
    scales = None
    if case.scaled:
        scales = normal(rows, case.size).abs() + 0.1
        scales[:, 0] = 0.0  # frozen
        scales[1, 1] = 1e-3
    width = case.radius * (torch.ones_like(center) if scales is None else scales)
    offset = (
        0.8
        * width
        * normal(rows, case.size).sign()
        * torch.rand(rows, case.size, dtype=torch.float64, generator=generator)
    )
    norm = Ball(center, 1.0, case.kind).kind.norm(offset / torch.where(width == 0, 1.0, width))
    offset = 0.8 * offset / norm.clamp_min(1.0)[:, None]
    box = slab = None
    if "box" in case.parts:
        lower, upper = (offset + sign * width * 0.3 * normal(rows, case.size).abs()
                        for sign in (-1.0, 1.0))  # fmt: skip
        lower[0], upper[1, -1] = -torch.inf, offset[1, -1]  # open, and a face through the point
        if case.size > 2:
            lower[2, 1] = upper[2, 1] = offset[2, 1]  # degenerate
        if case.outside:
            lower[:, 0] = 0.5 * offset[:, 0].abs()
            offset[:, 0] = offset[:, 0].abs()
            upper[:, 0] = torch.maximum(upper[:, 0], offset[:, 0])
        box = center + lower, center + upper
    if "slab" in case.parts:
        direction = normal(rows, case.size) * torch.tensor([[1e-3], [1.0], [1e3]])
        position = (direction * offset).sum(1)
        half = 0.1 * case.radius * (direction if scales is None else direction * scales).norm(dim=1)
        low, high = position - half, position + half
        low[0], high[1] = -torch.inf, torch.inf
        slab = direction, low, high
    return Ball(center, case.radius, case.kind, box=box, slab=slab, scales=scales)


def functions(case: Case, count: int = 4, rows: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(case.seed + 99)
    g = torch.randn(rows, count, case.size, dtype=torch.float64, generator=generator)
    g[:, 1] *= 1e-30
    g[:, 2] = g[:, 2].round()
    g[:, -1] = 0.0
    return g


def fractions(values: Tensor) -> list[Fraction]:
    return [Fraction(value) for value in values.tolist()]


def offset(region: Region, row: int, point: Tensor) -> list[Fraction]:
    """x − x₀, exactly."""
    pairs = zip(fractions(point), fractions(region.center[row]), strict=True)
    return [a - b for a, b in pairs]


def truly_inside(region: Region, row: int, point: Tensor) -> bool:
    """Membership in rational arithmetic."""
    v = offset(region, row, point)
    scales = [Fraction(1)] * len(v) if region.scales is None else fractions(region.scales[row])
    if any(s == 0 and a != 0 for a, s in zip(v, scales, strict=True)):
        return False
    y = [abs(a) / s if s else Fraction(0) for a, s in zip(v, scales, strict=True)]
    r = Fraction(float(region.radius[row]))
    if region.kind.name == "weighted-l2":
        y = [a * w for a, w in zip(y, fractions(weights(len(y))), strict=True)]
    if region.kind.name == "l1":
        inside = sum(y) <= r
    elif region.kind.name == "linf":
        inside = max(y) <= r
    else:
        inside = sum(a * a for a in y) <= r * r
    if region.box is not None:
        low, high = (end[row] for end in region.box)
        inside &= bool(((low <= point) & (point <= high)).all())
    if region.slab is not None:
        direction, low, high = (part[row] for part in region.slab)
        t = sum(a * b for a, b in zip(fractions(direction), v, strict=True))
        inside &= float(low) == -np.inf or Fraction(float(low)) <= t
        inside &= float(high) == np.inf or t <= Fraction(float(high))
    return inside


def value(region: Region, row: int, g: Tensor, point: Tensor) -> Fraction:
    """g·(x − x₀), exactly."""
    pairs = zip(fractions(g), offset(region, row, point), strict=True)
    return sum((a * b for a, b in pairs), Fraction(0))


def minimum(region: Region, row: int, g: Tensor) -> float:
    """The minimum by scipy: a linear program where the ball is a polytope, else SLSQP."""
    size = len(g)
    scales = np.ones(size) if region.scales is None else region.scales[row].numpy()
    r, bounds = float(region.radius[row]), np.full((size, 2), [-np.inf, np.inf])
    center = region.center[row].numpy()
    if region.box is not None:
        bounds = np.stack([end[row].numpy() - center for end in region.box], 1)
    active = scales > 0  # in y = v / s, without the frozen features
    bounds = bounds[active] / scales[active, None]
    c = g.numpy()[active] * scales[active]
    faces: list[tuple[Any, float]] = []
    if region.slab is not None:
        u = region.slab.direction[row].numpy()[active] * scales[active]
        low, high = float(region.slab.low[row]), float(region.slab.high[row])
        length = np.abs(u).max()
        faces += [(u / length, high / length)] * bool(np.isfinite(high))
        faces += [(-u / length, -low / length)] * bool(np.isfinite(low))
    if region.kind.name in ("l1", "linf"):
        return _linear_program(region.kind.name, c, r, bounds, faces)
    w = weights(size).numpy()[active] if region.kind.name == "weighted-l2" else np.ones(len(c))
    return _slsqp(c, w, r, bounds, faces)


def _linear_program(kind: str, c: Any, r: float, bounds: Any, faces: Any) -> float:
    """min c·y with y = p − q where the ball is that of the l1 norm, p, q ≥ 0."""
    if kind == "linf":
        ends = np.stack([np.maximum(bounds[:, 0], -r), np.minimum(bounds[:, 1], r)], 1)
        A, b = [a for a, _ in faces], [b for _, b in faces]
        found = optimize.linprog(c, A or None, b or None, bounds=ends)
        return float(found.fun)
    n = len(c)
    A = [np.ones(2 * n)] + [np.concatenate([a, -a]) for a, _ in faces]
    b = [r] + [b for _, b in faces]
    for i in range(n):
        row = np.zeros(2 * n)
        row[i], row[n + i] = 1.0, -1.0
        if np.isfinite(bounds[i, 1]):
            A, b = [*A, row], [*b, bounds[i, 1]]
        if np.isfinite(bounds[i, 0]):
            A, b = [*A, -row], [*b, -bounds[i, 0]]
    found = optimize.linprog(np.concatenate([c, -c]), A, b, bounds=(0, None))
    return float(found.fun)


def _slsqp(c: Any, w: Any, r: float, bounds: Any, faces: Any) -> float:
    size = np.abs(c).max()
    if size == 0.0:
        return 0.0
    constraints = [{"type": "ineq", "fun": lambda y: r * r - ((w * y) ** 2).sum(),
                    "jac": lambda y: -2 * w * w * y}]  # fmt: skip
    constraints += [
        {"type": "ineq", "fun": lambda y, a=a, b=b: b - a @ y, "jac": lambda y, a=a: -a}
        for a, b in faces
    ]
    best = np.inf
    for seed in range(6):
        start = np.clip(np.random.default_rng(seed).normal(size=len(c)) * r / 3, *bounds.T)
        found = optimize.minimize(
            lambda y: c @ y / size, start, jac=lambda y: c / size, bounds=bounds,
            constraints=constraints, method="SLSQP", options={"ftol": 1e-14, "maxiter": 500},
        )  # fmt: skip
        feasible = all(k["fun"](found.x) >= -1e-9 for k in constraints)
        best = min(best, float(found.fun) * size if feasible else np.inf)
    return best
