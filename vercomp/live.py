"""Bounds over a model's own live parameters: what ``vercomp.regularizer`` and the trainer use.

Nothing is emitted here. The walks that certificates rest on run over the model's own graph, with
every linear map bound to the parameters that the user's optimiser moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from vercomp.backends.torch.layout import Layout
from vercomp.backends.torch.memory import import_package
from vercomp.backends.torch.package import torch_target
from vercomp.core.arithmetic.differentiable import working_type
from vercomp.core.domains.curvature import curvature
from vercomp.core.graph import Graph as BoundGraph
from vercomp.core.regularizer import Regularizer, trainable
from vercomp.driver import analyse, translate
from vercomp.errors import UnsupportedError, WeightError
from vercomp.frontends.translation import Translation
from vercomp.frontends.values import Tensors
from vercomp.ir.binding import bind
from vercomp.ir.graph import Graph
from vercomp.ir.linear_maps import Parameter
from vercomp.planning import require
from vercomp.registry import Options, registry


def regularizer(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    output: str | int | None = None,
    pairs_per_call: int | None = 16,
    every: int = 2,
) -> Regularizer:
    """The curvature bound of a model, over the model's own live parameters.

    ``loss = cross_entropy(model(x), y) + gamma * reg(y, t)``: see
    :class:`vercomp.core.regularizer.Regularizer`, also for what a value is worth: it converges
    to the bound from below, where the certificate's is proved from above.

    Args:
        model: The model that is being trained. Weights that it computes from its parameters (under
            spectral norm, weight norm, orthogonal parametrisations, masks) are computed anew at
            every call, as in evaluation mode, and differentiated through.
        input_shape: Shape of one input, without the batch.
        mean: Mean of a normalisation outside the model, as for :func:`vercomp.compile`.
        std: Its standard deviation.
        output: Which result the logits are, as for :func:`vercomp.compile`.
        pairs_per_call: Pairs of classes that one call evaluates in training mode, in rotation;
            all where None.
        every: One call in so many evaluates anything in training mode, with so many times the
            gradient: the mean over steps is the same, at a fraction of the cost.

    Raises:
        UnsupportedError: A weight is computed from parameters in a way that cannot be computed
            anew (in an ONNX file, or scaled while it was translated): the gradient would not reach
            them. Or there are no parameters.
        VercompError: As :func:`vercomp.compile`.
    """
    found = registry()
    translation = translate(model, input_shape, found, output)
    layout, planned = analyse(translation, found, Options(mean, std), "network")
    require(planned, ("regularizer",))
    like = _followed(model, translation, _weights(layout.graph))

    def nodes(live: LiveParameters) -> BoundGraph:
        return bind(
            layout.graph,
            _reader(translation, live, like),
            names=layout.nodes.__getitem__,
            term_name=layout.map_field,
            function=layout.constants_of,
            biased=False,
        )

    return Regularizer(
        curvature,
        nodes,
        LiveParameters(model),
        layout.graph.outputs,
        like,
        pairs_per_call,
        every,
        symmetric=layout.symmetric,
    )


def live_network(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    output: str | int | None = None,
) -> LiveNetwork:
    """The graph of a model, over the model's own live parameters.

    Args:
        model: The model that is being trained; as for :func:`regularizer`.
        input_shape: Shape of one input, without the batch.
        mean: Mean of a normalisation outside the model, as for :func:`vercomp.compile`.
        std: Its standard deviation.
        output: Which result the logits are, as for :func:`vercomp.compile`.

    Raises:
        UnsupportedError: A weight is computed in a way by which its gradient would not reach the
            parameters, or there are none.
        VercompError: As :func:`vercomp.compile`.
    """
    found = registry()
    translation = translate(model, input_shape, found, output)
    layout, _ = analyse(translation, found, Options(mean, std), "network")
    read = [parameter.name for parameter in layout.stored]
    like = _followed(model, translation, read)
    module = import_package(torch_target(layout, ("certify",)).files)
    return LiveNetwork(module, layout, translation, LiveParameters(model), like)


class LiveNetwork:
    """A model as methods of bounding see it: its graph over its parameters as they are now.

    Args:
        module: The package that the model compiles to, of which the printed graph is read.
        layout: What it was printed from.
        translation: How parameters are computed that the model computes itself.
        live: The model's tensors.
        like: A parameter, whose type and device are followed.
    """

    def __init__(
        self,
        module: ModuleType,
        layout: Layout,
        translation: Translation,
        live: LiveParameters,
        like: Tensor,
    ) -> None:
        self.outputs = layout.outputs
        self._graph: Callable[[Any], BoundGraph] = module.Network.nodes
        self._named = {layout.parameters[p.name]: p for p in layout.stored}
        self._translation, self._live, self._like = translation, live, like

    @property
    def dtype(self) -> torch.dtype:
        """The type that bounds are computed in: the parameters', float32 where that is half."""
        return working_type(self._like)

    def nodes(self) -> BoundGraph:
        """The graph over the parameters as they are now, with their gradients."""
        return self._graph(_Attributes(self))

    def parameters(self) -> dict[str, Tensor]:
        """The parameters as they are now, by the names of the printed network's attributes."""
        read = _reader(self._translation, self._live, self._like)
        return {name: read(parameter) for name, parameter in self._named.items()}


class _Attributes:
    """Parameters as attributes: what a printed graph takes in the place of its network."""

    def __init__(self, network: LiveNetwork) -> None:
        self.dtype = network.dtype
        self.__dict__.update(network.parameters())


def _followed(model: nn.Module, translation: Translation, names: Sequence[str]) -> Tensor:
    """A parameter of a model whose gradients reach all that is read of it.

    Raises:
        UnsupportedError: They would not, or there is none.
    """
    for name in names:
        if name in translation.derived and name not in translation.recipes:
            raise UnsupportedError(
                f"it is computed from {', '.join(translation.derived[name])} inside the model in a "
                "way by which its gradient would not reach them",
                node=name,
                remedy="Regularise a model whose layers read their parameters as they are",
            )
    try:
        return trainable(model)
    except WeightError as error:
        raise UnsupportedError(
            str(error), node=type(model).__name__, remedy="Pass a model with nn.Parameters"
        ) from error


def _reader(
    translation: Translation, live: LiveParameters, like: Tensor
) -> Callable[[Parameter], Tensor]:
    """How parameters are looked up: as they are now, in the type that bounds are computed in."""
    tensors = Current(live, like)

    def read(parameter: Parameter) -> Tensor:
        recipe = translation.recipes.get(parameter.name)
        found = live.read(parameter) if recipe is None else recipe(tensors)
        return found.to(like.device, working_type(like))

    return read


def _weights(graph: Graph) -> list[str]:
    """The names of the parameters that the maps read; biases do not enter the curvature."""
    terms = (term for node in graph.affine() for term in node.terms)
    return [parameter.name for term in terms for parameter in term.map.parameters()]


class LiveParameters:
    """A model's tensors by the names that they had when it was translated, read anew every time.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        #: The module and attribute of every tensor of the model, by the tensor's name.
        self.owners = {
            ".".join((*([path] if path else []), name)): (module, name)
            for path, module in model.named_modules(remove_duplicate=False)
            for name in (*module._parameters, *module._buffers)
        }

    def read(self, parameter: Parameter) -> Tensor:
        """The tensor as it is now; a constant of the translation where the model has none."""
        return self.named(parameter.name, parameter.value)

    def named(self, name: str, value: Tensor) -> Tensor:
        """The tensor of a name as it is now; ``value`` where the model has none."""
        owner = self.owners.get(name)
        found: Tensor = value if owner is None else getattr(*owner)
        return found


class Current(Tensors):
    """The model's tensors during one evaluation, in the type that the bound is computed in."""

    def __init__(self, live: LiveParameters, like: Tensor) -> None:
        super().__init__()
        self.live, self.like = live, like

    def __call__(self, value: Tensor, name: str | None = None) -> Tensor:
        """The tensor of a name; whole numbers and truth values stay what they are."""
        found = value if name is None else self.live.named(name, value)
        kind = working_type(self.like) if found.is_floating_point() else found.dtype
        return found.to(self.like.device, kind)
