"""The exceptions of vercomp: one tree, and every message says where, why and what would work."""

from __future__ import annotations

from vercomp.core.errors import (
    ChangedWeightsError,
    InputError,
    InputTypeError,
    InternalError,
    MissingRuleError,
    UnanswerableError,
    VercompError,
    WeightError,
)

__all__ = [
    "ChangedWeightsError",
    "DivergenceError",
    "InputDataError",
    "InputError",
    "InputTypeError",
    "InternalError",
    "MissingRuleError",
    "ModelFileError",
    "OutputFolderError",
    "PluginError",
    "UnanswerableError",
    "UnboundedCurvatureError",
    "UnsupportedError",
    "UsageError",
    "ValidationError",
    "VercompError",
    "WeightError",
]


class UsageError(VercompError):
    """An argument, option or file name that cannot be what the user meant."""


class InputDataError(VercompError):
    """A data set with inputs or labels of the wrong shape, type or range, or holding NaN."""


class ModelFileError(VercompError):
    """A model file that cannot be read: truncated, of another format, or reaching outside."""


class UnsupportedError(VercompError):
    """A model that can be read but holds something vercomp does not translate or analyse."""


class UnboundedCurvatureError(UnsupportedError):
    """An activation whose first or second derivative is unbounded or jumps."""


class ValidationError(VercompError):
    """The translated graph computes something else than its source."""


class DivergenceError(VercompError):
    """A training whose loss is no longer a finite number."""


class OutputFolderError(VercompError):
    """An output folder that cannot be written or holds something that is not ours."""


class PluginError(VercompError):
    """A plugin that cannot be loaded, fails, or registers what another plugin already owns."""
