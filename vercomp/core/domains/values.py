"""The values of all nodes of a network, in the precision of its operators."""

from __future__ import annotations

from torch import Tensor

from ..graph import Activate, Affine, Input
from ..walk import Domain, rule


class Values(Domain[Tensor]):
    """The value (B, *shape) of every node for a batch of inputs.

    Args:
        x: Inputs, shape (B, *input shape).
    """

    title = "values"

    def __init__(self, x: Tensor) -> None:
        self.x = x

    @rule(Input)
    def input(self, node: Input) -> Tensor:
        """The batch itself."""
        return self.x

    @rule(Affine)
    def affine(self, node: Affine, *parents: Tensor) -> Tensor:
        """z = b + Σ A a on flat vectors."""
        z = None if node.bias is None else node.bias.value
        for term, a in zip(node.terms, parents, strict=True):
            image = term.map.apply(a.reshape(len(a), term.map.shape[1]))
            z = image if z is None else z + image
        assert z is not None  # noqa: S101 - an affine node has a term
        return z.reshape(-1, *node.shape)

    @rule(Activate)
    def activation(self, node: Activate, z: Tensor) -> Tensor:
        """a = σ(z)."""
        return node.function.value(z)
