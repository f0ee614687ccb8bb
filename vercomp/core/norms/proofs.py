"""Proofs of norms: of what kind each is, and how much memory it may take.

Every way to prove a norm states its peak memory before it starts. A way whose peak is above
``MEMORY`` is not taken: another one, whose bound is looser, stands in for it.
"""

from __future__ import annotations

from typing import NamedTuple

MEMORY = 2**29
"""Bytes that the proof of one norm may hold at once, beside the operator and the weights given.

A matrix that the operator holds anyway is exempt: its proof takes four times its size at most.
"""

AT_ONCE = 2**28
"""Bytes that blocks of a proof may take together; larger parts would not be faster."""

OVERHEAD = 2**25
"""Bytes that a proof holds whatever its size: vectors of iterations, pieces in the cache."""


class Proof(NamedTuple):
    """A proved upper bound of a norm.

    Args:
        bound: ‖A‖₂ is at most this.
        how: The way of the proof in words, such as "matrix", "torus" or "product of norms".
        memory: Bytes that the proof holds at once, at most; 0 if it holds only vectors.
    """

    bound: float
    how: str
    memory: int = 0
