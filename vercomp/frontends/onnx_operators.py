"""The rules of the ONNX front end: one for each operator that it translates.

A rule gets the inputs and attributes of a node and gives the value of its first output, or a
sentence that says why the operator is opaque.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch

from vercomp.frontends import algebra, elementwise
from vercomp.frontends.builder import Builder
from vercomp.frontends.values import Constant, Signal, Site, Value
from vercomp.ir.linear_maps import Shape


@dataclass(frozen=True)
class Call:
    """One node at work.

    Args:
        build: The graph in the making.
        site: Where it stands.
        opset: The version of the operator set.
        inputs: Its inputs; None for absent optional ones.
        attributes: Its attributes, as Python values.
    """

    build: Builder
    site: Site
    opset: int
    inputs: Sequence[Value | None]
    attributes: Mapping[str, Any]

    def input(self, index: int) -> Value | None:
        """An input, None where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def value(self, index: int) -> Value:
        """An input that must be there."""
        value = self.input(index)
        if value is None:
            raise self.build.refuse(self.site, f"its input {index} is missing")
        return value

    def signal(self, index: int = 0) -> Signal:
        """An input that must depend on the network's."""
        value = self.value(index)
        if not isinstance(value, Signal):
            raise self.build.refuse(self.site, f"its input {index} is a constant")
        return value

    def integers(self, name: str, index: int) -> list[int] | None:
        """Integers that are an attribute in old opsets and an input in new ones."""
        if name in self.attributes:
            return [int(value) for value in self.attributes[name]]
        value = self.input(index)
        if isinstance(value, Signal):
            raise self.build.refuse(self.site, f"its {name} depend on the input")
        return None if value is None else [int(v) for v in value.value.reshape(-1).tolist()]

    def number(self, name: str, index: int, default: float) -> float | None:
        """A number that is an attribute in old opsets and an input in new ones."""
        if name in self.attributes:
            return float(self.attributes[name])
        value = self.input(index)
        if value is None:
            return default
        number = value.number if isinstance(value, Constant) else None
        return None if number is None else float(number)


Result = Value | str
Rule = Callable[[Call], Result]

BROADCASTS = "its operands broadcast, or are two signals, in a way that no linear map expresses"
MATRIX = "only products with a constant matrix over one vector for each input are supported"
MIXES = "it mixes the batch with another dimension"


def _or(result: Value | None, reason: str) -> Result:
    return reason if result is None else result


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
        return _or(result, BROADCASTS)

    return rule


def _add(call: Call) -> Result:
    total = call.value(0)
    for other in call.inputs[1:]:
        if isinstance(total, Constant) and isinstance(other, Constant):
            total = call.build.derive(total.value + other.value, total, other)
            continue
        added = None if other is None else algebra.add(call.build, call.site, total, other)
        if added is None:
            return BROADCASTS
        total = added
    return total


def _subtract(call: Call) -> Result:
    a, b = call.value(0), call.value(1)
    return _or(algebra.add(call.build, call.site, a, b, subtract=True), BROADCASTS)


def _multiply(call: Call, *, divide: bool = False) -> Result:
    a, b = call.value(0), call.value(1)
    return _or(algebra.multiply(call.build, call.site, a, b, divide=divide), BROADCASTS)


def _power(call: Call) -> Result:
    exponent = call.value(1)
    number = exponent.number if isinstance(exponent, Constant) else None
    if number is None:
        return "its exponent is not a number"
    power = elementwise.number(float(number))
    return _or(call.build.apply(call.site, lambda x: x**power, call.signal()), BROADCASTS)


def _clip(call: Call) -> Result:
    lower, upper = call.number("min", 1, -math.inf), call.number("max", 2, math.inf)
    if lower is None or upper is None:
        return "its bounds are not numbers"
    formula = call.build.apply(
        call.site, lambda x: elementwise.clip(x, lower, upper), call.signal()
    )
    return _or(formula, BROADCASTS)


def _prelu(call: Call) -> Result:
    slope = call.value(1)
    number = slope.number if isinstance(slope, Constant) else None
    if number is None:
        return "its slopes are not one number"
    formula = call.build.apply(
        call.site, lambda x: elementwise.leaky_relu(x, float(number)), call.signal()
    )
    return _or(formula, BROADCASTS)


def _gemm(call: Call) -> Result:
    """α A B + β C, with A and B transposed on request."""
    a, b, c = call.value(0), call.value(1), call.input(2)
    alpha, beta = float(call.attributes.get("alpha", 1)), float(call.attributes.get("beta", 1))
    a = _transposed(call, a) if call.attributes.get("transA") else a
    b = _transposed(call, b) if call.attributes.get("transB") else b
    product: Value | None = algebra.matmul(call.build, call.site, a, b)
    if product is not None and alpha != 1:
        product = algebra.multiply(call.build, call.site, product, _scalar(alpha))
    if product is None or c is None:
        return _or(product, MATRIX)
    if beta != 1:
        scaled = (
            call.build.derive(c.value * beta, c)
            if isinstance(c, Constant)
            else algebra.multiply(call.build, call.site, c, _scalar(beta))
        )
        c = scaled
    if c is None:
        return BROADCASTS
    return _or(algebra.add(call.build, call.site, product, c), BROADCASTS)


def _scalar(value: float) -> Constant:
    return Constant(torch.tensor(value, dtype=torch.float64))


def _transposed(call: Call, value: Value) -> Value:
    if isinstance(value, Constant):
        return value.swapped()
    return algebra.permute(call.build, call.site, value, (1, 0))


def _matmul(call: Call) -> Result:
    return _or(algebra.matmul(call.build, call.site, call.value(0), call.value(1)), MATRIX)


def _convolution(call: Call) -> Result:
    reason = "only convolutions whose kernel covers their whole unpadded input are supported"
    weight, bias = call.value(1), call.input(2)
    if not isinstance(weight, Constant) or isinstance(bias, Signal):
        return reason
    pads = any(call.attributes.get("pads", ()))
    automatic = call.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if pads or automatic or call.attributes.get("group", 1) != 1:
        return reason
    return _or(algebra.convolution(call.build, call.site, call.signal(), weight, bias), reason)


def _batch_norm(call: Call) -> Result:
    if call.attributes.get("training_mode"):
        return "batch normalisation by the statistics of the batch couples the inputs"
    constants = [call.value(index) for index in range(1, 5)]
    if not all(isinstance(value, Constant) for value in constants):
        return "its statistics are not constant"
    weight, bias, mean, variance = (v for v in constants if isinstance(v, Constant))
    eps = float(call.attributes.get("epsilon", 1e-5))
    result = algebra.batch_norm(
        call.build, call.site, call.signal(), weight, bias, mean, variance, eps
    )
    return _or(result, "only batch normalisation of (batch, features) is supported")


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


def _reshaped(call: Call, full_shape: Sequence[int]) -> Result:
    result = algebra.reshape(call.build, call.site, call.signal(), tuple(full_shape))
    return _or(result, MIXES)


def _reshape(call: Call) -> Result:
    full = call.signal().full(call.build.batch)
    target = call.integers("shape", 1) or []
    if not call.attributes.get("allowzero"):
        target = [full[i] if size == 0 and i < len(full) else size for i, size in enumerate(target)]
    if target.count(-1) == 1:
        known = -math.prod(target)
        if known <= 0 or math.prod(full) % known:
            return "its shape does not fit its input"
        target = [math.prod(full) // known if size == -1 else size for size in target]
    if math.prod(target) != math.prod(full):
        return "its shape does not fit its input"
    return _reshaped(call, target)


def _flatten(call: Call) -> Result:
    full = call.signal().full(call.build.batch)
    axis = int(call.attributes.get("axis", 1))
    axis = axis + len(full) if axis < 0 else axis
    return _reshaped(call, (math.prod(full[:axis]), math.prod(full[axis:])))


def _squeeze(call: Call) -> Result:
    full = call.signal().full(call.build.batch)
    axes = call.integers("axes", 1)
    if axes is None:
        dropped = {
            axis for axis, size in enumerate(full) if size == 1 and axis != call.signal().batch
        }
    else:
        dropped = {axis % len(full) for axis in axes}
    return _reshaped(call, [size for axis, size in enumerate(full) if axis not in dropped])


def _unsqueeze(call: Call) -> Result:
    full = call.signal().full(call.build.batch)
    axes = call.integers("axes", 1) or []
    rank = len(full) + len(axes)
    places = {axis % rank for axis in axes}
    rest = iter(full)
    return _reshaped(call, [1 if axis in places else next(rest) for axis in range(rank)])


def _transpose(call: Call) -> Result:
    signal = call.signal()
    axes = call.attributes.get("perm") or list(reversed(range(signal.rank)))
    return algebra.permute(call.build, call.site, signal, axes)


def _shape(call: Call) -> Result:
    full: Shape = call.signal().full(call.build.batch)
    start, end = call.attributes.get("start", 0), call.attributes.get("end", len(full))
    return Constant(torch.tensor(full[start:end], dtype=torch.int64))


def _softmax(call: Call) -> Result:
    return "a softmax is no elementwise function"


_E = elementwise

RULES: dict[str, Rule] = {
    "Abs": _formula(sympy.Abs),
    "Add": _add,
    "Atan": _formula(sympy.atan),
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Celu": _formula(_E.celu, ("alpha", 1.0), whole=True),
    "Clip": _clip,
    "Conv": _convolution,
    "Cos": _formula(sympy.cos),
    "Div": lambda call: _multiply(call, divide=True),
    "Dropout": _dropout,
    "Elu": _formula(_E.elu, ("alpha", 1.0), whole=True),
    "Erf": _formula(sympy.erf),
    "Exp": _formula(sympy.exp),
    "Flatten": _flatten,
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
    "Max": _formula(sympy.Max),
    "Min": _formula(sympy.Min),
    "Mish": _formula(_E.mish, whole=True),
    "Mul": _multiply,
    "Neg": _formula(lambda x: -x),
    "PRelu": _prelu,
    "Pow": _power,
    "Reciprocal": _formula(lambda x: 1 / x),
    "Relu": _formula(lambda x: sympy.Max(x, 0)),
    "Reshape": _reshape,
    "Selu": _formula(
        _E.elu,
        ("alpha", 1.67326319217681884765625),
        ("gamma", 1.05070102214813232421875),
        whole=True,
    ),
    "Shape": _shape,
    "Sigmoid": _formula(_E.sigmoid),
    "Sin": _formula(sympy.sin),
    "Softmax": _softmax,
    "Softplus": _formula(_E.softplus),
    "Softsign": _formula(_E.softsign),
    "Sqrt": _formula(sympy.sqrt),
    "Squeeze": _squeeze,
    "Sub": _subtract,
    "Sum": _add,
    "Swish": _formula(lambda x, alpha: x * _E.sigmoid(_E.number(alpha) * x), ("alpha", 1.0)),
    "Tanh": _formula(sympy.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _formula(_E.choose),
}

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
HEADS = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}
