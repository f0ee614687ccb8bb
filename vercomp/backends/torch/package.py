"""The emitted package: net.py with its sections, the runtime that it needs, weights, manifest."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol

from safetensors.torch import save

from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.net_file import init_text, net_text
from vercomp.errors import UsageError
from vercomp.ir.graph import Activate, Affine, Node
from vercomp.ir.printer import bias_text
from vercomp.program import MapOf

FEATURES = ("certify", "attack", "hessian", "regularizer")
"""What a package can be asked to do."""

FORMAT = 2
"""Of the manifest; a package of another format is refused."""


@dataclass(frozen=True)
class Package:
    """The files of an emitted package, by relative path.

    Args:
        files: Contents; text is UTF-8.
    """

    files: Mapping[str, bytes]

    def with_file(self, path: str, content: bytes) -> Package:
        """This package with one file added or replaced."""
        return Package({**self.files, path: content})


class Target(Protocol):
    """Emits the source files of a package."""

    def __call__(self, layout: Layout, features: tuple[str, ...]) -> Package:
        """The package without weights and manifest."""
        ...


def check_features(features: tuple[str, ...]) -> tuple[str, ...]:
    """The features asked for, in canonical order, each once.

    Raises:
        UsageError: One of them does not exist, or there is none.
    """
    unknown = sorted(set(features) - set(FEATURES))
    if unknown or not features:
        what = f"cannot emit {', '.join(map(repr, unknown))}" if unknown else "nothing to emit"
        raise UsageError(what, remedy=f"Choose from {', '.join(FEATURES)}")
    return tuple(feature for feature in FEATURES if feature in features)


def torch_target(layout: Layout, features: tuple[str, ...]) -> Package:
    """The package's Python: ``__init__.py``, ``net.py`` and the runtime files they reach."""
    net = net_text(layout, features)
    files = {"__init__.py": init_text(layout, features).encode(), "net.py": net.encode()}
    runtime = resources.files("vercomp.runtime")
    pending = runtime_imports(net, depth=1)
    while pending:
        module = pending.pop()
        path = f"runtime/{module}.py"
        if path not in files:
            text = runtime.joinpath(f"{module}.py").read_text(encoding="utf-8")
            files[path] = text.encode()
            pending |= runtime_imports(text, depth=0)
    files["runtime/__init__.py"] = b'"""What every package compiled by vercomp runs on."""\n'
    return Package(dict(sorted(files.items())))


def weights(layout: Layout) -> bytes:
    """The parameters as safetensors, in the network's type, without metadata."""
    tensors = {
        layout.parameters[p.name]: p.value.detach()
        .to(layout.dtype if p.trainable else p.value.dtype)
        .cpu()
        .contiguous()
        .clone()
        for p in layout.graph.parameters()
    }
    return bytes(save(tensors))


def manifest(
    layout: Layout,
    package: Package,
    features: tuple[str, ...],
    *,
    source: Mapping[str, str],
    versions: Mapping[str, str],
    bounds: Mapping[str, Any],
) -> bytes:
    """manifest.json: what was compiled, with what, and every number that certificates rest on."""
    content = {
        "format": FORMAT,
        "name": layout.title,
        "source": dict(source),
        "versions": dict(versions),
        "emit": list(features),
        "input_shape": list(layout.graph.input.shape),
        "classes": layout.graph.classes,
        "parameters": {layout.parameters[p.name]: p.name for p in layout.graph.parameters()},
        "nodes": [_node(layout, node) for node in layout.graph.nodes],
        "output": layout.nodes[layout.graph.output],
        "activations": {
            name: {
                "function": str(function),
                "formula": str(function.formula),
                "first_range": [found.g_lower, found.g_upper],
                "second_range": [found.h_lower, found.h_upper],
                "deviation": function.deviation,
                "origin": found.origin,
            }
            for function, name in layout.functions.items()
            for found in [layout.constants_of(function)]
        },
        "bounds": dict(bounds),
        "files": {
            path: hashlib.sha256(content).hexdigest() for path, content in package.files.items()
        },
    }
    return (json.dumps(content, indent=1, ensure_ascii=True) + "\n").encode()


def _node(layout: Layout, node: Node) -> dict[str, Any]:
    """A node for reports: what it is called, what it reads, how the graph prints its maps."""
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
                "map": layout.map_field(MapOf(node.name, index)),
                "text": str(term.map),
            }
            for index, term in enumerate(node.terms)
        ]
        return {**found, "kind": "affine", "terms": terms, "bias": bias_text(node)}
    if isinstance(node, Activate):
        parent, function = layout.nodes[node.parent], layout.function_of(node)
        return {**found, "kind": "activation", "parent": parent, "function": function}
    return found


def runtime_imports(text: str, depth: int) -> set[str]:
    """The runtime modules that a file imports: from ``.runtime`` (depth 1) or from beside it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or node.level != 1:
            continue
        module = node.module or ""
        if depth == 1:
            if module == "runtime":
                found |= {alias.name for alias in node.names}
            elif module.startswith("runtime."):
                found.add(module.removeprefix("runtime."))
        elif module:
            found.add(module)
        else:
            found |= {alias.name for alias in node.names}
    return found
