"""Results as rows, one for each input: for spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from vercomp.results.summaries import Arrays

FIRST = ("index", "label", "prediction", "radius", "margin", "lower_bound", "target")
"""The columns that come first, where they are there; the others follow in their own order."""


def to_csv(arrays: Arrays) -> str:
    """The arrays with one number or word an input, as comma-separated values with a header.

    Floating-point numbers have all their digits; infinities are ``inf``, what is not known is
    empty, and truth values are 1 and 0. Arrays with more than one axis are left out.
    """
    flat = {name: array for name, array in arrays.items() if array.ndim == 1}
    names = [name for name in FIRST if name in flat]
    names += [name for name in flat if name not in names]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    columns = [[_word(value) for value in flat[name].tolist()] for name in names]
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return "" if np.isnan(value) else repr(value)
    return str(value)
