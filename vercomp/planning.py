"""What can be done with a network: which methods take it, and what a package of it can do.

``compile`` and ``show`` ask here: what one of them refuses, the other marks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from vercomp.activations import constants, pieces
from vercomp.core import graph as core
from vercomp.core.methods.method import Method
from vercomp.errors import UnboundedCurvatureError, UnsupportedError, UsageError
from vercomp.features import CURVED, FEATURES
from vercomp.frontends.translation import Offence, unsupported
from vercomp.ir.activation import ActivationConstants
from vercomp.ir.graph import Activate, Affine, Graph, Input, Opaque


@dataclass(frozen=True)
class Plan:
    """What can be done with a network.

    Args:
        constants: Of each activation node that no method refuses.
        methods: The methods that can take the network, cheapest first.
        offences: What keeps each of the others from it, by the method's name, if it is used where
            none is named; under the empty name what keeps every one.
    """

    constants: Mapping[str, ActivationConstants]
    methods: tuple[Method, ...]
    offences: Mapping[str, tuple[Offence, ...]]

    @property
    def refused(self) -> tuple[Offence, ...]:
        """Why no method can take the network, all nodes at once; empty if one can."""
        if self.methods:
            return ()
        groups = [self.offences[""]] if "" in self.offences else self.offences.values()
        found = {
            (each.name, each.operator, each.origin): each for group in groups for each in group
        }
        return tuple(found.values())

    @property
    def uncurved(self) -> tuple[Offence, ...]:
        """The activations without a bounded second derivative."""
        return self.offences.get("curvature", ())

    @property
    def unbent(self) -> tuple[Offence, ...]:
        """The activations that no lines are known below and above."""
        return self.offences.get("crown", ())

    @property
    def features(self) -> tuple[str, ...]:
        """What a package of the network can do."""
        lacking = {*(CURVED if self.uncurved else ()), *(("crown",) if self.unbent else ())}
        return tuple(feature for feature in FEATURES if feature not in lacking)


def plan(graph: Graph, methods: Sequence[Method]) -> Plan:
    """Find out what can be done with a graph that was rewritten."""
    known: dict[str, ActivationConstants] = {}
    everywhere = []
    for node in graph.nodes:
        if isinstance(node, Opaque):
            everywhere.append(Offence.of(node))
        elif isinstance(node, Activate):
            try:
                known[node.name] = constants(node.function)
            except UnboundedCurvatureError as error:
                origin, function = node.origin, str(node.function)
                everywhere.append(Offence(node.name, function, origin, error.message))
    able: list[Method] = []
    offences: dict[str, tuple[Offence, ...]] = {"": tuple(everywhere)} if everywhere else {}
    for method in methods:
        obstacles = tuple(_obstacles(graph, known, method))
        if obstacles and not method.on_request:
            offences[method.name] = obstacles
        elif not obstacles and not everywhere:
            able.append(method)
    return Plan(known, tuple(able), offences)


def require(found: Plan, features: Sequence[str] | None) -> tuple[str, ...]:
    """The features that a package shall have, in canonical order; all that it can where None.

    Raises:
        UnsupportedError: No method takes the network, or a feature cannot be had.
        UsageError: A feature does not exist, or none is asked for.
    """
    if found.refused:
        raise unsupported(found.refused)
    if features is None:
        return found.features
    unknown = sorted(set(features) - set(FEATURES))
    if unknown or not features:
        what = f"cannot emit {', '.join(map(repr, unknown))}" if unknown else "nothing to emit"
        raise UsageError(what, remedy=f"Choose from {', '.join(FEATURES)}")
    lacking = [f for f in FEATURES if f in features and f not in found.features]
    if lacking:
        raise _lacking(found, lacking)
    return tuple(feature for feature in FEATURES if feature in features)


def _lacking(found: Plan, features: Sequence[str]) -> UnsupportedError:
    """Why a network cannot have these features: its activations lack what all or one of them need.

    Second derivatives, or proved pieces.
    """
    curved = [feature for feature in features if feature in CURVED] or list(features)
    listed, one = " and ".join(curved), len(curved) == 1
    needed = "second derivatives" if curved[0] in CURVED else "lines around every activation"
    remedy = f"Leave them out: this network can have {', '.join(found.features)}"
    error = unsupported(found.uncurved if curved[0] in CURVED else found.unbent)
    return UnsupportedError(
        f"{listed} {'needs' if one else 'need'} {needed}: {error.message}",
        node=error.node,
        operator=error.operator,
        location=error.location,
        remedy=remedy,
    )


def _obstacles(
    graph: Graph, known: Mapping[str, ActivationConstants], method: Method
) -> Iterator[Offence]:
    """Why a method cannot take a graph."""
    facts = core.Graph(tuple(_as_seen(graph, known)), graph.output)
    by_name: dict[str, Any] = {node.name: node for node in graph.nodes}
    for obstacle in method.requires(facts):
        node = by_name[obstacle.node]
        if isinstance(node, Activate):
            jump = known[node.name].jump if method.name == "curvature" else ""
            yield Offence(node.name, str(node.function), node.origin, jump or obstacle.reason)
        else:
            yield Offence(node.name, type(node).__name__, "", obstacle.reason)


def _as_seen(graph: Graph, known: Mapping[str, ActivationConstants]) -> Iterator[Any]:
    """The nodes as methods see them, with what they ask of an activation in the place of its code.

    Nodes that every method refuses are left out.
    """
    for node in graph.nodes:
        if isinstance(node, Input | Affine):
            yield node
        elif isinstance(node, Activate) and node.name in known:
            facts = _facts(node, known[node.name])
            yield core.Activate(node.name, node.shape, node.parent, facts)


def _facts(node: Activate, found: ActivationConstants) -> Any:
    """What methods ask of an activation."""
    try:
        known: Any = pieces(node.function)
    except UnsupportedError:
        known = None
    ranges = {"first_range": found.first_range, "second_range": found.second_range}
    return SimpleNamespace(**ranges, pieces=known)
