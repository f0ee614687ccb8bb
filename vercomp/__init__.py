"""vercomp: a verification compiler for neural networks.

    net = vercomp.compile(model, input_shape=(1, 28, 28))
    certificates = net.certify(x, y)

Attributes are imported when they are first used, so that ``import vercomp`` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vercomp.activations import ActivationFamily, define_activation
    from vercomp.cascades import CompiledCascade, cascade, load_cascade
    from vercomp.compiled import CompiledNetwork, load_package
    from vercomp.core.bounds import Bounds
    from vercomp.core.claims.deviation import Deviation
    from vercomp.core.claims.labels import Labels
    from vercomp.core.claims.threshold import Threshold
    from vercomp.core.methods.attack import AttackOptions, Attacks
    from vercomp.core.methods.certificates import Certificates
    from vercomp.core.methods.method import Method
    from vercomp.core.methods.portfolio import CertifyOptions
    from vercomp.core.regions.ball_kind import BallKind, register_ball
    from vercomp.core.regions.constructors import Ball, Box
    from vercomp.core.regions.region import Region
    from vercomp.core.regularizer import Regularizer
    from vercomp.core.specifications import Specification
    from vercomp.driver import compile  # noqa: A004
    from vercomp.errors import VercompError
    from vercomp.live import regularizer
    from vercomp.registry import Registry, register
    from vercomp.results.analysis import Analysis
    from vercomp.smoothing.smoothed import Smoothed

_HOMES = {
    "ActivationFamily": "vercomp.activations",
    "Analysis": "vercomp.results.analysis",
    "AttackOptions": "vercomp.core.methods.attack",
    "Attacks": "vercomp.core.methods.attack",
    "Ball": "vercomp.core.regions.constructors",
    "BallKind": "vercomp.core.regions.ball_kind",
    "Bounds": "vercomp.core.bounds",
    "Box": "vercomp.core.regions.constructors",
    "Certificates": "vercomp.core.methods.certificates",
    "CertifyOptions": "vercomp.core.methods.portfolio",
    "CompiledCascade": "vercomp.cascades",
    "CompiledNetwork": "vercomp.compiled",
    "Deviation": "vercomp.core.claims.deviation",
    "Labels": "vercomp.core.claims.labels",
    "Method": "vercomp.core.methods.method",
    "Region": "vercomp.core.regions.region",
    "Registry": "vercomp.registry",
    "Regularizer": "vercomp.core.regularizer",
    "Smoothed": "vercomp.smoothing.smoothed",
    "Specification": "vercomp.core.specifications",
    "Threshold": "vercomp.core.claims.threshold",
    "VercompError": "vercomp.errors",
    "cascade": "vercomp.cascades",
    "compile": "vercomp.driver",
    "define_activation": "vercomp.activations",
    "load_cascade": "vercomp.cascades",
    "load_package": "vercomp.compiled",
    "register": "vercomp.registry",
    "register_ball": "vercomp.core.regions.ball_kind",
    "regularizer": "vercomp.live",
}

__all__ = [
    "ActivationFamily",
    "Analysis",
    "AttackOptions",
    "Attacks",
    "Ball",
    "BallKind",
    "Bounds",
    "Box",
    "Certificates",
    "CertifyOptions",
    "CompiledCascade",
    "CompiledNetwork",
    "Deviation",
    "Labels",
    "Method",
    "Region",
    "Registry",
    "Regularizer",
    "Smoothed",
    "Specification",
    "Threshold",
    "VercompError",
    "cascade",
    "compile",
    "define_activation",
    "load_cascade",
    "load_package",
    "register",
    "register_ball",
    "regularizer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vercomp' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
