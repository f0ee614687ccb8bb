"""The errors that regions and specifications raise: one place decides their type."""

from __future__ import annotations

from .errors import InputError, InputTypeError


def invalid(message: str) -> InputError:
    """The error for a value that cannot be what was meant; the caller raises it."""
    return InputError(message)


def mistyped(message: str) -> InputTypeError:
    """The error for an argument of a wrong type; the caller raises it."""
    return InputTypeError(message)
