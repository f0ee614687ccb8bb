"""How much memory a computation may take: one number, which everything that chooses a size asks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from .errors import InputError

DEFAULT = 512 * 2**20
"""The most that one working set takes on a CPU, unless the user says otherwise."""

_LEAST = 5_000_000
"""No limit may be smaller, in bytes: a single input may need as much."""

_LIMIT: ContextVar[int | None] = ContextVar("memory limit", default=None)


@contextmanager
def memory_limit(gigabytes: float | None) -> Iterator[None]:
    """Keep to a limit while the context lasts; None leaves it as it is.

    A quarter of the limit goes to one working set: weights, results and what the allocator keeps
    take the rest.

    Raises:
        InputError: The limit is below 0.005 GB, or is not a number.
    """
    if gigabytes is None:
        yield
        return
    if not gigabytes * 1e9 >= _LEAST:
        raise InputError(
            f"a limit of memory must be at least {_LEAST / 1e9} GB, got {gigabytes} GB",
            remedy="Allow at least what the network and its inputs take themselves",
        )
    token = _LIMIT.set(int(gigabytes * 1e9))
    try:
        yield
    finally:
        _LIMIT.reset(token)


def working_set(device: torch.device) -> int:
    """The bytes that one working set may take on a device."""
    limit = _LIMIT.get()
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        half = (free + cached) // 2
        return half if limit is None else min(half, limit // 4)
    wanted = DEFAULT if limit is None else limit // 4
    try:
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return wanted
    return max(min(wanted, available // 4), _LEAST // 4)
