"""The layout that all sections of an emitted file share: the graph, and a name for each thing."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch

from vercomp.activations import constants
from vercomp.backends.torch import rules
from vercomp.backends.torch.readable import readable, value_names
from vercomp.backends.torch.rules import MapRule
from vercomp.backends.torch.spelling import Indices, listed
from vercomp.core import graph as core
from vercomp.core.methods.method import Method
from vercomp.ir.activation import Activation, ActivationConstants
from vercomp.ir.binding import bind
from vercomp.ir.graph import Activate, Affine, Graph
from vercomp.ir.linear_maps import LinearMap, Parameter, parts
from vercomp.ir.reference import stored_as
from vercomp.names import identifiers


class Named:
    """A stand-in for a value of the emitted code: it knows the name of the value, and no more.

    Args:
        text: The name.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __getattr__(self, attribute: str) -> Named:
        """A stand-in for an attribute of the value."""
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return Named(f"{self.text}.{attribute}")


@dataclass(frozen=True)
class Layout:
    """A graph with its analyses, ready to be written down.

    Args:
        title: What the package calls itself; an identifier.
        graph: The merged graph, without opaque nodes.
        constants: The constants of each activation node.
        map_rules: How linear maps are spelled.
        methods: The methods that can take the network, cheapest first.
        source: The graph before it was merged, from which the forward pass is printed; the merged
            graph where None.
    """

    title: str
    graph: Graph
    constants: Mapping[str, ActivationConstants]
    map_rules: Mapping[type, MapRule]
    methods: tuple[Method, ...] = ()
    source: Graph | None = None

    @cached_property
    def nodes(self) -> Mapping[str, str]:
        """Identifier of each node; the input is ``x``."""
        names = identifiers((node.name for node in self.graph.nodes), "node")
        return {**names, self.graph.input.name: "x"}

    @cached_property
    def printed(self) -> Graph:
        """The graph from which the forward pass is printed."""
        return readable(self.graph if self.source is None else self.source, self.holds_layer)

    @cached_property
    def values(self) -> Mapping[str, str]:
        """Identifier of the value of each node of that graph."""
        return value_names(self.printed, self.graph, self.nodes)

    def holds_layer(self, linear: LinearMap) -> bool:
        """Whether a map is a layer, which may have a bias of its own, or has one in it."""
        return any(rules.bias_axis(self.map_rules, part) is not None for part in parts(linear))

    @cached_property
    def stored(self) -> tuple[Parameter, ...]:
        """Every parameter of the graph, and of the forward pass, once."""
        found = (*self.graph.parameters(), *self.printed.parameters())
        return tuple({parameter.name: parameter for parameter in reversed(found)}.values())[::-1]

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        """Identifier of each parameter."""
        return identifiers((p.name for p in self.stored), "layer")

    @cached_property
    def functions(self) -> Mapping[Activation, str]:
        """Identifier (a constant's, in capitals) of each distinct activation."""
        labels: dict[str, Activation] = {}
        behind = () if self.graph.tail is None else self.graph.tail.functions
        used = (*(node.function for node in self.graph.activations()), *behind)
        for function in dict.fromkeys(used):
            label = _key(function)
            while label in labels:  # parameters that print alike
                label += "'"
            labels[label] = function
        # Single capitals are what emitted functions call their matrices.
        names = identifiers(labels, "activation", taken=string.ascii_lowercase)
        return {function: names[label].upper() for label, function in labels.items()}

    @cached_property
    def dtype(self) -> torch.dtype:
        """The type of the network: that of its trainable parameters, the widest of them."""
        types = [p.value.dtype for p in self.stored if p.trainable]
        return torch.float64 if torch.float64 in types or not types else torch.float32

    @property
    def curved(self) -> bool:
        """Whether every activation has a σ″, so that curvature is bounded and Hessians exist."""
        return all(c.second_range is not None for c in self.constants.values())

    @property
    def symmetric(self) -> bool:
        """Whether every σ″ has a symmetric range, so that the program is the same on −c."""
        return all(c.h_lower == -c.h_upper for c in self.constants.values())

    def constants_of(self, function: Activation) -> ActivationConstants:
        """The constants of an activation, from any node that applies it, or of the tail."""
        for node in self.graph.activations():
            if node.function == function:
                return self.constants[node.name]
        return constants(function)

    @property
    def outputs(self) -> int:
        """The number of outputs, behind the tail."""
        tail = self.graph.tail
        return 2 if tail is not None and tail.complement else self.graph.outputs

    def function_of(self, node: Activate) -> str:
        """The identifier of a node's activation."""
        return self.functions[node.function]

    def read(self, what: Parameter | Indices, owner: str) -> str:
        """The expression of a parameter, in the network's own type; or of a list of indices."""
        if not isinstance(what, Parameter):
            text = listed(what)
            return text if len(text) <= _SHORT else self.picks.setdefault(what, self._fresh_picks)
        expression = f"{owner}.{self.parameters[what.name]}"
        if what.trainable or what.value.dtype == self.dtype:
            return expression
        return f"{expression}.to({'x' if owner == 'self' else f'{owner}.dtype'})"

    @cached_property
    def picks(self) -> dict[Indices, str]:
        """Names of the constants that hold long lists of indices, made at the first use of each."""
        return {}

    @property
    def _fresh_picks(self) -> str:
        name = f"PICKS_{len(self.picks)}"
        while name in self.functions.values():
            name += "_"
        return name

    def map_field(self, node: Affine, index: int) -> str:
        """The field of ``Maps`` that holds the linear map of a term."""
        name = self.nodes[node.name]
        return self.part(name, index) if len(node.terms) > 1 else name

    @cached_property
    def recorded(self) -> core.Graph:
        """The graph over the stored parameters, its functions and biases as emitted code has them.

        Programs are recorded over it: which maps multiply out is known, and what is printed are
        names.
        """

        def function(activation: Activation) -> Named:
            return Named(self.functions[activation])

        bound = bind(
            self.graph,
            stored_as(self.dtype),
            names=self.nodes.__getitem__,
            term_name=self.map_field,
            function=function,
            biased=False,
        )
        biased = {self.nodes[node.name] for node in self.graph.affine() if node.offsets}
        nodes = []
        for node in bound.nodes:
            if isinstance(node, core.Affine) and node.name in biased:
                named: Any = Named(f"b.{node.name}")
                node = replace(node, bias=named)
            nodes.append(node)
        return core.Graph(tuple(nodes), bound.output)

    @property
    def terms(self) -> list[core.Term]:
        """All terms of the recorded graph."""
        affine = (node for node in self.recorded.nodes if isinstance(node, core.Affine))
        return [term for node in affine for term in node.terms]

    def part(self, whole: str, index: int) -> str:
        """An identifier for one of several parts of a node, map or bias; no node is called so."""
        name = f"{whole}_{index}"
        while name in self._node_identifiers:
            name += "_"
        return name

    @cached_property
    def _node_identifiers(self) -> frozenset[str]:
        return frozenset((*self.nodes.values(), *self.values.values()))

    def operator(self, linear_map: LinearMap, owner: str) -> str:
        """The expression of a map as an operator."""
        return " @ ".join(self.operator_factors(linear_map, owner))

    def operator_factors(self, linear_map: LinearMap, owner: str) -> list[str]:
        """The factors of that expression, from the left."""
        return rules.operator(linear_map, partial(self.read, owner=owner))


def _key(function: Activation) -> str:
    values = "_".join(f"{value:g}" for _, value in function.parameters)
    return f"{function.name}_{values}" if values and values != "1" else function.name


_SHORT = 48
"""A longer list of indices is a constant of the file."""
