"""net.py and __init__.py of a package: the sections in order, between imports and exports."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping

from vercomp.activations import function_source
from vercomp.backends.torch.forward import forward_lines, parameter_lines
from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.nodes import biases_section, graph_section, maps_section
from vercomp.backends.torch.programs import curvature_section, hessian_section, product_section
from vercomp.backends.torch.writer import WIDTH, Writer
from vercomp.ir.activation import Activation
from vercomp.ir.graph import Activate, Affine

EXPORTS: Mapping[str, tuple[str, ...]] = {
    "certify": ("certify",),
    "attack": ("attack",),
    "hessian": ("hessian", "hessian_vector_product"),
    "regularizer": ("regularizer",),
}
"""What each feature adds to the package's public names."""


_OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "arithmetic.operations": ("Arithmetic", "Bound"),
    "arithmetic.rounded": ("Rounded",),
    "arithmetic.tensors": ("quadratic",),
    "bounds": ("BoundedNetwork",),
    "functions": ("Elementwise",),
    "graph": ("Activate", "Affine", "Graph", "Input", "Term"),
    "hessians": ("margin_coefficients",),
    "maps.axes": ("AlongAxis", "AxesSum"),
    "maps.convolution": ("Convolution",),
    "maps.monomials": ("Diagonal", "Monomial"),
    "maps.operators": ("Dense", "Operator"),
    "maps.sums": ("SideBySide", "Sum", "Transposed"),
}
"""What a file imports where it uses it, by the module that it comes from."""

_ENTRIES: Mapping[str, tuple[str, ...]] = {
    "attack": (
        "from .core.methods.attack import Attacks",
        "from .core.methods.attack import attack as attack_network",
    ),
    "certify": (
        "from .core.methods.certify import Certificates",
        "from .core.methods.certify import certify as certify_network",
    ),
}
"""What features import; one name a line where one of them is renamed."""


def init_text(layout: Layout, features: tuple[str, ...]) -> str:
    """__init__.py."""
    names = sorted(["Network", "load", *(n for f in features for n in EXPORTS[f])], key=_isort)
    writer = Writer()
    writer.line(f'"""The network {layout.title}, compiled by vercomp. Begin with ``load()``."""')
    writer.blank()
    writer.line(f"from .net import {', '.join(names)}")
    writer.blank()
    quoted = [f'"{name}"' for name in sorted(names, key=_isort)]
    writer.call("__all__ = ", quoted, brackets="[]")
    return writer.text()


def net_text(layout: Layout, features: tuple[str, ...]) -> str:
    """net.py."""
    body = Writer()
    for section in (_functions, maps_section, biases_section, graph_section, curvature_section):
        body.blank(2)
        section(layout, body)
    body.blank(2)
    _network(layout, body, features)
    for feature in features:
        if feature == "hessian":
            for section in (hessian_section, product_section):
                body.blank(2)
                section(layout, body)
    body.blank(2)
    body.lines(_LOAD)
    wrappers = [_WRAPPERS[feature] for feature in features if feature in _WRAPPERS]
    for lines in [_OWN, *wrappers] if wrappers else []:
        body.blank(2)
        body.lines(lines)
    if "regularizer" in features:
        body.blank(2)
        body.lines(_REGULARIZER.format(layout.symmetric))
    constants = Writer()
    _picks(layout, constants)
    text = f"{constants.text()}\n\n{body.text()}" if layout.picks else body.text()
    return f"{_header(layout, features)}\n{_imports(text, features)}\n\n{text}"


def _header(layout: Layout, features: tuple[str, ...]) -> str:
    writer = Writer()
    ready = "certify" if "certify" in features else "use"
    shape = "×".join(map(str, layout.graph.input.shape))
    writer.line(f'"""The network {layout.title}: {shape} inputs to {layout.graph.outputs} logits.')
    writer.blank()
    for node in layout.graph.nodes:
        name = layout.nodes[node.name]
        size = "×".join(map(str, node.shape))
        if isinstance(node, Affine):
            parents = ", ".join(layout.nodes[parent] for parent in node.parents)
            text = f"    {name} = affine({parents})  [{size}]"
            writer.lines(_wrapped(text))
        elif isinstance(node, Activate):
            function = layout.function_of(node).lower()  # an identifier; names are anything
            text = f"    {name} = {function}({layout.nodes[node.parent]})  [{size}]"
            writer.lines(_wrapped(text))
    writer.blank()
    writer.lines(
        "Forward pass in plain torch; bounds of curvature and of rounding as programs over the\n"
        f"same parameters. ``load()`` gives the network with its weights, ready to {ready}.\n"
        '"""'
    )
    return writer.text()


def _imports(text: str, features: tuple[str, ...]) -> str:
    """The import block: what the text uses, in the order of isort."""
    standard = ["from pathlib import Path", "from typing import Any, NamedTuple"]
    if "Mapping[" in text:
        standard.insert(0, "from collections.abc import Mapping")
    if "@cache" in text:
        standard = [s for s in standard if s.startswith("from coll")] + [
            "from functools import cache",
            *(s for s in standard if not s.startswith("from coll")),
        ]
    torch_lines = [
        "import torch",
        "from torch import Tensor, nn" if "nn." in text else "from torch import Tensor",
    ]
    if "F." in text:
        torch_lines.append("from torch.nn import functional as F")
    used = {
        "storage": ["load_network"],
        **{module: _used(names, text) for module, names in _OPTIONAL.items()},
    }
    if "regularizer" in features:
        used["regularizer"] = ["Regularizer", "trainable"]
    local = [f"from .core.{m} import {', '.join(names)}" for m, names in used.items() if names]
    local += [line for feature in features for line in _ENTRIES.get(feature, ())]
    local = sorted(["from .core.domains import rounding", *local], key=_module)
    groups = [["from __future__ import annotations"], standard, torch_lines, local]
    return "\n\n".join("\n".join(group) for group in groups) + "\n"


def _used(names: tuple[str, ...], text: str) -> list[str]:
    return [name for name in names if re.search(rf"\b{name}\b", text)]


def _module(line: str) -> str:
    return line.split()[1]


def _picks(layout: Layout, writer: Writer) -> None:
    """The lists of indices that are too long for where they are used."""
    for indices, name in layout.picks.items():
        writer.comment(f"{len(indices)} entries that are picked along an axis.")
        writer.line("# fmt: off")
        writer.line(f"{name} = [")
        with writer.indented():
            inside = textwrap.wrap(", ".join(map(str, indices)), WIDTH - 5)
            writer.lines("\n".join(inside) + ",")
        writer.line("]")
        writer.line("# fmt: on")
        writer.blank(2)


def _functions(layout: Layout, writer: Writer) -> None:
    """The activations: three functions and a row of constants each."""
    for position, (function, name) in enumerate(layout.functions.items()):
        if position:
            writer.blank(2)
        lower = name.lower()
        names = [f"_{lower}", f"_{lower}_first", f"_{lower}_second"]
        for order, function_name in enumerate(names):
            writer.lines(function_source(function, order, function_name).rstrip())
            writer.blank(2)
        _constants(layout, writer, function, name, names)


def _constants(
    layout: Layout, writer: Writer, function: Activation, name: str, names: list[str]
) -> None:
    found = layout.constants_of(function)
    writer.comment(f"Ranges of σ′ and σ″ over ℝ, rounded outward; {_one_line(found.origin)}")
    writer.line(f"{name} = Elementwise(")
    with writer.indented():
        for key, value in zip(("value", "first", "second"), names, strict=True):
            writer.line(f"{key}={value},")
        writer.line(f"first_range=({found.g_lower!r}, {found.g_upper!r}),")
        writer.line(f"second_range=({found.h_lower!r}, {found.h_upper!r}),")
        if function.deviation:
            writer.line(f"deviation={function.deviation!r},")
    writer.line(")")


def _network(layout: Layout, writer: Writer, features: tuple[str, ...]) -> None:
    graph = layout.graph
    sizes = ", ".join(map(str, graph.input.shape))
    writer.line("class Network(BoundedNetwork):")
    with writer.indented():
        writer.line(f'"""The network itself: batches (B, {sizes}) to logits (B, {graph.outputs}).')
        writer.blank()
        writer.line("An ordinary module: train it, move it, save it; bounds follow the weights.")
        writer.line('"""')
        writer.blank()
        writer.line(f"input_shape = {graph.input.shape!r}")
        writer.line(f"output_shape = {graph.node(graph.output).shape!r}")
        writer.blank()
        writer.line("def __init__(self) -> None:")
        with writer.indented():
            writer.line("super().__init__()")
            parameter_lines(layout, writer)
        writer.blank()
        writer.line("def forward(self, x: Tensor) -> Tensor:")
        with writer.indented():
            writer.line('"""The logits."""')
            forward_lines(layout, writer)
        writer.blank()
        writer.lines(_HOOKS)
        for feature in features:
            if feature in _METHODS:
                writer.blank()
                writer.lines(_METHODS[feature])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=" " * 8)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _isort(name: str) -> tuple[bool, str]:
    return (not name[0].isupper(), name)


_HOOKS = '''\
def nodes(self) -> Graph:
    """The graph over these parameters."""
    return graph(self)

def bound_program(self, arithmetic: Arithmetic, c: Tensor) -> Bound:
    """The curvature program over these parameters."""
    return curvature(arithmetic, maps(self), c)
'''

_METHODS: Mapping[str, str] = {
    "certify": '''\
def certify(self, x: Tensor, y: Tensor, **options: Any) -> Certificates:
    """Radii within which no l2 perturbation changes the class; see core/methods/certify.py."""
    with self.held():
        return certify_network(self, x, y, **options)
''',
    "attack": '''\
def attack(self, x: Tensor, y: Tensor, radius: float, **options: Any) -> Attacks:
    """The worst points of l2 balls, and proved lower bounds; see core/methods/attack.py."""
    with self.held():
        return attack_network(self, x, y, radius, **options)
''',
    "hessian": '''\
def hessian(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """∇²(z_y − z_t) at each input x (B, *input_shape), exactly (Lemma 1): (B, D, D)."""
    return hessian_matrix(self, x.flatten(1), margin_coefficients(y, t, self.classes, x))

def hessian_vector_product(self, x: Tensor, y: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """∇²(z_y − z_t) v at each input, for directions v shaped like x; the same shape."""
    c = margin_coefficients(y, t, self.classes, x)
    return hessian_product(self, x.flatten(1), c, v.flatten(1)).reshape(v.shape)
''',
}

_LOAD = '''\
def load(folder: str | Path | None = None) -> Network:
    """The network with the weights and bounds in ``folder`` (this package's own by default)."""
    return load_network(Network(), Path(folder) if folder is not None else Path(__file__).parent)
'''

_OWN = """\
@cache
def _own() -> Network:
    return load()
"""

_WRAPPERS: Mapping[str, str] = {
    "certify": '''\
def certify(x: Tensor, y: Tensor, **options: Any) -> Certificates:
    """Certify with the weights stored beside this file; see :meth:`Network.certify`."""
    return _own().certify(x, y, **options)
''',
    "attack": '''\
def attack(x: Tensor, y: Tensor, radius: float, **options: Any) -> Attacks:
    """Attack the weights stored beside this file; see :meth:`Network.attack`."""
    return _own().attack(x, y, radius, **options)
''',
    "hessian": '''\
def hessian(x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """The Hessian with the weights stored beside this file; see :meth:`Network.hessian`."""
    return _own().hessian(x, y, t)


def hessian_vector_product(x: Tensor, y: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """Its product with directions; see :meth:`Network.hessian_vector_product`."""
    return _own().hessian_vector_product(x, y, t, v)
''',
}

_REGULARIZER = '''\
def regularizer(network: Network, pairs_per_call: int | None = 16, every: int = 2) -> Regularizer:
    """The curvature bound as a term of a training loss, over the network's live parameters."""
    return Regularizer(
        curvature,
        maps,
        network,
        network.classes,
        trainable(network),
        pairs_per_call,
        every,
        symmetric={},
    )
'''
