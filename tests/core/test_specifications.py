"""Specifications: which rows they have, what decides and what refutes them, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vercomp.core.specifications import Specification

LOGITS = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, -1.0], [1.0, 1.0, 0.0]])
LABELS = torch.tensor([0, 1, 1])


def test_margins_against_every_other_class() -> None:
    margins = Specification.margins(LABELS, 3)
    assert margins.values(LOGITS).tolist() == [[2.0, 1.0], [5.0, 6.0], [0.0, 1.0]]
    assert (margins.count, margins.clauses, margins.batched) == (2, 2, True)
    assert margins.coefficients.dtype == torch.float64
    assert margins.decided(margins.values(LOGITS)).tolist() == [True, True, False]
    assert margins.violated(margins.values(LOGITS)).tolist() == [False, False, True]


@pytest.mark.parametrize("targets", [torch.tensor([2, 0, 2]), torch.tensor([[2], [0], [2]])])
def test_margins_against_named_targets(targets: torch.Tensor) -> None:
    margins = Specification.margins(LABELS, 3, targets)
    assert margins.values(LOGITS).tolist() == [[1.0], [5.0], [1.0]]


def test_bounds_of_outputs() -> None:
    inf = torch.inf
    bounds = Specification.outputs(torch.tensor([0.5, -inf, -2.0]), torch.tensor([4.0, 3.0, inf]))
    assert bounds.count == 4
    assert not bounds.batched
    assert bounds.values(LOGITS).tolist() == [
        [2.5, 4.0, 1.0, 2.0],
        [-0.5, 1.0, 4.0, -2.0],
        [0.5, 2.0, 3.0, 2.0],
    ]
    assert bounds.decided(bounds.values(LOGITS)).tolist() == [True, False, True]
    assert bounds.rows(slice(0, 1)) is bounds


def test_bounds_that_only_some_inputs_have() -> None:
    lower = torch.full((3, 3), -torch.inf)
    lower[0, 0] = lower[2, 1] = 2.0
    bounds = Specification.outputs(lower=lower)
    assert bounds.values(LOGITS).tolist() == [[1.0, 1.0], [1.0, 1.0], [1.0, -1.0]]
    assert bounds.decided(bounds.values(LOGITS)).tolist() == [True, True, False]
    assert torch.equal(bounds.rows(torch.tensor([2])).offsets, bounds.offsets[2:])


def test_alternatives_within_a_clause() -> None:
    """Unsafe if (z₀ ≤ 1 and z₁ ≤ 2) or z₂ ≤ −5, the way VNN-LIB says it."""
    C = torch.eye(3)
    spec = Specification.of(C, torch.tensor([-1.0, -2.0, 5.0]), torch.tensor([7, 7, 3]))
    assert spec.clauses == 2
    z = torch.tensor([[0.0, 3.0, 0.0], [0.0, 0.0, 0.0], [2.0, 2.0, -6.0], [2.0, 0.0, 0.0]])
    values = spec.values(z)
    assert spec.decided(values).tolist() == [True, False, False, True]
    assert spec.violated(values).tolist() == [False, True, True, False]


def test_nan_neither_proves_nor_refutes() -> None:
    spec = Specification.of(torch.eye(2), groups=torch.tensor([0, 0]))
    values = torch.tensor([[torch.nan, -1.0], [torch.nan, 1.0], [torch.nan, torch.nan]])
    assert spec.decided(values).tolist() == [False, True, False]
    assert spec.violated(values).tolist() == [False, False, False]
    assert Specification.of(torch.eye(1)).decided(torch.zeros(1, 1)).tolist() == [False]


def test_a_mixture_is_decided_as_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    groups = torch.randint(0, 4, (9,), generator=generator)
    C = torch.randn(20, 9, 5, generator=generator)
    spec = Specification.of(C, torch.randn(9, generator=generator), groups)
    values = spec.values(torch.randn(20, 5, generator=generator))
    for row, decided, violated in zip(
        values, spec.decided(values), spec.violated(values), strict=True
    ):
        clauses = [any(row[groups == clause] > 0) for clause in groups.unique()]
        assert decided == all(clauses)
        assert violated == (not all(clauses))
    part = spec.rows(torch.tensor([3, 1])).to("cpu")
    assert torch.equal(part.decided(values[[3, 1]]), spec.decided(values)[[3, 1]])


def make(name: str, *args: Any) -> Specification:
    return getattr(Specification, name)(*args)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("of", (torch.zeros(3),), "coefficients must have the shape"),
        ("of", (torch.zeros(0, 3),), "coefficients must have the shape"),
        ("of", (torch.full((1, 2), torch.nan),), "coefficients must be finite"),
        ("of", (torch.eye(2), torch.zeros(3)), "offsets must have the shape"),
        ("of", (torch.eye(2), torch.tensor([0.0, torch.inf])), "offsets must be finite"),
        ("of", (torch.eye(2), None, torch.tensor([0])), "groups must have the shape"),
        ("margins", (LABELS, 1), "two classes or more"),
        ("margins", (LABELS, 2, torch.tensor([1, 0, 2])), r"targets must lie in 0\.\.1, got 2"),
        ("margins", (LABELS - 1, 3), r"labels must lie in 0\.\.2, got -1"),
        ("margins", (LABELS[None], 3), "labels must have the shape"),
        ("margins", (LABELS, 3, torch.tensor([1, 0, 1])), "differ from the label: see row 2"),
        ("margins", (LABELS, 3, torch.tensor([1, 0])), "targets must have the shape"),
        ("margins", (LABELS, 3, "runner-up"), "targets must be 'all' or a tensor"),
        ("outputs", (), "must have one shape"),
        ("outputs", (torch.zeros(2), torch.ones(3)), "must have one shape"),
        ("outputs", (torch.ones(2), torch.ones(2)), "lower < upper"),
        ("outputs", (torch.tensor([torch.nan]),), "lower < upper"),
        ("outputs", (torch.tensor([-torch.inf]),), "must bound something"),
    ],
)
def test_refused_values(name: str, args: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, *args)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("of", (torch.eye(2).long(),), "coefficients must be a tensor of floating-point"),
        ("of", (torch.eye(2), None, torch.zeros(2)), "groups must be integers"),
        ("margins", (LABELS.float(), 3), "labels must be a tensor of integers"),
        ("margins", (LABELS, 3, torch.zeros(3)), "targets must be a tensor of integers"),
    ],
)
def test_refused_types(name: str, args: tuple[Any, ...], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make(name, *args)


def test_bounds_of_another_shape_are_refused() -> None:
    margins = Specification.margins(LABELS, 3)
    for wrong in (torch.zeros(3, 3), torch.zeros(2, 2), torch.zeros(2)):
        with pytest.raises(ValueError, match="lower bounds must have the shape"):
            margins.decided(wrong)
