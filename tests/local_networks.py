"""Random networks as graphs made by hand, so that thousands of them take seconds."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

import vercomp
from vercomp.core.arithmetic.rounded import exact
from vercomp.core.functions import Elementwise
from vercomp.core.graph import Activate, Affine, Graph, Input, Term
from vercomp.core.maps.operators import Dense
from vercomp.core.methods.view import View

SMOOTH = (nn.Sigmoid, nn.Tanh, nn.Softplus, nn.GELU, nn.ELU)
"""ELU's σ″ jumps."""


@cache
def compiled(activation: type[nn.Module]) -> vercomp.CompiledNetwork:
    """A small network with this activation, whose functions others share."""
    model = nn.Sequential(nn.Linear(1, 1), activation(), nn.Linear(1, 2)).double()
    return vercomp.compile(model, (1,))


@cache
def function(activation: type[nn.Module]) -> Elementwise:
    """σ as graphs have it."""
    graph = compiled(activation).network.in_double()[1]
    return next(node.function for node in graph.nodes if isinstance(node, Activate))


class Draw:
    """A random graph from one seed: a chain, or with skips over layers.

    Args:
        seed: The seed.
        inputs: The dimension of the input.
        activations: One of these is drawn.
        skips: Whether later layers may read earlier ones too.
    """

    def __init__(
        self,
        seed: int,
        inputs: int,
        activations: tuple[type[nn.Module], ...] = SMOOTH,
        *,
        skips: bool = False,
        outputs: int = 2,
    ) -> None:
        self.dice = torch.Generator().manual_seed(seed)
        self.activation = activations[self.below(len(activations))]
        depth = 1 + self.below(3)
        scale = 0.5 + 2.5 * float(torch.rand((), generator=self.dice))
        nodes: list[Input | Affine | Activate] = [Input("x", (inputs,))]
        read = ["x"]
        for layer in range(depth + 1):
            last = layer == depth
            m = outputs if last else 1 + self.below(6)
            sources = [read[-1]]
            if skips and len(read) > 1 and self.below(2):
                sources.append(read[self.below(len(read) - 1)])
            terms = []
            for k, source in enumerate(sources):
                n = next(node.shape[0] for node in nodes if node.name == source)
                weight = self.normal(m, n) * scale / n**0.5
                if self.below(6) == 0:
                    weight[0] = 0.0
                terms.append(Term(f"w{layer}.{k}", Dense(weight), source))
            bias = exact(0.5 * self.normal(1, m))
            nodes.append(Affine(f"z{layer}", (m,), tuple(terms), bias))
            if not last:
                nodes.append(Activate(f"a{layer}", (m,), f"z{layer}", function(self.activation)))
                read.append(f"a{layer}")
        self.graph = Graph(tuple(nodes), nodes[-1].name)

    def below(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self.dice))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.dice, dtype=torch.float64)

    def view(self) -> View:
        """The graph as a network that has methods."""
        view = View(compiled(self.activation).network, lambda _: self.graph)
        view.input_shape = tuple(self.graph.nodes[0].shape)  # type: ignore[misc]
        return view

    def values(self, x: Tensor) -> Tensor:
        """The outputs (P, outputs) at points (P, D), by torch alone, differentiable."""
        found: dict[str, Tensor] = {}
        for node in self.graph.nodes:
            if isinstance(node, Input):
                found[node.name] = x
            elif isinstance(node, Activate):
                found[node.name] = self.activation()(found[node.parent])
            else:
                assert node.bias is not None
                parts = (found[t.parent] @ t.map.materialise().T for t in node.terms)
                found[node.name] = sum(parts, node.bias.value)
        return found[self.graph.output]


def in_ball(draw: Draw, x: Tensor, radius: float, count: int, norm: float = 2.0) -> Tensor:
    """Points (count, D) of a ball, half of them on its surface."""
    w = draw.normal(count, len(x))
    w = w / torch.linalg.vector_norm(w, ord=norm, dim=1, keepdim=True)
    length = torch.rand(count, 1, generator=draw.dice, dtype=torch.float64)
    length[: count // 2] = 1.0
    return x + radius * (1.0 - 1e-12) * length * w
