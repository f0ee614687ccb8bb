"""Recorded programs: unique names, no dead steps, and the same results as the arithmetic itself."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from vercomp.core.arithmetic.differentiable import Differentiable
from vercomp.core.arithmetic.operations import Arithmetic, Bound
from vercomp.core.arithmetic.recording import OnDemand, Recording
from vercomp.core.arithmetic.rigorous import Rigorous
from vercomp.core.maps.operators import Dense

WEIGHT = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
C = torch.tensor([[1.0, -1.0], [0.0, 2.0], [0.0, 0.0]], dtype=torch.float64)


def program(ops: Any, c: Tensor) -> Bound:
    """κ = max_j max(0, −min (Wᵀc)_j h) · ‖W‖, L = ‖Wᵀc‖, and steps that nobody reads."""
    fc = Dense(WEIGHT)
    ops.note("The norm")
    norm = ops.norm2(fc, name="norm")
    ops.note("The coefficients")
    moved = ops.adjoint(fc, ops.exactly(c, name="f"), name="f")
    ops.row_max(ops.concavity(moved, (0.0, 1.0), name="q"), name="dead")
    q = ops.concavity(moved, (-0.5, 0.25), name="q")
    largest = ops.row_max(q, name="largest")
    ops.note("Nothing that is needed")
    ops.constant(1.0, name="unread")
    ops.note("κ")
    kappa = ops.multiply(largest, norm, name="kappa")
    return Bound(kappa, ops.row_norm(moved, name="slope"), {"fc": norm}, {"a": largest})


def arithmetics() -> list[Arithmetic]:
    return [Rigorous(), Differentiable(WEIGHT, first_steps=100)]


@pytest.mark.parametrize("number", [0, 1])
def test_a_program_by_hand_at_once_and_on_demand(number: int) -> None:
    found = program(arithmetics()[number], C)
    # Wᵀc = (3, −4), (0, 8), 0; F·[−½, ¼] falls to −1.5 and −1, −4, 0; ‖W‖ = 4.
    assert found.shares["a"].tolist() == pytest.approx([1.5, 4.0, 0.0], abs=1e-9)
    assert found.curvature.tolist() == pytest.approx([6.0, 16.0, 0.0], abs=1e-7)
    assert found.lipschitz.tolist() == pytest.approx([5.0, 8.0, 0.0], abs=1e-12)
    assert float(found.norms["fc"]) == pytest.approx(4.0)
    operations = OnDemand()
    recorded = program(operations, C)
    for step, value in (
        (recorded.curvature, found.curvature),
        (recorded.lipschitz, found.lipschitz),
        (recorded.norms["fc"], found.norms["fc"]),
        (recorded.shares["a"], found.shares["a"]),
    ):
        assert torch.equal(operations.value(arithmetics()[number], step), value)


def test_products_and_maps_side_by_side() -> None:
    """‖W W‖ = 16 and ‖[W W]‖ = √(2·16)."""
    fc = Dense(WEIGHT)
    operations: Any = OnDemand()
    product = operations.norm2(operations.compose(fc, fc, name="p"), name="product")
    beside = operations.norm2(operations.beside(fc, fc, name="b"), name="beside")
    assert float(operations.value(Rigorous(), product)) == pytest.approx(16.0)
    assert float(operations.value(Rigorous(), beside)) == pytest.approx(32.0**0.5)


def test_dead_steps_go_and_formulae_stay() -> None:
    recording: Any = Recording()
    found = program(recording, C)
    needed = recording.needed([found.curvature, found.lipschitz, found.norms["fc"]])
    assert [step.name for step in needed] == [
        "norm", "f", "f_2", "q_2", "largest", "kappa", "slope",
    ]  # fmt: skip
    assert [step.operation for step in needed[:4]] == ["norm2", "exactly", "adjoint", "concavity"]
    notes = dict.fromkeys(step.note for step in needed)
    assert list(notes) == ["The norm", "The coefficients", "κ"]
    assert [step.name for step in recording.needed([found.lipschitz])] == ["f", "f_2", "slope"]
    assert recording.needed([C]) == []


def test_steps_have_unique_names() -> None:
    recording: Any = Recording(taken=["c"])
    steps = [recording.zeros(C, name=name) for name in ("c", "c", "d", "c_2", "d", "", "")]
    assert [step.name for step in steps] == ["c_2", "c_3", "d", "c_2_2", "d_2", "", ""]


class Counting(Rigorous):
    """Keeps the operations that it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in Arithmetic.__abstractmethods__:
            self.ran.append(name)
        return super().__getattribute__(name)


def test_on_demand_runs_what_a_result_needs_once() -> None:
    operations: Any = OnDemand()
    found = program(operations, C)
    counting = Counting()
    counting.ran.clear()
    operations.value(counting, found.lipschitz)
    assert [name for name in counting.ran if name != "constant"] == [
        "exactly", "adjoint", "row_norm",
    ]  # fmt: skip


def test_on_demand_runs_only_the_better_side_of_a_refinement() -> None:
    operations: Any = OnDemand()
    coarse = operations.norm2(Dense(WEIGHT), name="coarse")
    fine = operations.constant(3.0, name="fine")
    refined = operations.refine(coarse, fine, name="refined")
    assert refined is fine
    assert operations.needed([refined]) == [fine]
    assert float(operations.value(Rigorous(), refined)) == 3.0
    # A recording that is printed keeps both: rigorous arithmetic takes the smaller.
    recording: Any = Recording()
    step = recording.refine(recording.constant(2.0), recording.constant(3.0), name="refined")
    assert [found.operation for found in recording.needed([step])] == [
        "constant", "constant", "refine",
    ]  # fmt: skip
    assert float(Rigorous().refine(torch.tensor(2.0), torch.tensor(3.0))) == 2.0


def test_a_result_that_is_no_step_is_its_own_value() -> None:
    assert OnDemand().value(Rigorous(), C) is C


def test_a_recording_has_no_special_methods() -> None:
    with pytest.raises(AttributeError, match="__len__"):
        Recording().__len__  # noqa: B018


def operations_of(arithmetic: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(method)
        for name, method in vars(arithmetic).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }


@pytest.mark.parametrize("arithmetic", [Rigorous, Differentiable])
def test_every_operation_is_in_every_arithmetic(arithmetic: type) -> None:
    """With the same operands, and the name of its result as a keyword."""
    assert issubclass(arithmetic, Arithmetic)
    assert not arithmetic.__abstractmethods__
    for name, signature in operations_of(Arithmetic).items():
        if name == "note":
            continue
        assert signature.parameters["name"].kind is inspect.Parameter.KEYWORD_ONLY, name
        assert signature.parameters["name"].default == "", name
        found = inspect.signature(getattr(arithmetic, name))
        assert list(found.parameters) == list(signature.parameters), name
        assert found.parameters["name"] == signature.parameters["name"], name
