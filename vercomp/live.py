"""The bound program over a model's own live parameters: what ``vercomp.regularizer`` gives.

Nothing is emitted here. The same program that certificates rest on is interpreted, with every
linear map bound to the parameters that the user's optimiser moves.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vercomp.backends.torch.layout import Layout
from vercomp.driver import analyse, translate
from vercomp.errors import UnsupportedError, WeightError
from vercomp.ir.graph import Affine, Graph
from vercomp.ir.linear_maps import Parameter
from vercomp.program import ConstantOf, MapOf, evaluate
from vercomp.registry import Options, registry
from vercomp.runtime.arithmetic import Arithmetic, Bound
from vercomp.runtime.elementwise import Range
from vercomp.runtime.operators import Operator
from vercomp.runtime.regularizer import Regularizer, trainable


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
    :class:`vercomp.runtime.regularizer.Regularizer`, also for what a value is worth: it converges
    to the bound from below, where the certificate's is proved from above.

    Args:
        model: The model that is being trained.
        input_shape: Shape of one input, without the batch.
        mean: Mean of a normalisation outside the model, as for :func:`vercomp.compile`.
        std: Its standard deviation.
        output: Which result the logits are, as for :func:`vercomp.compile`.
        pairs_per_call: Pairs of classes that one call evaluates in training mode, in rotation;
            all where None.
        every: One call in so many evaluates anything in training mode, with so many times the
            gradient: the mean over steps is the same, at a fraction of the cost.

    Raises:
        UnsupportedError: The model computes a weight from its parameters (a mask, a weight norm):
            the gradient would not reach them. Or it has no parameters.
        VercompError: As :func:`vercomp.compile`.
    """
    found = registry()
    translation = translate(model, input_shape, found, output)
    layout = analyse(translation, found, Options(mean, std), "network")
    for name in _weights(layout.graph):
        if name in translation.derived:
            raise UnsupportedError(
                f"it is computed from {', '.join(translation.derived[name])} inside the model, "
                "which its gradient would not reach",
                node=name,
                remedy="Regularise a model whose layers read their parameters as they are",
            )
    try:
        like = trainable(model)
    except WeightError as error:
        raise UnsupportedError(
            str(error), node=type(model).__name__, remedy="Pass a model with nn.Parameters"
        ) from error
    return Regularizer(
        LiveProgram.bound,
        LiveProgram(model, layout),
        layout.graph.classes,
        like,
        pairs_per_call,
        every,
        symmetric=layout.symmetric,
    )


def _weights(graph: Graph) -> list[str]:
    """The names of the parameters that the maps read; biases do not enter the curvature."""
    terms = (term for node in graph.affine() for term in node.terms)
    return [parameter.name for term in terms for parameter in term.map.parameters()]


class LiveProgram:
    """A bound program whose maps read a model's parameters anew at every evaluation.

    Args:
        model: The model; its parameters are found by the names they had when it was translated.
        layout: Its analysed graph.
    """

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        self.model = model
        self.layout = layout
        #: The module and attribute of every tensor of the model, by the tensor's name.
        self.owners = {
            ".".join((*([path] if path else []), name)): (module, name)
            for path, module in model.named_modules(remove_duplicate=False)
            for name in (*module._parameters, *module._buffers)
        }

    @staticmethod
    def bound(arithmetic: Arithmetic, live: LiveProgram, c: Tensor) -> Bound:
        """The program on coefficient rows c (P, C)."""
        layout = live.layout

        def read(parameter: Parameter) -> Tensor:
            owner = live.owners.get(parameter.name)
            return (parameter.value if owner is None else getattr(*owner)).to(c)

        def operator(map_of: MapOf) -> Operator:
            node = layout.graph.node(map_of.node)
            assert isinstance(node, Affine)  # noqa: S101 - the program was made from this graph
            return node.terms[map_of.term].map.bind(read)

        def constant(constant: ConstantOf) -> float | Range:
            found = layout.constants[constant.activation]
            values: dict[str, float | Range] = {
                "g": found.g,
                "first_range": (found.g_lower, found.g_upper),
                "second_range": (found.h_lower, found.h_upper),
            }
            return values[constant.which]

        return evaluate(layout.program, arithmetic, operator, constant, c, layout.map_field)
