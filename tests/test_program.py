"""Bound programs: typed, without dead steps, and the same in every arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from vercomp.program import (
    SIGNATURES,
    STATEFUL,
    Builder,
    ConstantOf,
    Kind,
    MapOf,
    Number,
    ProductOf,
    Program,
    SideBySideOf,
)
from vercomp.program import evaluate as run

from vercomp.core.arithmetic.differentiable import Differentiable
from vercomp.core.arithmetic.operations import Arithmetic, Bound
from vercomp.core.arithmetic.rigorous import Rigorous
from vercomp.core.maps.operators import Dense
from vercomp.errors import InternalError

MAP = MapOf("fc", 0)
WEIGHT = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)


def example() -> Program:
    """κ = max_j max(0, −min (Wᵀc)_j h) · ‖W‖, and a step that nobody reads."""
    builder = Builder()
    norm = builder.emit("norm", "norm2", MAP)
    builder.close_block("The norm")
    coefficients = builder.emit("f", "exactly", builder.argument)
    moved = builder.emit("f", "adjoint", MAP, coefficients)
    builder.emit(
        "dead", "row_max", builder.emit("q", "concavity", moved, ConstantOf("a", "first_range"))
    )
    q = builder.emit("q", "concavity", moved, ConstantOf("a", "second_range"))
    largest = builder.emit("largest", "row_max", q)
    builder.close_block("The coefficients")
    builder.emit("unread", "constant", ConstantOf("a", "g"))
    builder.close_block("Nothing that is needed")
    kappa = builder.emit("kappa", "multiply", largest, norm)
    slope = builder.emit("slope", "row_norm", moved)
    return builder.finish(kappa, slope, {MAP: norm}, {"a": largest})


def evaluated(program: Program, arithmetic: Arithmetic, c: Tensor) -> Bound:
    return run(
        program,
        arithmetic,
        lambda map_of: Dense(WEIGHT),
        lambda which: 1.0 if which.which == "g" else (-0.5, 0.25),
        c,
        lambda map_of: f"{map_of.node}.{map_of.term}",
    )


@pytest.mark.parametrize("arithmetic", [Rigorous(), Differentiable(WEIGHT, first_steps=100)])
def test_evaluation(arithmetic: Arithmetic) -> None:
    c = torch.tensor([[1.0, -1.0], [0.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    found = evaluated(example(), arithmetic, c)
    # Wᵀc = (3, −4), (0, 8), 0; F·[−½, ¼] falls to −1.5 and −1, −4, 0; ‖W‖ = 4.
    assert found.shares["a"].tolist() == pytest.approx([1.5, 4.0, 0.0], abs=1e-9)
    assert found.curvature.tolist() == pytest.approx([6.0, 16.0, 0.0], abs=1e-7)
    assert found.lipschitz.tolist() == pytest.approx([5.0, 8.0, 0.0], abs=1e-12)
    assert float(found.norms["fc.0"]) == pytest.approx(4.0)


def test_products_and_maps_side_by_side() -> None:
    """‖W W‖ = 16 and ‖[W W]‖ = √(2·16), times 2; each map is asked for once."""
    builder = Builder()
    other = MapOf("fc", 1)
    two = builder.emit("two", "constant", Number(2.0))
    product = builder.emit("product", "norm2", ProductOf((MAP, other)))
    beside = builder.emit("beside", "norm2", SideBySideOf("fc", 2))
    program = builder.finish(
        builder.emit("k", "multiply", product, two),
        builder.emit("l", "multiply", beside, two),
        {},
        {},
    )
    asked: list[MapOf] = []

    def operator(map_of: MapOf) -> Dense:
        asked.append(map_of)
        return Dense(WEIGHT)

    c = torch.zeros(1, 2, dtype=torch.float64)
    found = run(program, Rigorous(), operator, lambda which: 0.0, c, str)
    assert float(found.curvature) == pytest.approx(32.0)
    assert float(found.lipschitz) == pytest.approx(2.0 * 32.0**0.5)
    assert asked == [MAP, other]


def test_dead_steps_and_empty_blocks_go() -> None:
    program = example()
    assert [block.formula for block in program.blocks] == ["The norm", "The coefficients", ""]
    names = [step.result.name for block in program.blocks for step in block.steps]
    assert names == ["norm", "f", "f_2", "q_2", "largest", "kappa", "slope"]


def test_results_have_unique_names() -> None:
    builder = Builder()
    values = [builder.emit("c", "zeros", builder.argument) for _ in range(3)]
    values.append(builder.emit("c_2", "zeros", builder.argument))
    assert [value.name for value in values] == ["c_2", "c_3", "c_4", "c_2_2"]


def test_operands_are_type_checked() -> None:
    builder = Builder()
    zero = builder.emit("zero", "zeros", builder.argument)
    for operation, operands in (
        ("norm2", (zero,)),
        ("add", (zero,)),
        ("add", (zero, builder.argument)),
        ("row_max", (zero,)),
        ("through", (builder.emit("f", "exactly", builder.argument), ConstantOf("a", "g"))),
    ):
        with pytest.raises(InternalError, match=f"node 'bad': {operation} takes"):
            builder.emit("bad", operation, *operands)


@pytest.mark.parametrize("arithmetic", [Rigorous, Differentiable])
def test_every_operation_is_in_every_arithmetic(arithmetic: type) -> None:
    for operation, (operands, _) in SIGNATURES.items():
        method = getattr(arithmetic, operation)
        count = method.__code__.co_argcount - 1
        assert count == len(operands) + (operation in STATEFUL), operation
        assert hasattr(Arithmetic, operation)


def test_kinds_of_operands() -> None:
    assert MapOf("a", 0).kind is Kind.MAP
    assert ProductOf((MAP, MAP)).kind is SideBySideOf("a", 2).kind is Kind.MAP
    assert Number(1.0).kind is Kind.NUMBER
    assert Number(1.0).name == "1.0"
    assert ConstantOf("a", "g").kind is Kind.NUMBER
    assert ConstantOf("a", "second_range").kind is Kind.RANGE
