"""Graphs made by hand: chains, skips, and everything that stands between a parameter and a map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from types import ModuleType

import torch
from safetensors.torch import load
from torch import Tensor

from passes.activation_constants import ActivationConstantsPass
from passes.merge_affine import MergeAffine
from vercomp.activations import BUILTIN
from vercomp.backends.torch import package as packages
from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.memory import import_package
from vercomp.backends.torch.package import FEATURES, Package
from vercomp.backends.torch.rules import BUILTIN_RULES
from vercomp.core.bounds import BoundedNetwork
from vercomp.facts import CONSTANTS
from vercomp.ir.activation import Activation
from vercomp.ir.axis_maps import AlongAxis, Total
from vercomp.ir.check import check
from vercomp.ir.convolutions import AveragePool, Convolution, TransposedConvolution, Window
from vercomp.ir.graph import Activate, Affine, Graph, Input, Offset, Term
from vercomp.ir.linear_maps import (
    Dense,
    LinearMap,
    Parameter,
    Permute,
    Reshape,
    Scale,
    Shape,
    Sum,
    compose,
    identity,
)
from vercomp.ir.normalisation import DivideByDeviation
from vercomp.ir.reference import evaluate, stored_as
from vercomp.ir.rewrite import rewired
from vercomp.ir.selections import Expand, Pad
from vercomp.pass_manager import State, run_passes


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


def residual_stream(blocks: int, readers: str = "U", seed: int = 0) -> Graph:
    """h ← h + W softplus(U h) for matrices U, or with a batch norm s instead of U; merged."""
    draw = Draw(seed, torch.float64)
    nodes: list[Input | Affine | Activate] = [Input("x", (4,))]

    def affine(name: str, *terms: tuple[LinearMap, str]) -> None:
        found = tuple(Term(*term) for term in terms)
        nodes.append(Affine(name, terms[0][0].out_shape, found))

    def softplus(name: str, parent: str) -> None:
        nodes.append(Activate(name, (4,), parent, activation("softplus")))

    affine("h0", (Dense(draw("start", 4, 4)), "x"))
    softplus("a0", "h0")
    stream = "a0"
    for k in range(blocks):
        variance = Parameter(f"v{k}", torch.linspace(0.2, 2.0, 4, dtype=torch.float64), False)
        norm = compose(Scale((4,), draw(f"s{k}", 4)), DivideByDeviation((4,), variance, 1e-5))
        matrix_here = readers[k % len(readers)] == "U"
        affine(f"u{k}", (Dense(draw(f"u{k}", 4, 4)) if matrix_here else norm, stream))
        softplus(f"b{k}", f"u{k}")
        affine(f"h{k + 1}", (identity((4,)), stream), (Dense(draw(f"w{k}", 4, 4)), f"b{k}"))
        stream = f"h{k + 1}"
    affine("z", (Dense(draw("head", 3, 4)), stream))
    graph = check(Graph(tuple(nodes), nodes[-1].name))
    return run_passes(State(graph), [MergeAffine()]).graph


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


def channelwise(vector: Parameter, shape: Shape, through: LinearMap | None = None) -> LinearMap:
    """How a vector with an entry for each channel is added to an image, as front ends say it."""
    view = (shape[0], *(1,) * (len(shape) - 1))
    spread = compose(Expand(view, shape), Reshape(vector.shape, view))
    return spread if through is None else compose(through, spread)


def batch_norm(
    draw: Draw, name: str, shape: Shape, eps: float = 1e-5
) -> tuple[LinearMap, tuple[Offset, ...]]:
    """(x − mean)/√(var + ε) · weight + bias over the channels of an image."""
    channels = shape[0]
    view = (channels, *(1,) * (len(shape) - 1))
    mean = replace(draw(f"{name}.running_mean", channels, scale=0.3), trainable=False)
    var = draw(f"{name}.running_var", channels)
    var = Parameter(var.name, 0.5 + var.value.abs(), False)
    weight, bias = draw(f"{name}.weight", channels), draw(f"{name}.bias", channels)
    linear = compose(Scale(shape, weight, view=view), DivideByDeviation(shape, var, eps, view))
    center = Offset(channelwise(mean, shape, linear), mean, negate=True)
    return linear, (center, Offset(channelwise(bias, shape), bias))


def convolutional(seed: int = 0, dtype: torch.dtype = torch.float32) -> Graph:
    """conv, bn, silu; a residual block; average pooling and a head."""
    draw = Draw(seed, dtype)
    shape = (4, 6, 6)
    window = Window.of((3, 3), pads=((1, 1), (1, 1)))
    nodes: list[Input | Affine | Activate] = [Input("image", (2, 6, 6))]

    def layer(name: str, source: Shape, parent: str, *skips: str, bias: bool = False) -> None:
        kernel = draw(f"{name}.weight", 4, source[0], 3, 3)
        norm, offsets = batch_norm(draw, name.replace("conv", "bn"), shape)
        if bias:
            vector = draw(f"{name}.bias", 4, scale=0.3)
            offsets = (Offset(channelwise(vector, shape, norm), vector), *offsets)
        linear = compose(norm, Convolution(source, kernel, window))
        terms = (Term(linear, parent), *(Term(identity(shape), skip) for skip in skips))
        nodes.append(Affine(name, shape, terms, offsets))
        nodes.append(Activate(f"act{len(nodes) // 2}", shape, name, activation("silu")))

    layer("conv1", (2, 6, 6), "image", bias=True)
    layer("block.conv1", shape, "act1")
    layer("block.conv2", shape, "act2", "act1")
    pool = AveragePool(shape, Window.of((2, 2), (2, 2)))
    features = compose(Reshape((4, 3, 3), (36,)), pool)
    head = compose(Dense(draw("fc.weight", 3, 36)), features)
    nodes.append(Affine("fc", (3,), (Term(head, "act3"),), (plain(draw("fc.bias", 3)),)))
    return check(Graph(tuple(nodes), "fc"))


def branching(seed: int = 0) -> Graph:
    """Everything else that images go through: a normalised input, a concatenation of four
    branches, a sum without activation, a transposed convolution, a dense layer along an axis."""
    draw = Draw(seed)
    image, shape = (1, 5, 5), (3, 5, 5)
    mean = Parameter("mean", torch.tensor(0.3, dtype=torch.float64), False)
    std = Parameter("std", torch.tensor(0.4, dtype=torch.float64), False)
    normalise = Scale(image, std, divide=True)
    stem = compose(_convolution(draw, "stem", image, 3), normalise)
    stem_bias = draw("stem.bias", 3)
    nodes: list[Input | Affine | Activate] = [
        Input("image", image),
        Affine(
            "stem",
            shape,
            (Term(stem, "image"),),
            (Offset(stem, mean, True), Offset(channelwise(stem_bias, shape), stem_bias)),
        ),
        Activate("a1", shape, "stem", activation("tanh")),
    ]
    branches = [
        _convolution(draw, "one", shape, 2, 1),
        compose(
            _convolution(draw, "pooled", shape, 2),
            AveragePool(shape, Window.of((3, 3), pads=((1, 1), (1, 1))), counted=((0, 0), (0, 0))),
        ),
        identity(shape),
        Sum((_convolution(draw, "left", shape, 1), _convolution(draw, "right", shape, 1, 1))),
    ]
    terms, offsets, start = [], [], 0
    for name, branch in zip(("one", "pooled", "", "right"), branches, strict=True):
        size = branch.out_shape[0]
        place = Pad(branch.out_shape, ((start, 8 - start - size), (0, 0), (0, 0)))
        terms.append(Term(compose(place, branch), "a1"))
        if name:
            bias = draw(f"{name}.bias", size)
            offsets.append(Offset(channelwise(bias, branch.out_shape, place), bias))
        start += size
    wide = (8, 5, 5)
    shift = draw("shift", 8)
    offsets.append(Offset(channelwise(shift, wide), shift, negate=True))
    nodes.append(Affine("cat", wide, tuple(terms), tuple(offsets)))
    nodes.append(Activate("a2", wide, "cat", activation("gelu")))
    up = TransposedConvolution(
        wide,
        (2, 10, 10),
        draw("up.weight", 8, 2, 3, 3),
        Window.of((3, 3), (2, 2), ((1, 1), (1, 1))),
    )
    mix = draw("mix.weight", 4, 10)
    along = compose(AlongAxis((2, 10, 10), 2, mix), up)
    up_bias, mix_bias = draw("up.bias", 2), draw("mix.bias", 4)
    spread = AlongAxis((2, 10, 10), 2, mix)
    offsets = [
        Offset(channelwise(up_bias, (2, 10, 10), spread), up_bias),
        Offset(identity((2, 10, 4)), mix_bias),
    ]
    nodes.append(Affine("mix", (2, 10, 4), (Term(along, "a2"),), tuple(offsets)))
    nodes.append(Activate("a3", (2, 10, 4), "mix", activation("tanh")))
    mean_head = compose(Dense(draw("head.weight", 3, 2)), Total((2, 10, 4), (1, 2), mean=True))
    nodes.append(Affine("head", (3,), (Term(mean_head, "a3"),), (plain(draw("head.bias", 3)),)))
    return check(Graph(tuple(nodes), "head"))


def _convolution(draw: Draw, name: str, source: Shape, channels: int, size: int = 3) -> LinearMap:
    """A convolution that keeps the size of an image."""
    weight = draw(f"{name}.weight", channels, source[0], size, size)
    around = ((size // 2, size // 2),) * 2
    return Convolution(source, weight, Window.of((size, size), pads=around))


@dataclass(frozen=True)
class Emitted:
    """A graph with what was emitted for it."""

    graph: Graph
    layout: Layout
    package: Package
    module: ModuleType
    network: BoundedNetwork

    @property
    def source(self) -> str:
        """net.py."""
        return self.package.files["net.py"].decode()

    def reference(self, x: Tensor) -> Tensor:
        """The reference interpreter's logits, in the precision of x."""
        return evaluate(self.graph, x, stored_as(x.dtype))[self.graph.output]


def lay_out(graph: Graph, title: str = "example") -> Layout:
    """The graph with its analyses."""
    state = run_passes(State(graph), [ActivationConstantsPass()])
    return Layout(
        title=title,
        graph=graph,
        constants={n.name: state.facts.of(CONSTANTS, n.name) for n in graph.activations()},
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
