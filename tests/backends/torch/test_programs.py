"""The printed programs are the walks: both give the same numbers, bit for bit.

A package carries its own copy of what it needs of the core. Here it gets all of it, walks included,
so that they run over the operators of the package's own graph, as its printed programs do.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from dags import random_dag
from graph_table import GRAPHS
from graphs import all_pairs, emit
from torch import Tensor

import vercomp
from vercomp.backends.torch.layout import Layout, Named
from vercomp.backends.torch.memory import import_package
from vercomp.backends.torch.programs import Printer
from vercomp.backends.torch.writer import Writer
from vercomp.core.arithmetic.recording import Step
from vercomp.core.bounds import BoundedNetwork
from vercomp.errors import InternalError

FOLDER = Path(vercomp.__file__).parent / "core"


CORE = {
    f"core/{path.relative_to(FOLDER).as_posix()}": path.read_bytes()
    for path in FOLDER.rglob("*.py")
}

Made = tuple[Mapping[str, bytes], BoundedNetwork]


def of_graph(name: str) -> Made:
    made = emit(GRAPHS[name]())
    return made.package.files, made.network


def of_dag(seed: int) -> Made:
    case = random_dag(seed)
    made = vercomp.compile(case.module, case.x.shape[1:])
    return made.files, made.network


NETWORKS: dict[str, Callable[[], Made]] = {
    **{name: partial(of_graph, name) for name in GRAPHS},
    **{f"dag {seed}": partial(of_dag, seed) for seed in range(12)},
}


class Compiled:
    """A package in memory with all of the core; its network is in double precision."""

    def __init__(self, files: Mapping[str, bytes], network: BoundedNetwork) -> None:
        self.package = import_package({**files, **CORE})
        self.net: Any = self.package.net
        self.network = self.net.Network().double()
        self.network.load_state_dict(network.state_dict())
        self.network.requires_grad_(False)
        self.graph = self.network.nodes()
        y, t = all_pairs(network.classes)
        identity = torch.eye(network.classes, dtype=torch.float64)
        self.c = (identity[y] - identity[t])[:60]

    def core(self, module: str) -> Any:
        """A module of the package's own core."""
        return importlib.import_module(f"{self.package.__name__}.core.{module}")


@pytest.fixture(scope="module", params=NETWORKS)
def compiled(request: pytest.FixtureRequest) -> Compiled:
    return Compiled(*NETWORKS[request.param]())


def flat(bound: Any) -> Iterator[tuple[str, Tensor]]:
    """All results of a bound, by name."""
    yield "curvature", bound.curvature
    yield "lipschitz", bound.lipschitz
    yield from ((f"norm {name}", norm) for name, norm in bound.norms.items())
    yield from ((f"share {name}", share) for name, share in bound.shares.items())


def test_rigorous_bounds(compiled: Compiled) -> None:
    curvature = compiled.core("domains.curvature").curvature
    rigorous = compiled.core("arithmetic.rigorous").Rigorous
    printed = dict(flat(compiled.network.bound_program(rigorous(), compiled.c)))
    walked = dict(flat(curvature(rigorous(), compiled.graph, compiled.c)))
    assert list(printed) == list(walked)
    for name, value in printed.items():
        assert torch.equal(value, walked[name]), name


def test_live_curvature_and_its_gradient(compiled: Compiled) -> None:
    """Three calls in a row: the singular vectors move on alike."""
    curvature = compiled.core("domains.curvature").curvature
    on_demand = compiled.core("arithmetic.recording").OnDemand
    differentiable = compiled.core("arithmetic.differentiable").Differentiable
    network = compiled.network
    parameters = list(network.parameters())
    if not parameters:
        pytest.skip("nothing that could be trained")
    network.requires_grad_(True)

    def printed(ops: Any) -> Any:
        return compiled.net.curvature(ops, compiled.net.maps(network), compiled.c)

    def walked(ops: Any) -> Any:
        return curvature(ops, network.nodes(), compiled.c)

    found = []
    for program in (printed, walked):
        arithmetic = differentiable(parameters[0])
        for _ in range(3):
            operations = on_demand()
            kappa = operations.value(arithmetic, program(operations).curvature)
            found.append(kappa.detach())
        if kappa.requires_grad:
            gradients = torch.autograd.grad(kappa.sum(), parameters, allow_unused=True)
            found += [torch.zeros(()) if g is None else g for g in gradients]
    network.requires_grad_(False)
    half = len(found) // 2
    for ours, theirs in zip(found[:half], found[half:], strict=True):
        assert torch.equal(ours, theirs)


def test_hessians_and_products(compiled: Compiled) -> None:
    domain, tensors = compiled.core("domains.hessian"), compiled.core("arithmetic.tensors")
    n = compiled.graph.nodes[0].shape
    size = int(torch.tensor(n).prod())
    generator = torch.Generator().manual_seed(0)
    c = compiled.c[:3]
    x = torch.randn(len(c), size, dtype=torch.float64, generator=generator)
    v = torch.randn(len(c), size, dtype=torch.float64, generator=generator)
    identity = torch.eye(size, dtype=torch.float64)
    matrix = domain.hessian(tensors.Tensors(), compiled.graph, x, c, identity)
    expected = torch.zeros(len(c), size, size, dtype=torch.float64) if matrix is None else matrix
    assert torch.equal(compiled.net.hessian_matrix(compiled.network, x, c), expected)
    product = domain.hessian_product(tensors.Tensors(), compiled.graph, x, c, v)
    expected = torch.zeros_like(v) if product is None else product
    assert torch.equal(compiled.net.hessian_product(compiled.network, x, c, v), expected)


def printer() -> tuple[Printer, Writer]:
    layout: Layout = emit(GRAPHS["small"]()).layout
    writer = Writer()
    return Printer(layout, writer, plain=True), writer


def named(text: str) -> Any:
    return Named(text)


def test_steps_are_printed_where_they_are_read() -> None:
    """A step without a name stands inside the one that reads it, in brackets where it must."""
    found, writer = printer()
    total = Step("add", (named("a"), named("b")), "", "")
    product = Step("multiply", (named("c"), total), "d", "The product.")
    found.lines([total, product])
    assert writer.text() == "# The product.\nd = c * (a + b)\n"


def test_a_step_that_is_read_twice_needs_a_name() -> None:
    found, _ = printer()
    total = Step("add", (named("a"), named("b")), "", "")
    with pytest.raises(InternalError, match="the step 'add' is read twice and has no name"):
        found.lines([Step("multiply", (total, total), "d", "")])


def test_what_has_no_spelling_is_refused() -> None:
    found, _ = printer()
    with pytest.raises(InternalError, match="a program cannot print a Tensor"):
        found.text(torch.zeros(1))
