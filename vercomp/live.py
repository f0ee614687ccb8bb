"""The bound program over a model's own live parameters: what ``vercomp.regularizer`` gives.

Nothing is emitted here. The same program that certificates rest on is interpreted, with every
linear map bound to the parameters that the user's optimiser moves.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vercomp.backends.torch.layout import Layout
from vercomp.driver import analyse, translate
from vercomp.errors import UnsupportedError
from vercomp.ir.graph import Affine
from vercomp.ir.linear_maps import Parameter
from vercomp.program import ConstantOf, MapOf, evaluate
from vercomp.registry import Options, registry
from vercomp.runtime.arithmetic import Arithmetic, Bound
from vercomp.runtime.elementwise import Range
from vercomp.runtime.operators import Operator
from vercomp.runtime.regularizer import Regularizer


def regularizer(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    output: str | int | None = None,
) -> Regularizer:
    """The curvature bound of a model, over the model's own live parameters.

    ``loss = cross_entropy(model(x), y) + gamma * reg(y, t)``: see
    :class:`vercomp.runtime.regularizer.Regularizer`.

    Args:
        model: The model that is being trained.
        input_shape: Shape of one input, without the batch.
        mean: Mean of a normalisation outside the model, as for :func:`vercomp.compile`.
        std: Its standard deviation.
        output: Which result the logits are, as for :func:`vercomp.compile`.

    Raises:
        UnsupportedError: The model computes a weight from its parameters (a mask, a weight norm):
            the gradient would not reach them.
        VercompError: As :func:`vercomp.compile`.
    """
    found = registry()
    translation = translate(model, input_shape, found, output)
    if translation.derived:
        name, sources = next(iter(translation.derived.items()))
        raise UnsupportedError(
            f"it is computed from {', '.join(sources)} inside the model, which its gradient would "
            "not reach",
            node=name,
            remedy="Regularise a model whose layers read their parameters as they are",
        )
    layout = analyse(translation, found, Options(mean, std), "network")
    live = LiveProgram(model, layout)
    return Regularizer(LiveProgram.bound, live, layout.graph.classes, next(model.parameters()))


class LiveProgram:
    """A bound program whose maps read a model's parameters anew at every evaluation.

    Args:
        model: The model; its parameters are found by the names they had when it was translated.
        layout: Its analysed graph.
    """

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        self.model = model
        self.layout = layout

    @staticmethod
    def bound(arithmetic: Arithmetic, live: LiveProgram, c: Tensor) -> Bound:
        """The program on coefficient rows c (P, C)."""
        layout = live.layout
        tensors = {
            **dict(live.model.named_buffers(remove_duplicate=False)),
            **dict(live.model.named_parameters(remove_duplicate=False)),
        }

        def read(parameter: Parameter) -> Tensor:
            return tensors.get(parameter.name, parameter.value).to(c)

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
