"""The method of local Lipschitz constants: how fast C z + d can fall anywhere in the region.

By the mean value theorem, C z(x) + d is C z(x₀) + d plus a mean of gradients, all in the region,
times x − x₀. Every entry of those is within φ of the gradient at x₀ (:mod:`..local.gradients`), so

    f(x) ≥ f(x₀) − max (|∇f(x₀)| + φ)·|x − x₀|.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ..arithmetic.outward import down
from ..graph import Graph
from ..local.gradients import coefficients
from ..local.neighbourhood import Neighbourhood
from ..local.products import LARGEST_LAYER, Expansion, Matrix
from ..network import VerifiedNetwork
from ..regions.region import Region
from ..specifications import Specification
from .crown import Crown
from .method import Obstacle
from .pairs import own_gradient_mode


class LocalLipschitz(Crown):
    """Gradients over the region by a linear relaxation of the Jacobian's graph; on request."""

    name: ClassVar[str] = "lipschitz"
    on_request: ClassVar[bool] = True

    def requires(self, graph: Graph) -> tuple[Obstacle, ...]:
        """Known pieces of every activation, and layers that fit into matrices."""
        wide = [
            Obstacle(node.name, f"local Jacobians need layers of at most {LARGEST_LAYER:,} units")
            for node in graph.nodes
            if math.prod(node.shape) > LARGEST_LAYER
        ]
        return (*super().requires(graph), *wide[:1])

    @own_gradient_mode()
    def bound(
        self, network: VerifiedNetwork, region: Region, specification: Specification
    ) -> Tensor:
        """The value at the center less what gradients take; −∞ where it is not in the region."""
        graph = network.in_double()[1]
        rows = self._row_norms(network, graph)
        inside = region.contains(region.center.reshape(-1, *region.shape))
        shape = (len(region), specification.count)
        result = torch.full(shape, -math.inf, dtype=torch.float64, device=region.center.device)
        for b in torch.nonzero(inside)[:, 0].tolist():
            one = region.rows(slice(b, b + 1))
            own = specification.rows(torch.tensor([b], device=region.center.device))
            nearby = Neighbourhood(Expansion(graph, one.center), one, rows)
            result[b] = _bounds(nearby, one, own)
        return result


def _bounds(nearby: Neighbourhood, region: Region, specification: Specification) -> Tensor:
    """Lower bounds (R,) over one region."""
    C, d = specification.coefficients, specification.offsets
    C, d = (C[0], d[0]) if specification.batched else (C, d)
    expansion = nearby.expansion
    found: list[Tensor] = []
    for row, offset in zip(C, d, strict=True):
        at = expansion.linearize(row[None])
        base = down(down(at.value - at.value_error) + offset)
        gradient = coefficients(nearby, row[None]).get(expansion.first)
        if gradient is not None:
            largest = (gradient.value[:, None].abs() + gradient.away) * (1.0 + 1e-12)
            fall = nearby.reach(Matrix(largest, largest.new_zeros(1)))
            base = down(base - fall[:, 0, 0])
        found.append(torch.nan_to_num(base, nan=-math.inf, posinf=-math.inf)[0])
    return torch.stack(found)
