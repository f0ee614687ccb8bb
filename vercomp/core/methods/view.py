"""Another output of a network, with bounds of its own: behind its tail, or in front of its last σ.

Its parameters are the network's; its curvature program is the walk over its graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..arithmetic.operations import Arithmetic, Bound
from ..bounds import BoundedNetwork
from ..domains.curvature import curvature
from ..domains.values import Values
from ..functions import Elementwise
from ..graph import Activate, Graph
from ..network import VerifiedNetwork
from ..walk import result

Change = Callable[[Graph], Graph]
"""What becomes of a graph."""


class View(BoundedNetwork):
    """A network with its graph continued, or cut short.

    Args:
        network: The network.
        change: What becomes of its graph.
        forward: Its outputs; by the walk over the changed graph where None.
    """

    def __init__(
        self,
        network: VerifiedNetwork,
        change: Change,
        forward: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.change, self.evaluate = network, change, forward
        graph = self.nodes()
        self.input_shape = network.input_shape  # type: ignore[misc]
        self.output_shape = graph.node(graph.output).shape  # type: ignore[misc]
        able = (method for method in network.methods if not method.requires(graph))
        self.methods = tuple(able)  # type: ignore[misc]

    def forward(self, x: Tensor) -> Tensor:
        """The outputs."""
        return result(Values(x), self.nodes()) if self.evaluate is None else self.evaluate(x)

    def nodes(self) -> Graph:
        """The changed graph, over the network's parameters as they are."""
        return self.change(self.network.nodes())

    def bound_program(self, arithmetic: Arithmetic, c: Tensor) -> Bound:
        """The walk over the changed graph."""
        return curvature(arithmetic, self.nodes(), c)

    def fingerprint(self) -> str:
        """The network's: the view has no parameters of its own."""
        return self.network.fingerprint()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The network's."""
        with self.network.held():
            yield

    def in_double(self) -> tuple[Any, Graph]:
        """The view of the float64 copy, and its graph."""
        double, graph = self.network.in_double()
        if not self._double or self._double[0][0] != self.fingerprint():
            view = View(double, self.change, self.evaluate)
            self._double = ((self.fingerprint(), view, self.change(graph)),)  # type: ignore[assignment]
        _, view, changed = self._double[0]
        return view, changed


def whole(network: VerifiedNetwork) -> VerifiedNetwork:
    """The network with the outputs of its model: behind the tail, where it has one."""
    tail = network.tail
    if tail is None:
        return network
    return _kept(network, "whole", lambda graph: tail.behind(graph, network.device), network)


def before_last(network: VerifiedNetwork) -> tuple[VerifiedNetwork, Elementwise] | None:
    """The network without the function at its output, and that function, if it never falls."""
    graph = network.nodes()
    last = graph.node(graph.output)
    if not isinstance(last, Activate) or last.function.first_range[0] < 0.0:
        return None
    if last.function.pieces is None:
        return None
    return _kept(network, "before", _shortened), last.function


def _shortened(graph: Graph) -> Graph:
    """The graph that ends below its output."""
    (below,) = graph.node(graph.output).parents
    living = {below} | graph.ancestors(below)
    return Graph(tuple(node for node in graph.nodes if node.name in living), below)


def _kept(
    network: VerifiedNetwork,
    name: str,
    change: Change,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> VerifiedNetwork:
    """The view of that name, made once for each network."""
    if name not in network.views:
        network.views[name] = View(network, change, forward)
    return network.views[name]
