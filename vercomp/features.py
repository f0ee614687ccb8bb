"""What a package can be asked to do. Imports no torch: the command line lists it at once."""

from __future__ import annotations

from collections.abc import Mapping

FEATURES = ("certify", "attack", "hessian", "regularizer", "crown")
"""In canonical order."""

CURVED = ("hessian", "regularizer")
"""Those that need the second derivative of every activation."""

METHODS: Mapping[str, str] = {
    "curvature": "vercomp.core.methods.curvature:Curvature",
    "interval": "vercomp.core.methods.interval:IntervalBounds",
    "crown": "vercomp.core.methods.crown:Crown",
    "local": "vercomp.core.methods.local:LocalCurvatures",
    "coap": "vercomp.core.methods.coap:Coap",
    "coap-projected": "vercomp.core.methods.coap:ProjectedCoap",
    "lipschitz": "vercomp.core.methods.lipschitz:LocalLipschitz",
    "alpha": "vercomp.core.methods.alpha:Alpha",
    "quadratic": "vercomp.core.methods.quadratic:Quadratic",
}
"""The methods of certification by name, cheapest first: ``"module:Class"``."""
