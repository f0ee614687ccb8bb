"""Sets of inputs: balls, boxes, slabs and their intersections, one for each row of a batch."""

from __future__ import annotations

from . import l1, l2, linf
from .ball_kind import BallKind, ball_kind, register_ball
from .constructors import Ball, Box
from .region import Region

for _kind in (l1.L1(), l2.L2(), linf.Linf()):
    register_ball(_kind)

__all__ = ["Ball", "BallKind", "Box", "Region", "ball_kind", "register_ball"]
