"""The rules of the torch front end that ask an operator what it does.

What only moves entries is run on their numbers, what acts along an axis on unit vectors: so no rule
repeats the conventions of an operator (where a window starts, how a corner is aligned).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vercomp.frontends import shaping
from vercomp.frontends.broadcasting import MIXES, mapped, own_axis
from vercomp.frontends.fx_call import Call, Result, Rule
from vercomp.frontends.values import Signal
from vercomp.ir.linear_maps import LinearMap, Reshape, compose
from vercomp.ir.selections import Gather, Pad


def moves(call: Call) -> Result:
    """An operator that only moves entries: which, it says of their positions.

    It runs on two inputs, the entries of which are numbered from 1 on; where it puts a zero there
    is none.
    """
    signal = call.signal()
    if sum(isinstance(value, Signal) for value in call.args.values()) > 1:
        return "its indices depend on the input"
    if call.build.batch not in call.out:
        return MIXES
    place, n = call.out.index(call.build.batch), math.prod(signal.shape)
    numbers = torch.arange(1, 2 * n + 1, dtype=torch.float64).reshape(2, *signal.shape)
    try:
        moved = call.run(numbers.movedim(0, signal.batch)).movedim(place, 0)
    except (RuntimeError, IndexError):
        return "its indices are different for each input"
    first, second = moved[0], moved[-1]
    apart = torch.where(first > 0, first + n, first)
    if len(moved) != 2 or bool((first > n).any()) or not torch.equal(second, apart):
        return MIXES
    picks = [int(number) - 1 for number in first.flatten().tolist()]
    linear: LinearMap = Reshape(signal.shape, (n,))
    if -1 in picks:
        linear = compose(Pad((n,), ((0, 1),)), linear)
        picks = [pick % (n + 1) for pick in picks]
    linear = compose(Gather(linear.out_shape, 0, tuple(picks)), linear)
    linear = compose(Reshape(linear.out_shape, tuple(first.shape)), linear)
    return mapped(call.build, call.site, signal, linear, batch=place)


def _lines(call: Call) -> Result:
    """An operator that acts along one axis: its matrix has what becomes of unit vectors."""
    signal, axis = call.signal(), int(call.args["dim"]) % call.signal().rank
    own = own_axis(signal, axis)
    if own is None:
        return MIXES
    shape = [1] * signal.rank
    shape[signal.batch] = shape[axis] = signal.shape[own]
    units = torch.eye(signal.shape[own], dtype=torch.float64)
    columns: Tensor = call.run((units if signal.batch < axis else units.T).reshape(shape))
    matrix = columns.movedim((signal.batch, axis), (0, 1)).flatten(1).T
    return shaping.along(call.build, call.site, signal, axis, matrix, "matrix")


def _nearest(call: Call) -> Result:
    """Every axis by itself: which entries, the operator says of their positions."""

    signal = call.signal()
    if signal.batch != 0:
        return MIXES
    lengths = signal.shape[1:]
    result: Signal | str = signal
    for axis, length in enumerate(lengths, start=2):
        positions = _line(torch.arange(length, dtype=torch.float64), axis, len(lengths) + 2)
        picked = call.run(positions.expand(1, 1, *lengths)).movedim(axis, 0)
        indices = [int(index) for index in picked.flatten(1)[:, 0].tolist()]
        if isinstance(result, Signal):
            result = shaping.gather(call.build, call.site, result, axis, indices)
    return result


def _interpolated(call: Call) -> Result:
    """Every axis by itself: the columns of its matrix are what becomes of unit vectors."""

    signal = call.signal()
    if signal.batch != 0:
        return MIXES
    lengths = signal.shape[1:]
    result: Signal | str = signal
    for axis, length in enumerate(lengths, start=2):
        units = torch.stack(
            [_line(row, axis - 1, len(lengths) + 1) for row in torch.eye(length).double()]
        )
        columns = call.run(units.expand(length, 1, *lengths)).movedim(axis, 1)
        matrix = columns.flatten(2)[:, :, 0].T
        if isinstance(result, Signal):
            what = f"axis{axis}"
            result = shaping.along(call.build, call.site, result, axis, matrix, what)
    return result


def _line(values: Tensor, axis: int, rank: int) -> Tensor:
    """A vector along one axis of many."""
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])


#: Rules by the operator's name, as in :mod:`vercomp.frontends.fx_operators`.
RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "fliplr",
            "rot90",
            "diagonal",
            "linalg_diagonal",
            "tril",
            "triu",
            "unfold",
            "im2col",
            "gather",
            "take_along_dim",
        ),
        moves,
    ),
    **dict.fromkeys(("cumsum", "diff"), _lines),
    **dict.fromkeys([f"upsample_nearest{d}d" for d in (1, 2, 3)], _nearest),
    **dict.fromkeys([f"_upsample_nearest_exact{d}d" for d in (1, 2, 3)], _nearest),
    **dict.fromkeys(
        (
            "upsample_linear1d",
            "upsample_bilinear2d",
            "upsample_bicubic2d",
            "upsample_trilinear3d",
            "_upsample_bilinear2d_aa",
            "_upsample_bicubic2d_aa",
        ),
        _interpolated,
    ),
}
