"""The one straight path from a model to a package.

translate → validate → rewrite → refuse what is left → analyse → emit → import → bound
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vercomp.backends.torch import package as packages
from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.memory import import_package
from vercomp.compiled import CompiledNetwork
from vercomp.core.bounds import MATRICES, BoundedNetwork, walked
from vercomp.core.domains.values import Values
from vercomp.core.network import VerifiedNetwork
from vercomp.core.storage import fill_weights
from vercomp.core.walk import forward
from vercomp.errors import InternalError, UsageError, WeightError
from vercomp.frontends.translation import Translation, unsupported
from vercomp.frontends.validate import validate
from vercomp.names import identifier
from vercomp.pass_manager import printed, run_passes
from vercomp.planning import Plan, plan, require
from vercomp.registry import Options, Registry, registry

Model = "nn.Module | ExportedProgram | str | Path"

_TOLERANCE = 1e-7
"""Float64 results may differ by this share of a network's largest value: sums are taken in another
order."""


def compile(  # noqa: A001 - what the tool does
    model: Any,
    input_shape: Sequence[int] | None = None,
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    emit: Sequence[str] | None = None,
    name: str | None = None,
    target: str = "torch",
    output: str | int | None = None,
) -> CompiledNetwork:
    """Compile a trained network into a package that certifies, attacks and regularises.

    Args:
        model: An ``nn.Module``, ``fx.GraphModule`` or ``ExportedProgram``, or the path of an ONNX
            file.
        input_shape: Shape of one input, without the batch; an ONNX file says it itself.
        mean: Mean of a normalisation outside the model, to be put in front of it: a number, or one
            a channel. Radii are then in the units of the unnormalised input.
        std: Its standard deviation.
        emit: Which of certify, attack, hessian, regularizer, crown the package can do;
            everything that the network allows where None.
        name: What the package calls itself.
        target: What to emit; plugins may add to ``"torch"``.
        output: Which result the logits are, for a model that returns several: a key, a field or an
            index in torch, a tensor's name in ONNX.

    Raises:
        VercompError: The model cannot be read, translated or bounded; the message says where.
    """
    wanted = (emit,) if isinstance(emit, str) else emit
    found = registry()
    if target not in found.targets:
        raise UsageError(f"no target {target!r}", remedy=f"Known: {', '.join(found.targets)}")
    translation = translate(model, input_shape, found, output)
    layout, planned = analyse(translation, found, Options(mean, std), name or _title(model))
    features = require(planned, wanted)
    emitted = found.targets[target](layout, features)
    weights = packages.weights(layout)
    module = import_package(emitted.files)
    network: VerifiedNetwork = module.Network()
    fill_weights(network, weights)
    network.eval()
    _check_printed(network)
    emitted = emitted.with_file("net.safetensors", weights)
    entry = None
    if layout.curved:
        found_bounds = network.bounds() if isinstance(network, BoundedNetwork) else walked(network)
        entry, matrices = found_bounds.files()
        emitted = emitted.with_file(MATRICES, matrices)
    manifest = packages.manifest(
        layout,
        emitted,
        features,
        source={"kind": translation.source_kind, "sha256": _source_hash(model, emitted.files)},
        versions={"vercomp": version("vercomp"), "torch": torch.__version__.partition("+")[0]},
        bounds=entry,
    )
    return CompiledNetwork(emitted.with_file("manifest.json", manifest), module, network)


def translate(
    model: Any,
    input_shape: Sequence[int] | None,
    found: Registry,
    output: str | int | None = None,
) -> Translation:
    """A model as a validated graph, of the one result or of the one that is named."""
    table = found.activations
    if isinstance(model, str | Path):
        from vercomp.frontends.onnx import from_onnx

        translation = from_onnx(
            Path(model), table, None if output is None else str(output), found.onnx_operators
        )
        declared = translation.graph.input.shape
        if input_shape is not None and tuple(input_shape) != declared:
            raise UsageError(
                f"the model's inputs have shape {declared}, not {tuple(input_shape)}",
                remedy="Leave the input shape out: an ONNX file says it itself",
            )
    else:
        from vercomp.frontends.fx import from_torch

        if input_shape is None and not isinstance(model, torch.export.ExportedProgram):
            raise UsageError(
                "a torch model needs the shape of one input",
                remedy="Pass input_shape=(1, 28, 28), without the batch dimension",
            )
        shape = None if input_shape is None else _sizes(input_shape)
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            # The model as it is, wherever this is called.
            translation = from_torch(model, shape, table, output, found.torch_operators)
            validate(translation)
            return translation
    validate(translation)
    return translation


def _sizes(input_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of one input, if that is what it is."""
    try:
        sizes = tuple(operator.index(size) for size in input_shape)
    except TypeError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(
            f"{input_shape!r} is no shape of an input",
            remedy="Pass whole numbers, as in input_shape=(1, 28, 28), without the batch dimension",
        )
    return sizes


def analyse(
    translation: Translation, found: Registry, options: Options, title: str
) -> tuple[Layout, Plan]:
    """A translated model, rewritten and planned, ready to be written down.

    Raises:
        UnsupportedError: No method can take the network; the message lists all nodes.
        WeightError: A parameter is not finite.
    """
    passes = found.make_passes(options)
    graph = run_passes(translation.graph, passes)
    planned = plan(graph, found.methods)
    if planned.refused:
        raise unsupported(planned.refused)
    for parameter in graph.parameters():
        if not torch.isfinite(parameter.value).all():
            raise WeightError("the parameter holds NaN or infinity", node=parameter.name)
    layout = Layout(
        title=identifier(title, "network"),
        graph=graph,
        constants=planned.constants,
        map_rules=found.map_rules,
        methods=planned.methods,
        source=run_passes(translation.graph, printed(passes)),
    )
    return layout, planned


def _check_printed(network: VerifiedNetwork) -> None:
    """Compare the printed forward pass with the printed graph, which certificates are about.

    Raises:
        InternalError: They are two functions.
    """
    double, graph = network.in_double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, *network.input_shape, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        printed, values = double.logits(x), forward(Values(x), graph)
    largest = max(float(value.abs().max()) for value in values.values())
    if bool(((printed - values[graph.output]).abs() > _TOLERANCE * largest).any()):
        raise InternalError("the printed forward pass computes something else than the graph")


def _title(model: Any) -> str:
    return Path(model).stem if isinstance(model, str | Path) else type(model).__name__


def _source_hash(model: Any, files: Mapping[str, bytes]) -> str:
    """Tells one model from another: the file itself, or all that was emitted for a module."""
    if isinstance(model, str | Path):
        return hashlib.sha256(Path(model).read_bytes()).hexdigest()
    digest = hashlib.sha256(files["net.py"])
    digest.update(files["net.safetensors"])
    return digest.hexdigest()
