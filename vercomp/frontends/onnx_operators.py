"""The rules of the ONNX front end: one for each operator that it translates.

A rule gets the inputs and attributes of a node and gives its results, or a sentence that says why
the operator is opaque. Those about shapes and windows have files of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import sympy
import torch

from vercomp.frontends import algebra, elementwise, maxima
from vercomp.frontends.onnx_call import BROADCASTS, Call, Result, Rule, or_reason
from vercomp.frontends.onnx_selections import RULES as SELECTIONS
from vercomp.frontends.onnx_shapes import RULES as SHAPES
from vercomp.frontends.onnx_shapes import aligned
from vercomp.frontends.onnx_windows import RULES as WINDOWS
from vercomp.frontends.values import Constant, Signal, Value

MATRIX = "only products with one constant matrix are supported"
PRODUCT = "the product of two results of the network is neither affine nor an activation"
QUOTIENT = "a quotient of two results of the network is neither affine nor an activation"


def _formula(
    formula: Callable[..., sympy.Basic], *options: tuple[str, Any], whole: bool = False
) -> Rule:
    """An elementwise operator: a formula of its inputs, then of attributes with these defaults.

    ``whole`` marks an activation that is never a part of a spelled-out one: what it reads becomes
    a node first.
    """

    def rule(call: Call) -> Result:
        operands = [value for value in call.inputs if value is not None]
        if whole:
            operands = [call.build.plain(call.signal())]
        values = [call.attributes.get(name, default) for name, default in options]
        result = call.build.apply(call.site, lambda *xs: formula(*xs, *values), *operands)
        return or_reason(result, BROADCASTS)

    return rule


def _add(call: Call) -> Result:
    first, *rest = aligned(call, [value for value in call.inputs if value is not None])
    total = first
    for other in rest:
        if isinstance(total, Constant) and isinstance(other, Constant):
            total = call.build.derive(total.value + other.value, total, other)
            continue
        added = algebra.add(call.build, call.site, total, other)
        if added is None:
            return BROADCASTS
        total = added
    return total


def _largest(call: Call, *, smaller: bool = False) -> Result:
    values = aligned(call, [value for value in call.inputs if value is not None])
    return maxima.of_several(call.build, call.site, values, smaller=smaller)


def _subtract(call: Call) -> Result:
    a, b = aligned(call, [call.value(0), call.value(1)])
    return or_reason(algebra.add(call.build, call.site, a, b, subtract=True), BROADCASTS)


def _multiply(call: Call, *, divide: bool = False) -> Result:
    a, b = aligned(call, [call.value(0), call.value(1)])
    result = algebra.multiply(call.build, call.site, a, b, divide=divide)
    if isinstance(b, Constant) or (isinstance(a, Constant) and not divide):
        return or_reason(result, BROADCASTS)
    return or_reason(result, QUOTIENT if divide else PRODUCT)


def _where(call: Call) -> Result:
    """A choice by a constant mask m is affine: m ⊙ a + (1 − m) ⊙ b."""
    chosen = call.build.apply(
        call.site, elementwise.choose, *(call.value(index) for index in range(3))
    )
    mask = call.value(0)
    if chosen is not None or isinstance(mask, Signal):
        return or_reason(chosen, BROADCASTS)
    total: Value | None = None
    for index, where in ((1, mask.value.bool()), (2, ~mask.value.bool())):
        part: Value | None = call.value(index)
        if isinstance(part, Constant):
            kept = torch.where(where, part.value, torch.zeros((), dtype=part.value.dtype))
            part = call.build.derive(kept, part)
        elif part is not None:
            part = algebra.multiply(call.build, call.site, part, Constant(where.double()))
        if part is None:
            return BROADCASTS
        total = part if total is None else algebra.add(call.build, call.site, total, part)
    return or_reason(total, BROADCASTS)


def _power(call: Call) -> Result:
    exponent = call.value(1)
    number = exponent.number if isinstance(exponent, Constant) else None
    if number is None:
        return "its exponent is not a number"
    power = elementwise.number(float(number))
    return or_reason(call.build.apply(call.site, lambda x: x**power, call.signal()), BROADCASTS)


def _clip(call: Call) -> Result:
    lower, upper = call.number("min", 1, -math.inf), call.number("max", 2, math.inf)
    if lower is None or upper is None:
        return "its bounds are not numbers"
    formula = call.build.apply(
        call.site, lambda x: elementwise.clip(x, lower, upper), call.signal()
    )
    return or_reason(formula, BROADCASTS)


def _prelu(call: Call) -> Result:
    slopes = call.value(1)
    if isinstance(slopes, Signal):
        return "its slopes depend on the input"
    return or_reason(algebra.leaky_relu(call.build, call.site, call.signal(), slopes), BROADCASTS)


def _gemm(call: Call) -> Result:
    """α A B + β C, with A and B transposed on request."""
    a, b, c = call.value(0), call.value(1), call.input(2)
    alpha, beta = float(call.attributes.get("alpha", 1)), float(call.attributes.get("beta", 1))
    a = _transposed(call, a) if call.attributes.get("transA") else a
    b = _transposed(call, b) if call.attributes.get("transB") else b
    if isinstance(a, Signal) and isinstance(b, Signal):
        return PRODUCT
    product: Value | None = algebra.matmul(call.build, call.site, a, b)
    if product is not None and alpha != 1:
        product = algebra.multiply(call.build, call.site, product, _scalar(alpha))
    if product is None or c is None:
        return or_reason(product, MATRIX)
    if beta != 1:
        scaled = (
            call.build.derive(c.value * beta, c)
            if isinstance(c, Constant)
            else algebra.multiply(call.build, call.site, c, _scalar(beta))
        )
        c = scaled
    if c is None:
        return BROADCASTS
    return or_reason(algebra.add(call.build, call.site, product, c), BROADCASTS)


def _scalar(value: float) -> Constant:
    return Constant(torch.tensor(value, dtype=torch.float64))


def _transposed(call: Call, value: Value) -> Value:
    if isinstance(value, Constant):
        return value.swapped()
    return algebra.permute(call.build, call.site, value, (1, 0))


def _matmul(call: Call) -> Result:
    a, b = call.value(0), call.value(1)
    both = isinstance(a, Signal) and isinstance(b, Signal)
    return or_reason(algebra.matmul(call.build, call.site, a, b), PRODUCT if both else MATRIX)


def _same(call: Call) -> Result:
    return call.signal()


def _dropout(call: Call) -> Result:
    training = call.input(2)
    if isinstance(training, Constant) and bool(training.number):
        return "dropout in training mode is random"
    return call.signal()


_FLOATS = (1, 10, 11, 16)
"""TensorProto's FLOAT, FLOAT16, DOUBLE and BFLOAT16."""


def _cast(call: Call) -> Result:
    if int(call.attributes["to"]) not in _FLOATS:
        return "a cast to integers or booleans is a step function"
    return call.signal()


def _softmax(call: Call) -> Result:
    return "a softmax is no elementwise function"


_E = elementwise

RULES: dict[str, Rule] = {
    **SELECTIONS,
    **SHAPES,
    **WINDOWS,
    "Abs": _formula(sympy.Abs),
    "Add": _add,
    "Asinh": _formula(sympy.asinh),
    "Atan": _formula(sympy.atan),
    "Cast": _cast,
    "Celu": _formula(_E.celu, ("alpha", 1.0), whole=True),
    "Clip": _clip,
    "Cos": _formula(sympy.cos),
    "Cosh": _formula(sympy.cosh),
    "Div": lambda call: _multiply(call, divide=True),
    "Dropout": _dropout,
    "Elu": _formula(_E.elu, ("alpha", 1.0), whole=True),
    "Erf": _formula(sympy.erf),
    "Exp": _formula(sympy.exp),
    "Gelu": _formula(_E.gelu, ("approximate", "none"), whole=True),
    "Gemm": _gemm,
    "Greater": _formula(sympy.Gt),
    "GreaterOrEqual": _formula(sympy.Ge),
    "HardSigmoid": _formula(_E.hardsigmoid, ("alpha", 0.2), ("beta", 0.5)),
    "HardSwish": _formula(_E.hardswish, whole=True),
    "Identity": _same,
    "LeakyRelu": _formula(_E.leaky_relu, ("alpha", 0.01)),
    "Less": _formula(sympy.Lt),
    "LessOrEqual": _formula(sympy.Le),
    "Log": _formula(sympy.log),
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "Max": _largest,
    "Min": lambda call: _largest(call, smaller=True),
    "Mish": _formula(_E.mish, whole=True),
    "Mul": _multiply,
    "Neg": _formula(lambda x: -x),
    "PRelu": _prelu,
    "Pow": _power,
    "QuickGelu": _formula(
        lambda x, alpha: x * _E.sigmoid(_E.number(alpha) * x), ("alpha", 1.702), whole=True
    ),
    "Reciprocal": _formula(lambda x: 1 / x),
    "Relu": _formula(lambda x: sympy.Max(x, 0)),
    "Selu": _formula(
        _E.elu,
        ("alpha", 1.67326319217681884765625),
        ("gamma", 1.05070102214813232421875),
        whole=True,
    ),
    "Sigmoid": _formula(_E.sigmoid),
    "Shrink": _formula(_E.shrink, ("lambd", 0.5), ("bias", 0.0)),
    "Sign": _formula(sympy.sign),
    "Sin": _formula(sympy.sin),
    "Sinh": _formula(sympy.sinh),
    "Softmax": _softmax,
    "Softplus": _formula(_E.softplus),
    "Softsign": _formula(_E.softsign),
    "Sqrt": _formula(sympy.sqrt),
    "Sub": _subtract,
    "Sum": _add,
    "Swish": _formula(lambda x, alpha: x * _E.sigmoid(_E.number(alpha) * x), ("alpha", 1.0)),
    "Tanh": _formula(sympy.tanh),
    "ThresholdedRelu": _formula(lambda x, limit: _E.threshold(x, limit, 0.0), ("alpha", 1.0)),
    "Where": _where,
}

_STATISTICS = "it divides by statistics of each input, which is not affine"
_RECURRENT = "recurrent layers are not supported"
_TRUTH = "a truth value jumps"
_STEPS = "it is a step function: its value jumps"
_ONE_BY_ONE = "entries can only be picked along whole axes, by Gather and GatherND"

REASONS = {
    "And": _TRUTH,
    "ArgMax": _STEPS,
    "ArgMin": _STEPS,
    "Attention": PRODUCT,
    "Einsum": "products written as Einsum are not supported; MatMul is",
    "Ceil": _STEPS,
    "Equal": _TRUTH,
    "Floor": _STEPS,
    "GRU": _RECURRENT,
    "GatherElements": _ONE_BY_ONE,
    "GroupNormalization": _STATISTICS,
    "InstanceNormalization": _STATISTICS,
    "LRN": _STATISTICS,
    "LSTM": _RECURRENT,
    "LayerNormalization": _STATISTICS,
    "LpNormalization": _STATISTICS,
    "MeanVarianceNormalization": _STATISTICS,
    "Not": _TRUTH,
    "Or": _TRUTH,
    "RMSNormalization": _STATISTICS,
    "RNN": _RECURRENT,
    "Round": _STEPS,
}
"""Why operators without a rule have none, where more can be said than that."""

HEADS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Normalizer": "normalizer"}
