"""Random small networks of several shapes, with a random piece of a random ball."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn

import vercomp
from vercomp.core.domains.intervals import RowNorms
from vercomp.core.domains.refined_intervals import relax
from vercomp.core.quadratic.beginnings import mixed
from vercomp.core.quadratic.parameters import ByNode, Parameters
from vercomp.core.quadratic.proof import Piece, Place, lower_bound, values_at
from vercomp.core.quadratic.search import Search
from vercomp.core.quadratic.setting import Network, Setting
from vercomp.core.regions.constructors import Ball

ACTIVATIONS = (nn.Sigmoid, nn.ReLU, nn.Softplus, nn.Tanh, nn.GELU, nn.LeakyReLU)


class Chain(nn.Module):
    """Linear layers and activations in turn."""

    def __init__(self, size: int, width: int, depth: int, activation: type[nn.Module]) -> None:
        super().__init__()
        widths = [size, *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(n, width) for n in widths[:-1])
        self.last = nn.Linear(width, 2)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.activation(layer(x))
        y: Tensor = self.last(x)
        return y


class Residual(Chain):
    """Skips across every layer, one weight used twice, and one from the input to the output."""

    def __init__(self, size: int, width: int, depth: int, activation: type[nn.Module]) -> None:
        super().__init__(size, width, depth, activation)
        self.again, self.skip = nn.Linear(width, width), nn.Linear(size, 2)

    def forward(self, x: Tensor) -> Tensor:
        first, y = x, self.activation(self.layers[0](x))
        for _ in self.layers:
            y = self.activation(y + self.again(self.activation(self.again(y))))
        out: Tensor = self.last(y) + self.skip(first)
        return out


class Concatenated(Chain):
    """A layer that reads two activations side by side, one of which is read before it bends too."""

    def __init__(self, size: int, width: int, depth: int, activation: type[nn.Module]) -> None:
        super().__init__(size, width, depth, activation)
        self.wide = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        z = self.layers[0](x)
        y = self.activation(z)
        for layer in self.layers[1:]:
            y = self.activation(layer(y))
        both = torch.cat([y, self.activation(z + 0.5 * y)], 1)
        out: Tensor = self.last(self.activation(self.wide(both)) + z)
        return out


class Repeated(Chain):
    """An activation of the input itself, and one of an activation."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.layers[0](self.activation(x)))
        for layer in self.layers[1:]:
            y = layer(self.activation(y))
        out: Tensor = self.last(y)
        return out


SHAPES = (Chain, Residual, Concatenated, Repeated)


@cache
def compiled(seed: int, shape: type[Chain]) -> tuple[Chain, Network]:
    """A random network of a shape, and what bounds need of it."""
    generator = torch.Generator().manual_seed(seed)
    size = 2 + seed % 3
    model = shape(size, 7, 1 + seed % 3, ACTIVATIONS[seed % len(ACTIVATIONS)])
    gain = 1.6 if shape is Chain else 1.1
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = gain / math.sqrt(parameter.shape[1]) if parameter.ndim > 1 else 0.5
            parameter.copy_(noise * scale)
    model = model.double()
    network = vercomp.compile(model, input_shape=(size,)).network
    return model, Network.of(network.in_double()[1], torch.float64, RowNorms())


class Case:
    """A random network with two to four inputs, and a random slab of a random ball."""

    def __init__(self, seed: int, shape: type[Chain] = Chain) -> None:
        generator = torch.Generator().manual_seed(seed + 1000)

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * float(torch.rand((), generator=generator))

        self.size = 2 + seed % 3
        self.model, self.network = compiled(seed, shape)
        self.center = torch.randn(self.size, generator=generator, dtype=torch.float64)
        u = torch.randn(self.size, generator=generator, dtype=torch.float64)
        self.direction = u / u.norm()
        self.radius = uniform(0.1, 1.5)
        cut = sorted((uniform(-1.0, 1.0), uniform(-1.0, 1.0)))
        low, high = cut[0] * self.radius, cut[1] * self.radius
        self.ends = [(low, high), (-math.inf, high), (low, math.inf), (-math.inf, math.inf)][
            seed % 4
        ]
        shift = uniform(-1.0, 1.0) * self.radius if seed % 5 == 0 else 0.5 * (low + high)
        self.point = self.center + shift * self.direction
        self.row = torch.randn(2, generator=generator, dtype=torch.float64)
        self.generator = generator
        self.look()

    def look(self) -> None:
        """Learn the intervals and values of the region as it is now."""
        cut = (self.direction[None], *self.ends)
        region = Ball(self.center[None], self.radius, "l2", slab=cut)
        graph = self.network.graph
        piece = Piece(self.center, self.radius, self.direction, *self.ends, self.point)
        values = values_at(graph, self.point[None])
        self.relaxation = relax(graph, region, RowNorms())
        self.setting = Setting(self.network, self.relaxation, values, [piece], [0])
        self.place = Place(piece, values, dict(self.relaxation.intervals))

    def search(self) -> Search:
        offset = torch.full((1,), 0.25, dtype=torch.float64)
        return self.setting.search(torch.zeros(1, dtype=torch.long), self.row[None], offset)

    def first(self, search: Search | None = None) -> tuple[Parameters, ByNode]:
        return self.setting.beginning(search or self.search(), torch.zeros(1, dtype=torch.long))

    def mixed(self, search: Search, *straight: str) -> Parameters:
        """The beginning where some activations have lines and the others curvature."""
        lines = self.setting.lines(torch.zeros(1, dtype=torch.long))
        return mixed(search, lines, frozenset(straight))[0]

    def linear(self) -> float:
        """The bound by lines alone."""
        rows = self.row[None, None]
        return float(self.relaxation.lower_bounds(self.network.graph.output, rows)) + 0.25

    def random_parameters(self) -> Parameters:
        first, _ = self.first()

        def shaken(values: ByNode, by: float) -> ByNode:
            return {
                name: v
                + by
                * (1.0 + v.abs())
                * torch.randn(v.shape, generator=self.generator, dtype=v.dtype)
                for name, v in values.items()
            }

        return Parameters(
            shaken(first.slopes, 0.3),
            shaken(first.curvatures, 0.5),
            shaken(first.chords, 0.3),
            {
                name: first.weights[name] * n.abs().clamp(min=1e-2)
                for name, n in shaken(first.weights, 1.0).items()
            },
            {
                name: 0.05 + 0.9 * torch.rand(s.shape, generator=self.generator, dtype=s.dtype)
                for name, s in first.shares.items()
            },
        )

    def bound(self, parameters: Parameters) -> float:
        return lower_bound(self.network.graph, self.row, 0.25, self.place, parameters.row(0))

    def points(self, count: int) -> Tensor:
        """Points of the region; there may be none."""
        x = torch.randn(count, self.size, generator=self.generator, dtype=torch.float64)
        share = torch.rand(count, 1, generator=self.generator, dtype=torch.float64)
        x = x / x.norm(dim=1, keepdim=True) * share ** (1.0 / self.size)
        x[: count // 4] /= x[: count // 4].norm(dim=1, keepdim=True)
        t = self.radius * x @ self.direction
        return self.center + self.radius * x[(t >= self.ends[0]) & (t <= self.ends[1])]

    def values(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = self.model(x) @ self.row + 0.25
        return found

    def least(self, count: int = 30_000) -> float:
        """The smallest value seen in the region; ∞ where no sample fell into it."""
        values = self.values(self.points(count))
        return float(values.min()) if len(values) else math.inf
