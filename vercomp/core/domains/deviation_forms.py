"""Linear lower bounds in float32 or float64 that hold in real arithmetic: forms in deviations.

A form of :mod:`.linear_forms` is about values; what rounding takes from its coefficients counts by
the size of the values, which for float32 is too much. Here a form is about deviations from fixed
numbers, the references â and ẑ of every node (:mod:`.references`), and rounding counts by how far
a value can be from its reference, as everything else in the form does. With δ = z − ẑ,

    c·δ_z = Σ (A_kᵀ c)·δ_k + c·r                           z = Σ A_k a_k + b
    c·δ_a ≥ (c⁺ s + c⁻ s′)·δ_z + c⁺·τ + c⁻·τ′             a = σ(z),  τ = s ẑ + t − â

Whatever numbers a step ends with are the coefficients of the next one. With ρ ≥ |δ| for
every node from its interval, and u the unit roundoff, the step itself takes no more than

    |c|·(e |A| ρ + ‖A − Â‖ ‖ρ‖ + |r|)                      Aᵀ c, e from :mod:`..maps.typed`
    8u |c|·(|s| + |s′|) ⊙ ρ                                c⁺ s + c⁻ s′
    (m + 8)u |c|·(|τ| + |τ′|)                              sums of m terms
    u |c + c′|·ρ                                           two paths to one node

All but the last are vectors for each node and region, which no row changes. An activation pays for
what the node before it will take as well: its step is one product with |c|. What underflows is
covered even where the smallest numbers are flushed to zero: it is at most 2⁻¹⁰⁰ of all ρ together,
and inside of an operator that is a product of others, what its factors make of that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..arithmetic.outward import down, times_up, up
from ..graph import Activate, Affine, AnyNode, Graph, Input, Shape, Term
from ..maps.typed import (
    single_products,
    unit_roundoff,
)
from ..regions.ball_kind import BallKind
from ..regions.l1 import L1
from ..regions.l2 import L2
from ..regions.linf import Linf
from ..walk import Domain, onward, rule
from .deviation_costs import UNDERFLOW, DeviationCosts, terms_at_once
from .windows import Window, factors, fitting

Coefficients = Tensor | Window
"""Coefficients of rows: of all entries of a node, or in a window of its image."""


class Cells(NamedTuple):
    """Entries of an affine node, K for each of Q cells: of a region, or of a place in its image.

    Args:
        owner: The region of each cell, (Q,).
        entries: The entries, (Q, K).
        place: The row and the column of each cell in the image, (Q,) each; None where a cell is
            all of a region's node.
    """

    owner: Tensor
    entries: Tensor
    place: tuple[Tensor, Tensor] | None


class DeviationForms(Domain[Coefficients]):
    """The table. What arrives at a node are coefficients of its deviation.

    They are (Q, K, n), K rows for each cell, or a window of that; Q may be 1 where all cells have
    the same. Whoever sends coefficients to a node has paid for what its products take.

    Args:
        costs: What is known of the graph, and what rounding takes.
        owner: The region of each cell, (Q,).

    Attributes:
        constant: A lower bound of what does not depend on the input, (Q, K) in float64.
    """

    title = "linear bounds of deviations"

    def __init__(self, costs: DeviationCosts, owner: Tensor) -> None:
        self.costs, self.owner = costs, owner
        everyone = torch.arange(len(costs.region))
        self.everyone = torch.equal(owner, everyone)
        self.constant: Tensor = torch.zeros((), dtype=torch.float64)

    def minimum(self, arrived: Mapping[str, Coefficients]) -> Tensor:
        """The lower bounds (Q, K) over the regions, from what arrived at the nodes."""
        costs, first = self.costs, self.costs.graph.nodes[0]
        g = arrived.get(first.name)
        if g is not None:
            region = costs.region
            flat = g.flat if isinstance(g, Window) else g
            size = _dual_norm(region.kind, flat) if region.is_ball else None
            if size is not None:
                least = -times_up(region.radius[self.owner][:, None], size)
            else:
                g = self._full(g, first.shape).double()
                region = region if self.everyone else region.rows(self.owner)
                least = region.minimum(g.expand(len(self.owner), -1, -1), quick=True)
            self.constant = down(self.constant + least)
        self.constant = down(self.constant - costs.underflow(arrived)[self.owner][:, None])
        lost = self.constant.isnan() | (self.constant == math.inf)
        return torch.where(lost, -math.inf, self.constant)

    @rule(Input)
    def input(self, node: Input, c: Coefficients) -> Iterator[tuple[str, Coefficients]]:
        """Nothing comes before the input."""
        return iter(())

    @rule(Affine)
    def affine(self, node: Affine, c: Coefficients) -> Iterator[tuple[str, Coefficients]]:
        """Aᵀ c to every parent."""
        for term in node.terms:
            part = self._sent(node, term, c)
            self._pay(term.parent, part)
            yield term.parent, part

    def entries(self, node: Affine, cells: Cells) -> dict[str, Coefficients]:
        """What the rows δᵢ and −δᵢ of an affine node send to its parents."""
        price = self.costs.price_of_rows(node)[cells.owner[:, None], cells.entries]
        self.constant = -torch.cat([price, price], 1)
        sent: dict[str, Coefficients] = {}
        for term in node.terms:
            part = self._rows(node, term, cells)
            self._pay(term.parent, part)
            held = sent.get(term.parent)
            sent[term.parent] = part if held is None else self.join(term.parent, held, part)
        return sent

    @rule(Activate)
    def activation(self, node: Activate, c: Coefficients) -> Iterator[tuple[str, Coefficients]]:
        """c⁺ s + c⁻ s′, and c⁺·τ + c⁻·τ′; the node before it is paid for."""
        step = self.costs.step(node)
        flat = c.flat if isinstance(c, Window) else c
        absolute = flat.abs()
        total = _dot(flat, self._local(step.center, node, c))
        total = total + _dot(absolute, self._local(step.spread, node, c))
        if step.lost is not None:
            reached = _dot(absolute, self._local(step.lost, node, c)) > 0.0
            total = torch.where(reached, -math.inf, total)
        self.constant = down(self.constant + total)
        product = flat * self._local(step.middle, node, c)[:, None]
        product.addcmul_(absolute, self._local(step.half, node, c)[:, None])
        yield node.parent, c.with_flat(product) if isinstance(c, Window) else product

    def join(self, name: str, one: Coefficients, other: Coefficients) -> Coefficients:
        """Two paths to the same node are added."""
        node = self.costs.graph.node(name)
        total: Coefficients | None = None
        if isinstance(one, Window) and isinstance(other, Window):
            total = one.plus(other)
        if total is None:
            total = self._full(one, node.shape) + self._full(other, node.shape)
        self._charge(total, node, self.costs.unit * self.costs.reach(name))
        return total

    def _sent(self, node: Affine, term: Term, c: Coefficients) -> Coefficients:
        """Aᵀ c, in a window as long as that is smaller than the image."""
        parts = factors(term.map) if isinstance(c, Window) else None
        if parts is None or not isinstance(c, Window):
            return self.costs.maps[term.name].adjoint(self._full(c, node.shape))
        for part in parts:
            c = c.adjoint(part)
        shape = self.costs.graph.node(term.parent).shape
        return c if fitting(c.size, shape) else self._full(c, shape)

    def _rows(self, node: Affine, term: Term, cells: Cells) -> Coefficients:
        """The rows zᵢ and −zᵢ of one term."""
        if cells.place is None:
            index, single = cells.entries, self.costs.maps[term.name]
            if bool((index == index[:1]).all()):  # the same for all regions
                rows = single.rows(index[0])[None]
            else:
                wanted, places = torch.unique(index, return_inverse=True)
                rows = single.rows(wanted)[places]
            return torch.cat([rows, -rows], 1)
        channels, area = node.shape[0], math.prod(node.shape[1:])
        unit = torch.nn.functional.one_hot(cells.entries // area, channels).to(self.costs.dtype)
        unit = torch.cat([unit, -unit], 1)[..., None, None]
        return self._sent(node, term, Window(unit, *cells.place))

    def _full(self, c: Coefficients, shape: Shape) -> Tensor:
        return c.full(shape) if isinstance(c, Window) else c

    def _local(self, x: Tensor, node: AnyNode, c: Coefficients) -> Tensor:
        """What meets the coefficients of each cell, (Q, m), of something (B, n) of a node."""
        if isinstance(c, Window):
            return c.cut(x, self.owner, node.shape)
        return x if self.everyone else x[self.owner]

    def _pay(self, name: str, c: Coefficients) -> None:
        """Take off what the products of a node will lose."""
        node = self.costs.graph.node(name)
        if isinstance(node, Affine):
            self._charge(c, node, self.costs.price(node))

    def _charge(self, c: Coefficients, node: AnyNode, price: Tensor) -> None:
        flat = c.flat if isinstance(c, Window) else c
        lost = _dot(flat.abs(), self._local((price + UNDERFLOW).to(self.costs.dtype), node, c))
        self.constant = down(self.constant - up(lost * (1.0 + 1e-4)))


def _dual_norm(kind: BallKind, g: Tensor) -> Tensor | None:
    """‖g‖_* of rows, rounded up, in float64; None for balls that are not known here."""
    terms = terms_at_once(g.dtype, g.shape[-1])
    slack = 1.0 + 4.0 * (terms + 4) * unit_roundoff(g.dtype)
    if type(kind) is Linf:
        size = _dot(g.abs(), g.new_ones(1, g.shape[-1]))
    elif type(kind) is L2:
        blocks = torch.split(g, terms, -1)
        # Squares may underflow where the entries are tiny.
        sizes = [torch.linalg.vector_norm(block, dim=-1).double() + 2.0**-50 for block in blocks]
        size = torch.stack(sizes).norm(dim=0)
    elif type(kind) is L1:
        low, high = g.aminmax(dim=-1)
        size = torch.maximum(high, -low).double()
    else:
        return None
    return up(size * slack)


def _dot(c: Tensor, x: Tensor) -> Tensor:
    """c·x of rows c (B or 1, R, n) and x (B, n), added up in float64: (B, R)."""
    total: Tensor | float = 0.0
    terms = terms_at_once(c.dtype, x.shape[1])
    for start in range(0, x.shape[1], terms):
        part = slice(start, start + terms)
        if len(c) == 1 and len(x) > 1:
            found = x[:, part] @ c[0, :, part].mT
        else:
            found = (c[..., part] @ x[:, part, None])[..., 0]
        total = total + found.double()
    return torch.as_tensor(total)


def entry_bounds(
    costs: DeviationCosts, part: Graph, node: Affine, cells: Cells
) -> tuple[Tensor, Tensor]:
    """Proved lower and upper bounds (Q, K) of some entries of the last node of a graph."""
    domain = DeviationForms(costs, cells.owner)
    with single_products():
        arrived = onward(domain, part, domain.entries(node, cells))
        low, high = domain.minimum(arrived).chunk(2, -1)
    value = costs.references[node.name].value[cells.owner[:, None], cells.entries]
    return down(value + low), up(value - high)
