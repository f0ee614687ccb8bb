"""net.py and __init__.py of a package: the sections in order, between imports and exports."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping

from vercomp.backends.torch.forward import forward_lines, parameter_lines
from vercomp.backends.torch.functions_section import functions_section
from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.nodes import biases_section, graph_section, maps_section
from vercomp.backends.torch.programs import curvature_section, hessian_section, product_section
from vercomp.backends.torch.writer import WIDTH, Writer
from vercomp.ir.expressions import constructors
from vercomp.ir.graph import Activate, Affine
from vercomp.ir.linear_maps import Composition, LinearMap, Sum

EXPORTS: Mapping[str, tuple[str, ...]] = {
    "certify": ("bound", "certify"),
    "attack": ("attack",),
    "hessian": ("hessian", "hessian_vector_product"),
    "regularizer": ("regularizer",),
    "crown": (),
}
"""What each feature adds to the package's public names."""


_SHARED: Mapping[str, tuple[str, ...]] = {
    "claims.deviation": ("Deviation",),
    "claims.labels": ("Labels",),
    "claims.threshold": ("Threshold",),
    "regions.constructors": ("Ball", "Box"),
    "specifications": ("Specification",),
}
"""What a package that certifies exports for the questions that it answers."""

_REGIONS = ("regions.constructors", "specifications")
"""Where of that is what a package needs whose linear bounds are trained."""


_OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "arithmetic.operations": ("Arithmetic", "Bound"),
    "arithmetic.rounded": ("Rounded",),
    "arithmetic.tensors": ("quadratic",),
    "bounds": ("BoundedNetwork",),
    "claims.claim": ("Claim",),
    "functions": ("Elementwise",),
    "graph": ("Activate", "Affine", "Graph", "Input", "Term"),
    "hessians": ("margins_along", "margins_at"),
    "methods.attack": ("Attackable", "AttackOptions", "Attacks"),
    "methods.certificates": ("Certificates",),
    "methods.crown_loss": ("CrownLoss",),
    "methods.portfolio": ("Certifiable", "CertifyOptions"),
    "network": ("VerifiedNetwork",),
    "regions.region": ("Region",),
    "regularizer": ("Regularizer", "trainable"),
    "specifications": ("Specification",),
    "maps.axes": ("AlongAxis", "AxesSum"),
    "maps.convolution": ("Convolution",),
    "maps.monomials": ("Diagonal", "Monomial"),
    "maps.operators": ("Dense", "Operator"),
    "maps.sums": ("SideBySide", "Sum", "Transposed"),
    "pieces": ("Pieces", "Turn"),
    "tails": ("Tail",),
}
"""What a file imports where it uses it, by the module that it comes from."""


def init_text(layout: Layout, features: tuple[str, ...]) -> str:
    """The source of ``__init__.py``."""
    names = sorted(["Network", "load", *(n for f in features for n in EXPORTS[f])], key=_isort)
    shared = _SHARED if "certify" in features else {}
    if "crown" in features:
        shared = {m: names for m, names in _SHARED.items() if m in shared or m in _REGIONS}
    writer = Writer()
    writer.line(f'"""The network {layout.title}, compiled by vercomp. Begin with ``load()``."""')
    writer.blank()
    for module, exported in shared.items():
        writer.line(f"from .core.{module} import {', '.join(exported)}")
    writer.line(f"from .net import {', '.join(names)}")
    writer.blank()
    every = [*names, *(name for exported in shared.values() for name in exported)]
    quoted = [f'"{name}"' for name in sorted(every, key=_isort)]
    writer.call("__all__ = ", quoted, brackets="[]")
    return writer.text()


def net_text(layout: Layout, features: tuple[str, ...]) -> str:
    """The source of ``net.py``."""
    body = Writer()
    sections = [functions_section, maps_section, biases_section, graph_section]
    if _bounded(layout, features) or "regularizer" in features:
        sections.append(curvature_section)
    for section in sections:
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
    return f"{_header(layout, features)}\n{_imports(layout, text, features)}\n\n{text}"


def _header(layout: Layout, features: tuple[str, ...]) -> str:
    writer = Writer()
    ready = "certify" if "certify" in features else "use"
    shape = "×".join(map(str, layout.graph.input.shape))
    writer.line(f'"""The network {layout.title}: {shape} inputs to {layout.outputs} outputs.')
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
    if layout.graph.tail is not None:
        shown = layout.nodes[layout.graph.output]
        for applied in layout.graph.tail.functions:
            shown = f"{layout.functions[applied].lower()}({shown})"
        shown = f"[1 - {shown}, {shown}]" if layout.graph.tail.complement else shown
        writer.lines(_wrapped(f"    outputs = {shown}  [{layout.outputs}]"))
    writer.blank()
    writer.lines(
        "Forward pass in plain torch; bounds of curvature and of rounding as programs over the\n"
        f"same parameters. ``load()`` gives the network with its weights, ready to {ready}.\n"
        '"""'
    )
    return writer.text()


def _imports(layout: Layout, text: str, features: tuple[str, ...]) -> str:
    """The imports of all names that the text uses outside of comments, in the order of isort."""
    text = re.sub(r"^ *#.*$", "", text, flags=re.MULTILINE)
    standard = ["from pathlib import Path", _typing(text)]
    if re.search(r"\binf\b", text):
        standard.insert(0, "from math import inf")
    if "Mapping[" in text:
        standard.insert(0, "from collections.abc import Mapping")
    if "@cache" in text:
        standard = [s for s in standard if s.startswith("from coll")] + [
            "from functools import cache",
            *(s for s in standard if not s.startswith("from coll")),
        ]
    installed = ["from torch import Tensor, nn" if "nn." in text else "from torch import Tensor"]
    if "F." in text:
        installed.append("from torch.nn import functional as F")
    used = {module: _used(names, text) for module, names in _OPTIONAL.items()}
    local = [f"from .core.{m} import {', '.join(names)}" for m, names in used.items() if names]
    classes = {(type(m).__module__, type(m).__name__) for m in layout.methods}
    wanted: dict[str, set[str]] = {}
    for module, name in (*_plugin_operators(layout), *(classes if "certify" in features else ())):
        wanted.setdefault(module, set()).add(name)
    for module, found in wanted.items():
        (local if _is_ours(module) else installed).append(_import_of(module, found))
    installed.sort(key=_module)
    local.append("from .core.storage import load_network")
    if re.search(r"\brounding\.\w", text):
        local.append("from .core.domains import rounding")
    local.sort(key=_module)
    whole = ["import torch"] if "torch." in text else []
    groups = [["from __future__ import annotations"], standard, [*whole, *installed], local]
    return "\n\n".join("\n".join(group) for group in groups) + "\n"


def _typing(text: str) -> str:
    """The import from typing."""
    unpack = ", Unpack" if "Unpack[" in text else ""
    return f"from typing import Any, NamedTuple{unpack}"


def _plugin_operators(layout: Layout) -> Iterator[tuple[str, str]]:
    """Where the operators of maps come from that are not of the core: (module, name)."""
    for node in layout.graph.affine():
        maps = [*(term.map for term in node.terms), *(offset.map for offset in node.offsets)]
        for described in (each.operator() for linear in maps for each in _atoms(linear)):
            if described is not None:
                yield from (c for c in constructors(described) if not _is_ours(c[0]))


def _atoms(linear: LinearMap) -> Iterator[LinearMap]:
    """The maps that a composition or sum is made of."""
    if isinstance(linear, Composition | Sum):
        for each in linear.maps:
            yield from _atoms(each)
    else:
        yield linear


def _is_ours(module: str) -> bool:
    """Whether a module is of the core, which the package carries."""
    return module.startswith("vercomp.core.")


def _import_of(module: str, names: set[str]) -> str:
    """The import of classes: from the core that the package carries, or from a plugin."""
    inside = f".{module.removeprefix('vercomp.')}" if _is_ours(module) else module
    return f"from {inside} import {', '.join(sorted(names))}"


def _bounded(layout: Layout, features: tuple[str, ...]) -> bool:
    """Whether the network proves bounds of its curvature."""
    return layout.curved and bool({"certify", "attack"} & {*features})


def _bases(layout: Layout, features: tuple[str, ...]) -> str:
    """The base classes of the network: that of each feature, then that of curvature bounds."""
    found = [base for feature, base in _BASES.items() if feature in features]
    if _bounded(layout, features):
        found.append("BoundedNetwork")
    return ", ".join(found or ["VerifiedNetwork"])


_BASES: Mapping[str, str] = {
    "certify": "Certifiable",
    "attack": "Attackable",
    "crown": "CrownLoss",
}


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


def _network(layout: Layout, writer: Writer, features: tuple[str, ...]) -> None:
    graph = layout.graph
    sizes = ", ".join(map(str, graph.input.shape))
    writer.line(f"class Network({_bases(layout, features)}):")
    with writer.indented():
        writer.line(
            f'"""The network itself: batches (B, {sizes}) to outputs (B, {layout.outputs}).'
        )
        writer.blank()
        writer.line("An ordinary module: train it, move it, save it; bounds follow the weights.")
        writer.line('"""')
        writer.blank()
        if "certify" in features:
            made = ", ".join(f"{type(method).__name__}()" for method in layout.methods)
            writer.line(f"methods = ({made}{',' if len(layout.methods) == 1 else ''})")
        writer.line(f"input_shape = {graph.input.shape!r}")
        writer.line(f"output_shape = {graph.node(graph.output).shape!r}")
        if graph.tail is not None:
            _tail(layout, writer)
        writer.blank()
        writer.line("def __init__(self) -> None:")
        with writer.indented():
            writer.line("super().__init__()")
            parameter_lines(layout, writer)
        writer.blank()
        name = "forward" if graph.tail is None else "logits"
        writer.line(f"def {name}(self, x: Tensor) -> Tensor:")
        with writer.indented():
            writer.line('"""The outputs."""')
            forward_lines(layout, writer)
        if graph.tail is not None:
            writer.blank()
            writer.lines(_FORWARD)
        writer.blank()
        writer.lines(_NODES)
        if _bounded(layout, features):
            writer.blank()
            writer.lines(_PROGRAM)
        for feature in features:
            if feature in _METHODS:
                writer.blank()
                writer.lines(_METHODS[feature])


def _tail(layout: Layout, writer: Writer) -> None:
    """The attribute ``tail`` of a network that has one."""
    tail = layout.graph.tail
    assert tail is not None  # noqa: S101 - the caller looked
    names = [layout.functions[function] for function in tail.functions]
    listed = f"({names[0]},)" if len(names) == 1 else f"({', '.join(names)})"
    writer.line(f"tail = Tail({listed}{', complement=True' if tail.complement else ''})")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=" " * 8)


def _isort(name: str) -> tuple[bool, str]:
    return (not name[0].isupper(), name)


_FORWARD = '''\
def forward(self, x: Tensor) -> Tensor:
    """The outputs: the logits behind the tail, which changes no comparison of them."""
    return self.tail.value(self.logits(x))
'''

_NODES = '''\
def nodes(self) -> Graph:
    """The graph over these parameters."""
    return graph(self)
'''

_PROGRAM = '''\
def bound_program(self, arithmetic: Arithmetic, c: Tensor) -> Bound:
    """The curvature program over these parameters."""
    return curvature(arithmetic, maps(self), c)
'''

_METHODS: Mapping[str, str] = {
    "hessian": '''\
def hessian(self, x: Tensor, y: Tensor | None = None, t: Tensor | None = None) -> Tensor:
    """∇²(z_y − z_t) at each input x (B, *input_shape), exactly (Lemma 1): (B, D, D).

    Of one output z, ∇²z. In the network's type if the inputs are in it, or else in float64; see
    core/hessians.py.
    """
    net, points, c = margins_at(self, x, y, t)
    return hessian_matrix(net, points, c).to(x.device)

def hessian_vector_product(
    self, x: Tensor, y: Tensor | None, t: Tensor | None, v: Tensor
) -> Tensor:
    """∇²(z_y − z_t) v at each input, for directions v shaped like x; the same shape."""
    net, points, c, directions = margins_along(self, x, y, t, v)
    return hessian_product(net, points, c, directions).reshape(x.shape).to(x.device)
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
def certify(
    x: Tensor, y: Tensor | Claim | Specification, **options: Unpack[CertifyOptions]
) -> Certificates:
    """Certify with the weights stored beside this file; see :meth:`Network.certify`."""
    return _own().certify(x, y, **options)


def bound(region: Region, coefficients: Tensor, offsets: Tensor | None = None) -> Tensor:
    """Lower bounds with the weights stored beside this file; see :meth:`Network.bound`."""
    return _own().bound(region, coefficients, offsets)
''',
    "attack": '''\
def attack(x: Tensor, y: Tensor, radius: float, **options: Unpack[AttackOptions]) -> Attacks:
    """Attack the weights stored beside this file; see :meth:`Network.attack`."""
    return _own().attack(x, y, radius, **options)
''',
    "hessian": '''\
def hessian(x: Tensor, y: Tensor | None = None, t: Tensor | None = None) -> Tensor:
    """The Hessian with the weights stored beside this file; see :meth:`Network.hessian`."""
    return _own().hessian(x, y, t)


def hessian_vector_product(x: Tensor, y: Tensor | None, t: Tensor | None, v: Tensor) -> Tensor:
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
        network.scores,
        trainable(network),
        pairs_per_call,
        every,
        symmetric={},
    )
'''
