"""Bound programs over live parameters: the value that training minimises.

The same program as the certificate's, in the parameters' own type and with two differences: no
outward rounding, and spectral norms by power iteration. The iteration is warm-started: at the
stored unit vector v a call reads off the Rayleigh quotient ‖diag(√q)A v‖² with gradient, whose
derivative is u vᵀ by the envelope theorem, and from the same product A v it makes the next power
step, v ← Aᵀ(q ⊙ A v) normalised, without gradient. From below, so never a promise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..functions import Range
from ..maps.operators import Dense, Operator
from .dense_adjoint import AdjointAround, Scratch
from .operations import Arithmetic

_TINY = 1e-30
_SINGLE = torch.float32.itemsize


def working_type(like: Tensor) -> torch.dtype:
    """The type of a parameter; float32 where that is half precision."""
    return torch.float32 if like.dtype.itemsize < _SINGLE else like.dtype


class Around(NamedTuple):
    """Entrywise bounds |F − mid| ≤ rad, each of shape (P, n); a number where F is mid itself."""

    middle: Tensor
    radius: Tensor | float


class Differentiable(Arithmetic, nn.Module):
    """The arithmetic of regularisers. Its state (singular vectors) are buffers, one a site.

    Args:
        like: A parameter; its type and device are followed wherever its module is moved.
        steps: Power steps a call; the last of them is for the next call.
        first_steps: Power steps where a site is met for the first time.

    Attributes:
        rows: Which of the stored vectors the coefficient rows of the current evaluation belong to;
            all where None.
    """

    def __init__(self, like: Tensor, steps: int = 1, first_steps: int = 20) -> None:
        super().__init__()
        self.steps = steps
        self.first_steps = first_steps
        self.rows: Tensor | None = None
        self._scratch = Scratch()
        self._starts: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}
        # In a tuple, so that it does not become a parameter of this module.
        self._like = (like,)

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' type, as it is now; float32 where they are in half precision."""
        return working_type(self._like[0])

    @property
    def device(self) -> torch.device:
        """Where the parameters are now."""
        return self._like[0].device

    def converted(self, parameters: Any) -> Any:
        """The parameters in the type that is computed in."""
        return parameters if self._like[0].dtype == self.dtype else _Converted(parameters, self)

    def norm2(self, operator: Operator, *, name: str = "") -> Tensor:
        """‖A v‖ at the current right singular vector v."""
        return self._rayleigh(operator, None, name)[0].clamp_min(_TINY).sqrt()

    def weighted_norm2_squared(
        self, operator: Operator, weights: Tensor, *, name: str = ""
    ) -> Tensor:
        """Σ_j q_j (A v)_j² at the current vectors v, one a row of the weights."""
        return self._rayleigh(operator, weights, name, self.rows)

    def constant(self, value: float, *, name: str = "") -> Tensor:
        """A number as a tensor."""
        return torch.full((), value, dtype=self.dtype, device=self.device)

    def zeros(self, c: Tensor, *, name: str = "") -> Tensor:
        """0 for each row of c."""
        return c.new_zeros(len(c))

    def add(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """a + b."""
        return a + b

    def multiply(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """a · b."""
        return a * b

    def square_root(self, a: Tensor, *, name: str = "") -> Tensor:
        """√a, with a finite derivative at zero."""
        return a.clamp_min(_TINY).sqrt()

    def minimum(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """The smaller of two bounds."""
        return torch.minimum(a, b)

    def refine(self, a: Tensor, b: Tensor, *, name: str = "") -> Tensor:
        """b, which is never the larger of the two."""
        return b

    def row_max(self, weights: Tensor, *, name: str = "") -> Tensor:
        """max_j q_j."""
        return weights.amax(1)

    def row_norm(self, interval: Around, *, name: str = "") -> Tensor:
        """√Σ (|mid| + rad)², with a finite derivative at zero."""
        size = interval.middle.abs() + interval.radius
        return size.square().sum(1).clamp_min(_TINY).sqrt()

    def exactly(self, c: Tensor, *, name: str = "") -> Around:
        """c ± 0."""
        return Around(c, 0.0)

    def join(self, a: Around, b: Around, *, name: str = "") -> Around:
        """a + b."""
        return Around(a.middle + b.middle, a.radius + b.radius)

    def adjoint(self, operator: Operator, interval: Around, *, name: str = "") -> Around:
        """Aᵀ mid ± |A|ᵀ rad."""
        middle, radius = interval
        if not isinstance(radius, Tensor):
            return Around(operator.adjoint(middle), 0.0)
        if isinstance(operator, Dense):
            found = AdjointAround.apply(operator.matrix, middle, radius, self._scratch)  # type: ignore[no-untyped-call]
            return Around(*found)
        return Around(operator.adjoint(middle), operator.abs_adjoint(radius))

    def through(self, interval: Around, slope: Range, *, name: str = "") -> Around:
        """F ⊙ [g_L, g_U]: the least and the largest of the products."""
        low, high = slope
        if not isinstance(interval.radius, Tensor):
            scaled = 0.5 * (high - low) * interval.middle
            middle = scaled if low == 0.0 else 0.5 * (high + low) * interval.middle
            return Around(middle, scaled.abs())
        lower, upper = -_depth(interval, slope), _depth(interval, (-high, -low))
        return Around(0.5 * (upper + lower), 0.5 * (upper - lower))

    def concavity(self, interval: Around, second: Range, *, name: str = "") -> Tensor:
        """max(0, −min F σ″)."""
        depth = _depth(interval, second)
        return depth if second[0] < 0.0 < second[1] else depth.clamp_min(0.0)

    def _rayleigh(
        self,
        operator: Operator,
        weights: Tensor | None,
        site: str,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Σ_j q_j (A v)_j² at stored vectors v, which move on; one vector where q is left out."""
        stored = self._buffers.get(site)
        steps, count = self.steps, 1 if weights is None else len(weights)
        if stored is None or (rows is None and stored.shape[0] != count):
            stored = self._start(operator.shape[1]).repeat(count, 1)
            self.register_buffer(site, stored)
            steps = self.first_steps
        vectors = stored.clone() if rows is None else stored[rows]
        with torch.no_grad():
            for _ in range(steps - 1):
                image = operator.apply(vectors)
                vectors = self._step(operator, image if weights is None else weights * image)
        image = operator.apply(vectors)
        weighted = image if weights is None else weights * image
        if steps:
            with torch.no_grad():
                moved = self._step(operator, weighted)
                stored.copy_(moved) if rows is None else stored.index_copy_(0, rows, moved)
        return (weighted * image).sum(1)

    def _step(self, operator: Operator, weighted: Tensor) -> Tensor:
        """Aᵀ(q ⊙ A v) divided by its norm; the starting vector where the norm is zero."""
        moved = operator.adjoint(weighted)
        size = moved.norm(dim=1, keepdim=True)
        found = (size > _TINY) & size.isfinite()
        return torch.where(found, moved / size, self._start(operator.shape[1]))

    def _start(self, length: int) -> Tensor:
        """A fixed dense start: equal runs are equal, and no random state is touched."""
        key = (length, self.dtype, self.device)
        if key not in self._starts:
            phase = torch.arange(1, length + 1, dtype=self.dtype, device=self.device)
            start = 1.0 + (phase * 2.0**0.5).sin()
            self._starts[key] = (start / start.norm())[None]
        return self._starts[key]


def _depth(interval: Around, other: Range) -> Tensor:
    """−min F s over |F − mid| ≤ rad and L ≤ s ≤ U; not negative where L < 0 < U.

    U meets the lower end of F where it is positive and the upper end elsewhere, L the upper end
    where it is negative and the lower end elsewhere; the other two products are never less.
    """
    middle, radius = interval
    low, high = other
    if low == -high:
        return high * (middle.abs() + radius)
    products = [
        value * ((middle - radius) if below else (middle + radius))
        for value, below in ((-high, high > 0.0), (-low, low >= 0.0))
        if value != 0.0
    ]
    if not products:
        return torch.zeros_like(middle)
    return torch.maximum(*products) if len(products) == 2 else products[0].clamp_min(0.0)


class _Converted:
    """Attributes of an object, its tensors in the type of an arithmetic."""

    def __init__(self, inner: Any, arithmetic: Differentiable) -> None:
        self._inner = inner
        self._arithmetic = arithmetic

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if isinstance(value, torch.dtype):
            return self._arithmetic.dtype
        return value.to(self._arithmetic.dtype) if isinstance(value, Tensor) else value
