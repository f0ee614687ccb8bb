"""vercomp: a verification compiler for neural networks.

    net = vercomp.compile(model, input_shape=(1, 28, 28))
    certificates = net.certify(x, y)

Attributes are imported when they are first used, so that ``import vercomp`` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vercomp.activations import define_activation
    from vercomp.compiled import CompiledNetwork, load_package
    from vercomp.driver import compile  # noqa: A004
    from vercomp.errors import VercompError
    from vercomp.live import regularizer
    from vercomp.registry import register

_HOMES = {
    "CompiledNetwork": "vercomp.compiled",
    "VercompError": "vercomp.errors",
    "compile": "vercomp.driver",
    "define_activation": "vercomp.activations",
    "load_package": "vercomp.compiled",
    "register": "vercomp.registry",
    "regularizer": "vercomp.live",
}

__all__ = [
    "CompiledNetwork",
    "VercompError",
    "compile",
    "define_activation",
    "load_package",
    "register",
    "regularizer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vercomp' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
