"""The method of quadratic bounds: tight l2 radii of plain networks that are chains of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple
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
from .certificates import Certificates
from .crown import Crown
from .method import Obstacle, Question
from .nearest import nearest
from .pairs import Screen, own_gradient_mode
from .radii import certificates_of
from .tasks import Task

_CLOSE = 0.99
"""A radius that reaches this share of the distance of a boundary point is not enlarged."""

_TRIALS = (0.98, 0.5, 0.5, 0.5)
"""Where a radius is tried between the proved one and the one that cannot be had: first nearly at
the end, then in the middle of what is open."""

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

    def _radii(
        self, network: VerifiedNetwork, task: Task, question: Question, known: Tensor | None
    ) -> Certificates:
        """The largest radii of those tried at which slabs of the ball are all proved positive."""
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
            boundary = _boundary(task, open_rows)
            for b, point, witness, reach in zip(open_rows.tolist(), *boundary, strict=True):
                rows = specification.rows(torch.tensor([b], device=radius.device))
                proves = self._prover(network, known_network, task.x0[b], point, rows)
                limits = float(witness), float(reach)
                radius[b] = _enlarged(float(radius[b]), *limits, question, proves)
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


class _Boundary(NamedTuple):
    """What is known of the boundary around some inputs; nothing that is proved rests on it.

    Args:
        point: Points near it, (P, D), each away from its input.
        witness: Distances at which the claim fails, (P,); infinite where none is known.
        reach: Finite radii beyond which nothing is tried, (P,).
    """

    point: Tensor
    witness: Tensor
    reach: Tensor


def _boundary(task: Task, rows: Tensor) -> _Boundary:
    """The nearest points of the boundary that an attack finds.

    Where it finds none, the zero of the linearised function that has the nearest one stands for it;
    and where no function changes at the input, any point.
    """
    x0 = task.x0[rows]
    label, targets = task.label[rows], task.targets[rows]
    searched = x0.to(task.margins.where.search_dtype)
    value, gradient = (t.double() for t in Screen(task.margins, searched).margins(label, targets))
    size = gradient.norm(dim=-1)
    away, least = torch.where(size > 0.0, value / size, torch.inf).clamp_min(0.0).min(1)
    pick = torch.arange(len(rows), device=x0.device)
    downhill = -gradient[pick, least] / size[pick, least, None]
    usable = downhill.isfinite().all(1) & away.isfinite()
    downhill[~usable] = torch.eye(1, x0.shape[1]).to(x0)
    around = torch.clamp(x0.norm(dim=1), *_SIZES)
    reach = torch.where(usable & (away > 0.0), _UNKNOWN * away, around)
    point = x0 + around[:, None] * downhill
    witness = torch.full_like(reach, torch.inf)
    if not task.of_rows and len(rows):
        network = task.margins.network
        found = nearest(network, x0.reshape(-1, *network.input_shape), label, targets=targets)
        witness, column = found.distance.min(1)
        seen = witness.isfinite() & (witness > 0.0)
        point = torch.where(seen[:, None], found.point.flatten(2)[pick, column], point)
        reach = torch.where(witness.isfinite(), witness, reach)
    return _Boundary(point, witness, reach)


def _enlarged(
    radius: float, witness: float, reach: float, question: Question, proves: Callable[[float], bool]
) -> float:
    """The largest radius that is proved, from a known one up to what can be had."""
    if question.decide and question.radius is not None:
        # The claim is about radii that exceed the one asked about.
        trial = question.radius * (1.0 + 1e-9)
        return trial if trial < witness and proves(trial) else radius
    beyond = reach
    for share in _TRIALS:
        if radius >= _CLOSE * reach:
            break
        trial = radius + share * (beyond - radius)
        if proves(trial):
            radius = trial
        else:
            beyond = trial
    return radius
