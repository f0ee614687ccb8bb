"""Emitted source: readable, formatted, and the same function as the graph it was made from."""

from __future__ import annotations

import ast
import copy
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from graph_table import GRAPHS
from graphs import Emitted, all_pairs, chain, convolutional, emit, renamed, residual

from vercomp.features import FEATURES
from vercomp.ir.check import check
from vercomp.ir.graph import Activate, Affine, Graph, Term
from vercomp.ir.linear_maps import Dense, Parameter
from vercomp.ir.reference import evaluate, stored_as

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module", params=GRAPHS)
def emitted(request: pytest.FixtureRequest) -> Emitted:
    return emit(GRAPHS[request.param]())


def sample(graph: Graph, count: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (count, *graph.input.shape)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_forward_is_the_reference_interpreter(emitted: Emitted) -> None:
    x = 2 * sample(emitted.graph)
    double = copy.deepcopy(emitted.network).double()
    assert torch.allclose(double(x), emitted.reference(x), rtol=1e-11, atol=1e-11)
    single = emitted.network(x.to(emitted.network.dtype))
    assert single.dtype == emitted.network.dtype
    assert torch.allclose(single.double(), emitted.reference(x), rtol=1e-3, atol=1e-3)
    assert double(x[:0]).shape == (0, emitted.graph.outputs)


def test_hessian_and_its_products_are_autograds(emitted: Emitted) -> None:
    graph = emitted.graph
    x = 0.3 * sample(graph, 3)  # below softplus's threshold, where torch drops its curvature
    if x[0].numel() > 50:
        pytest.skip("a Hessian of 300 × 300 by automatic differentiation takes long")
    y, t = (labels[:3] for labels in all_pairs(graph.outputs))
    y, t = y[-len(x) :].clone(), t[-len(x) :].clone()
    x = x[: len(y)]
    double = copy.deepcopy(emitted.network).double()
    expected = []
    for point, label, target in zip(x, y, t, strict=True):

        def margin(flat: Any, label: Any = label, target: Any = target) -> Any:
            z = evaluate(graph, flat.reshape(1, *graph.input.shape), stored_as(torch.float64))
            return z[graph.output][0, label] - z[graph.output][0, target]

        expected.append(torch.func.hessian(margin)(point.flatten()))
    hessians = double.hessian(x, y, t)
    scale = 1 + torch.stack(expected).abs().max()
    assert torch.allclose(hessians, torch.stack(expected), rtol=1e-9, atol=1e-11 * float(scale))
    v = torch.randn_like(x)
    products = double.hessian_vector_product(x, y, t, v)
    assert products.shape == v.shape
    along = (hessians @ v.flatten(1)[:, :, None])[:, :, 0]
    assert torch.allclose(products.flatten(1), along, rtol=1e-9, atol=1e-10 * float(scale))


def test_linearize_is_autograd_within_its_own_errors(emitted: Emitted) -> None:
    graph, x = emitted.graph, 2 * sample(emitted.graph)
    identity = torch.eye(graph.outputs, dtype=torch.float64)
    c = identity[torch.arange(6) % graph.outputs] - identity[-1]
    found = emitted.network.linearize(x.flatten(1), c)
    x.requires_grad_()
    value = (emitted.reference(x) * c).sum(1)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    room = 1 + value.detach().abs()
    assert ((found.value - value).abs().detach() <= found.value_error + 1e-12 * room).all()
    off = (found.gradient - gradient.flatten(1)).norm(dim=1)
    length = 1 + gradient.flatten(1).norm(dim=1)
    assert (off <= found.gradient_error + 1e-12 * length).all()
    absurd = 1e-2 if len(graph.nodes) > 20 else 1e-5  # δ of softplus, amplified layer by layer
    assert (found.value_error <= absurd * room).all()
    assert (found.gradient_error <= absurd * length).all()


def test_curvature_of_the_package_bounds_its_hessians(emitted: Emitted) -> None:
    network = emitted.network
    if emitted.graph.outputs > 10:
        pytest.skip("120 × 119 pairs")
    lo, hi = network.curvature()
    y, t = all_pairs(emitted.graph.outputs)
    x = 3 * sample(emitted.graph, len(y))
    eigenvalues = torch.linalg.eigvalsh(copy.deepcopy(network).double().hessian(x, y, t))
    assert (eigenvalues[:, 0] >= lo[y, t] - 1e-11).all()
    assert (eigenvalues[:, -1] <= hi[y, t] + 1e-11).all()


@pytest.mark.parametrize(
    "features", [FEATURES, *[(feature,) for feature in FEATURES], ("hessian", "regularizer")]
)
def test_packages_are_formatted_and_lint_clean(features: tuple[str, ...], tmp_path: Path) -> None:
    for number, name in enumerate(GRAPHS):
        package = emit(GRAPHS[name](), features).package
        for path, content in package.files.items():
            if number and path.startswith("core/"):
                continue  # the same in all of them
            target = tmp_path / f"package{number}" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    options = ["--no-cache", "--config", str(ROOT / "pyproject.toml"), str(tmp_path)]
    for command in (["format", "--diff"], ["check", "--output-format", "concise"]):
        ran = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *options], capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", ["tiny", "convolutional", "linear_bounds"])
def test_golden(name: str) -> None:
    """A net.py as it stands in the repository: every change of it can be read in review.

    ``VERCOMP_UPDATE_GOLDEN=1 pytest -k golden`` writes it anew.
    """
    made = {
        "tiny": (tiny, ("hessian", "regularizer")),
        "convolutional": (convolutional, ("hessian", "regularizer")),
        "linear_bounds": (tiny, ("crown",)),
    }
    graph, features = made[name]
    source = emit(graph(), features).source
    golden = GOLDEN / f"{name}.py"
    if os.environ.get("VERCOMP_UPDATE_GOLDEN"):
        golden.write_text(source, encoding="utf-8")
    assert source == golden.read_text(encoding="utf-8")


def tiny() -> Graph:
    graph = chain(0, [2, 3, 4, 2], ["tanh", "softplus"])
    out = graph.node("layer2")
    assert isinstance(out, Affine)
    skip = Term(Dense(Parameter("skip.weight", torch.ones(2, 3))), "a0")
    wider = replace(out, terms=(*out.terms, skip))
    return check(Graph((*graph.nodes[:-1], wider), "layer2"))


EMIT = """
import hashlib, sys
sys.path.insert(0, {tests!r})
from graphs import decorated, emit, residual
from vercomp.backends.torch import package as packages
from vercomp.features import FEATURES
for graph in (decorated(), residual(3, ["gelu", "silu", "tanh"])):
    made = emit(graph)
    weights = packages.weights(made.layout)
    entry, matrices = made.network.bounds().files()
    manifest = packages.manifest(
        made.layout, made.package, FEATURES,
        source={{}}, versions={{}}, bounds=entry,
    )
    digest = hashlib.sha256()
    parts = [("w", weights), ("b", matrices), ("m", manifest)]
    for path, content in [*made.package.files.items(), *parts]:
        digest.update(path.encode() + b"\\0" + content)
    print(digest.hexdigest())
"""


def test_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    script = EMIT.format(tests=str(ROOT / "tests"))
    outputs = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        ran = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(ran.stdout)
    assert outputs[0] == outputs[1]
    assert len(outputs[0].split()) == 2


EVIL = [
    'x"""\nraise SystemExit("owned")\n"""',
    "x'); raise SystemExit(1)  #",
    "x\nraise SystemExit(1)",
    "x\rraise SystemExit(1)",
    "x\u2028raise SystemExit(1)",
    "{x}",
    "\\",
    "\0",
    "",
    " ",
    "class",
    "None",
    "self",
    "match",
    "__class__",
    "__init__",
    "ﬁn",  # NFKC folds the ligature
    "Δ",
    "重み",
    "0",
    "1.weight",
    "x" * 500,
    "forward",
    "fingerprint",
    "dtype",
    "_bounds",
    "input_shape",
    "training",
    "state_dict",
    "a-b",
    "a.b",
    "A",
    "F",
    "D",
    "P",
    "graph",
    "nodes",
    "maps",
    "biases",
    "curvature",
    "bound_program",
    "hessian_matrix",
    "hessian_product",
    "quadratic",
    "rounding",
    "arithmetic",
    "norms",
    "shares",
    "ops",
    "net",
    "torch",
    "Tensor",
    "Graph",
    "Term",
    "Affine",
    "Activate",
    "Input",
    "Rounded",
    "Maps",
    "output_shape",
    "B_x",
    "z_x",
    "V_x",
    "norm_x",
]


@cache
def plainly_named() -> Emitted:
    return emit(residual(9, ["tanh", "silu"]))


def statements(source: str) -> list[str]:
    """The kinds of all nodes of the syntax tree, in order."""
    return [type(node).__name__ for node in ast.walk(ast.parse(source))]


@pytest.mark.parametrize("name", EVIL)
def test_no_name_reaches_the_source(name: str) -> None:
    """Layers, parameters and activations called anything: the program stays the same."""
    graph = residual(9, ["tanh", "silu"])
    others = [f"{name}{suffix}" for suffix in ("", "_0", "_1", "'", "\n", "_", "__first")]
    nodes = [node.name for node in graph.nodes[1:]]
    parameters = [p.name for p in graph.parameters()]
    functions = {
        f: replace(f, name=f"{name}{k}" if k else name)
        for k, f in enumerate(dict.fromkeys(node.function for node in graph.activations()))
    }
    graph = Graph(
        tuple(
            replace(n, function=functions[n.function]) if isinstance(n, Activate) else n
            for n in graph.nodes
        ),
        graph.output,
    )
    graph = renamed(
        graph,
        dict(zip(nodes, others, strict=False)),
        dict(zip(parameters, others, strict=False)),
    )
    made, expected = emit(graph), plainly_named()
    # Comments and docstrings aside, only identifiers differ; lines may wrap otherwise.
    sums = {"Assign", "BinOp", "Add", "Store", "Load", "Name"}
    kinds = [k for k in statements(made.source) if k not in sums]
    assert sorted(kinds) == sorted(k for k in statements(expected.source) if k not in sums)
    assert not made.source.isascii() or "\r" not in made.source
    assert all(c.isprintable() or c == "\n" for c in made.source)
    assert max(map(len, made.source.splitlines())) <= 100
    x = torch.randn(4, 5)
    assert torch.allclose(made.network(x), expected.network(x), atol=1e-6)
    torch.testing.assert_close(made.network.curvature()[0], expected.network.curvature()[0])
    y, t = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 2])
    v = torch.randn(4, 5)
    ours, theirs = made.network.double(), copy.deepcopy(expected.network).double()
    for ask in ("hessian", "hessian_vector_product"):
        extra = (v.double(),) if ask.endswith("product") else ()
        answers = [getattr(network, ask)(x.double(), y, t, *extra) for network in (ours, theirs)]
        assert torch.allclose(*answers)
    c = torch.eye(3, dtype=torch.float64)[y]
    torch.testing.assert_close(ours.linearize(x, c).value, theirs.linearize(x, c).value)


DERIVED = [
    {"z0": "z1_0"},
    {"z0": "logits_0", "z1": "logits_1"},
    {"a0": "logits_1_0", "a1": "logits_0"},
    {"z0": "b", "z1": "biases"},
    {"a0": "z1_1", "z0": "z1_0_"},
    {"a0": "v_z1", "a1": "d_z1"},
    {"a0": "f_z1", "a1": "q_a0_max", "z1": "kappa"},
]


@pytest.mark.parametrize("names", DERIVED)
def test_names_that_emitted_code_derives_are_free(names: dict[str, str]) -> None:
    """Layers called what emitted code would call the parts of others."""
    expected = emit(residual(10, ["tanh", "silu", "gelu"]))
    made = emit(renamed(residual(10, ["tanh", "silu", "gelu"]), names))
    x = torch.randn(4, 5, dtype=torch.float64)
    y, t = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 2])
    c = torch.eye(3, dtype=torch.float64)[y]
    ours, theirs = made.network.linearize(x, c), expected.network.linearize(x, c)
    torch.testing.assert_close(tuple(ours), tuple(theirs))
    for network in (made.network, expected.network):
        network.double()
    assert torch.allclose(made.network(x), expected.network(x))
    assert torch.allclose(made.network.hessian(x, y, t), expected.network.hessian(x, y, t))
    ours, theirs = (n.hessian_vector_product(x, y, t, x) for n in (made.network, expected.network))
    assert torch.allclose(ours, theirs)
