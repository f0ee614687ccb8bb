"""The method of quadratic bounds: tight l2 radii of plain networks that are chains of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..graph import Activate, Graph
from ..network import VerifiedNetwork
from ..quadratic.chain import chain, obstacle
from ..quadratic.cover import Effort, Network, is_positive, lower_bounds
from ..quadratic.scalar import takes
from ..regions.region import Region
from ..specifications import Specification
from .certificates import Certificates, assembled
from .crown import Crown
from .method import Obstacle, Question
from .nearest import nearest
from .pairs import Screen, own_gradient_mode
from .radii import certificates_of
from .tasks import Task, split_claim

_CLOSE = 0.99
"""A radius that reaches this share of the distance of a boundary point is not enlarged."""

_TRIALS = (0.98, 0.5, 0.5, 0.5)
"""Where a radius is tried between the proved one and the one that cannot be had: first nearly at
the end, then in the middle of what is open."""

_UNKNOWN = 8.0
"""Without a boundary point, a radius is sought up to so many times f/‖∇f‖."""


class Quadratic(Crown):
    """Quadratic relaxation in slabs of l2 balls, after linear bounds.

    It is expensive (seconds for each input) and so used only where it is asked for by name.
    """

    name = "quadratic"
    on_request: ClassVar[bool] = True
    effort = Effort()

    def __init__(self) -> None:
        super().__init__()
        self._chains: WeakKeyDictionary[VerifiedNetwork, Network] = WeakKeyDictionary()

    def requires(self, graph: Graph) -> tuple[Obstacle, ...]:
        """A chain of layers, and activations that are smooth or made of straight pieces."""
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
                better = lower_bounds(known, region.rows(one), rows, self.effort.steps)
                found[b] = torch.maximum(found[b], better.to(found))
        return found

    @own_gradient_mode()
    def certify(
        self, network: VerifiedNetwork, question: Question, known: Tensor | None = None
    ) -> Certificates:
        """The largest radius of those tried at which slabs of the ball are all proved positive."""
        start, parts = 0, []
        for part in split_claim(network, question):
            task = Task(part)
            rows = torch.arange(start, start + len(task.x0))
            start += len(task.x0)
            proved = None if known is None else known[rows.to(known.device)].to(task.x0)
            parts.append(self._certified(network, task, question, proved))
        return assembled(parts, question.x)

    def _certified(
        self, network: VerifiedNetwork, task: Task, question: Question, known: Tensor | None
    ) -> Certificates:
        radius = torch.zeros_like(task.x0[:, 0]) if known is None else task.smallest(known)
        none = torch.zeros(len(radius), dtype=torch.bool, device=radius.device)
        balls = question.kind.name in ("l1", "l2") and question.scales is None
        specification = task.specification()
        single = specification.clauses == specification.count
        if balls and single and len(radius):
            right = task.logits.argmax(1) == task.label if task.asked == "all" else ~none
            open_rows = torch.nonzero(right & radius.isfinite())[:, 0]
            if question.decide and question.radius is not None:
                open_rows = open_rows[radius[open_rows] <= question.radius]
            known_network = self._network(network)
            points, limits = _towards(task, open_rows)
            for b, point, limit in zip(open_rows.tolist(), points, limits.tolist(), strict=True):
                rows = specification.rows(torch.tensor([b], device=radius.device))
                proves = self._prover(network, known_network, task.x0[b], point, rows)
                radius[b] = _enlarged(float(radius[b]), limit, question, proves)
        return certificates_of(task, task.filled(radius), none, self.name, question.radius)

    def _prover(
        self,
        network: VerifiedNetwork,
        known: Network,
        x0: Tensor,
        point: Tensor,
        rows: Specification,
    ) -> Callable[[float], bool]:
        center = x0.reshape(network.input_shape)
        direction = point - x0
        direction = direction / direction.norm().clamp_min(1e-300)
        return lambda radius: is_positive(known, center, radius, direction, rows, self.effort)

    def _network(self, network: VerifiedNetwork) -> Network:
        """The network as a chain, for one state of its weights."""
        _, graph = network.in_double()
        held: Network | None = self._chains.get(network)
        if held is None or held.graph is not graph:
            rows = self._row_norms(network, graph)
            held = Network.of(graph, chain(graph), torch.float32, rows)
            self._chains[network] = held
        return held


def _towards(task: Task, rows: Tensor) -> tuple[Tensor, Tensor]:
    """For each input a point near its boundary, and a radius that cannot be had, or is not tried.

    The point is the nearest that an attack finds; where it finds none, the one at which the
    linearised function with the nearest zero vanishes.
    """
    x0 = task.x0[rows]
    label, targets = task.label[rows], task.targets[rows]
    searched = x0.to(task.margins.where.search_dtype)
    value, gradient = (t.double() for t in Screen(task.margins, searched).margins(label, targets))
    size = gradient.norm(dim=-1).clamp_min(1e-300)
    least = (value / size).argmin(1)
    pick = torch.arange(len(rows), device=x0.device)
    away, g = (value / size)[pick, least].clamp_min(0.0), gradient[pick, least]
    points = x0 - (away / size[pick, least])[:, None] * g
    limits = _UNKNOWN * away
    if not task.of_rows and len(rows):
        network = task.margins.network
        found = nearest(network, x0.reshape(-1, *network.input_shape), label, targets=targets)
        distance, column = found.distance.min(1)
        seen = distance.isfinite() & (distance > 0.0)
        points = torch.where(seen[:, None], found.point.flatten(2)[pick, column], points)
        limits = torch.where(seen, distance, limits)
    return points, limits


def _enlarged(
    radius: float, limit: float, question: Question, proves: Callable[[float], bool]
) -> float:
    """The largest radius that is proved, between a known one and a limit."""
    if question.decide and question.radius is not None:
        # The claim is about radii that exceed the one asked about.
        trial = question.radius * (1.0 + 1e-9)
        return trial if trial < limit and proves(trial) else radius
    beyond = limit
    for share in _TRIALS:
        if radius >= _CLOSE * limit:
            break
        trial = radius + share * (beyond - radius)
        if proves(trial):
            radius = trial
        else:
            beyond = trial
    return radius
