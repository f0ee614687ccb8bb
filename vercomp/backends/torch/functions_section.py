"""The section of net.py that holds the activations: functions, ranges, monotone pieces."""

from __future__ import annotations

from vercomp.activations import function_source, pieces
from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.writer import WIDTH, Writer
from vercomp.core.pieces import Pieces, Range, Turn
from vercomp.errors import UnsupportedError
from vercomp.ir.activation import Activation

_NAMES = ("value", "first", "second")
_SYMBOLS = ("σ", "σ′", "σ″")
_DEPTH = 16
"""Columns in front of the row of a turn."""


def functions_section(layout: Layout, writer: Writer) -> None:
    """The activations: their functions, and one constant for each."""
    for position, (function, name) in enumerate(layout.functions.items()):
        if position:
            writer.blank(2)
        found = layout.constants_of(function)
        orders = 2 if found.second_range is None else 3
        names = [f"_{name.lower()}{suffix}" for suffix in ("", "_first", "_second")[:orders]]
        for order, function_name in enumerate(names):
            writer.lines(function_source(function, order, function_name).rstrip())
            writer.blank(2)
        origin = " ".join(found.origin.split())
        writer.comment(f"Ranges of σ′ and σ″ over ℝ, rounded outward; {origin}")
        writer.line(f"{name} = Elementwise(")
        with writer.indented():
            for key, value in zip(_NAMES, [*names, None][:3], strict=True):
                writer.line(f"{key}={value},")
            writer.line(f"first_range={found.first_range!r},")
            writer.line(f"second_range={found.second_range!r},")
            if function.deviation:
                writer.line(f"deviation={function.deviation!r},")
            _pieces(function, writer)
        writer.line(")")


def _pieces(function: Activation, writer: Writer) -> None:
    """The argument ``pieces``, or a comment that says why there is none."""
    try:
        derived = pieces(function)
    except UnsupportedError as error:
        writer.comment(f"Without pieces: {error.message}.")
        return
    writer.comment("Where σ, σ′ and σ″ turn, jump or end: bounds of the position, and of the value")
    writer.comment("there (at a jump, to the left and to the right of it). A sign for each piece.")
    writer.line("pieces=(")
    with writer.indented():
        for symbol, part in zip(_SYMBOLS, derived, strict=False):
            writer.line(f"Pieces(  # {symbol}")
            with writer.indented():
                _part(part, writer)
            writer.line("),")
    writer.line("),")


def _part(part: Pieces, writer: Writer) -> None:
    writer.line("turns=(")
    with writer.indented():
        for turn in part.turns:
            fields = _fields(turn)
            row = f"Turn({', '.join(fields)}),"
            if _DEPTH + len(row) <= WIDTH:
                writer.line(row)
                continue
            writer.line("Turn(")
            with writer.indented():
                for field in fields:
                    writer.line(f"{field},")
            writer.line("),")
    writer.line("),")
    writer.line(f'signs="{part.signs}",')
    writer.line(f"steepest={part.steepest!r},")
    if part.period is not None:
        writer.line(f"period={part.period!r},")


def _fields(turn: Turn) -> list[str]:
    ranges: list[Range] = [turn.at, turn.left]
    if turn.right is not None:
        ranges.append(turn.right)
    return [repr(ends) for ends in ranges]
