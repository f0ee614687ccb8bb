"""Groups of certificates: counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vercomp.results.breakdowns import (
    by_class,
    by_method,
    group_of,
    missing_ranges,
    nearest_targets,
    reach,
)
from vercomp.results.examples import extremes

NAN, INF = float("nan"), float("inf")
ARRAYS = {
    "label": np.array([0, 0, 1, 1, 2]),
    "prediction": np.array([0, 0, 1, 0, 2]),
    "radius": np.array([0.1, 0.4, 0.3, 0.0, INF]),
    "target": np.array([1, 2, 0, 0, 1]),
    "method": np.array(["crown", "curvature", "crown", "crown", "interval"]),
    "exact": np.array([True, False, True, True, False]),
}
DISTANCE = np.array([0.1, 0.9, 0.35, 0.0, INF])


def test_a_group_has_shares_at_radii_and_what_attacks_leave() -> None:
    every = group_of("all", np.arange(5), ARRAYS, "radius", DISTANCE, (0.2, 0.5))
    assert every.clean == 0.8
    assert every.certified == (0.6, 0.2)
    assert every.left == (0.6, 0.4)
    assert every.median == pytest.approx(0.35)


def test_classes_are_those_that_occur() -> None:
    groups = by_class(ARRAYS, "radius", DISTANCE, (0.2,))
    assert [(group.name, len(group.rows)) for group in groups] == [("0", 2), ("1", 2), ("2", 1)]
    assert [group.certified for group in groups] == [(0.5,), (0.5,), (1.0,)]
    assert [group.clean for group in groups] == [1.0, 0.5, 1.0]
    assert groups[1].median == 0.3
    wrong = {**ARRAYS, "prediction": np.full(5, 9)}
    assert [group.median for group in by_class(wrong, "radius", DISTANCE, ())] == [None] * 3


def test_confusion_counts_correct_inputs_alone() -> None:
    found = nearest_targets(ARRAYS, "radius", 3)
    assert found.counts.tolist() == [[0, 1, 1], [1, 0, 0], [0, 1, 0]]
    assert found.least[0].tolist()[1:] == [0.1, 0.4]
    assert np.isnan(found.least[2, 0])
    none = nearest_targets({**ARRAYS, "radius": np.full(5, NAN)}, "radius", 3)
    assert not none.counts.any()


def test_methods_in_order_of_what_they_gave() -> None:
    rows = by_method(ARRAYS, "radius")
    assert [(row.name, row.count, row.share) for row in rows] == [
        ("crown", 2, 0.4),
        ("curvature", 1, 0.2),
        ("interval", 1, 0.2),
    ]
    assert rows[0].mean == pytest.approx(0.2)
    assert rows[0].exact == 1.0
    assert rows[2].mean == INF


def test_missing_inputs_are_ranges() -> None:
    assert missing_ranges(np.arange(5), 5) == []
    assert missing_ranges(np.array([0, 1, 4, 5]), 9) == [(2, 3), (6, 8)]
    assert missing_ranges(np.array([], dtype=int), 1) == [(0, 0)]


def test_the_range_of_a_picture_is_not_that_of_one_input_far_away() -> None:
    radii = np.linspace(0.1, 1.0, 1000)
    assert reach(radii, 2 * radii) == pytest.approx(2.1, rel=0.03)
    far = np.concatenate([2 * radii, [1e6]])
    assert reach(np.concatenate([radii, [0.0]]), far) < 3.0
    assert reach(1e-6 * radii, radii) < 1e-5  # both can be told from zero
    assert reach(np.zeros(3), np.full(3, INF)) == 1.0
    assert reach(np.zeros(3), np.ones(3)) == 1.0


def test_extremes_do_not_overlap() -> None:
    values = np.array([5.0, 1.0, 3.0, NAN, 2.0, 4.0])
    usable = np.array([True, True, True, True, True, False])
    assert extremes(values, usable) == ([1, 4], [0, 2])
    assert extremes(values[:1], usable[:1]) == ([0], [])
    assert extremes(values, np.zeros(6, dtype=bool)) == ([], [])
    many = np.arange(100.0)
    assert extremes(many, many >= 0) == ([0, 1, 2, 3, 4, 5], [99, 98, 97, 96, 95, 94])
