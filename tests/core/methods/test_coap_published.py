"""The method ``coap`` on the network that its authors published, where VERCOMP_DATA has it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import vercomp
from vercomp.data import load_data

DATA = os.environ.get("VERCOMP_DATA", "/nowhere")


@pytest.mark.slow
@pytest.mark.skipif(
    not Path(DATA, "onnx", "wongkolter_mnist.pth").exists(),
    reason="needs VERCOMP_DATA, a folder with MNIST and the published networks",
)
def test_the_published_network_is_certified_as_its_authors_say() -> None:
    """5.82 % of certified error at l∞ 0.1 on all of MNIST; of every fiftieth image, 15 of 200."""
    from benchmarks.public import public

    model, shape = public("wongkolter_mnist")
    net = vercomp.compile(model, shape)
    data = load_data(f"mnist:{DATA}", shape)
    x, y = data.x[::50], data.y[::50]
    certified = 0
    for start in range(0, len(y), 10):
        rows = vercomp.Specification.margins(y[start : start + 10], 10).coefficients
        region = vercomp.Ball(x[start : start + 10], 0.1, "linf")
        bounds = net.bound(region, rows, methods=["coap"])
        certified += int((bounds > 0.0).all(1).sum())
    assert certified >= 184  # no last bit decides
