"""Rows of training on bounds: their names, what is measured, what stands beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import training_bounds
from benchmarks.training_bounds import (
    PUBLISHED_BOUNDS,
    BoundResult,
    bound_row,
    bound_tables,
    finished_bounds,
    run_bounds,
)
from vercomp.data import Dataset


def test_names() -> None:
    row = bound_row("mnist-linf-0.1-small-relu-crown-ibp")
    assert row is not None
    assert row.architecture == "convolutional:16x4s2,32x4s2:relu:100"
    assert (row.recipe.method, row.recipe.norm, row.recipe.radius) == ("crown-ibp", "linf", 0.1)
    dense = bound_row("mnist-l2-1.58-256,128-relu-coap")
    assert dense is not None
    assert (dense.architecture, dense.recipe.norm) == ("mlp:256,128:relu", "l2")
    assert bound_row("mnist-0.5-2x1024-sigmoid-plain") is None


def test_published_errors_are_possible() -> None:
    assert len(PUBLISHED_BOUNDS) == 8
    assert all(0 < row.error < row.robust_error < 100 for row in PUBLISHED_BOUNDS)


def test_a_row_is_trained_certified_attacked_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 10, (300,), generator=generator)
    x = 0.1 * torch.rand(300, 1, 28, 28, generator=generator)
    x[torch.arange(300), 0, y, :] += 0.8
    made = Dataset(x, y, "made up")
    monkeypatch.setattr(training_bounds, "BLOCK", 20)
    row = bound_row("mnist-linf-0.1-16-relu-ibp")
    assert row is not None
    row = replace(row, recipe=replace(row.recipe, epochs=8, batch_size=16, learning_rate=5e-3))
    said: list[str] = []

    def data(name: str, split: str) -> Dataset:
        return made if split == "train" else Dataset(x[:40], y[:40], "made up")

    found = run_bounds(row, tmp_path, data, said.append)
    assert 0.5 < found["certified"] <= found["pgd"] <= found["clean"] <= 1.0
    assert said[-1].endswith("40 of 40 certified and attacked")
    assert finished_bounds(tmp_path) == [found]
    told = len(said)
    assert run_bounds(row, tmp_path, data, said.append) == found
    assert len(said) == told


def test_the_table_has_the_published_rows_of_its_setting() -> None:
    result = BoundResult(
        network="small relu", norm="linf", radius=0.3, method="ibp", clean=0.95, certified=0.8,
        pgd=0.85, epochs=30, seconds_training=1234.4, seconds_certification=60.0,
    )  # fmt: skip
    text = bound_tables([result])
    assert text.startswith("### MNIST, linf radius 0.3: bounds")
    assert "| small relu | ibp | 95.00 % | **80.00 %** | 85.00 % | 30 | 1,234 |" in text
    assert (
        "| small relu | coap, Wong et al. (2018), Table 2 | 85.13 % | 56.90 % | – | – | – |" in text
    )
    assert text.count("coap") == 2
    assert bound_tables([]) == ""
