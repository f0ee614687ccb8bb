"""Activations: the table of those that are known, their constants, and their source text."""

from vercomp.activations.constants import constants
from vercomp.activations.definition import define_activation
from vercomp.activations.family import ActivationFamily, ActivationTable, Parameter, Samples
from vercomp.activations.table import BUILTIN
from vercomp.activations.torch_code import function_source

__all__ = [
    "BUILTIN",
    "ActivationFamily",
    "ActivationTable",
    "Parameter",
    "Samples",
    "constants",
    "define_activation",
    "function_source",
]
