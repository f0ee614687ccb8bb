"""The exceptions that are raised on purpose: a base class, and the refusals of the runtime.

A package holds a copy of this file, but inside a process that has vercomp it takes vercomp's own
module: ``except vercomp.VercompError`` is then meant for all packages, also those that an earlier
version wrote. So names may be added here and none may be taken away.
"""

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


class InternalError(VercompError):
    """A broken invariant of vercomp itself: a bug of ours, never of the user."""


class MissingRuleError(VercompError):
    """A walk met a kind of node for which its domain has no rule."""


class UnanswerableError(VercompError, ValueError):
    """A question that none of a network's methods can answer."""


class InputError(VercompError, ValueError):
    """Inputs, labels, targets or options of the wrong shape or range, or holding NaN."""


class InputTypeError(VercompError, TypeError):
    """Inputs, labels, targets or options of the wrong type."""


class WeightError(VercompError, ValueError):
    """Parameters that hold NaN or infinity, or no parameters where there must be some."""


class ChangedWeightsError(VercompError, RuntimeError):
    """Parameters that changed while something was computed about them."""
