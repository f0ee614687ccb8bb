"""Bound programs: what an analysis of weights emits instead of a number.

A program is a small typed SSA graph over the network's linear maps, its activations' constants and
P coefficient rows c (row y minus row t, say). It is evaluated rigorously for certificates and
differentiably for training, and printed as source; all three call the operations of
:class:`vercomp.core.arithmetic.operations.Arithmetic`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import reduce
from operator import matmul
from typing import Any

from torch import Tensor

from vercomp.core.arithmetic.operations import Arithmetic, Bound
from vercomp.core.functions import Range
from vercomp.core.maps.operators import Operator
from vercomp.core.maps.sums import SideBySide
from vercomp.errors import InternalError


class Kind(Enum):
    """The type of a value."""

    COEFFICIENTS = "coefficients"
    BOUND = "bound"
    INTERVAL = "interval"
    WEIGHTS = "weights"
    MAP = "map"
    RANGE = "range"
    NUMBER = "number"


@dataclass(frozen=True)
class Value:
    """A result of the program, or its argument c."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class MapOf:
    """The linear map of one term of an affine node."""

    node: str
    term: int
    kind: Kind = Kind.MAP


@dataclass(frozen=True)
class ProductOf:
    """The composition of maps, the outermost first: a path through several affine nodes."""

    maps: tuple[MapOf, ...]
    kind: Kind = Kind.MAP


@dataclass(frozen=True)
class SideBySideOf:
    """All linear maps [A_1 … A_p] of an affine node as one, on its parents' vectors end to end.

    Args:
        node: The affine node.
        terms: p.
    """

    node: str
    terms: int
    kind: Kind = Kind.MAP

    @property
    def maps(self) -> tuple[MapOf, ...]:
        """The A_k, in order."""
        return tuple(MapOf(self.node, index) for index in range(self.terms))


@dataclass(frozen=True)
class ConstantOf:
    """A constant of an activation: ``g`` (a number), ``first_range`` or ``second_range``."""

    activation: str
    which: str

    @property
    def kind(self) -> Kind:
        """A number for g, a range otherwise."""
        return Kind.NUMBER if self.which == "g" else Kind.RANGE


@dataclass(frozen=True)
class Number:
    """A number that the program itself brings: ‖∂x/∂x‖ = 1."""

    value: float
    kind: Kind = Kind.NUMBER

    @property
    def name(self) -> str:
        """How source spells it."""
        return repr(self.value)


Operand = Value | MapOf | ProductOf | SideBySideOf | ConstantOf | Number

_B, _I, _W, _M = Kind.BOUND, Kind.INTERVAL, Kind.WEIGHTS, Kind.MAP
SIGNATURES: Mapping[str, tuple[tuple[Kind, ...], Kind]] = {
    "norm2": ((_M,), _B),
    "weighted_norm2_squared": ((_M, _W), _B),
    "constant": ((Kind.NUMBER,), _B),
    "zeros": ((Kind.COEFFICIENTS,), _B),
    "add": ((_B, _B), _B),
    "multiply": ((_B, _B), _B),
    "square_root": ((_B,), _B),
    "minimum": ((_B, _B), _B),
    "refine": ((_B, _B), _B),
    "row_max": ((_W,), _B),
    "row_norm": ((_I,), _B),
    "exactly": ((Kind.COEFFICIENTS,), _I),
    "join": ((_I, _I), _I),
    "adjoint": ((_M, _I), _I),
    "through": ((_I, Kind.RANGE), _I),
    "concavity": ((_I, Kind.RANGE), _W),
}
STATEFUL = frozenset({"norm2", "weighted_norm2_squared"})
"""Operations that are told the name of their result, where evaluations may keep vectors."""


@dataclass(frozen=True)
class Step:
    """result = operation(operands)."""

    result: Value
    operation: str
    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class Block:
    """Steps that belong together, with the formula that they compute."""

    formula: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Program:
    """A bound program.

    Args:
        argument: The coefficients c.
        blocks: The steps, in order.
        curvature: The result κ: ∇²(c·z) ≽ −κI.
        lipschitz: The result L: ‖∇(c·z)‖ ≤ L.
        norms: ‖A‖₂ of every map, by the names of :func:`map_name`.
        shares: Each activation's summand of κ.
    """

    argument: Value
    blocks: tuple[Block, ...]
    curvature: Value
    lipschitz: Value
    norms: Mapping[MapOf, Value] = field(default_factory=dict)
    shares: Mapping[str, Value] = field(default_factory=dict)


class Builder:
    """Appends type-checked steps and names their results."""

    def __init__(self) -> None:
        self.argument = Value("c", Kind.COEFFICIENTS)
        self._blocks: list[Block] = []
        self._steps: list[Step] = []
        self._taken = {"c"}

    def emit(self, name: str, operation: str, *operands: Operand) -> Value:
        """One step; the result takes ``name``, with a number behind it if that is taken.

        Raises:
            InternalError: The operands do not have the operation's types.
        """
        wanted, kind = SIGNATURES[operation]
        given = tuple(operand.kind for operand in operands)
        if given != wanted:
            raise InternalError(f"{operation} takes {wanted}, not {given}", node=name)
        unique, count = name, 1
        while unique in self._taken:
            count += 1
            unique = f"{name}_{count}"
        self._taken.add(unique)
        result = Value(unique, kind)
        self._steps.append(Step(result, operation, operands))
        return result

    def close_block(self, formula: str) -> None:
        """End the current block, under its formula."""
        if self._steps:
            self._blocks.append(Block(formula, tuple(self._steps)))
            self._steps = []

    def finish(
        self,
        curvature: Value,
        lipschitz: Value,
        norms: Mapping[MapOf, Value],
        shares: Mapping[str, Value],
    ) -> Program:
        """The program, without the steps that no result needs."""
        self.close_block("")
        needed: set[Operand] = {
            curvature,
            lipschitz,
            *norms.values(),
            *shares.values(),
        }
        blocks: list[Block] = []
        for block in reversed(self._blocks):
            steps: list[Step] = []
            for step in reversed(block.steps):
                if step.result in needed:
                    needed.update(step.operands)
                    steps.insert(0, step)
            if steps:
                blocks.insert(0, Block(block.formula, tuple(steps)))
        return Program(self.argument, tuple(blocks), curvature, lipschitz, norms, shares)


def evaluate(
    program: Program,
    arithmetic: Arithmetic,
    operator: Callable[[MapOf], Operator],
    constant: Callable[[ConstantOf], float | Range],
    c: Tensor,
    name: Callable[[MapOf], str],
) -> Bound:
    """Run a program on coefficient rows c of shape (P, C).

    Args:
        program: The program.
        arithmetic: Its operations.
        operator: The operator that a map is; asked once for each.
        constant: The value of an activation's constant.
        c: The coefficients.
        name: The name of a map in the result.
    """
    values: dict[str, Any] = {program.argument.name: c}
    made: dict[Operand, Operator] = {}

    def bound(operand: MapOf | ProductOf | SideBySideOf) -> Operator:
        """The operator of an operand, once."""
        if operand not in made:
            if isinstance(operand, MapOf):
                made[operand] = operator(operand)
            else:
                parts = tuple(bound(map_of) for map_of in operand.maps)
                together = isinstance(operand, SideBySideOf)
                made[operand] = SideBySide(parts) if together else reduce(matmul, parts)
        return made[operand]

    def read(operand: Operand) -> Any:
        if isinstance(operand, Value):
            return values[operand.name]
        if isinstance(operand, MapOf | ProductOf | SideBySideOf):
            return bound(operand)
        if isinstance(operand, Number):
            return operand.value
        return constant(operand)

    for block in program.blocks:
        for step in block.steps:
            arguments = [read(operand) for operand in step.operands]
            if step.operation in STATEFUL:
                arguments.append(step.result.name)
            values[step.result.name] = getattr(arithmetic, step.operation)(*arguments)
    return Bound(
        values[program.curvature.name],
        values[program.lipschitz.name],
        {name(map_of): values[value.name] for map_of, value in program.norms.items()},
        {activation: values[value.name] for activation, value in program.shares.items()},
    )
