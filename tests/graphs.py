"""Graphs made by hand: chains, skips, and everything that stands between a parameter and a map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from types import ModuleType

import torch
from safetensors.torch import load
from torch import Tensor

from passes.activation_constants import ActivationConstantsPass
from passes.curvature import Curvature
from vercomp.activations import BUILTIN
from vercomp.backends.torch import package as packages
from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.memory import import_package
from vercomp.backends.torch.package import FEATURES, Package
from vercomp.backends.torch.rules import BUILTIN_RULES
from vercomp.facts import CONSTANTS, CURVATURE
from vercomp.ir.activation import Activation
from vercomp.ir.check import check
from vercomp.ir.graph import Activate, Affine, Graph, Input, Offset, Term
from vercomp.ir.linear_maps import (
    Dense,
    Parameter,
    Permute,
    Reshape,
    Scale,
    Shape,
    compose,
    identity,
)
from vercomp.ir.reference import evaluate, stored_as
from vercomp.ir.rewrite import rewired
from vercomp.pass_manager import State, run_passes
from vercomp.runtime.network import VerifiedNetwork


def activation(name: str, **parameters: float) -> Activation:
    """A built-in activation."""
    return BUILTIN.build(name, **parameters)


class Draw:
    """Random parameters from one seed."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float32) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype

    def __call__(self, name: str, *shape: int, scale: float = 1.0) -> Parameter:
        value = torch.randn(*shape, generator=self.generator, dtype=torch.float64)
        fan = shape[-1] if len(shape) > 1 else 1
        return Parameter(name, (scale * fan**-0.5 * value).to(self.dtype))

    def integer(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=self.generator))


def plain(parameter: Parameter, *, negate: bool = False) -> Offset:
    """A bias that is added as it is."""
    return Offset(identity(parameter.shape), parameter, negate)


def chain(
    seed: int, widths: list[int], functions: list[str | Activation], scale: float = 1.0
) -> Graph:
    """A fully connected network; one activation between layers, names as torch gives them."""
    draw = Draw(seed)
    nodes: list[Input | Affine | Activate] = [Input("x", (widths[0],))]
    for layer, (n, m) in enumerate(pairwise(widths)):
        weight = draw(f"{2 * layer}.weight", m, n, scale=scale)
        bias = draw(f"{2 * layer}.bias", m, scale=0.3)
        name = f"layer{layer}"
        nodes.append(Affine(name, (m,), (Term(Dense(weight), nodes[-1].name),), (plain(bias),)))
        if layer < len(functions):
            found = functions[layer]
            function = activation(found) if isinstance(found, str) else found
            nodes.append(Activate(f"a{layer}", (m,), name, function))
    return check(Graph(tuple(nodes), nodes[-1].name))


def residual(seed: int, functions: list[str], width: int = 5, classes: int = 3) -> Graph:
    """Blocks a ← σ(W a + V x + …) with identity skips, skips of the input, and a wide output."""
    draw = Draw(seed)
    nodes: list[Input | Affine | Activate] = [Input("x", (width,))]
    values = ["x"]
    for k, function in enumerate(functions):
        terms = [Term(Dense(draw(f"w{k}", width, width)), values[-1])]
        if k % 2 == 1:
            terms.append(Term(identity((width,)), values[-2]))
        if draw.integer(0, 1):
            terms.append(Term(Dense(draw(f"v{k}", width, width, scale=0.5)), "x"))
        offsets = (plain(draw(f"b{k}", width, scale=0.3)),) if draw.integer(0, 1) else ()
        nodes.append(Affine(f"z{k}", (width,), tuple(terms), offsets))
        nodes.append(Activate(f"a{k}", (width,), f"z{k}", activation(function)))
        values.append(f"a{k}")
    terms = [Term(Dense(draw(f"out{v}", classes, width)), v) for v in values[-2:]]
    nodes.append(Affine("logits", (classes,), tuple(terms), (plain(draw("bias", classes)),)))
    return check(Graph(tuple(nodes), "logits"))


def decorated(seed: int = 0, dtype: torch.dtype = torch.float32) -> Graph:
    """One of everything: a division and a subtraction in front, permutes, views, transposes,
    several offsets of every kind, scaled skips, a softplus beside a tanh, a float64 constant."""
    draw = Draw(seed, dtype)
    shape: Shape = (2, 2, 3)
    two = Parameter("two", torch.full((1,), 2.0), False)
    mean = Parameter("mean", torch.tensor([0.1, -0.2], dtype=torch.float64).reshape(2, 1, 1), False)
    std = Parameter("std", torch.tensor([0.3, 0.7], dtype=torch.float64).reshape(2, 1, 1), False)
    divide, permute = Scale(shape, std, divide=True), Permute(shape, (2, 0, 1))
    flatten = Reshape((3, 2, 2), (12,))
    front = compose(flatten, compose(permute, divide))
    w1, w2 = draw("conv.weight", 7, 3, 2, 2), draw("matmul.weight", 7, 6)
    first = compose(Dense(w1, view=(7, 12)), front)
    gain = draw("norm.weight", 6)
    second = compose(Scale((6,), gain), Dense(w2, transposed=True))
    nodes = (
        Input("image", shape),
        Affine(
            "conv",
            (7,),
            (Term(first, "image"),),
            (Offset(first, mean, True), plain(draw("conv.bias", 7))),
        ),
        Activate("act1", (7,), "conv", activation("softplus", beta=2.0)),
        Affine(
            "norm",
            (6,),
            (Term(second, "act1"),),
            (
                Offset(Scale((6,), gain), draw("running_mean", 6), True),
                plain(draw("norm.bias", 6)),
                plain(draw("extra", 6), negate=True),
            ),
        ),
        Activate("act2", (6,), "norm", activation("tanh")),
        Affine(
            "head",
            (4,),
            (
                Term(Dense(draw("head.weight", 4, 6)), "act2"),
                Term(compose(Dense(draw("skip.weight", 4, 7)), Scale((7,), draw("s", 1))), "act1"),
                Term(compose(Dense(draw("direct.weight", 4, 12)), Reshape(shape, (12,))), "image"),
            ),
            (
                plain(draw("head.bias", 4)),
                Offset(Scale((4,), two), draw("p", 1)),
            ),
        ),
    )
    return check(Graph(nodes, "head"))


@dataclass(frozen=True)
class Emitted:
    """A graph with what was emitted for it."""

    graph: Graph
    layout: Layout
    package: Package
    module: ModuleType
    network: VerifiedNetwork

    @property
    def source(self) -> str:
        """net.py."""
        return self.package.files["net.py"].decode()

    def reference(self, x: Tensor) -> Tensor:
        """The reference interpreter's logits, in the precision of x."""
        return evaluate(self.graph, x, stored_as(x.dtype))[self.graph.output]


def lay_out(graph: Graph, title: str = "example") -> Layout:
    """The graph with its analyses."""
    state = run_passes(State(graph), [ActivationConstantsPass(), Curvature()])
    return Layout(
        title=title,
        graph=graph,
        constants={n.name: state.facts.of(CONSTANTS, n.name) for n in graph.activations()},
        program=state.facts.of(CURVATURE),
        map_rules=BUILTIN_RULES,
    )


def emit(graph: Graph, features: tuple[str, ...] = FEATURES) -> Emitted:
    """Emit a package for a graph, import it, and fill its network."""
    layout = lay_out(graph)
    package = packages.torch_target(layout, features)
    module = import_package(package.files)
    network = module.Network()
    network.load_state_dict(load(packages.weights(layout)))
    return Emitted(graph, layout, package, module, network.eval())


def all_pairs(classes: int) -> tuple[Tensor, Tensor]:
    """All ordered pairs (y, t) of different classes."""
    y, t = torch.nonzero(1 - torch.eye(classes), as_tuple=True)
    return y, t


def renamed(graph: Graph, names: dict[str, str], parameters: dict[str, str] | None = None) -> Graph:
    """The graph with nodes and parameters called otherwise."""
    parameters = parameters or {}
    for parameter in graph.parameters():
        name = parameters.get(parameter.name, parameter.name)
        object.__setattr__(parameter, "name", name)
    nodes = []
    for node in graph.nodes:
        moved = rewired(node, names)
        nodes.append(replace(moved, name=names.get(moved.name, moved.name)))
    return check(Graph(tuple(nodes), names.get(graph.output, graph.output)))
