"""Certificates as a table."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vercomp.core.methods.certificates import Certificates


def certificates(radius: float | None = None) -> Certificates:
    r = torch.tensor([0.5, 0.0, torch.inf], dtype=torch.float64)
    return Certificates(
        radius=r,
        target=torch.tensor([1, 0, 1]),
        exact=torch.tensor([True, True, False]),
        gap=torch.tensor([1e-4, 0.0, torch.inf], dtype=torch.float64),
        witness=torch.zeros(3, 2, dtype=torch.float64),
        prediction=torch.tensor([0, 0, 0]),
        radius_per_target=torch.ones(3, 2, dtype=torch.float64),
        evaluations=torch.tensor([[0, 3], [1, 0], [0, 1]]),
        method=("curvature", "curvature", "interval"),
        certified=None if radius is None else r > radius,
        refuted=None if radius is None else r < radius,
    )


def test_without_pandas_it_is_a_structured_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = certificates().to_frame()
    assert isinstance(table, np.ndarray)
    assert table.dtype.names == (
        *("radius", "target", "exact", "gap", "prediction", "evaluations", "method"),
    )
    assert table["radius"].tolist() == [0.5, 0.0, float("inf")]
    assert table["evaluations"].tolist() == [3, 1, 1]
    assert table["method"].tolist() == ["curvature", "curvature", "interval"]
    asked = certificates(0.3).to_frame()
    assert asked["certified"].tolist() == [True, False, True]
    assert asked["refuted"].tolist() == [False, True, False]
    risky = replace(certificates(), failure_probability=torch.full((3,), 0.125))
    assert risky.to_frame()["failure_probability"].tolist() == [0.125] * 3


def test_with_pandas_its_columns_are_those_of_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    stand_in = ModuleType("pandas")
    stand_in.DataFrame = lambda columns: made.append(columns) or SimpleNamespace()  # type: ignore[attr-defined,func-returns-value]
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    assert isinstance(certificates(0.3).to_frame(), SimpleNamespace)
    assert list(made[0])[-1] == "method"
    assert made[0]["radius"].tolist() == [0.5, 0.0, float("inf")]


def test_the_real_library_takes_it() -> None:
    pandas = pytest.importorskip("pandas")
    frame = certificates(0.3).to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.loc[frame.certified, "method"].tolist() == ["curvature", "interval"]
