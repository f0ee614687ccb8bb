"""What the second argument of ``certify`` claims."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from ..errors import InputTypeError
from ..specifications import Specification
from .claim import Claim
from .labels import Labels
from .statement import Statement


def claim_of(given: Tensor | Claim | Specification) -> Claim:
    """What the second argument of ``certify`` claims.

    Raises:
        InputTypeError: It is nothing that can be claimed.
    """
    if callable(getattr(given, "about", None)):  # a claim of another version's package is as good
        return cast(Claim, given)
    if isinstance(given, Specification):
        return Statement(given)
    if isinstance(given, Tensor):
        return Labels(given)
    raise InputTypeError(
        f"labels must be a tensor of integers, got {type(given).__name__}",
        remedy="Labels() takes the predicted classes; other questions are Threshold(T), "
        "Deviation(D), and a Specification of any rows",
    )
