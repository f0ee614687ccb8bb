"""The one straight path from a model to a package.

translate → validate → rewrite → refuse what is left → analyse → emit → import → bound
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vercomp.activations import constants
from vercomp.backends.torch import package as packages
from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.memory import import_package
from vercomp.backends.torch.package import FEATURES, Package, check_features
from vercomp.errors import (
    ModelFileError,
    UnboundedCurvatureError,
    UnsupportedError,
    UsageError,
    WeightError,
)
from vercomp.facts import CONSTANTS, CURVATURE
from vercomp.frontends.translation import Offence, Translation, unsupported
from vercomp.frontends.validate import validate
from vercomp.ir.graph import Activate, Graph, Opaque
from vercomp.names import identifier
from vercomp.outputs import write_package
from vercomp.pass_manager import State, run_passes
from vercomp.registry import Options, Registry, registry
from vercomp.report.analysis import Analysis, analysis_of
from vercomp.runtime.network import VerifiedNetwork
from vercomp.runtime.regularizer import Regularizer, trainable
from vercomp.runtime.storage import fill, fill_weights

if TYPE_CHECKING:
    from vercomp.runtime.attack import Attacks
    from vercomp.runtime.certify import Certificates

Model = "nn.Module | ExportedProgram | str | Path"


@dataclass(frozen=True)
class CompiledNetwork:
    """A package in memory, imported: its files, and its network with weights and bounds.

    Args:
        package: The files, as :meth:`save` writes them.
        module: The imported package.
        network: Its network; an ordinary ``nn.Module``.
    """

    package: Package
    module: ModuleType
    network: VerifiedNetwork

    @property
    def files(self) -> Mapping[str, bytes]:
        """Contents of the package by relative path."""
        return self.package.files

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """manifest.json, parsed."""
        content: dict[str, Any] = json.loads(self.files["manifest.json"])
        return content

    @property
    def name(self) -> str:
        """What the package calls itself."""
        return str(self.manifest["name"])

    @property
    def source_hash(self) -> str:
        """SHA-256 of the source: of the file's bytes, or of the graph and its weights."""
        return str(self.manifest["source"]["sha256"])

    def certify(self, x: Tensor, y: Tensor, **options: Any) -> Certificates:
        """Radii within which no l2 perturbation changes the class of x (B, *input_shape)."""
        result: Certificates = self._feature("certify")(x, y, **options)
        return result

    def attack(self, x: Tensor, y: Tensor, radius: float, **options: Any) -> Attacks:
        """The worst points of l2 balls, and proved lower bounds of the margin there."""
        result: Attacks = self._feature("attack")(x, y, radius, **options)
        return result

    def hessian(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """∇²(z_y − z_t) at each input, exactly (Lemma 1): (B, D, D).

        In the network's type if the inputs are in it, or else (float64 inputs of a float32 network,
        any of one in half precision) in float64, where no gradient reaches the weights.
        """
        result: Tensor = self._feature("hessian")(x, y, t)
        return result

    def hessian_vector_product(self, x: Tensor, y: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """∇²(z_y − z_t) v at each input, for directions v shaped like x; in the same type."""
        result: Tensor = self._feature("hessian_vector_product")(x, y, t, v)
        return result

    def curvature(self) -> tuple[Tensor, Tensor]:
        """(lo, hi), each (C, C) float64: lo·I ≼ ∇²(z_y − z_t) ≼ hi·I for every input."""
        return self.network.curvature()

    def regularizer(self, pairs_per_call: int | None = 16, every: int = 2) -> Regularizer:
        """The curvature bound as a loss term over :attr:`network`'s live parameters.

        See :class:`vercomp.runtime.regularizer.Regularizer`.

        Raises:
            UsageError: The package was compiled without it.
            UnsupportedError: The network has nothing to train: its weights are all constants.
        """
        if "regularizer" not in self.manifest["emit"]:
            self._feature("regularizer")
        try:
            trainable(self.network)
        except WeightError as error:
            raise UnsupportedError(
                str(error),
                node=self.name,
                remedy="Regularise the model that its weights were computed from",
            ) from error
        made: Regularizer = self.module.regularizer(self.network, pairs_per_call, every)
        return made

    def analysis(self) -> Analysis:
        """Norms, constants and shares by layer, from the bounds of the current weights."""
        return analysis_of(self.manifest, self.network.bounds())

    def save(self, folder: str | Path) -> Path:
        """Write the package; an unmodified package of ours is replaced, anything else refused.

        Raises:
            OutputFolderError: The folder holds something else, or cannot be written.
        """
        write_package(folder, self.files)
        return Path(folder)

    def _feature(self, name: str) -> Any:
        method = getattr(self.network, name, None)
        if method is None:
            raise UsageError(
                f"this package was compiled without {name!r}",
                remedy=f"Compile it again with {name.removesuffix('_vector_product')} in emit",
            )
        return method


def compile(  # noqa: A001 - what the tool does
    model: Any,
    input_shape: Sequence[int] | None = None,
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    emit: Sequence[str] = FEATURES,
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
        emit: Which of certify, attack, hessian, regularizer the package can do.
        name: What the package calls itself.
        target: What to emit; plugins may add to ``"torch"``.
        output: Which result the logits are, for a model that returns several: a key, a field or an
            index in torch, a tensor's name in ONNX.

    Raises:
        VercompError: The model cannot be read, translated or bounded; the message says where.
    """
    features = check_features((emit,) if isinstance(emit, str) else tuple(emit))
    found = registry()
    if target not in found.targets:
        raise UsageError(f"no target {target!r}", remedy=f"Known: {', '.join(found.targets)}")
    translation = translate(model, input_shape, found, output)
    layout = analyse(translation, found, Options(mean, std), name or _title(model))
    emitted = found.targets[target](layout, features)
    weights = packages.weights(layout)
    module = import_package(emitted.files)
    network: VerifiedNetwork = module.Network()
    fill_weights(network, weights)
    network.eval()
    emitted = emitted.with_file("net.safetensors", weights)
    manifest = packages.manifest(
        layout,
        emitted,
        features,
        source={"kind": translation.source_kind, "sha256": _source_hash(model, emitted.files)},
        versions={"vercomp": version("vercomp"), "torch": torch.__version__.partition("+")[0]},
        bounds=network.bounds().to_json(),
    )
    return CompiledNetwork(emitted.with_file("manifest.json", manifest), module, network)


def load_package(folder: str | Path) -> CompiledNetwork:
    """Open a package that was saved.

    Raises:
        ModelFileError: The folder is not such a package.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelFileError("no such folder", location=str(folder))
    try:
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix in (".py", ".json", ".safetensors")
        }
        manifest = json.loads(files["manifest.json"])
        if manifest["format"] != packages.FORMAT:
            raise ModelFileError(
                f"the package has format {manifest['format']}, not {packages.FORMAT}",
                location=str(folder),
                remedy="Compile its source again",
            )
        module = import_package(files)
        network = fill(module.Network(), files)
    except (OSError, KeyError, ValueError, SyntaxError, ImportError) as error:
        raise ModelFileError(
            f"not a compiled package ({error!r})",
            location=str(folder),
            remedy="A package is a folder that `vercomp compile MODEL --out DIR` has written",
        ) from error
    return CompiledNetwork(Package(files), module, network)


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

        translation = from_onnx(Path(model), table, None if output is None else str(output))
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
            translation = from_torch(model, shape, table, output)  # as it is, wherever it is called
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


def analyse(translation: Translation, found: Registry, options: Options, title: str) -> Layout:
    """A translated model, rewritten and analysed, ready to be written down."""
    state = run_passes(State(translation.graph), found.make_passes("rewrite", options))
    if any(state.graph.opaque()):  # and in the same breath what would be refused next
        raise unsupported(offences(state.graph))
    _check_output(state.graph)
    state = run_passes(state, found.make_passes("analyse", options))
    return Layout(
        title=identifier(title, "network"),
        graph=state.graph,
        constants={n.name: state.facts.of(CONSTANTS, n.name) for n in state.graph.activations()},
        program=state.facts.of(CURVATURE),
        map_rules=found.map_rules,
    )


def offences(graph: Graph) -> list[Offence]:
    """What the curvature analyses refuse: opaque nodes, activations without bounded curvature."""
    found = []
    for node in graph.nodes:
        if isinstance(node, Opaque):
            found.append(Offence(node.name, node.operator, node.origin, node.reason))
        elif isinstance(node, Activate):
            try:
                constants(node.function)
            except UnboundedCurvatureError as error:
                found.append(Offence(node.name, str(node.function), node.origin, error.message))
    return found


def _check_output(graph: Graph) -> None:
    shape = graph.node(graph.output).shape
    if len(shape) != 1 or shape[0] < 2:
        raise UnsupportedError(
            f"the output has shape {shape} (without the batch), not a vector of logits",
            node=graph.output,
            remedy="A classifier with at least two logits can be certified",
        )
    for parameter in graph.parameters():
        if not torch.isfinite(parameter.value).all():
            raise WeightError("the parameter holds NaN or infinity", node=parameter.name)


def _title(model: Any) -> str:
    return Path(model).stem if isinstance(model, str | Path) else type(model).__name__


def _source_hash(model: Any, files: Mapping[str, bytes]) -> str:
    """Tells one model from another: the file itself, or all that was emitted for a module."""
    if isinstance(model, str | Path):
        return hashlib.sha256(Path(model).read_bytes()).hexdigest()
    digest = hashlib.sha256(files["net.py"])
    digest.update(files["net.safetensors"])
    return digest.hexdigest()
