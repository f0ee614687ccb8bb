"""Activations: the table of those that are known, their constants and pieces, their source."""

from vercomp.activations.constants import constants, curvature_constants
from vercomp.activations.definition import define_activation
from vercomp.activations.family import ActivationFamily, ActivationTable, Parameter, Samples
from vercomp.activations.pieces import pieces
from vercomp.activations.table import BUILTIN
from vercomp.activations.torch_code import function_source

__all__ = [
    "BUILTIN",
    "ActivationFamily",
    "ActivationTable",
    "Parameter",
    "Samples",
    "constants",
    "curvature_constants",
    "define_activation",
    "function_source",
    "pieces",
]
