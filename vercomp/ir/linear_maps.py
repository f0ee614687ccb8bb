"""Linear maps as symbols: immutable data over parameters, the A of an affine node.

A map says what shape it takes and gives, which parameters it reads, and how it becomes an
:mod:`operator <vercomp.core.maps.operators>` once those have values: the operator applies it, its
adjoint and its entrywise absolute value, and bounds its norm. So a merge of maps stays symbolic
over the source's parameters, and every analysis is written once for all of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from vercomp.core.maps.monomials import Diagonal, Monomial
from vercomp.core.maps.operators import Dense as DenseOperator
from vercomp.core.maps.operators import Operator
from vercomp.core.maps.sums import Sum as SumOperator
from vercomp.ir.expressions import Call, Reading, call, evaluated

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Parameter:
    """A tensor of the source model: a weight, a bias, or a constant such as a mean.

    Args:
        name: Its name in the source, unique within a graph. Any string: it is never pasted into
            generated code.
        value: Its value when the graph was made.
        trainable: Whether training may change it; otherwise it becomes a buffer.
    """

    name: str
    value: Tensor
    trainable: bool = True

    @property
    def shape(self) -> Shape:
        """The shape of the value."""
        return tuple(self.value.shape)


Read = Callable[[Parameter], Tensor]
"""How an evaluation looks a parameter up: its stored value, a float64 copy, a live tensor."""


class LinearMap(ABC):
    """A linear map between tensors of fixed shapes (no batch dimension)."""

    @property
    @abstractmethod
    def in_shape(self) -> Shape:
        """Shape of what the map takes."""

    @property
    @abstractmethod
    def out_shape(self) -> Shape:
        """Shape of what the map gives."""

    @abstractmethod
    def operator(self) -> Call | None:
        """The operator on flat (row-major) vectors that the map is; None for the identity."""

    def bind(self, read: Read) -> Operator:
        """That operator, with the parameters' values."""
        described = self.operator()
        if described is None:
            return Monomial.identity(math.prod(self.in_shape))
        return evaluated(described, read)

    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters that the map reads, in order."""
        return ()

    def after(self, inner: LinearMap) -> LinearMap | None:
        """self ∘ inner as one map of a known kind, where that only takes another geometry."""
        return None

    @abstractmethod
    def __str__(self) -> str:
        """How the graph prints the map."""


@dataclass(frozen=True)
class Dense(LinearMap):
    """x ↦ W x for a vector x; ``transposed`` says that the parameter holds Wᵀ.

    Args:
        weight: W of shape (m, n), or Wᵀ of shape (n, m).
        transposed: Whether the parameter is stored as Wᵀ (ONNX MatMul).
        view: The matrix shape under which the parameter's row-major entries are read, where it is
            not a matrix itself: the kernel of a convolution that covers its whole input.
    """

    weight: Parameter
    transposed: bool = False
    view: Shape | None = None

    @property
    def in_shape(self) -> Shape:
        """(n,)."""
        return ((self.view or self.weight.shape)[0 if self.transposed else 1],)

    @property
    def out_shape(self) -> Shape:
        """(m,)."""
        return ((self.view or self.weight.shape)[1 if self.transposed else 0],)

    def operator(self) -> Call:
        """A matrix that shares the parameter's memory."""
        return call(DenseOperator, Reading(self.weight, self.view, self.transposed))

    def parameters(self) -> tuple[Parameter, ...]:
        """The weight."""
        return (self.weight,)

    def __str__(self) -> str:
        return f"dense[{self.weight.name}{'ᵀ' if self.transposed else ''}]"


@dataclass(frozen=True)
class Scale(LinearMap):
    """x ↦ x ⊙ s (or x ⊘ s) for a factor that broadcasts to the shape of x.

    Division is kept as such: 1/s is not a float64 number, and a certificate is for the function
    that divides.

    Args:
        shape: Shape of x.
        factor: s, broadcastable to ``shape``.
        divide: Divide by s instead.
        view: The shape under which the parameter is read, where it is not its own: (C, 1, 1) for
            a factor for each channel of an image.
    """

    shape: Shape
    factor: Parameter
    divide: bool = False
    view: Shape | None = None

    @property
    def in_shape(self) -> Shape:
        """The shape of x."""
        return self.shape

    @property
    def out_shape(self) -> Shape:
        """The shape of x."""
        return self.shape

    def operator(self) -> Call:
        """A diagonal matrix."""
        factor = Reading(self.factor, self.view, rank=len(self.shape))
        return call(Diagonal.scaling, factor, self.shape, divide=self.divide or None)

    def parameters(self) -> tuple[Parameter, ...]:
        """The factor."""
        return (self.factor,)

    def __str__(self) -> str:
        return f"scale[{'1/' if self.divide else ''}{self.factor.name}]"


@dataclass(frozen=True)
class Reshape(LinearMap):
    """The same entries, row-major, under another shape."""

    source: Shape
    target: Shape

    @property
    def in_shape(self) -> Shape:
        """The shape before."""
        return self.source

    @property
    def out_shape(self) -> Shape:
        """The shape after."""
        return self.target

    def operator(self) -> None:
        """The identity: operators act on flat vectors."""
        return

    def after(self, inner: LinearMap) -> LinearMap | None:
        """Two reshapes are one."""
        return Reshape(inner.source, self.target) if isinstance(inner, Reshape) else None

    def __str__(self) -> str:
        if self.source == self.target:
            return "identity"
        return f"reshape({'×'.join(map(str, self.target))})"


@dataclass(frozen=True)
class Permute(LinearMap):
    """``x.permute(axes)`` of a tensor of ``source`` shape."""

    source: Shape
    axes: tuple[int, ...]

    @property
    def in_shape(self) -> Shape:
        """The shape before."""
        return self.source

    @property
    def out_shape(self) -> Shape:
        """The shape after."""
        return tuple(self.source[axis] for axis in self.axes)

    def operator(self) -> Call:
        """A permutation."""
        return call(Monomial.permutation, self.source, self.axes)

    def after(self, inner: LinearMap) -> LinearMap | None:
        """Two permutations are one, or nothing."""
        if not isinstance(inner, Permute):
            return None
        axes = tuple(inner.axes[axis] for axis in self.axes)
        if axes == tuple(range(len(axes))):
            return identity(inner.source)
        return Permute(inner.source, axes)

    def __str__(self) -> str:
        return f"permute({', '.join(map(str, self.axes))})"


@dataclass(frozen=True)
class Composition(LinearMap):
    """Maps one after the other, in order of application; never empty.

    Composing flattens: a composition holds no composition, no identity reshape.
    """

    maps: tuple[LinearMap, ...]

    @property
    def in_shape(self) -> Shape:
        """What the first map takes."""
        return self.maps[0].in_shape

    @property
    def out_shape(self) -> Shape:
        """What the last map gives."""
        return self.maps[-1].out_shape

    def operator(self) -> None:
        """A composition is described by its parts."""
        return

    def bind(self, read: Read) -> Operator:
        """The operators composed from the left, A_k ⋯ A_2 A_1, multiplied out where that pays."""
        # Operators act on flat vectors: a reshape between two of them is nothing.
        operators = [part.bind(read) for part in self.maps if not isinstance(part, Reshape)]
        product = operators.pop()
        while operators:
            product = product @ operators.pop()
        return product

    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters of all parts, in order of application."""
        return tuple(parameter for part in self.maps for parameter in part.parameters())

    def __str__(self) -> str:
        return " · ".join(str(part) for part in reversed(self.maps))


@dataclass(frozen=True)
class Sum(LinearMap):
    """x ↦ A_1 x + … + A_p x: parallel paths without an activation between the same two nodes.

    Args:
        maps: At least two, of the same shapes.
    """

    maps: tuple[LinearMap, ...]

    @property
    def in_shape(self) -> Shape:
        """What every summand takes."""
        return self.maps[0].in_shape

    @property
    def out_shape(self) -> Shape:
        """What every summand gives."""
        return self.maps[0].out_shape

    def operator(self) -> None:
        """A sum is described by its summands."""
        return

    def bind(self, read: Read) -> Operator:
        """The sum of the operators."""
        return SumOperator(tuple(part.bind(read) for part in self.maps))

    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters of all summands, in order."""
        return tuple(parameter for part in self.maps for parameter in part.parameters())

    def __str__(self) -> str:
        return f"({' + '.join(str(part) for part in self.maps)})"


def identity(shape: Shape) -> LinearMap:
    """The identity on tensors of ``shape``."""
    return Reshape(shape, shape)


def compose(outer: LinearMap, inner: LinearMap) -> LinearMap:
    """outer ∘ inner, flattened, with neighbours joined where they can be and identities dropped."""
    found: list[LinearMap] = []
    for part in (*parts(inner), *parts(outer)):
        if found and (joined := part.after(found[-1])) is not None:
            found.pop()
            part = joined
        if not (isinstance(part, Reshape) and part.source == part.target):
            found.append(part)
    if not found:
        return identity(inner.in_shape)
    return found[0] if len(found) == 1 else Composition(tuple(found))


def parts(linear_map: LinearMap) -> tuple[LinearMap, ...]:
    """The maps of a composition in order of application, or the map itself."""
    return linear_map.maps if isinstance(linear_map, Composition) else (linear_map,)
