"""The exceptions of vercomp: one tree, and every message says where, why and what would work."""

from __future__ import annotations


class VercompError(Exception):
    """Base of everything that vercomp raises on purpose.

    Args:
        message: What is wrong, in one sentence.
        node: The node, layer or array concerned, where there is one.
        operator: The operator as its framework spells it (``Relu``, ``aten.relu.default``).
        location: Where it stands: a file, a line of the user's source.
        remedy: What would work instead.
    """

    def __init__(
        self,
        message: str,
        *,
        node: str | None = None,
        operator: str | None = None,
        location: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.message = message
        self.node = node
        self.operator = operator
        self.location = location
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        subject = " ".join(
            part
            for part in (
                f"node {self.node!r}" if self.node is not None else "",
                f"({self.operator})" if self.operator is not None else "",
                f"at {self.location}" if self.location is not None else "",
            )
            if part
        )
        text = f"{subject}: {self.message}" if subject else self.message
        return f"{text}. {self.remedy}" if self.remedy else text


class UsageError(VercompError):
    """An argument, option or file name that cannot be what the user meant."""


class InputDataError(VercompError):
    """Inputs or labels of the wrong shape, type or range, or holding NaN."""


class ModelFileError(VercompError):
    """A model file that cannot be read: truncated, of another format, or reaching outside."""


class UnsupportedError(VercompError):
    """A model that can be read but holds something vercomp does not translate or analyse."""


class UnboundedCurvatureError(UnsupportedError):
    """An activation whose first or second derivative is unbounded or jumps."""


class WeightError(VercompError):
    """Parameters that hold NaN or infinity."""


class ValidationError(VercompError):
    """The translated graph computes something else than its source."""


class DivergenceError(VercompError):
    """A training whose loss is no longer a finite number."""


class OutputFolderError(VercompError):
    """An output folder that cannot be written or holds something that is not ours."""


class PluginError(VercompError):
    """A plugin that cannot be loaded or registers what another one already owns."""


class InternalError(VercompError):
    """A broken invariant of vercomp itself: a bug of ours, never of the user."""
