"""The method of quadratic bounds: tight l2 radii of plain networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..graph import Activate, Graph
from ..network import VerifiedNetwork
from ..quadratic.cover import Cover, Effort, rows_of
from ..quadratic.scalar import takes
from ..quadratic.setting import Network, bounds_on
from ..quadratic.structure import obstacle
from ..regions.region import Region
from ..specifications import Specification
from .certificates import Certificates
from .crown import Crown
from .method import Obstacle, Question
from .nearest import nearest as nearest_points
from .pairs import Screen, own_gradient_mode
from .radii import certificates_of
from .tasks import Task

_FIRST = (0.995, 0.98)
"""Shares of the distance of a boundary point at which radii are tried first, in turn."""

_TRIALS = 12
"""So many radii are tried, and proofs of them that fail; after the first ones in the middle of what
is open."""

_CLOSE = 0.01
"""The share of that distance within which the largest radius is found."""

_UNKNOWN = 8.0
"""Without a boundary point, a radius is sought up to so many times f/‖∇f‖."""

_SIZES = (1e-2, 1e6)
"""Where even that says nothing, up to the size of the input, within these limits."""


class Quadratic(Crown):
    """Quadratic relaxation in slabs of l2 balls, after linear bounds.

    It is expensive (seconds for each input) and so used only where it is asked for by name.
    """

    name = "quadratic"
    on_request: ClassVar[bool] = True
    effort = Effort()

    def __init__(self) -> None:
        super().__init__()
        self.linear = Crown()
        self._known: WeakKeyDictionary[VerifiedNetwork, Network] = WeakKeyDictionary()

    def requires(self, graph: Graph) -> tuple[Obstacle, ...]:
        """Forms that fit, and activations that are smooth or made of straight pieces."""
        lacking = super().requires(graph)
        found = obstacle(graph)
        if found is not None:
            return (*lacking, Obstacle(*found))
        rough = [
            Obstacle(node.name, "quadratic bounds need σ″, or a σ of straight pieces")
            for node in graph.nodes
            if isinstance(node, Activate) and not lacking and not takes(node.function)
        ]
        return (*lacking, *rough)

    @own_gradient_mode()
    def bound(
        self, network: VerifiedNetwork, region: Region, specification: Specification
    ) -> Tensor:
        """The larger of linear and quadratic bounds; the latter in l2 balls and their slabs."""
        found = super().bound(network, region, specification)
        if region.kind.name != "l2" or region.scales is not None:
            return found
        known = self._network(network)
        for b in range(len(region)):
            if bool(region.radius[b].isfinite()) and float(region.radius[b]) > 0.0:
                one = torch.tensor([b], device=region.center.device)
                rows = specification.rows(one)
                better = bounds_on(known, region.rows(one), *rows_of(rows), self.effort.steps)
                found[b] = torch.maximum(found[b], better.to(found))
        return found

    def _radii(
        self, network: VerifiedNetwork, task: Task, question: Question, known: Tensor | None
    ) -> Certificates:
        """The largest radii of those tried at which slabs of the ball are all proved positive."""
        # No radius is below that of linear bounds on the whole ball.
        linear = self.linear._radii(network, task, question, known)
        radius, broken = linear.radius.to(task.x0), linear.exact.to(task.x0.device)
        balls = question.kind.name in ("l1", "l2") and question.scales is None
        specification = task.specification()
        single = specification.clauses == specification.count
        if balls and single and len(radius):
            right = task.logits.argmax(1) == task.label if task.asked == "all" else ~broken
            open_rows = torch.nonzero(right & ~broken & radius.isfinite())[:, 0]
            if question.decide and question.radius is not None:
                open_rows = open_rows[radius[open_rows] <= question.radius]
            boundary = _boundary(task, open_rows)
            for k, b in enumerate(open_rows.tolist()):
                rows = specification.rows(torch.tensor([b], device=radius.device))
                covered = self._covered(network, task.x0[b], boundary.row(k), rows)
                limits = float(boundary.witness[k]), float(boundary.reach[k])
                radius[b] = _enlarged(float(radius[b]), *limits, question, covered)
        return certificates_of(task, task.filled(radius), broken, self.name, question.radius)

    def _covered(
        self,
        network: VerifiedNetwork,
        x0: Tensor,
        directions: tuple[Tensor, int],
        rows: Specification,
    ) -> Callable[[float], Cover]:
        """Covers of balls around an input, by their radii."""
        known, center = self._network(network), x0.reshape(network.input_shape)
        both = rows_of(rows)
        return lambda radius: Cover(known, center, radius, *directions, both, self.effort)

    def _network(self, network: VerifiedNetwork) -> Network:
        """What bounds need of the network, for one state of its weights."""
        _, graph = network.in_double()
        held: Network | None = self._known.get(network)
        if held is None or held.graph is not graph:
            rows = self._row_norms(network, graph)
            held = Network.of(graph, torch.float32, rows)
            self._known[network] = held
        return held


class _Boundary(NamedTuple):
    """What is known of the boundary around P inputs; nothing that is proved rests on it.

    Args:
        direction: Towards the nearest point at which each row vanishes, (P, R, D), of length 1.
        nearest: The row that vanishes first, (P,).
        witness: Distances at which the claim fails, (P,); infinite where none is known.
        reach: Finite radii beyond which nothing is tried, (P,).
    """

    direction: Tensor
    nearest: Tensor
    witness: Tensor
    reach: Tensor

    def row(self, k: int) -> tuple[Tensor, int]:
        """The directions of one input, and its nearest row."""
        return self.direction[k], int(self.nearest[k])


def _boundary(task: Task, rows: Tensor) -> _Boundary:
    """The nearest points of the boundary that an attack finds.

    Where it finds none, the zero of a linearised function stands for it; and where the function
    does not change at the input, any point.
    """
    x0 = task.x0[rows]
    label, targets = task.label[rows], task.targets[rows]
    searched = x0.to(task.margins.where.search_dtype)
    value, gradient = (t.double() for t in Screen(task.margins, searched).margins(label, targets))
    size = gradient.norm(dim=-1)
    away, nearest = torch.where(size > 0.0, value / size, torch.inf).clamp_min(0.0).min(1)
    direction = -gradient / size[..., None]
    direction[~direction.isfinite().all(2)] = torch.eye(1, x0.shape[1]).to(x0)
    around = torch.clamp(x0.norm(dim=1), *_SIZES)
    reach = torch.where(away.isfinite() & (away > 0.0), _UNKNOWN * away, around)
    witness = torch.full_like(reach, torch.inf)
    if not task.of_rows and len(rows):
        network = task.margins.network
        found = nearest_points(
            network, x0.reshape(-1, *network.input_shape), label, targets=targets
        )
        witness, column = found.distance.min(1)
        step = found.point.flatten(2) - x0[:, None]
        step = step / step.norm(dim=2, keepdim=True)
        seen = (found.distance > 0.0) & step.isfinite().all(2)
        direction = torch.where(seen[..., None], step, direction)
        nearest = torch.where(witness.isfinite(), column, nearest)
        reach = torch.where(witness.isfinite(), witness, reach)
    return _Boundary(direction, nearest, witness, reach)


def _enlarged(
    radius: float,
    witness: float,
    reach: float,
    question: Question,
    covered: Callable[[float], Cover],
) -> float:
    """The largest radius that is proved, from a known one up to what can be had.

    What looks positive is cheap to find: only the largest such radius is proved, and smaller ones
    where that fails.
    """
    if question.decide and question.radius is not None:
        # The claim is about radii that exceed the one asked about.
        trial = question.radius * (1.0 + 1e-9)
        return trial if trial < witness and covered(trial).is_positive() else radius
    likely: list[Cover] = []
    low, beyond, trials = radius, reach, [share * reach for share in _FIRST]
    for _ in range(_TRIALS):
        if beyond - low > _CLOSE * reach:
            trial = trials.pop(0) if trials else 0.5 * (low + beyond)
            if not low < trial < beyond:
                continue
            cover = covered(trial)
            if cover.looks_positive():
                likely.append(cover)
                low = trial
            else:
                beyond = trial
        elif likely and not likely[-1].is_positive():
            beyond = likely.pop().radius
            low = likely[-1].radius if likely else radius
        else:
            break
    while likely and not likely[-1].is_positive():
        likely.pop()
    return likely[-1].radius if likely else radius
