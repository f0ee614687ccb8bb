"""Cross entropy at the inputs, with the curvature bound as a penalty."""

from __future__ import annotations

from vercomp.train.method import Method
from vercomp.train.methods.plain import PlainTraining

METHOD = Method(
    name="penalty",
    summary="cross entropy with the curvature bound as a penalty",
    objective="PenalisedTraining",
    bounded=True,
)


class PenalisedTraining(PlainTraining):
    """Cross entropy at the inputs, plus γ·κ."""
