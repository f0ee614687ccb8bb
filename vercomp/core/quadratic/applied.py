"""Quadratic forms as functions of vectors: what :mod:`.forms` has as matrices, for searches.

Each takes a vector (P, n) for some of the nodes that it lives on (the others are zero there) and
gives half its gradient at all that are not zero for that reason. Nothing is written out: there are
products with the network's maps alone, two for each activation that a form has passed.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..graph import Activate, Affine

Vectors = dict[str, Tensor]


class Applied:
    """The zero form."""

    def __call__(self, x: Vectors) -> Vectors:
        """Half the gradient at x."""
        return {}


@dataclass
class BehindAffine(Applied):
    """The form with z = Σ A_k a_k in the place of z."""

    inner: Applied
    node: Affine

    def __call__(self, x: Vectors) -> Vectors:
        """Half the gradient at x."""
        z: Tensor | None = None
        for term in self.node.terms:
            if term.parent in x:
                part = term.map.apply(x[term.parent])
                z = part if z is None else z + part
        y = self.inner(x if z is None else {**x, self.node.name: z})
        arrived = y.pop(self.node.name, None)
        if arrived is not None:
            for term in self.node.terms:
                _add(y, term.parent, term.map.adjoint(arrived))
        return y


@dataclass
class BehindActivation(Applied):
    """The form with an activation's input in the place of its value.

    Args:
        inner: The form.
        node: The activation.
        curvature: Λ.
        chord: D; None where the form does not depend on the activation.
        weights: T.
        share: θ, (P,).
    """

    inner: Applied
    node: Activate
    curvature: Tensor
    chord: Tensor | None = None
    weights: Tensor | None = None
    share: Tensor | None = None

    def __call__(self, x: Vectors) -> Vectors:
        """Half the gradient at x."""
        name, z = self.node.name, self.node.parent
        if self.chord is None:
            y = self.inner(x)
        else:
            assert self.weights is not None and self.share is not None  # noqa: S101, PT018
            y = self.inner({**x, name: self.chord * x[z]} if z in x else x)
            p = y.pop(name, None)
            if p is not None:
                twice = self.inner({name: p / (self.weights * (1.0 - self.share)[:, None])})
                p = p + twice.pop(name)
                for key, value in twice.items():
                    _add(y, key, value)
                _add(y, z, self.chord * p)
        if z in x:
            _add(y, z, self.curvature * x[z])
        return y


def _add(y: Vectors, name: str, part: Tensor) -> None:
    held = y.get(name)
    y[name] = part if held is None else held + part


@dataclass
class On:
    """One block of a form, scaled from both sides: v ↦ R Q_vv R v.

    Args:
        inner: The form.
        name: The node.
        root: R as vectors (P, n).
    """

    inner: Applied
    name: str
    root: Tensor | None = None

    def __call__(self, v: Tensor) -> Tensor:
        """The product."""
        if self.root is None:
            return self.inner({self.name: v}).get(self.name, 0.0 * v)
        return self.root * self.inner({self.name: self.root * v}).get(self.name, 0.0 * v)


@dataclass
class Across:
    """P H P for the projection P across u.

    Args:
        inner: H.
        u: Of unit length, (P, n).
    """

    inner: On
    u: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The product."""
        x = x - (self.u * x).sum(1, keepdim=True) * self.u
        y = self.inner(x)
        return y - (self.u * y).sum(1, keepdim=True) * self.u
