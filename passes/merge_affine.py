"""Merge affine chains: A₂(A₁x + b₁) + b₂ = (A₂A₁)x + (A₂b₁ + b₂), as symbols.

Bounds are products of norms, and the norm of a product is at most the product of the norms: an
affine node that reads an affine node only loosens them. Nothing is multiplied out here; the
merged map is a composition over the source's own parameters, so gradients still reach them.

What merges is decided by what it costs, so that the graph stays linear in the edges of the source:

* A node of *one* term merges into every affine node that reads it.
* A *sum* (several terms: where a skip connection ends) multiplies the work of whatever it merges
  into. It merges where it disappears for that: into the one node that reads it, if the map there
  is a matrix, or takes up factors and selects entries. The sums of a residual stream, each read by
  the next and by a block, stay; bounds see through them (:mod:`passes.paths`).
* A *concatenation* keeps its terms side by side, which costs nothing: its Jacobian is the root of
  the sum of squares. It merges into nothing but one concatenation along the same axis.

Terms of one node that read the same node become one, with the sum of their maps: x + Ax has the
bound of I + A, not those of its branches. A concatenation of pieces of one node is a gather.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from vercomp.ir.axis_maps import AlongAxis
from vercomp.ir.convolutions import Convolution, TransposedConvolution
from vercomp.ir.graph import Affine, Graph, Node, Offset, Term
from vercomp.ir.linear_maps import (
    Composition,
    Dense,
    LinearMap,
    Permute,
    Reshape,
    Scale,
    Sum,
    compose,
    parts,
)
from vercomp.ir.normalisation import DivideByDeviation
from vercomp.ir.rewrite import (
    concatenated_axis,
    gathered,
    pruned,
    rewired,
    summed,
    without_identities,
)
from vercomp.ir.selections import Expand, Gather, Pad, Slice
from vercomp.pass_manager import Property

LAYERS = (Dense, AlongAxis, Convolution, TransposedConvolution)
"""Maps with a weight of their own: what a node is named after."""

FACTORS = (Scale, DivideByDeviation)
"""Maps that multiply entries, which a layer before or behind them takes up."""

SELECTIONS = (*FACTORS, Reshape, Permute, Slice, Gather, Pad, Expand)
"""Maps with at most one entry in a row: a composition with them costs nothing."""


def _violation(graph: Graph) -> str | None:
    nodes = {node.name: node for node in graph.nodes}
    for node in graph.affine():
        for term in node.terms:
            if _merges(graph, nodes[term.parent], node, term):
                return f"the affine node {node.name!r} reads the affine node {term.parent!r}"
    return None


AFFINE_CHAINS_MERGED = Property("affine chains are merged", _violation)


@dataclass(frozen=True)
class MergeAffine:
    """Merge affine nodes into those that read them, as the module says, and drop identities."""

    name: ClassVar[str] = "merge-affine"
    requires: ClassVar[tuple[Property, ...]] = ()
    establishes: ClassVar[tuple[Property, ...]] = (AFFINE_CHAINS_MERGED,)
    for_analysis: ClassVar[bool] = True

    def run(self, graph: Graph) -> Graph:
        """The graph with no affine node of one term that an affine node reads."""
        return merge_affine(graph)


def merge_affine(graph: Graph) -> Graph:
    """The merged graph; the same object where there is nothing to merge."""
    merged = graph
    while (further := _swept(without_identities(merged))) != merged:
        merged = further  # what was read twice may be read once now
    named = _renamed(merged, graph)
    return graph if named == graph else named


def _swept(graph: Graph) -> Graph:
    """The graph in which every affine node has absorbed what it reads, from the input on."""
    swept: dict[str, Node] = {}
    for node in graph.nodes:
        swept[node.name] = _absorbed(graph, node, swept) if isinstance(node, Affine) else node
    return pruned(swept.values(), graph.output)


def _absorbed(graph: Graph, node: Affine, swept: dict[str, Node]) -> Affine:
    """The node with the affine nodes that it reads multiplied into its maps."""
    node = _collected(node)
    terms: list[Term] = []
    offsets: list[Offset] = []
    for term in node.terms:
        inner = swept[term.parent]
        if not isinstance(inner, Affine) or not _merges(graph, inner, node, term):
            terms.append(term)
            continue
        terms += [Term(_composed(term.map, part.map), part.parent) for part in inner.terms]
        offsets += [replace(o, map=compose(term.map, o.map)) for o in inner.offsets]
    if tuple(terms) == node.terms and not offsets:
        return node
    return _collected(replace(node, terms=tuple(terms), offsets=(*offsets, *node.offsets)))


def _merges(graph: Graph, inner: Node, outer: Affine, term: Term) -> bool:
    """Whether an affine node merges into the node that reads it by this term."""
    if not isinstance(inner, Affine):
        return False
    if len(inner.terms) == 1:
        return True
    alone = len(graph.children(inner.name)) == 1 and inner.name != graph.output
    axis = concatenated_axis(inner)
    if axis is not None or concatenated_axis(outer) is not None:
        return alone and axis is not None and _pads_only(term.map, axis)
    applied = [part for part in parts(term.map) if not isinstance(part, Reshape)]
    is_matrix = bool(applied) and isinstance(applied[0], Dense)
    return alone and (is_matrix or all(isinstance(part, SELECTIONS) for part in applied))


def _pads_only(linear: LinearMap, axis: int) -> bool:
    """Whether a map does nothing but put its argument between zeros along an axis."""
    if not isinstance(linear, Pad) or linear.mode != "zeros":
        return False
    return all(pair == (0, 0) for k, pair in enumerate(linear.pads) if k != axis)


def _composed(outer: LinearMap, inner: LinearMap) -> LinearMap:
    """outer ∘ inner; the zeros around a part of a concatenation are one padding with those inside.

    Only there: elsewhere a padding of the image must not hide which axis a concatenation is along.
    """
    *before, last = parts(inner)
    if isinstance(outer, Pad) and isinstance(last, Pad) and outer.mode == last.mode == "zeros":
        axes = [[k for k, pair in enumerate(pad.pads) if pair != (0, 0)] for pad in (outer, last)]
        if axes[0] == axes[1] and len(axes[0]) == 1:
            both = zip(outer.pads, last.pads, strict=True)
            joined = replace(last, pads=tuple((a + c, b + d) for (a, b), (c, d) in both))
            return Composition((*before, joined)) if before else joined
    return compose(outer, inner)


def _collected(node: Affine) -> Affine:
    """The node with one term for each node that it reads; concatenations stay as they are.

    Unless they only pick entries of one node: that is a gather.
    """
    if len(set(node.parents)) == len(node.terms):
        return node
    if concatenated_axis(node) is not None:
        return gathered(node)
    maps: dict[str, list[LinearMap]] = {}
    for term in node.terms:
        maps.setdefault(term.parent, []).append(term.map)
    return replace(node, terms=tuple(Term(summed(found), parent) for parent, found in maps.items()))


def _renamed(merged: Graph, source: Graph) -> Graph:
    """The graph with merged nodes named after their outermost layer.

    ``fc1`` followed by a frozen batch norm is still ``fc1`` to its reader.
    """
    kept = {node.name for node in merged.nodes}
    layers = _layers(source, kept)
    names: dict[str, str] = {}
    taken = set(kept)
    for node in merged.affine():
        layer = layers[node.name]
        if layer is not None and layer not in taken:
            names[node.name] = layer
            taken.add(layer)
    if not names:
        return merged
    nodes = []
    for old in merged.nodes:
        new = rewired(old, names)
        nodes.append(replace(new, name=names[new.name]) if new.name in names else new)
    return Graph(tuple(nodes), names.get(merged.output, merged.output))


def _layers(graph: Graph, kept: set[str]) -> dict[str, str | None]:
    """For each node the nearest layer upstream, through affine nodes that were merged away.

    None where there is none, or several: a residual block is named after the layer that ends it
    unless its shortcut has one too.
    """
    layers: dict[str, str | None] = {}
    for node in graph.nodes:
        layers[node.name] = None
        if not isinstance(node, Affine):
            continue
        if any(_holds_layer(term.map) for term in node.terms):
            layers[node.name] = node.name
            continue
        found = {layers[parent] for parent in node.parents if parent not in kept} - {None}
        if len(found) == 1:
            layers[node.name] = found.pop()
    return layers


def _holds_layer(linear: LinearMap) -> bool:
    if isinstance(linear, Composition | Sum):
        return any(_holds_layer(part) for part in linear.maps)
    return isinstance(linear, LAYERS)
