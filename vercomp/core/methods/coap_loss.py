"""Bounds by the dual network as a function of live parameters: the robust loss of Wong et al.

The intervals of every activation's input are those of the dual network, exact or estimated from
random projections (*Scaling provable adversarial defenses*, 2018); the rows that are asked for are
sent back through it, which is exact over those intervals. All of it is computed in the network's
type: it steers a training. What holds is proved by ``certify``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..domains.linear_forms import LinearForms
from ..domains.live_dual import LiveDual, LiveProjections
from ..graph import Activate, Graph
from ..regions.region import Region
from ..relaxation.lines import Line
from ..specifications import Specification
from ..walk import backward, forward


def coap_lower_bounds(
    graph: Graph,
    region: Region,
    specification: Specification,
    dtype: torch.dtype,
    *,
    projections: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Lower bounds (B, R) of C z + d over a region, with gradients for the graph's parameters.

    Args:
        graph: The network's graph over its parameters.
        region: The inputs, B of them.
        specification: C and d.
        dtype: The type of the parameters.
        projections: How many random vectors estimate the intervals; 0 for exact intervals.
        generator: Of the random vectors.
    """
    domain = LiveDual(region, dtype)
    if projections:
        generator = generator if generator is not None else torch.Generator()
        domain = LiveProjections(region, dtype, projections, generator)
    needed = graph.ancestors(graph.output) | {graph.output}
    forward(domain, graph, only=needed)
    C = specification.coefficients if specification.batched else specification.coefficients[None]
    rows = C.to(dtype).expand(len(region), -1, -1)

    def active(node: Activate, c: Tensor) -> Line:
        below, above = domain.lines[node.name]
        intercept = torch.where(c > 0.0, below.intercept[:, None], above.intercept[:, None])
        return Line(below.slope[:, None], intercept)

    forms = LinearForms(active)
    g = backward(forms, graph, rows).get(graph.nodes[0].name)
    total = torch.zeros_like(rows[..., 0]) + forms.constant + specification.offsets.to(dtype)
    if g is None:
        return total
    g = g.expand(len(region), -1, -1)
    point = region.center[:, None] + region.descent(g.detach())
    return total + (g * point.to(dtype)).sum(-1)
