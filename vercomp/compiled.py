"""A compiled network: the files of its package, and its network. Needs neither sympy nor onnx."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor

from vercomp.backends.torch.files import FORMAT, Package
from vercomp.backends.torch.memory import import_package
from vercomp.core.arithmetic.rigorous import Rigorous
from vercomp.core.bounds import BoundedNetwork, Bounds, walked
from vercomp.core.graph import Affine
from vercomp.core.network import VerifiedNetwork
from vercomp.core.regularizer import Regularizer, trainable
from vercomp.core.storage import fill
from vercomp.errors import ModelFileError, UnsupportedError, UsageError, WeightError
from vercomp.outputs import CASCADE, kind_of, write_package
from vercomp.results.analysis import Analysis, LayerRow, analysis_of, layers_of, nodes_of
from vercomp.results.regional import curvature_bounds, lipschitz_bounds

if TYPE_CHECKING:
    from collections.abc import Callable

    from vercomp.core.claims.claim import Claim
    from vercomp.core.methods.attack import AttackOptions, Attacks
    from vercomp.core.methods.certificates import Certificates
    from vercomp.core.methods.nearest import Nearest, NearestOptions
    from vercomp.core.methods.portfolio import BoundOptions, CertifyOptions
    from vercomp.core.regions.region import Region
    from vercomp.core.specifications import Specification


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

    def certify(
        self, x: Tensor, y: Tensor | Claim | Specification, **options: Unpack[CertifyOptions]
    ) -> Certificates:
        """Radii within which no perturbation of x (B, *input_shape) makes a claim fail.

        The claim is that the labels y stay the largest outputs, or :class:`vercomp.Labels`,
        :class:`vercomp.Threshold`, :class:`vercomp.Deviation`, :class:`vercomp.Specification`.

        The options are those of :func:`vercomp.core.methods.portfolio.certify`.
        """
        result: Certificates = self._feature("certify")(x, y, **options)
        return result

    def bound(
        self,
        region: Region,
        coefficients: Tensor,
        offsets: Tensor | None = None,
        **options: Unpack[BoundOptions],
    ) -> Tensor:
        """Proved lower bounds (B, R) of C z + d over a region, for any outputs z.

        The options are those of :func:`vercomp.core.methods.portfolio.bound`; bounds of a method
        that is probable hold with the confidence that is asked for.
        """
        certify = self._feature("bound")
        result: Tensor = certify(region, coefficients, offsets, **options)
        return result

    def attack(
        self, x: Tensor, y: Tensor, radius: float, **options: Unpack[AttackOptions]
    ) -> Attacks:
        """The worst points of balls, and proved lower bounds of the margin there.

        The options are those of :func:`vercomp.core.methods.attack.attack`.
        """
        result: Attacks = self._feature("attack")(x, y, radius, **options)
        return result

    def nearest(self, x: Tensor, y: Tensor, **options: Unpack[NearestOptions]) -> Nearest:
        """The nearest points found at which each other class takes over.

        The options are those of :func:`vercomp.core.methods.nearest.nearest`.
        """
        result: Nearest = self._feature("nearest")(x, y, **options)
        return result

    def hessian(self, x: Tensor, y: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        """∇²(z_y − z_t) at each input, exactly (Lemma 1): (B, D, D); of one output z, ∇²z.

        In the network's type if the inputs are in it, or else (float64 inputs of a float32 network,
        any of one in half precision) in float64, where no gradient reaches the weights.
        """
        result: Tensor = self._feature("hessian")(x, y, t)
        return result

    def hessian_vector_product(
        self, x: Tensor, y: Tensor | None, t: Tensor | None, v: Tensor
    ) -> Tensor:
        """∇²(z_y − z_t) v at each input, for directions v shaped like x."""
        result: Tensor = self._feature("hessian_vector_product")(x, y, t, v)
        return result

    def bounds(self) -> Bounds:
        """Proved bounds of norms and curvature, for the weights as they are now.

        Raises:
            UnsupportedError: An activation has no second derivative.
        """
        if isinstance(self.network, BoundedNetwork):
            return self.network.bounds()
        if self.manifest["bounds"] is None:
            raise self._uncurved()
        return walked(self.network)

    def curvature(self, region: Region | None = None) -> tuple[Tensor, Tensor]:
        """(lo, hi), each (C, C) float64: lo·I ≼ ∇²(z_y − z_t) ≼ hi·I for every input.

        One output z is compared with zero, as two classes: [1, 0] is the entry of z.

        Args:
            region: Regions such as :func:`vercomp.Ball`, for bounds (B, C, C) that hold for the
                inputs in each of them, and are smaller. None stands for all inputs.

        Raises:
            UnsupportedError: An activation has no second derivative.
            InputError: A region of another shape, or layers too large for local bounds.
        """
        bound = self.bounds().curvature
        if region is not None:
            bound = torch.minimum(curvature_bounds(self.network, region), bound)
        return -bound, bound.mT.clone()

    def lipschitz(self, region: Region, rows: Tensor | None = None) -> Tensor:
        """Upper bounds (B, C, C) of ‖∇(z_y − z_t)‖ over regions, in the norm dual to theirs.

        In a ball of radius r around an input no margin falls by more than r times its bound.

        Args:
            region: Regions such as :func:`vercomp.Ball`, B of them.
            rows: Rows c (R, C), for bounds (B, R) of ‖∇(c·z)‖ in the place of those of margins.

        Raises:
            InputError: A region or rows of another shape, an activation whose ranges are not known,
                or layers too large for local bounds.
        """
        return lipschitz_bounds(self.network, region, rows)

    def regularizer(self, pairs_per_call: int | None = 16, every: int = 2) -> Regularizer:
        """The curvature bound as a loss term over :attr:`network`'s live parameters.

        See :class:`vercomp.core.regularizer.Regularizer`.

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

    def crown(self, region: Region, y: Tensor | Specification, *, beta: float = 1.0) -> Tensor:
        """Lower bounds of margins over a region, differentiable in :attr:`network`'s parameters.

        A loss for training, not a proof; see
        :meth:`vercomp.core.methods.crown_loss.CrownLoss.crown`.
        """
        result: Tensor = self._feature("crown")(region, y, beta=beta)
        return result

    def analysis(self) -> Analysis:
        """Norms, constants and shares by layer, from the bounds of the current weights."""
        return analysis_of(self.manifest, self.bounds())

    @property
    def curved(self) -> bool:
        """Whether every activation has a second derivative, so that curvature is bounded."""
        return self.manifest["bounds"] is not None

    def layers(self) -> tuple[LayerRow, ...]:
        """Constants and proved norms by layer, also of networks that have no curvature."""
        if self.curved:
            return self.analysis().layers
        _, graph = self.network.in_double()
        ops = Rigorous(self.network.device)
        terms = [term for node in graph.nodes if isinstance(node, Affine) for term in node.terms]
        with torch.no_grad():
            norms = {t.name: float(ops.norm2(t.map, name=f"norm_{t.name}")) for t in terms}
        return layers_of(nodes_of(self.manifest, norms, {}))

    def save(self, folder: str | Path) -> Path:
        """Write the package; an unmodified package of ours is replaced, anything else refused.

        Raises:
            OutputFolderError: The folder holds something else, or cannot be written.
        """
        write_package(folder, self.files)
        return Path(folder)

    def __reduce__(self) -> tuple[Callable[..., CompiledNetwork], tuple[Any, ...]]:
        """A copy, also in another process, is the package opened again, with these weights."""
        return _reopened, (dict(self.files), self.network.state_dict(), self.network.training)

    def _uncurved(self) -> UnsupportedError:
        """Why there are no bounds of curvature."""
        functions = self.manifest["activations"]
        bent = [
            node
            for node in self.manifest["nodes"]
            if node["kind"] == "activation" and functions[node["function"]]["second_range"] is None
        ]
        others = f", and {len(bent) - 1} more" if len(bent) > 1 else ""
        return UnsupportedError(
            f"the activation has no second derivative{others}, so the network has no curvature",
            node=bent[0]["name"],
            operator=functions[bent[0]["function"]]["function"],
            remedy=f"Certify it by {', '.join(self.manifest['methods'])}",
        )

    def _feature(self, name: str) -> Any:
        method = getattr(self.network, name, None)
        if method is None:
            raise UsageError(
                f"this package was compiled without {name!r}",
                remedy=f"Compile it again with {_FEATURE_OF.get(name, name)} in emit",
            )
        return method


def load_package(folder: str | Path) -> CompiledNetwork:
    """Open a package that was saved.

    Raises:
        ModelFileError: The folder is not such a package.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelFileError("no such folder", location=str(folder))
    if kind_of(folder) == CASCADE:
        raise ModelFileError(
            "this is a cascade, and not one network",
            location=str(folder),
            remedy="Open it with vercomp.load_cascade; each of its stages is a package of its own",
        )
    try:
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix in (".py", ".json", ".safetensors")
        }
        manifest = json.loads(files["manifest.json"])
        if manifest["format"] != FORMAT:
            raise ModelFileError(
                f"the package has format {manifest['format']}, not {FORMAT}",
                location=str(folder),
                remedy="Compile its source again",
            )
        module = import_package(files)
        network = fill(module.Network(), files)
    except ModuleNotFoundError as error:
        raise ModelFileError(
            f"the package needs the module {error.name!r}, which is not installed",
            location=str(folder),
            remedy="Install the plugin with which it was compiled",
        ) from error
    except (OSError, KeyError, ValueError, SyntaxError, ImportError) as error:
        raise ModelFileError(
            f"not a compiled package ({error!r})",
            location=str(folder),
            remedy="A package is a folder that `vercomp compile MODEL --out DIR` has written",
        ) from error
    return CompiledNetwork(Package(files), module, network)


_FEATURE_OF = {"bound": "certify", "hessian_vector_product": "hessian", "nearest": "attack"}
"""The feature that brings a method of another name."""


def _reopened(
    files: Mapping[str, bytes], state: Mapping[str, Tensor], training: bool
) -> CompiledNetwork:
    module = import_package(files)
    network: VerifiedNetwork = fill(module.Network(), files)
    network.load_state_dict(state, assign=True)
    return CompiledNetwork(Package(files), module, network.train(training))
