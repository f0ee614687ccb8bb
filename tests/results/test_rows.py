"""Results as rows."""

from __future__ import annotations

import csv
import io

import numpy as np

from vercomp.results.rows import to_csv


def test_rows_have_all_digits_and_one_column_an_axis() -> None:
    arrays = {
        "exact": np.array([True, False, True]),
        "radius": np.array([0.1 + 0.2, float("inf"), float("nan")]),
        "radius_per_target": np.ones((3, 2)),
        "index": np.arange(3),
        "method": np.array(["curvature", 'a "method", quoted', "crown"]),
    }
    rows = list(csv.reader(io.StringIO(to_csv(arrays))))
    assert rows[0] == ["index", "radius", "exact", "method"]
    assert rows[1] == ["0", "0.30000000000000004", "1", "curvature"]
    assert rows[2] == ["1", "inf", "0", 'a "method", quoted']
    assert rows[3] == ["2", "", "1", "crown"]
