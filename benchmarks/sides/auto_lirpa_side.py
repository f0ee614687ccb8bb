"""Bounds and radii by auto_LiRPA, which must be importable; vercomp need not be."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import auto_LiRPA
import torch
from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm
from auto_LiRPA.operators.gelu import GELU
from torch import Tensor, nn

from .job import Job

METHODS = {"interval": "IBP", "crown": "CROWN", "alpha": "CROWN-Optimized"}
"""What auto_LiRPA calls the methods."""
NORMS = {"linf": math.inf, "l1": 1.0, "l2": 2.0}
WIDTH, WIDE = 1e-3, 5e-3
"""Radii are searched until a bracket has this relative width: as those of vercomp, and of α."""
FIRST, STEP, TRIALS = 0.1, 0.02, 40
"""The first radius that CROWN tries, the first relative step that α-CROWN tries, and how often."""


class Bounded:
    """A network that auto_LiRPA has traced.

    It is traced once, with its defaults: convolutions are bounded by patches, α-CROWN optimises the
    slopes of all intermediate bounds too.
    """

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        self.network = BoundedModule(with_its_gelu(network), x, device="cpu")
        with torch.no_grad():
            self.classes = network(x).shape[1]

    def bounds(self, x: Tensor, y: Tensor, job: Job) -> Tensor:
        return self._margins(x, y, job.ball, job)

    def radii(self, x: Tensor, y: Tensor, job: Job) -> Tensor:
        """By doubling or halving and then by bisection; each trial is a batch of all inputs.

        α-CROWN costs so much that it begins where CROWN ends, and stops at a wider bracket.
        """
        if job.method != "alpha":
            return self._searched(x, y, job, torch.zeros(len(x)))
        known = self._searched(x, y, replace(job, method="crown"), torch.zeros(len(x)))
        return self._searched(x, y, job, known)

    def _searched(self, x: Tensor, y: Tensor, job: Job, low: Tensor) -> Tensor:
        """The largest radii proved, from radii ``low`` that are; 0 where none is."""
        costly = job.method == "alpha"
        growth, width = (1.0 + STEP, WIDE) if costly else (2.0, WIDTH)
        high, trial = torch.full_like(low, math.inf), growth * low
        trial = torch.where(low > 0.0, trial, FIRST)
        for _ in range(TRIALS):
            rows = torch.nonzero(~(high <= low * (1.0 + width)))[:, 0]
            if len(rows) == 0:
                break
            bound = self._in_balls(x[rows], y[rows], trial[rows], job)
            proved = torch.zeros_like(low, dtype=torch.bool)
            proved[rows] = (bound > 0.0).all(1)  # a NaN proves nothing
            failed = torch.zeros_like(proved)
            failed[rows] = ~proved[rows]
            low, high = torch.where(proved, trial, low), torch.where(failed, trial, high)
            middle = torch.where(low > 0.0, 0.5 * (low + high), 0.5 * high)
            trial = torch.where(high.isinf(), growth * low, middle)
        return low

    def _in_balls(self, x: Tensor, y: Tensor, radii: Tensor, job: Job) -> Tensor:
        """Lower bounds (B, C − 1) in balls of radii (B,).

        A batch of different radii is not taken for l1 and l2 where there are convolutions.
        """
        if job.norm == "linf":
            return self._margins(x, y, radii.reshape(-1, *(1,) * (x.ndim - 1)), job)
        if x.ndim == 2:
            return self._margins(x, y, radii[:, None], job)
        rows = zip(x.split(1), y.split(1), radii.tolist(), strict=True)
        return torch.cat([self._margins(*row, job) for row in rows])

    def _margins(self, x: Tensor, y: Tensor, size: float | Tensor, job: Job) -> Tensor:
        """Lower bounds (B, C − 1) in balls of one radius, or of a tensor of them."""
        eye = torch.eye(self.classes)
        others = torch.arange(self.classes)[None] != y[:, None]
        C = (eye[y][:, None] - eye[None])[others].reshape(len(x), self.classes - 1, -1)
        region = BoundedTensor(x, PerturbationLpNorm(norm=NORMS[job.norm], eps=size))
        self.network.set_bound_opts({"optimize_bound_args": {"iteration": job.iterations}})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lower, _ = self.network.compute_bounds(
                x=(region,), C=C, method=METHODS[job.method], bound_upper=False
            )
        return lower.detach()


def with_its_gelu(network: nn.Module) -> nn.Module:
    """The network with GELU spelled so that auto_LiRPA knows it."""
    for name, module in network.named_children():
        if isinstance(module, nn.GELU):
            setattr(network, name, GELU())
        else:
            with_its_gelu(module)
    return network


def prepared(network: nn.Module, x: Tensor) -> Bounded:
    return Bounded(network, x)


def versions() -> str:
    return f"auto_LiRPA {auto_LiRPA.__version__}, torch {torch.__version__}"
