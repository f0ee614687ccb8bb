"""The package: its files, its features, its weights and its manifest."""

from __future__ import annotations

import ast
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from graphs import chain, decorated, emit, lay_out, residual
from safetensors.torch import load

from vercomp.backends.torch import package as packages
from vercomp.backends.torch.files import Package
from vercomp.backends.torch.memory import import_package
from vercomp.features import FEATURES

SHARED = {"Ball", "Box", "Deviation", "Labels", "Specification", "Threshold"}
"""What packages that certify export beside their functions: regions and questions."""


@pytest.mark.parametrize("features", [FEATURES, *[(feature,) for feature in FEATURES]])
def test_a_package_holds_what_its_features_need_and_imports_only_torch(
    features: tuple[str, ...],
) -> None:
    made = emit(chain(0, [3, 4, 3], ["tanh"]), features)
    names = {
        "certify": {"certify", "bound", *SHARED},
        "attack": {"attack"},
        "hessian": {"hessian", "hessian_vector_product"},
        "regularizer": {"regularizer"},
        "crown": {"Ball", "Box", "Specification"},
    }
    wanted = set().union(*(names[feature] for feature in features)) | {"Network", "load"}
    assert set(made.module.__all__) == wanted
    assert all(hasattr(made.module, name) for name in wanted)
    files = {
        "certify": "core/methods/portfolio.py",
        "attack": "core/methods/attack.py",
        "hessian": "core/hessians.py",
        "regularizer": "core/regularizer.py",
        "crown": "core/methods/crown_loss.py",
    }
    for feature in FEATURES:
        assert (files[feature] in made.package.files) == (feature in features)
    at_once, anywhere = set(), set()
    for path, content in made.package.files.items():
        tree = ast.parse(content.decode())
        at_once |= third_party(tree.body)
        anywhere |= third_party(ast.walk(tree))
        relative = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
        assert all(node.level <= 1 + path.count("/") for node in relative), path
    assert at_once == {"torch", "safetensors"}
    # Certificates become tables on request.
    assert anywhere <= at_once | {"numpy", "pandas"}


def third_party(nodes: Iterable[ast.AST]) -> set[str]:
    """The packages that statements import, without those of Python itself."""
    names = [
        name
        for node in nodes
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom) and node.level == 0
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    ]
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)


def test_core_files_are_verbatim() -> None:
    made = emit(chain(0, [3, 4, 3], ["tanh"]))
    root = Path(packages.__file__).parents[2]
    copied = [path for path in made.package.files if path.startswith("core/")]
    assert len(copied) > 10
    for path in copied:
        assert made.package.files[path] == (root / path).read_bytes()


def test_weights_are_safetensors_without_metadata() -> None:
    layout = lay_out(decorated())
    data = packages.weights(layout)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert "__metadata__" not in header
    tensors = load(data)
    for parameter in layout.graph.parameters():
        stored = tensors[layout.parameters[parameter.name]]
        assert torch.equal(stored, parameter.value)
        assert stored.dtype == parameter.value.dtype


def test_weights_are_copies() -> None:
    graph = chain(0, [3, 4, 3], ["tanh"])
    made = emit(graph)
    parameter = graph.parameters()[0]
    before = parameter.value.clone()
    with torch.no_grad():
        next(made.network.parameters()).mul_(3.0)
    assert torch.equal(parameter.value, before)


def test_tied_and_strided_weights_are_stored_as_they_are() -> None:
    graph = chain(0, [4, 4, 4], ["tanh"])
    first, _, second, _ = graph.parameters()
    object.__setattr__(second, "value", first.value.T)  # shares memory, not contiguous
    tensors = load(packages.weights(lay_out(graph)))
    assert torch.equal(tensors["layer2_weight"], tensors["layer0_weight"].T)


def test_mixed_precision_becomes_the_widest() -> None:
    graph = chain(0, [3, 4, 3], ["tanh"])
    wide = graph.parameters()[0]
    object.__setattr__(wide, "value", wide.value.double() + 1e-12)
    made = emit(graph)
    assert made.layout.dtype == torch.float64
    assert {p.dtype for p in made.network.parameters()} == {torch.float64}
    x = torch.randn(2, 3, dtype=torch.float64)
    assert torch.allclose(made.network(x), made.reference(x), atol=1e-13)


def manifest(graph: Any) -> dict[str, Any]:
    made = emit(graph)
    content = packages.manifest(
        made.layout,
        made.package,
        FEATURES,
        source={"kind": "test"},
        versions={"torch": "0"},
        bounds=made.network.bounds().files()[0],
    )
    found: dict[str, Any] = json.loads(content)
    return found


def test_manifest_says_what_was_compiled() -> None:
    graph = residual(3, ["tanh", "silu"])
    found = manifest(graph)
    made = emit(graph)
    assert found["format"] == packages.FORMAT
    assert found["emit"] == list(FEATURES)
    assert found["input_shape"] == [5]
    assert found["classes"] == 3
    assert set(found["parameters"].values()) == {p.name for p in graph.parameters()}
    assert set(found["files"]) == set(made.package.files)
    tanh = next(a for a in found["activations"].values() if a["function"] == "tanh")
    assert tanh["second_range"][1] == pytest.approx(4 / (3 * math.sqrt(3)))
    affine = [node for node in found["nodes"] if node["kind"] == "affine"]
    for node in affine:
        assert {term["map"] for term in node["terms"]} <= set(found["bounds"]["norms"])
    assert [node["name"] for node in found["nodes"]] == [node.name for node in graph.nodes]
    assert found["nodes"][0] == {"kind": "input", "name": "x", "identifier": "x", "shape": [5]}
    assert found["nodes"][2] == {
        "kind": "activation",
        "name": "a0",
        "identifier": "a0",
        "shape": [5],
        "parent": "z0",
        "function": "TANH",
    }
    assert affine[-1]["terms"][0]["text"] == "dense[outa0]"
    assert affine[-1]["bias"] == "+ bias"
    assert found["output"] == "logits_"  # every network has a method logits


def test_importing_from_memory() -> None:
    files = {
        "__init__.py": b"from .inner.thing import value\nfrom .net import twice\n",
        "net.py": b"from .inner.thing import value\n\ntwice = 2 * value\n",
        "inner/__init__.py": b"",
        "inner/thing.py": b"value = 21\n",
        "net.safetensors": b"not python",
    }
    module = import_package(files)
    assert (module.value, module.twice) == (21, 42)
    assert import_package({**files, "net.safetensors": b"other"}) is module
    other = import_package({**files, "inner/thing.py": b"value = 4\n"})
    assert (other.twice, module.twice) == (8, 42)
    with pytest.raises(ModuleNotFoundError):
        import_package({"__init__.py": b"from .missing import x\n"})


def test_source_of_imported_packages_can_be_shown_in_tracebacks() -> None:
    import linecache
    import traceback

    module = import_package({"__init__.py": b"def fail():\n    raise ValueError('here')\n"})
    try:
        module.fail()
    except ValueError as error:
        linecache.checkcache()
        text = "".join(traceback.format_exception(error))
    assert "raise ValueError('here')" in text


def test_a_package_with_one_file_more() -> None:
    package = Package({"a": b"1"})
    assert package.with_file("b", b"2").files == {"a": b"1", "b": b"2"}
    assert package.files == {"a": b"1"}
