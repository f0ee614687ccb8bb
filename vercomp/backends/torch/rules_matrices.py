"""Spelling of matrices, factors and sums along axes."""

from __future__ import annotations

from vercomp.backends.torch.spelling import Read, atom, broadcast, viewed
from vercomp.ir.axis_maps import AlongAxis, Total
from vercomp.ir.linear_maps import Dense, Scale
from vercomp.ir.normalisation import DivideByDeviation


def dense(part: Dense, x: str, read: Read, bias: str | None = None) -> str:
    """F.linear; a matrix product where the parameter holds Wᵀ."""
    matrix = _matrix(part, read)
    if part.transposed:
        return f"{atom(x)} @ {matrix}"
    return f"F.linear({x}, {matrix})" if bias is None else f"F.linear({x}, {matrix}, {bias})"


def dense_bias(part: Dense) -> int | None:
    """F.linear adds a bias."""
    return None if part.transposed else 0


def along_axis(part: AlongAxis, x: str, read: Read, bias: str | None = None) -> str:
    """F.linear along the last axis, a matrix product along the one before, einsum elsewhere."""
    matrix, rank = _matrix(part, read), len(part.source)
    if part.axis == rank - 1:
        if part.transposed:
            return f"{atom(x)} @ {matrix}"
        return f"F.linear({x}, {matrix})" if bias is None else f"F.linear({x}, {matrix}, {bias})"
    if part.axis == rank - 2 and not part.transposed:
        return f"{matrix} @ {atom(x)}"
    axes = list("cdefghijk"[:rank])
    before = ["b", *axes[: part.axis], "q", *axes[part.axis + 1 :]]
    after = ["b", *axes[: part.axis], "p", *axes[part.axis + 1 :]]
    stored = "qp" if part.transposed else "pq"
    return f'torch.einsum("{stored},{"".join(before)}->{"".join(after)}", {matrix}, {x})'


def along_axis_bias(part: AlongAxis) -> int | None:
    """F.linear adds a bias along the last axis."""
    last = len(part.source) - 1
    return last if part.axis == last and not part.transposed else None


def _matrix(part: Dense | AlongAxis, read: Read) -> str:
    expression = read(part.weight)
    return expression if part.view is None else viewed(expression, part.weight.shape, part.view)


def total(part: Total, x: str, read: Read) -> str:
    """The method sum or mean."""
    axes = tuple(axis + 1 for axis in part.axes)
    return f"{atom(x)}.{'mean' if part.mean else 'sum'}({axes[0] if len(axes) == 1 else axes})"


def scale(part: Scale, x: str, read: Read) -> str:
    """A product or a quotient."""
    return f"{atom(x)} {'/' if part.divide else '*'} {_factor(part, read, batch=1)}"


def _factor(part: Scale, read: Read, *, batch: int) -> str:
    shape, rank = part.factor.shape, len(part.shape) + batch
    return broadcast(read(part.factor), shape, shape if part.view is None else part.view, rank)


def deviation(part: DivideByDeviation, x: str, read: Read) -> str:
    """The quotient by √(variance + ε)."""
    return f"{atom(x)} / ({_variance(part, read, batch=1)} + {part.eps!r}).sqrt()"


def _variance(part: DivideByDeviation, read: Read, *, batch: int) -> str:
    shape, rank = part.variance.shape, len(part.shape) + batch
    view = shape if part.view is None else part.view
    return broadcast(read(part.variance), shape, view, rank)
