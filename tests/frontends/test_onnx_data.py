"""Real ONNX files: what compiles, what is piecewise linear, what is refused. Needs VERCOMP_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import vercomp
from vercomp.activations import BUILTIN
from vercomp.errors import UnsupportedError
from vercomp.frontends.onnx import from_onnx
from vercomp.frontends.translation import refuse_opaque
from vercomp.frontends.validate import validate
from vercomp.ir.printer import to_text

FOLDER = Path(os.environ.get("VERCOMP_DATA", "")) / "onnx"

pytestmark = pytest.mark.skipif(
    "VERCOMP_DATA" not in os.environ, reason="VERCOMP_DATA does not say where the files are"
)

CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}


@pytest.mark.parametrize(
    ("name", "scale", "options"),
    [
        ("logsig_200_100_50", 255.0, {}),
        ("tansig_200_100_50", 255.0, {}),
        ("cifar_conv_small_sigmoid", 1.0, CIFAR),
    ],
)
def test_smooth_classifiers_compile_and_certify(name, scale, options):
    network = vercomp.compile(FOLDER / f"{name}.onnx", **options)
    shape = network.manifest["input_shape"]
    x = scale * torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    y = network.network(x).argmax(1)
    certificates = network.certify(x, y)
    assert bool((certificates.radius > 0).all())
    assert bool((certificates.target != y).all())


@pytest.mark.parametrize(
    ("name", "relus"), [("resnet_2b", 6), ("colt_mnist_0.1", 3), ("Convnet_avgpool", 1)]
)
def test_piecewise_linear_classifiers_are_certified_by_intervals(name, relus):
    path = FOLDER / f"{name}.onnx"
    translation = from_onnx(path, BUILTIN)
    validate(translation)
    refuse_opaque(translation.graph)
    lines = to_text(translation.graph).splitlines()
    assert sum("= relu(" in line for line in lines) == relus
    net = vercomp.compile(path)
    assert net.manifest["methods"][:2] == ["interval", "crown"]
    x = torch.rand(2, *net.manifest["input_shape"], generator=torch.Generator().manual_seed(0))
    y = net.network(x).argmax(1)
    assert (net.certify(x, y, norm="linf", box=(0.0, 1.0)).radius > 0).all()


OFFENDERS = {
    "vit_pgd_2_3_16": {"MatMul": 4, "Softmax": 2},
    "ml4acopf_14_ieee": {"Mul": 3, "Pow": 7},
}


@pytest.mark.parametrize("name", OFFENDERS)
def test_what_is_no_such_network_is_listed_at_once(name):
    with pytest.raises(UnsupportedError) as error:
        vercomp.compile(FOLDER / f"{name}.onnx")
    first, *nodes, last = str(error.value).splitlines()
    assert first == f"{len(nodes)} operators are not supported:"
    assert last == "Only affine operators and elementwise activations can be analysed"
    for operator, count in OFFENDERS[name].items():
        assert sum(f" ({operator}) at {name}.onnx" in line for line in nodes) == count
