"""Small networks by hand, with distances known in closed form or curvature that is easy to bound.

Each satisfies ``vercomp.core.methods.pairs.Certifiable``; errors are generous constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vercomp.core.linearization import Linearization


@dataclass
class ByHand:
    """Logits as a function of flat float64 inputs, with curvature bounds that are given."""

    function: Callable[[Tensor], Tensor]
    input_shape: tuple[int, ...]
    classes: int
    lower: Tensor
    upper: Tensor
    dtype: torch.dtype = torch.float64
    error: float = 1e-12

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x.flatten(1).double()).to(self.dtype)

    def linearize(self, x: Tensor, c: Tensor) -> Linearization:
        assert x.dtype == c.dtype == torch.float64
        leading = c.shape[:-1]
        x, c = x.expand(*leading, x.shape[-1]).flatten(0, -2), c.flatten(0, -2)
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            value = (self.function(leaf) * c).sum(1)
            gradient = torch.zeros_like(leaf)
            if value.requires_grad:
                (found,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
                gradient = gradient if found is None else found
        value = value.detach().reshape(leading)
        gradient = gradient.reshape(*leading, x.shape[-1])
        error = torch.full_like(value, self.error)
        return Linearization(value, gradient, error, error)

    def enclose(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        found = self.linearize(x, c)
        return found.value, found.value_error

    def curvature(self) -> tuple[Tensor, Tensor]:
        return self.lower, self.upper

    def lipschitz(self) -> Tensor:
        return torch.full_like(self.lower, torch.inf)


def against_zero(
    margin: Callable[[Tensor], Tensor], dimension: int, kappa: float, kappa_upper: float, **options
) -> ByHand:
    """Two classes with logits (f, 0): label 0 has the margin f, label 1 the margin −f."""
    lower = torch.tensor([[0.0, -kappa], [-kappa_upper, 0.0]], dtype=torch.float64)

    def logits(x: Tensor) -> Tensor:
        f = margin(x)
        return torch.stack([f, torch.zeros_like(f)], 1)

    return ByHand(logits, (dimension,), 2, lower, -lower.T.clone(), **options)


def sphere(dimension: int = 3, *, radius: float = 1.0, kappa: float = 1.0, **options) -> ByHand:
    """f = ½κ(R² − ‖x‖²): the boundary is a sphere, at the distance R − ‖x₀‖; ∇²f = −κI."""
    return against_zero(
        lambda x: 0.5 * kappa * (radius**2 - (x * x).sum(1)), dimension, kappa, -kappa, **options
    )


def affine(weight: Tensor, offset: float, **options) -> ByHand:
    """f = w·x + b, at the distance f(x₀)/‖w‖."""
    return against_zero(lambda x: x @ weight + offset, len(weight), 0.0, 0.0, **options)


@dataclass
class Quadratics:
    """f = c + b·x + ½ xᵀ diag(s) x around x₀ = 0, of which the distance is known.

    The multiplier η* < 1/κ is chosen first, then c such that the minimiser of φ_η* lies on the
    boundary: by Theorem 1 that is the nearest point.
    """

    b: Tensor
    s: Tensor
    c: Tensor
    distance: Tensor

    @classmethod
    def random(
        cls, pairs: int, dimension: int, *, eta: float, upper: float = 1.0, seed: int = 0
    ) -> Quadratics:
        generator = torch.Generator().manual_seed(seed)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64)

        s = uniform(pairs, dimension) * (1.0 + upper) - 1.0
        s[:, 0], s[:, -1] = -1.0, upper
        b = torch.randn(pairs, dimension, generator=generator, dtype=torch.float64)
        etas = (eta * (0.2 + 0.8 * uniform(pairs)))[:, None]
        v = -etas * b / (1.0 + etas * s)
        return cls(b, s, -(b * v).sum(1) - 0.5 * (s * v * v).sum(1), v.norm(dim=1))

    def at(self, x: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
        b, s, c = self.b[pair].to(x), self.s[pair].to(x), self.c[pair].to(x)
        return c + (b * x).sum(1) + 0.5 * (s * x * x).sum(1), b + s * x


def two_layers(
    activation: str,
    *,
    inputs: int,
    width: int,
    classes: int = 3,
    scale: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    dead: bool = False,
) -> ByHand:
    """z = V σ(W x + b) + d with random weights; κ of each pair as in Theorem 3."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    W, b = scale * normal(width, inputs) / math.sqrt(inputs), normal(width)
    V, d = normal(classes, width) / math.sqrt(width), 0.1 * normal(classes)
    if dead:
        W = torch.zeros_like(W)
    sigma, h_lower, h_upper = {
        "tanh": (torch.tanh, -0.7699, 0.7699),
        "softplus": (torch.nn.functional.softplus, 0.0, 0.25),
    }[activation]
    c = V[:, None] - V[None]
    positive, negative = c.clamp(min=0.0), (-c).clamp(min=0.0)

    def largest(weights: Tensor) -> Tensor:
        matrix = torch.einsum("wi,ytw,wj->ytij", W, weights, W)
        return torch.linalg.eigvalsh(matrix)[..., -1].clamp(min=0.0) * (1.0 + 1e-9)

    lower = -largest(positive * -h_lower + negative * h_upper)
    upper = largest(positive * h_upper + negative * -h_lower)
    return ByHand(lambda x: sigma(x @ W.T + b) @ V.T + d, (inputs,), classes, lower, upper, dtype)


def least_margin(network: ByHand, x: Tensor, y: Tensor, radius: Tensor, *, seed: int = 0) -> Tensor:
    """The smallest margin over all targets that PGD finds in each ball, from 16 starts."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(len(x))
    limit = radius[:, None] * (1.0 - 1e-12)

    def margin(points: Tensor) -> Tensor:
        z = network.function(points)
        return z[rows, y] - z.scatter(1, y[:, None], -torch.inf).amax(1)

    best = margin(x)
    for start in range(16):
        v = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        v = v / v.norm(dim=1, keepdim=True) * limit * min(start, 1)
        for step in range(60):
            leaf = (x + v).requires_grad_()
            value = margin(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
            best = torch.minimum(best, value.detach())
            direction = gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-300)
            v = v - (0.5 if step < 30 else 0.05) * limit * direction
            v = v * (limit / v.norm(dim=1, keepdim=True).clamp(min=1e-300)).clamp(max=1.0)
        best = torch.minimum(best, margin(x + v))
    return best
