"""What a package can be asked to do. Imports no torch: the command line lists it at once."""

from __future__ import annotations

FEATURES = ("certify", "attack", "hessian", "regularizer")
"""In canonical order."""

CURVED = ("hessian", "regularizer")
"""Those that need the second derivative of every activation."""
