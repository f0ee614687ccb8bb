"""Identifiers for what comes from outside: any string becomes one that Python and we can use.

Names of layers and parameters are the user's (an ONNX file may hold any string). They are never
pasted into generated code: each gets an identifier here, unique in its scope, equal to the name
where that is possible.
"""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Iterable

from torch import nn

from vercomp.core.bounds import BoundedNetwork

_OURS = (
    "A B_x D P attack b biases bound c certify curvature graph hessian hessian_matrix "
    "hessian_product hessian_vector_product input_shape load maps margins_along margins_at net nn "
    "norms ops output_shape quadratic rounding s self shares t torch v x y A B D F H"
)
"""What emitted code calls its own things."""

_RESERVED = frozenset(
    [
        *keyword.kwlist,
        *keyword.softkwlist,
        *dir(builtins),
        *dir(nn.Module()),
        *dir(BoundedNetwork),
        *_OURS.split(),
    ]
)


def identifiers(names: Iterable[str], prefix: str, taken: Iterable[str] = ()) -> dict[str, str]:
    """An identifier for every name, in order.

    Args:
        names: Distinct strings.
        prefix: Put before names that do not begin with a letter ("0.weight" → "layer0_weight").
        taken: Identifiers that are in use already.
    """
    used = set(taken)
    result: dict[str, str] = {}
    for name in names:
        base = identifier(name, prefix)
        unique, count = base, 1
        while unique in used or unique in _RESERVED:
            count += 1
            unique = f"{base}_{count}" if base not in _RESERVED or count > 2 else f"{base}_"
        used.add(unique)
        result[name] = unique
    return result


def identifier(name: str, prefix: str) -> str:
    """The identifier nearest to a name: ASCII letters, digits and single underscores, lower case.

    Leading underscores go: they mean something in Python. Long names are cut.
    """
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.sub(r"[^0-9a-zA-Z]+", "_", ascii_name).strip("_").lower()[:32].rstrip("_")
    if not words:
        return prefix
    return words if words[0].isalpha() else f"{prefix}{words}"
