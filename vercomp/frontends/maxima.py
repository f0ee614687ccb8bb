"""Maxima as affine maps and ReLU: max(a, b) = b + max(a − b, 0), and min(a, b) = b − max(b − a, 0).

A maximum over a window is a balanced tree of pairwise ones: the maximum over k entries is that of
the first ⌈k/2⌉ and of the others, along one axis after another. Padding stands for −∞: an entry of
it is replaced by one that lies inside and in every window around both.

Every function gives the signal, or a sentence that says why it cannot be expressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sympy
import torch

from vercomp.frontends import algebra
from vercomp.frontends.broadcasting import MIXES, expansion, joint_shape, mapped, own_axis
from vercomp.frontends.builder import Builder
from vercomp.frontends.shaping import selection
from vercomp.frontends.values import Constant, Signal, Site, Value
from vercomp.ir.convolutions import Window
from vercomp.ir.graph import Term
from vercomp.ir.linear_maps import LinearMap, Reshape, Shape, compose, identity

BROADCASTS = "its operands broadcast in a way that no linear map expresses"
OUTSIDE = "a window of it lies in the padding alone, where a maximum is −∞"
UNEVEN = "its windows differ in size"


def of_several(
    build: Builder, site: Site, values: Sequence[Value], *, smaller: bool = False
) -> Value | str:
    """The maximum (or minimum) of one value or more, elementwise."""
    constants = [value for value in values if isinstance(value, Constant)]
    signals = [value for value in values if isinstance(value, Signal)]
    largest: Constant | None = None
    for constant in constants:
        if largest is not None:
            pick = torch.minimum if smaller else torch.maximum
            constant = build.derive(pick(largest.value, constant.value), largest, constant)
        largest = constant
    if not signals:
        assert largest is not None  # noqa: S101 - of one value or more
        return largest
    tree = _tree(build, site, signals, smaller=smaller)
    if tree is not None and largest is not None:
        tree = _of_two(build, site, tree, largest, smaller=smaller)
    return BROADCASTS if tree is None else tree


def _tree(build: Builder, site: Site, signals: Sequence[Signal], *, smaller: bool) -> Signal | None:
    """The maximum of the first half and that of the others."""
    if len(signals) == 1:
        return signals[0]
    half = (len(signals) + 1) // 2
    a, b = (_tree(build, site, s, smaller=smaller) for s in (signals[:half], signals[half:]))
    return None if a is None or b is None else _of_two(build, site, a, b, smaller=smaller)


def _of_two(build: Builder, site: Site, a: Signal, b: Value, *, smaller: bool) -> Signal | None:
    """The larger one of two; None where shapes broadcast in a way that no map expresses."""
    lazy = build.apply(site, sympy.Min if smaller else sympy.Max, a, b)
    if lazy is not None:
        return lazy
    apart = replace(site, name=f"{site.name}.difference")
    full = joint_shape(build, a, b)
    if full is None:
        return None
    if isinstance(b, Signal):
        first, second = (expansion(signal, full, build.batch) for signal in (a, b))
        if first is None or second is None:
            return None
        terms = Term(first, build.materialise(a)), Term(second, build.materialise(b))
        return _joined(build, site, *terms, a.batch + len(full) - a.rank, smaller=smaller)
    # b + max(a − b, 0), or b − max(b − a, 0), where b is added as an offset
    ends = (b, a) if smaller else (a, b)
    difference = algebra.add(build, apart, *ends, subtract=True)
    if difference is None:
        return None
    return algebra.add(build, site, b, _relu(build, site, difference), subtract=smaller)


def _joined(
    build: Builder, site: Site, a: Term, b: Term, batch: int, *, smaller: bool = False
) -> Signal:
    """The larger one of two linear maps of nodes, entry by entry."""
    shape = a.map.out_shape
    more, less = (b, a) if smaller else (a, b)
    less = replace(less, map=compose(_minus(build, shape, site), less.map))
    apart = replace(site, name=f"{site.name}.difference")
    difference = build.affine(apart, shape, (more, less), batch=batch)
    hinge = build.materialise(_relu(build, site, difference))
    sign = _minus(build, shape, site) if smaller else identity(shape)
    return build.affine(site, shape, (b, Term(sign, hinge)), batch=batch)


def _relu(build: Builder, site: Site, difference: Signal) -> Signal:
    named = replace(site, name=f"{site.name}.relu")
    found = build.apply(named, lambda x: sympy.Max(x, 0), difference)
    assert found is not None  # noqa: S101 - a formula of one signal
    return found


def _minus(build: Builder, shape: Shape, site: Site) -> LinearMap:
    return build.times(sympy.Integer(-1), shape, site.name)


def over_axes(
    build: Builder,
    site: Site,
    signal: Signal,
    axes: Sequence[int],
    keepdim: bool,
    *,
    smaller: bool = False,
) -> Signal | str:
    """The maximum over axes of the source: ``x.amax(axes)``."""
    dropped = sorted({axis % signal.rank for axis in axes}, reverse=True)
    result = signal
    for axis in dropped:
        own = own_axis(result, axis)
        if own is None:
            return MIXES
        whole = _Line(result.shape[own], 1, (0,))
        result = _along(build, site, result, own, whole, smaller=smaller)
    if keepdim or not dropped:
        return result
    kept = tuple(n for i, n in enumerate(signal.full(build.batch)) if i not in dropped)
    batch = signal.batch - sum(axis < signal.batch for axis in dropped)
    shape = (*kept[:batch], *kept[batch + 1 :])
    return mapped(build, site, result, Reshape(result.shape, shape), batch=batch)


def pool(build: Builder, site: Site, signal: Signal, window: Window) -> Signal | str:
    """Maxima over windows of the last axes; its padding is that of −∞."""
    dimensions = len(window.size)
    first = len(signal.shape) - dimensions
    if signal.batch > first:
        return MIXES
    lengths = signal.shape[first:]
    lines = []
    for i, (n, places) in enumerate(zip(lengths, window.places(lengths), strict=True)):
        starts = tuple(p * window.stride[i] - window.pads[i][0] for p in range(places))
        line = _Line(window.size[i], window.dilation[i], starts)
        if not line.reaches(n):
            return OUTSIDE
        lines.append(line)
    result = signal
    for i, line in reversed(list(enumerate(lines))):
        result = _along(build, site, result, first + i, line)
    return result


def adaptive_pool(
    build: Builder, site: Site, signal: Signal, sizes: tuple[int, ...]
) -> Signal | str:
    """Maxima over windows of the last axes such that ``sizes`` of them lie side by side."""
    first = len(signal.shape) - len(sizes)
    if signal.batch > first:
        return MIXES
    lengths = signal.shape[first:]
    if any(n % size for n, size in zip(lengths, sizes, strict=True)):
        return UNEVEN
    steps = tuple(n // size for n, size in zip(lengths, sizes, strict=True))
    return pool(build, site, signal, Window.of(steps, steps))


@dataclass(frozen=True)
class _Line:
    """Windows along one axis: ``size`` entries, ``step`` apart, from each of ``starts`` on."""

    size: int
    step: int
    starts: tuple[int, ...]

    def reaches(self, length: int) -> bool:
        """Whether every window has an entry of an axis of that length."""
        entries = [range(s, s + self.size * self.step, self.step) for s in self.starts]
        return all(any(0 <= entry < length for entry in window) for window in entries)

    def inside(self, entry: int, length: int) -> int:
        """The entry, or the one nearest to it that windows around it can hold."""
        if 0 <= entry < length:
            return entry
        first = entry % self.step
        return first if entry < 0 else first + (length - 1 - first) // self.step * self.step

    def halves(self) -> dict[int, list[int]]:
        """Where windows of which size must start, so that all can be made of smaller ones."""
        starts: dict[int, set[int]] = {self.size: set(self.starts)}
        for size in range(self.size, 1, -1):
            if size in starts:
                half = (size + 1) // 2
                behind = {start + half * self.step for start in starts[size]}
                starts.setdefault(half, set()).update(starts[size])
                starts.setdefault(size - half, set()).update(behind)
        return {size: sorted(starts[size]) for size in sorted(starts)}


def _along(
    build: Builder, site: Site, signal: Signal, own: int, line: _Line, *, smaller: bool = False
) -> Signal:
    """The maximum over windows along one axis of the node, the sizes doubling."""
    length = signal.shape[own]
    starts = line.halves()
    made = {1: signal}

    def term(size: int, chosen: Sequence[int]) -> Term:
        """Those of the windows of a size that start here."""
        part = made[size]
        if size == 1:
            picks = [line.inside(entry, length) for entry in chosen]
        else:
            places = {start: place for place, start in enumerate(starts[size])}
            picks = [places[start] for start in chosen]
        return Term(selection(part.shape, own, picks), build.materialise(part))

    for size in (size for size in starts if size > 1):
        half = (size + 1) // 2
        behind = [start + half * line.step for start in starts[size]]
        terms = term(half, starts[size]), term(size - half, behind)
        made[size] = _joined(build, site, *terms, signal.batch, smaller=smaller)
    last = term(line.size, line.starts)
    return mapped(build, site, made[line.size], last.map)
