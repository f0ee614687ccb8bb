"""Margins with known least values in balls, and networks to attack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Quadratic:
    """f(x) = c + b·x + ½ xᵀ diag(s) x as the margin of class 0 over class 1."""

    b: Tensor
    s: Tensor
    c: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        f = self.margin(x)
        return torch.stack([f, torch.zeros_like(f)], 1)

    def margin(self, x: Tensor) -> Tensor:
        return self.c + x @ self.b + 0.5 * (x * x) @ self.s

    def gradient(self, x: Tensor) -> Tensor:
        return self.b + self.s * x

    def curvature(self) -> Tensor:
        """κ[0, 1] = −min s, and κ[1, 0] = max s."""
        matrix = torch.zeros(2, 2, dtype=self.s.dtype)
        matrix[0, 1], matrix[1, 0] = -self.s.min(), self.s.max()
        return matrix

    def least(self, center: Tensor, radius: float) -> Tensor:
        """The minimiser over the ball (D,): (S + ηI)v = −∇f(x₀), by bisection on ‖v‖ = ρ.

        The easy case of the trust region problem: ∇f(x₀) has a part along the lowest eigenvector.
        """
        g = self.gradient(center)
        low, high = max(0.0, float(-self.s.min())) + 1e-12, 1e6
        if float(self.s.min()) > 0 and float((g / self.s).norm()) <= radius:
            return center - g / self.s
        for _ in range(200):
            eta = 0.5 * (low + high)
            low, high = (eta, high) if float((g / (self.s + eta)).norm()) > radius else (low, eta)
        return center - g / (self.s + high)


def network(
    seed: int = 0,
    inputs: int = 6,
    width: int = 12,
    classes: int = 4,
    *,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> nn.Sequential:
    """A two-layer softplus network with random weights."""
    generator = torch.Generator().manual_seed(seed)
    made = nn.Sequential(nn.Linear(inputs, width), nn.Softplus(), nn.Linear(width, classes))
    with torch.no_grad():
        for parameter in made.parameters():
            fan = parameter.shape[-1] if parameter.ndim > 1 else 1
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(scale * values / fan**0.5)
    return made.to(dtype)


def samples(count: int, inputs: int = 6, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, inputs, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, classes, (count,), generator=generator)


def disc(radius: float, rings: int = 150, rays: int = 360) -> Tensor:
    """A dense polar grid of a disc (P, 2)."""
    angle = torch.linspace(0.0, 2.0 * torch.pi, rays + 1, dtype=torch.float64)[:-1]
    unit = torch.stack([angle.cos(), angle.sin()], 1)
    fraction = torch.linspace(0.0, radius, rings, dtype=torch.float64)
    return (fraction[:, None, None] * unit).reshape(-1, 2)
