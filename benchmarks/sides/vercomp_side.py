"""Bounds and radii by vercomp."""

from __future__ import annotations

from importlib.metadata import version

import torch
from torch import Tensor, nn

import vercomp
from vercomp.core.specifications import Specification

from ..published_radii import PUBLISHED
from ..published_radii import radii as published_radii
from .job import Job

PORTFOLIO = "portfolio"


class Compiled:
    """A compiled network."""

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        self.network = vercomp.compile(network, input_shape=tuple(x.shape[1:]))

    def bounds(self, x: Tensor, y: Tensor, job: Job) -> Tensor:
        rows = Specification.margins(y, self.network.network.classes).coefficients
        region = vercomp.Ball(x, job.ball, job.norm)
        return self.network.bound(region, rows, methods=methods(job))

    def radii(self, x: Tensor, y: Tensor, job: Job) -> Tensor:
        if job.method in PUBLISHED:
            return published_radii(job.method, self.network, x, y)
        return self.network.certify(x, y, norm=job.norm, methods=methods(job)).radius


def methods(job: Job) -> tuple[str, ...] | None:
    return None if job.method == PORTFOLIO else (job.method,)


def prepared(network: nn.Module, x: Tensor) -> Compiled:
    return Compiled(network, x)


def versions() -> str:
    return f"vercomp {version('vercomp')}, torch {torch.__version__}"
