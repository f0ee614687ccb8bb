"""Drawings of random DAGs: nothing overlaps, every edge arrives, none crosses a box."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from vercomp.report.layering import Drawing, Size, drawing, isotonic


def dag(seed: int, nodes: int) -> tuple[list[Size], list[list[int]]]:
    dice = random.Random(seed)  # noqa: S311 - a test's dice
    sizes = [Size(dice.choice([40.0, 200.0, 364.0]), dice.uniform(20, 300)) for _ in range(nodes)]
    parents = [
        sorted({dice.randrange(max(0, box - dice.choice([1, 3, 9])), box) for _ in range(count)})
        for box in range(1, nodes)
        for count in [dice.choice([1, 1, 2, 4])]
    ]
    return sizes, [[], *parents]


def points(path: str) -> list[tuple[float, float]]:
    """Points along a path of M, V and C, with absolute coordinates."""
    found: list[tuple[float, float]] = []
    for command, text in re.findall(r"([MVC])([^MVC]*)", path):
        numbers = [float(number) for number in text.split()]
        if command == "M":
            found.append((numbers[0], numbers[1]))
        elif command == "V":
            x, y = found[-1]
            found += [(x, y + (numbers[0] - y) * k / 20) for k in range(1, 21)]
        else:
            (x0, y0), (x1, y1, x2, y2, x3, y3) = found[-1], numbers
            for k in range(1, 41):
                t, s = k / 40, 1 - k / 40
                a, b, c, d = s**3, 3 * s**2 * t, 3 * s * t**2, t**3
                found.append((a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3))
    return found


def inside(made: Drawing, sizes: list[Size], x: float, y: float) -> list[int]:
    """The boxes that a point lies in, off their rims."""
    return [
        box
        for box, ((left, top), size) in enumerate(zip(made.corners, sizes, strict=True))
        if left + 0.5 < x < left + size.width - 0.5 and top + 0.5 < y < top + size.height - 0.5
    ]


@pytest.mark.parametrize("seed", range(12))
def test_random_dags(seed: int) -> None:
    sizes, parents = dag(seed, 4 + 3 * seed)
    made = drawing(sizes, parents)
    assert made == drawing(sizes, parents)
    for box, found in enumerate(parents):
        for parent in found:
            assert made.rows[parent] < made.rows[box]
            assert made.corners[parent][1] + sizes[parent].height < made.corners[box][1]
    for row in set(made.rows):
        boxes = sorted((c[0], b) for b, c in enumerate(made.corners) if made.rows[b] == row)
        for (left, one), (right, _) in pairwise(boxes):
            assert left + sizes[one].width + 10 < right
    for corner, size in zip(made.corners, sizes, strict=True):
        assert corner[0] >= 0
        assert corner[0] + size.width <= made.width + 0.1
        assert corner[1] + size.height <= made.height + 0.1
    for stroke in made.strokes:
        for x, y in points(stroke.path):
            assert not inside(made, sizes, x, y)
    arrivals = {
        (stroke.source, target)
        for stroke in made.strokes
        if stroke.end is not None
        for target in stroke.targets
    }
    assert arrivals == {(parent, box) for box, found in enumerate(parents) for parent in found}


@pytest.mark.parametrize("seed", range(6))
def test_every_edge_is_one_line_from_its_box_to_its_reader(seed: int) -> None:
    sizes, parents = dag(seed, 20)
    made = drawing(sizes, parents)
    for box, found in enumerate(parents):
        for parent in found:
            way = sorted(
                (s for s in made.strokes if s.source == parent and box in s.targets),
                key=lambda stroke: points(stroke.path)[0][1],
            )
            assert len(way) == made.rows[box] - made.rows[parent]
            for one, other in pairwise(way):
                assert points(one.path)[-1] == pytest.approx(points(other.path)[0], abs=0.2)
            assert way[-1].end == pytest.approx(points(way[-1].path)[-1], abs=0.2)
            assert [s.long for s in way] == [len(way) > 1] * len(way)
            left, top = made.corners[box]
            assert left < way[-1].end[0] < left + sizes[box].width
            assert way[-1].end[1] == pytest.approx(top, abs=0.2)
            assert points(way[0].path)[0][1] == pytest.approx(
                made.corners[parent][1] + sizes[parent].height, abs=0.2
            )


def test_a_chain_is_a_straight_line() -> None:
    sizes = [Size(100.0, 40.0)] * 6
    made = drawing(sizes, [[], [0], [1], [2], [3], [4]])
    assert {corner[0] for corner in made.corners} == {0.0}
    assert all("C" not in stroke.path for stroke in made.strokes)


def test_a_value_that_many_read_goes_down_once() -> None:
    count = 12
    made = drawing([Size(100.0, 40.0)] * count, [[], *([0, box - 1] for box in range(1, count))])

    lanes = [stroke for stroke in made.strokes if stroke.source == 0 and stroke.end is None]
    assert len(lanes) == count - 2  # one piece a row, not one for each reader in each row


def test_isotonic_regression_against_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        n = int(generator.integers(1, 30))
        values, weights = generator.normal(size=n), generator.uniform(0.1, 5, n)
        fitted = IsotonicRegression().fit(np.arange(n), values, sample_weight=weights)
        expected = fitted.predict(np.arange(n))
        np.testing.assert_allclose(isotonic(values.tolist(), weights.tolist()), expected)
