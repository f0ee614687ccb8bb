"""A plugin as a third party would write it, with one of everything that a plugin can bring.

Two linear maps (running sums come from rules for operators, rolls from a pass over the graph), an
activation, a domain, a method that walks the graph backward with it, and the ball of a weighted
norm. The tests install this file as a distribution of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, ClassVar

import sympy
import torch
from torch import Tensor

import vercomp
from vercomp.backends.torch.rules import MapRule
from vercomp.core.arithmetic.outward import down, times_up, up
from vercomp.core.graph import Activate, Affine, Input
from vercomp.core.maps.operators import Operator
from vercomp.core.methods.interval import IntervalBounds
from vercomp.core.network import VerifiedNetwork
from vercomp.core.regions.ball_kind import BallKind
from vercomp.core.regions.rounding import norm2_up, sum_up
from vercomp.core.walk import Domain, backward, rule
from vercomp.frontends.broadcasting import mapped
from vercomp.ir.activation import X
from vercomp.ir.expressions import Call, call
from vercomp.ir.graph import Graph, Node
from vercomp.ir.linear_maps import LinearMap, compose, parts
from vercomp.ir.selections import Gather
from vercomp.registry import Registry

# A linear map, as an operator and as a symbol, with rules for the operators that it stands for.


@dataclass(frozen=True)
class RunningSumOperator(Operator):
    """x ↦ (x₁, x₁ + x₂, …)."""

    size: int

    shape = property(lambda self: (self.size, self.size))
    fan_in = fan_out = property(lambda self: self.size)
    absolute_norm = property(lambda self: float(self.size))  # √(‖A‖₁ ‖A‖_∞)

    def apply(self, x: Tensor) -> Tensor:
        return x.cumsum(-1)

    def adjoint(self, s: Tensor) -> Tensor:
        return s.flip(-1).cumsum(-1).flip(-1)

    abs_apply, abs_adjoint = apply, adjoint


@dataclass(frozen=True)
class RunningSum(LinearMap):
    """The same as a symbol."""

    size: int

    in_shape = out_shape = property(lambda self: (self.size,))

    def operator(self) -> Call:
        return call(RunningSumOperator, self.size)

    def __str__(self) -> str:
        return "running sum"


def from_torch(asked: Any) -> Any:
    """aten::cumsum along vectors."""
    signal = asked.signal()
    if len(signal.shape) != 1 or signal.batch != 0 or asked.args["dim"] not in (1, -1):
        return "running sums are along vectors only"
    return mapped(asked.build, asked.site, signal, RunningSum(*signal.shape))


def from_onnx(asked: Any) -> Any:
    """CumSum along vectors."""
    signal, axis = asked.signal(), asked.constant(1, "axes")
    if len(signal.shape) != 1 or axis is None or int(axis.value) not in (1, -1):
        return "running sums are along vectors only"
    if asked.attributes.get("exclusive") or asked.attributes.get("reverse"):
        return "running sums are neither exclusive nor reversed"
    return mapped(asked.build, asked.site, signal, RunningSum(*signal.shape))


# A linear map that a pass puts in the place of others.


@dataclass(frozen=True)
class Roll(Operator):
    """x rolled by ``shift``."""

    size: int
    shift: int

    shape = property(lambda self: (self.size, self.size))
    fan_in = fan_out = property(lambda self: 1)
    absolute_norm = property(lambda self: 1.0)

    def apply(self, x: Tensor) -> Tensor:
        return x.roll(self.shift, -1)

    def adjoint(self, s: Tensor) -> Tensor:
        return s.roll(-self.shift, -1)

    abs_apply, abs_adjoint = apply, adjoint


@dataclass(frozen=True)
class Rolled(LinearMap):
    """The same as a symbol."""

    size: int
    shift: int

    in_shape = out_shape = property(lambda self: (self.size,))

    def operator(self) -> Call:
        return call(Roll, self.size, self.shift)

    def __str__(self) -> str:
        return f"roll({self.shift})"


@dataclass(frozen=True)
class RecogniseRolls:
    """A pass: gathers that roll a vector become rolls."""

    name: ClassVar[str] = "recognise-rolls"
    requires: ClassVar[tuple[str, ...]] = ()
    establishes: ClassVar[tuple[str, ...]] = ()

    def run(self, graph: Graph) -> Graph:
        return replace(graph, nodes=tuple(map(self._node, graph.nodes)))

    def _node(self, node: Node) -> Node:
        terms = [
            replace(term, map=reduce(lambda a, b: compose(b, a), map(self._map, parts(term.map))))
            for term in getattr(node, "terms", ())
        ]
        return replace(node, terms=tuple(terms)) if terms else node

    def _map(self, part: LinearMap) -> LinearMap:
        if isinstance(part, Gather) and len(part.source) == 1:
            size, shift = part.source[0], -part.indices[0] % part.source[0]
            if part.indices == tuple((i - shift) % size for i in range(size)):
                return Rolled(size, shift)
        return part


# A domain, and a method that walks the graph backward with it.


class Sensitivities(Domain[Tensor]):
    """Bounds s of |∂f/∂a|, for every entry of every node and everywhere: (…, R, n).

    From a node z = A a + b they reach a through |A|ᵀ, from a = σ(z) they reach z by max |σ′|.
    """

    title = "sensitivities"

    @rule(Input)
    def input(self, node: Input, s: Tensor) -> Iterator[tuple[str, Tensor]]:
        return iter(())

    @rule(Affine)
    def affine(self, node: Affine, s: Tensor) -> Iterator[tuple[str, Tensor]]:
        for term in node.terms:
            rounded = term.map.abs_adjoint(s) * (1.0 + 1e-9) + term.map.underflow
            lost = times_up(norm2_up(s), torch.full_like(s[..., 0], term.map.error))
            yield term.parent, up(rounded + lost[..., None])

    @rule(Activate)
    def activation(self, node: Activate, s: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield node.parent, up(s * node.function.g)

    def join(self, name: str, one: Tensor, other: Tensor) -> Tensor:
        return up(one + other)


class SensitivityBounds(IntervalBounds):
    """f(x) ≥ f(x₀) − Σ s |x − x₀|; radii are searched as those of intervals."""

    name = "sensitivity"

    def bound(
        self, network: VerifiedNetwork, region: vercomp.Region, asked: vercomp.Specification
    ) -> Tensor:
        center = region.center.reshape(len(region), *region.shape)
        there = super().bound(network, vercomp.Box(center, center), asked)
        _, graph = network.in_double()
        found = backward(Sensitivities(), graph, asked.coefficients.abs())
        lower, upper = region.interval()
        reach = up(torch.maximum(region.center - lower, upper - region.center))
        return down(there - sum_up(times_up(found[graph.nodes[0].name], reach[:, None])))


# A ball.


class Stretched(BallKind):
    """The ball of the norm 2‖y‖₂."""

    name = "stretched"
    smooth = True

    def norm(self, y: Tensor) -> Tensor:
        return 2.0 * norm2_up(y)

    def dual_norm(self, g: Tensor) -> Tensor:
        return 0.5 * norm2_up(g)

    def shrink(
        self, g: Tensor, rho: Tensor, multiplier: Tensor, lower: Tensor, upper: Tensor
    ) -> Tensor:
        step = torch.where(g == 0.0, 0.0, -g / (rho + 4.0 * multiplier[:, None]))
        return torch.clamp(step, lower, upper)

    def share(self, g: Tensor, y: Tensor, multiplier: Tensor) -> Tensor:
        return -4.0 * multiplier[:, None] * y

    def multiplier_scale(self, g: Tensor, radius: Tensor) -> Tensor:
        return self.dual_norm(g) / radius

    def draw(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        normal = torch.randn(count, size, dtype=torch.float64, generator=generator)
        return 0.5 * torch.nn.functional.normalize(normal, dim=1)

    def extents(self, size: int) -> Tensor:
        return torch.full((size,), 0.5, dtype=torch.float64)


vercomp.register_ball(Stretched())  # as soon as a package imports this file


def register(registry: Registry) -> None:
    """What the entry point names."""
    formula = X / sympy.sqrt(1 + X**2)
    registry.add_activation(
        vercomp.define_activation("isru", formula, lambda x: x / torch.sqrt(1 + x**2))
    )
    registry.add_linear_map(RunningSum, MapRule(lambda m, x, read: f"{x}.cumsum(1)"))
    registry.add_torch_operator("aten::cumsum", from_torch)
    registry.add_onnx_operator("CumSum", from_onnx)
    registry.add_linear_map(Rolled, MapRule(lambda m, x, read: f"{x}.roll({m.shift}, 1)"))
    registry.add_pass("recognise-rolls", lambda options: RecogniseRolls())
    registry.add_method(SensitivityBounds())
