"""The rules of the torch front end for products with constant matrices."""

from __future__ import annotations

import math

import torch

from vercomp.frontends import algebra, shaping
from vercomp.frontends.broadcasting import MIXES
from vercomp.frontends.fx_call import BROADCASTS, Call, Result, Rule, known
from vercomp.frontends.values import Constant, Signal, Value

MATRIX = "only products of one signal with one constant matrix are supported"
TWO_SIGNALS = "it multiplies two values that both depend on the input"


def _linear(call: Call) -> Result:
    weight, bias = call.args["weight"], call.args.get("bias")
    if not isinstance(weight, Constant) or isinstance(bias, Signal):
        return TWO_SIGNALS
    if weight.value.ndim == 1:
        weight = weight.reshaped((1, -1))
        full = call.out
    else:
        full = None
    if weight.value.ndim != 2 or not isinstance(call.args["input"], Signal):
        return MATRIX
    signal = call.signal("input")
    if signal.batch == signal.rank - 1:
        return MIXES
    result = algebra.dense(call.build, call.site, signal, weight.swapped(), bias, out_full=full)
    return known(result, MATRIX)


def _matmul(call: Call) -> Result:
    other = next(name for name in ("mat2", "vec", "other") if name in call.args)
    return _product(call, call.value("self"), call.value(other))


def _product(call: Call, a: Value, b: Value) -> Result:
    if isinstance(a, Signal) and isinstance(b, Signal):
        return TWO_SIGNALS
    return known(algebra.matmul(call.build, call.site, a, b), MATRIX)


def _addmm(call: Call) -> Result:
    a, b, shift = call.value("mat1"), call.value("mat2"), call.value("self")
    beta, alpha = call.args.get("beta", 1), call.args.get("alpha", 1)
    if (
        isinstance(a, Signal)
        and a.batch == 0
        and isinstance(b, Constant)
        and isinstance(shift, Constant)
        and beta == alpha == 1
    ):
        return known(algebra.dense(call.build, call.site, a, b, shift), MATRIX)
    product = _product(call, a, b)
    if isinstance(product, str):
        return product
    scaled: Value | None = product
    bias: Value | None = shift
    if alpha != 1:
        scaled = algebra.multiply(
            call.build, call.site, product, Constant(torch.tensor(float(alpha)))
        )
    if beta != 1 and isinstance(bias, Constant):
        bias = call.build.derive(bias.value.double() * beta, bias)
    elif beta != 1 and bias is not None:
        bias = algebra.multiply(call.build, call.site, bias, Constant(torch.tensor(float(beta))))
    if scaled is None or bias is None:
        return BROADCASTS
    return known(algebra.add(call.build, call.site, scaled, bias), BROADCASTS)


def _einsum(call: Call) -> Result:
    """A contraction of one signal with one constant."""
    equation, tensors = str(call.args["equation"]).replace(" ", ""), call.args["tensors"]
    if "." in equation or "->" not in equation:
        return "only contractions without '...' and with '->' are supported"
    inputs, _, output = equation.partition("->")
    return _contraction(call, inputs.split(","), output, tensors)


def _tensordot(call: Call) -> Result:
    a, b = call.value("self"), call.value("other")
    ranks = [v.rank if isinstance(v, Signal) else v.value.ndim for v in (a, b)]
    letters = "abcdefghijklmnopqrstuvwxyz"
    first, second = list(letters[: ranks[0]]), list(letters[ranks[0] : sum(ranks)])
    pairs = zip(call.args["dims_self"], call.args["dims_other"], strict=True)
    summed = set()
    for i, j in pairs:
        second[j] = first[i]
        summed.add(first[i])
    output = [letter for letter in (*first, *second) if letter not in summed]
    return _contraction(call, ["".join(first), "".join(second)], "".join(output), [a, b])


def _inner(call: Call) -> Result:
    a, b = call.value("self"), call.value("other")
    if isinstance(a, Constant) or isinstance(b, Signal):
        return MATRIX
    rank = 0 if b.value.ndim == 0 else b.value.ndim - 1
    first, second = "abcdefghij"[: a.rank], "klmnopqrst"[:rank]
    inputs = [first, second + first[-1]]
    return _contraction(call, inputs, first[:-1] + second, [a, b])


def _contraction(call: Call, inputs: list[str], output: str, tensors: list[Value]) -> Result:
    """Σ over the letters that the output lacks, by way of one matrix product."""
    if len(tensors) == 2 and isinstance(tensors[0], Constant):
        inputs, tensors = inputs[::-1], tensors[::-1]
    signal, *others = tensors
    if not isinstance(signal, Signal) or any(isinstance(other, Signal) for other in others):
        return TWO_SIGNALS
    if len(others) != 1 or any(len(set(letters)) < len(letters) for letters in (*inputs, output)):
        return "only contractions of one signal with one constant are supported"
    ours, theirs = inputs
    (matrix,) = others
    assert isinstance(matrix, Constant)  # noqa: S101 - tensors are signals or constants
    if ours[signal.batch] in theirs or ours[signal.batch] not in output:
        return MIXES
    if set(ours) & set(theirs) & set(output):
        return "it multiplies entry by entry along one axis and contracts another"
    alone = [axis for axis, letter in enumerate(ours) if letter not in theirs + output]
    if set(theirs) - set(ours) - set(output):
        return "it sums its constant over an axis of its own"
    build, site = call.build, call.site
    summed = shaping.total(build, site, signal, alone, False, False)
    if isinstance(summed, str):
        return summed
    ours = "".join(letter for letter in ours if letter in theirs + output)
    batch = ours[summed.batch]
    kept = [x for x in ours if x in output and x != batch]
    inner = [x for x in theirs if x in ours]
    new = [x for x in theirs if x in output]
    sizes = dict(zip(ours, summed.full(build.batch), strict=True))
    sizes |= dict(zip(theirs, matrix.value.shape, strict=True))
    moved = algebra.permute(build, site, summed, [ours.index(x) for x in (batch, *kept, *inner)])
    flat = (build.batch, *(sizes[x] for x in kept), math.prod(sizes[x] for x in inner))
    rows = algebra.reshape(build, site, moved, flat)
    weight = _as_matrix(matrix, [theirs.index(x) for x in (*inner, *new)], len(inner))
    product = None if rows is None else algebra.dense(build, site, rows, weight)
    full = (build.batch, *(sizes[x] for x in (*kept, *new)))
    result = None if product is None else algebra.reshape(build, site, product, full)
    if result is None:
        return MATRIX
    order = [batch, *kept, *new]
    return algebra.permute(build, site, result, [order.index(x) for x in output])


def _as_matrix(constant: Constant, order: list[int], inner: int) -> Constant:
    """A tensor as (contracted, new), the source's own where that is a reshape or a transpose."""
    sizes = [constant.value.shape[axis] for axis in order]
    shape = (math.prod(sizes[:inner]), math.prod(sizes[inner:]))
    if order == sorted(order):
        return constant.reshaped(shape)
    if order == [*range(inner_start := len(order) - inner, len(order)), *range(inner_start)]:
        return constant.reshaped(shape[::-1]).swapped()
    return constant.seen(lambda tensor: tensor.permute(order).reshape(shape))


#: Rules by the operator's name, as in :mod:`vercomp.frontends.fx_operators`.
RULES: dict[str, Rule] = {
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "bmm": _matmul,
    "mv": _matmul,
    "addmm": _addmm,
    "einsum": _einsum,
    "tensordot": _tensordot,
    "inner": _inner,
}
