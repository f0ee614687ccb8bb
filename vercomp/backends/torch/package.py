"""The emitted package: net.py, the part of the core that it needs, weights, and the manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, Protocol

from safetensors.torch import save

from vercomp.backends.torch.files import FORMAT, Package, core_files
from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.net_file import init_text, net_text
from vercomp.ir.graph import Activate, Affine, Node
from vercomp.ir.printer import bias_text


class Target(Protocol):
    """Emits the source files of a package."""

    def __call__(self, layout: Layout, features: tuple[str, ...]) -> Package:
        """The package without weights and manifest."""
        ...


def torch_target(layout: Layout, features: tuple[str, ...]) -> Package:
    """The package's Python: ``__init__.py``, ``net.py`` and the core files that they reach."""
    net = net_text(layout, features)
    files = {"__init__.py": init_text(layout, features).encode(), "net.py": net.encode()}
    reached = core_files(net, ()) | core_files(files["__init__.py"].decode(), ())
    return Package(dict(sorted(with_core(files, reached).items())))


def with_core(files: Mapping[str, bytes], reached: Iterable[str]) -> dict[str, bytes]:
    """These files, and the core files that are reached, with all that they import."""
    found, pending = dict(files), set(reached)
    while pending:
        path = pending.pop()
        if path not in found:
            content = resources.files("vercomp").joinpath(path).read_bytes()
            found[path] = content
            folder = tuple(path.split("/")[:-1])
            pending |= core_files(content.decode(), folder)
            pending |= {
                "/".join((*folder[:depth], "__init__.py")) for depth in range(1, len(folder) + 1)
            }
    return found


def weights(layout: Layout) -> bytes:
    """The parameters as safetensors, in the network's type, without metadata."""
    tensors = {
        layout.parameters[p.name]: p.value.detach()
        .to(layout.dtype if p.trainable else p.value.dtype)
        .cpu()
        .contiguous()
        .clone()
        for p in layout.stored
    }
    return bytes(save(tensors))


def manifest(
    layout: Layout,
    package: Package,
    features: tuple[str, ...],
    *,
    source: Mapping[str, str],
    versions: Mapping[str, str],
    bounds: Mapping[str, Any] | None,
) -> bytes:
    """manifest.json: what was compiled, with what, and every number that certificates rest on."""
    content = {
        "format": FORMAT,
        "name": layout.title,
        "source": dict(source),
        "versions": dict(versions),
        "emit": list(features),
        "methods": [method.name for method in layout.methods],
        "input_shape": list(layout.graph.input.shape),
        "classes": layout.outputs,
        "parameters": {layout.parameters[p.name]: p.name for p in layout.stored},
        "nodes": [_node(layout, node) for node in layout.graph.nodes],
        "output": layout.nodes[layout.graph.output],
        "tail": None if layout.graph.tail is None else str(layout.graph.tail),
        "activations": {
            name: {
                "function": str(function),
                "formula": str(function.formula),
                "first_range": found.first_range,
                "second_range": found.second_range,
                "deviation": function.deviation,
                "origin": found.origin,
            }
            for function, name in layout.functions.items()
            for found in [layout.constants_of(function)]
        },
        "bounds": bounds,
        "files": {
            path: hashlib.sha256(content).hexdigest() for path, content in package.files.items()
        },
    }
    return (json.dumps(content, indent=1, ensure_ascii=True) + "\n").encode()


def _node(layout: Layout, node: Node) -> dict[str, Any]:
    """A node as reports need it: its names, its parents, and its maps as the graph prints them."""
    found: dict[str, Any] = {
        "kind": "input",
        "name": node.name,
        "identifier": layout.nodes[node.name],
        "shape": list(node.shape),
    }
    if isinstance(node, Affine):
        terms = [
            {
                "parent": layout.nodes[term.parent],
                "map": layout.map_field(node, index),
                "text": str(term.map),
            }
            for index, term in enumerate(node.terms)
        ]
        return {**found, "kind": "affine", "terms": terms, "bias": bias_text(node)}
    if isinstance(node, Activate):
        parent, function = layout.nodes[node.parent], layout.function_of(node)
        return {**found, "kind": "activation", "parent": parent, "function": function}
    return found
