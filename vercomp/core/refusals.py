"""The errors that regions and specifications raise: one place decides their type."""

from __future__ import annotations


def invalid(message: str) -> Exception:
    """The error for a value that cannot be what was meant; the caller raises it."""
    return ValueError(message)


def mistyped(message: str) -> Exception:
    """The error for an argument of a wrong type; the caller raises it."""
    return TypeError(message)
