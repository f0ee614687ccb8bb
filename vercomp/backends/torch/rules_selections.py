"""Spelling of maps that move, pick, repeat and surround entries."""

from __future__ import annotations

from vercomp.backends.torch.spelling import Read, atom
from vercomp.core.maps.monomials import Monomial
from vercomp.ir.linear_maps import Permute, Reshape, Shape
from vercomp.ir.selections import Expand, Gather, Pad, Slice


def reshape(part: Reshape, x: str, read: Read) -> str:
    """flatten or reshape; the batch stays in front."""
    source, target = part.source, part.target
    if source == target:
        return x
    if not target:
        return f"{atom(x)}.flatten()"
    if len(target) == 1 and source:
        return f"{atom(x)}.flatten(1)"
    return f"{atom(x)}.reshape(-1, {', '.join(map(str, target))})"


def permute(part: Permute, x: str, read: Read) -> str:
    """The method permute."""
    return f"{atom(x)}.permute(0, {', '.join(str(axis + 1) for axis in part.axes)})"


def slicing(part: Slice, x: str, read: Read) -> str:
    """Indexing with a slice."""
    start = str(part.start) if part.start else ""
    stop = str(part.stop) if part.stop < part.source[part.axis] else ""
    step = f":{part.step}" if part.step != 1 else ""
    return _along(x, part.axis, f"{start}:{stop}{step}")


def gather(part: Gather, x: str, read: Read) -> str:
    """flip, repeat_interleave, or indexing with a list."""
    return _picked(x, part.source, part.axis, part.indices, read)


def _picked(x: str, source: Shape, axis: int, indices: tuple[int, ...], read: Read) -> str:
    length = source[axis]
    if len(indices) > 1 and indices == tuple(range(length))[::-1]:
        return f"{atom(x)}.flip({axis + 1})"
    times = len(indices) // length
    if times > 1 and indices == tuple(i for i in range(length) for _ in range(times)):
        return f"{atom(x)}.repeat_interleave({times}, {axis + 1})"
    return _along(x, axis, read(indices))


def _along(x: str, axis: int, index: str) -> str:
    return f"{atom(x)}[{':, ' * (axis + 1)}{index}]"


def pad(part: Pad, x: str, read: Read) -> str:
    """F.pad; where a mode of it cannot do this, the entries that it would copy are picked."""
    padded = [axis for axis, pair in enumerate(part.pads) if pair != (0, 0)]
    if not padded:
        return x
    rank = len(part.source)
    if part.mode == "zeros":
        return f"F.pad({x}, {_amounts(part.pads[padded[0] :])})"
    # F.pad copies along all axes but the batch and perhaps the first, of three at most.
    for first in (1, 0):
        if padded[0] >= first and 1 <= rank - first <= 3:
            return f'F.pad({x}, {_amounts(part.pads[first:])}, mode="{part.mode}")'
    for axis in padded:
        line = Monomial.padding((part.source[axis],), (part.pads[axis],), part.mode)
        x = _picked(x, part.source, axis, tuple(line.index.tolist()), read)
    return x


def _amounts(pads: tuple[tuple[int, int], ...]) -> str:
    """As F.pad reads them: the last axis first."""
    return repr(tuple(amount for pair in reversed(pads) for amount in pair))


def expand(part: Expand, x: str, read: Read) -> str:
    """The method expand."""
    return f"{atom(x)}.expand(-1, {', '.join(map(str, part.target))})"
