"""Bound programs over live parameters: the value that training minimises.

The same program as the certificate's, in the parameters' own type and with two differences: no
outward rounding, and spectral norms by power iteration. The iteration is warm-started: each call
moves the stored vectors by ``steps`` steps without gradient, then reads off the Rayleigh quotient
with gradient, whose derivative is u vᵀ by the envelope theorem. From below, so never a promise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .arithmetic import Interval
from .elementwise import Range
from .operators import Operator

_TINY = 1e-30


class Differentiable(nn.Module):
    """The arithmetic of regularisers. Its state (singular vectors) are buffers, one a site.

    Args:
        like: A parameter; its type and device are followed wherever its module is moved.
        steps: Power steps a call.
        first_steps: Power steps where a site is met for the first time.
    """

    def __init__(self, like: Tensor, steps: int = 1, first_steps: int = 20) -> None:
        super().__init__()
        self.steps = steps
        self.first_steps = first_steps
        # In a tuple, so that it does not become a parameter of this module.
        self._like = (like,)

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' type, as it is now."""
        return self._like[0].dtype

    @property
    def device(self) -> torch.device:
        """Where the parameters are now."""
        return self._like[0].device

    def norm2(self, operator: Operator, site: str) -> Tensor:
        """‖A v‖ at the current right singular vector v."""
        ones = torch.ones(1, operator.shape[0], dtype=self.dtype, device=self.device)
        return self._rayleigh(operator, ones, site)[0].clamp_min(_TINY).sqrt()

    def weighted_norm2_squared(self, operator: Operator, weights: Tensor, site: str) -> Tensor:
        """Σ_j q_j (A v)_j² at the current vectors v, one a row of the weights."""
        return self._rayleigh(operator, weights, site)

    def constant(self, value: float) -> Tensor:
        """A number as a tensor."""
        return torch.tensor(value, dtype=self.dtype, device=self.device)

    def zeros(self, c: Tensor) -> Tensor:
        """0 for each row of c."""
        return c.new_zeros(len(c))

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """a + b."""
        return a + b

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """a · b."""
        return a * b

    def square_root(self, a: Tensor) -> Tensor:
        """√a, with a finite derivative at zero."""
        return a.clamp_min(_TINY).sqrt()

    def minimum(self, a: Tensor, b: Tensor) -> Tensor:
        """The smaller of two bounds."""
        return torch.minimum(a, b)

    def row_max(self, weights: Tensor) -> Tensor:
        """max_j q_j."""
        return weights.amax(1)

    def row_norm(self, interval: Interval) -> Tensor:
        """√Σ max(|lower|, |upper|)², with a finite derivative at zero."""
        size = torch.maximum(interval.lower.abs(), interval.upper.abs())
        return size.square().sum(1).clamp_min(_TINY).sqrt()

    def exactly(self, c: Tensor) -> Interval:
        """[c, c]."""
        return Interval(c, c)

    def join(self, a: Interval, b: Interval) -> Interval:
        """a + b."""
        return Interval(a.lower + b.lower, a.upper + b.upper)

    def adjoint(self, operator: Operator, interval: Interval) -> Interval:
        """Aᵀ mid ± |A|ᵀ rad."""
        middle = 0.5 * (interval.lower + interval.upper)
        center = operator.adjoint(middle)
        if interval.lower is interval.upper:
            return Interval(center, center)
        spread = operator.abs_adjoint(0.5 * (interval.upper - interval.lower))
        return Interval(center - spread, center + spread)

    def through(self, interval: Interval, slope: Range) -> Interval:
        """The products of the end points."""
        corners = torch.stack([end * value for end in interval for value in slope])
        return Interval(corners.amin(0), corners.amax(0))

    def concavity(self, interval: Interval, second: Range) -> Tensor:
        """max(0, −min F σ″)."""
        corners = torch.stack([-end * value for end in interval for value in second])
        return corners.amax(0).clamp_min(0.0)

    def _rayleigh(self, operator: Operator, weights: Tensor, site: str) -> Tensor:
        with torch.no_grad():
            vectors = self._vectors(site, len(weights), operator.shape[1])
            steps = self.steps if vectors is not None else self.first_steps
            if vectors is None:
                vectors = self._start(len(weights), operator.shape[1])
            for _ in range(steps):
                vectors = operator.adjoint(weights * operator.apply(vectors))
                vectors = vectors / vectors.norm(dim=1, keepdim=True).clamp_min(_TINY)
                lost = vectors.norm(dim=1, keepdim=True) < 0.5
                vectors = torch.where(lost, self._start(*vectors.shape), vectors)
            self._keep(site, vectors)
        return (weights * operator.apply(vectors).square()).sum(1)

    def _vectors(self, site: str, rows: int, length: int) -> Tensor | None:
        stored = self._buffers.get(site)
        if stored is None or stored.shape != (rows, length):
            return None
        return stored.to(self.device, self.dtype)

    def _keep(self, site: str, vectors: Tensor) -> None:
        stored = self._buffers.get(site)
        if stored is not None and stored.shape == vectors.shape:
            stored.copy_(vectors)
        else:
            self.register_buffer(site, vectors.detach().clone())

    def _start(self, rows: int, length: int) -> Tensor:
        """A fixed dense start: equal runs are equal, and no random state is touched."""
        phase = torch.arange(1, length + 1, dtype=self.dtype, device=self.device)
        shift = torch.arange(rows, dtype=self.dtype, device=self.device)[:, None]
        start: Tensor = 1.0 + (phase * 2.0**0.5 + shift).sin()
        unit: Tensor = start / start.norm(dim=1, keepdim=True)
        return unit
