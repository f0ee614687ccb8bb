"""The rules of the torch front end: one for each aten operator that it translates.

A rule gets the arguments by the names of the operator's schema and gives the value, or a sentence
that says why the operator is opaque.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """One operator at work.

    Args:
        build: The graph in the making.
        site: Where it stands.
        args: Its arguments by name: values, numbers, lists, None.
        out: Shape of its result as the source has it (None for several results).
    """

    build: Builder
    site: Site
    args: Mapping[str, Any]
    out: Shape

    def signal(self, name: str = "self") -> Signal:
        """An argument that depends on the input."""
        value = self.args.get(name, self.args.get("input"))
        if not isinstance(value, Signal):
            raise self.build.refuse(self.site, f"its argument {name!r} is a constant")
        return value

    def value(self, name: str) -> Value:
        """An argument that is a tensor or a number."""
        value = self.args[name]
        if isinstance(value, bool | int | float):
            return Constant(torch.tensor(value, dtype=torch.float64))
        if not isinstance(value, Constant | Signal):
            raise self.build.refuse(self.site, f"its operand {name!r} depends on the batch size")
        return value


Result = Value | str
Rule = Callable[[Call], Result]

BROADCASTS = "its operands broadcast, or are two signals, in a way that no linear map expresses"


def _formula(formula: Callable[..., sympy.Basic], *names: str, whole: bool = False) -> Rule:
    """An elementwise operator: a formula of its tensor arguments, then of its numbers by name.

    Args:
        formula: Takes the input's expression, then the arguments called ``names``.
        names: Numbers (None where absent).
        whole: An activation that is never a part of a spelled-out one: what it reads becomes a
            node first.
    """

    def rule(call: Call) -> Result:
        signal = call.signal()
        if whole:
            signal = call.build.plain(signal)
        numbers = [call.args[name] for name in names]
        if any(isinstance(value, Constant | Signal) for value in numbers):
            return "its options are tensors"
        result = call.build.apply(call.site, lambda x: formula(x, *numbers), signal)
        return BROADCASTS if result is None else result

    return rule


def _binary(formula: Callable[..., sympy.Basic], *names: str) -> Rule:
    """An elementwise operator of several tensors over one node, and numbers."""

    def rule(call: Call) -> Result:
        operands = [call.value(name) for name in names]
        result = call.build.apply(call.site, formula, *operands)
        return BROADCASTS if result is None else result

    return rule


def _add(call: Call, *, subtract: bool = False, swap: bool = False) -> Result:
    a, b = call.value("self"), call.value("other")
    if swap:
        a, b = b, a
    alpha = call.args.get("alpha", 1)
    if alpha != 1 and isinstance(b, Constant):
        b = call.build.derive(b.value.double() * alpha, b)
    elif alpha != 1:
        scaled = algebra.multiply(call.build, call.site, b, Constant(torch.tensor(float(alpha))))
        if scaled is None:
            return BROADCASTS
        b = scaled
    result = algebra.add(call.build, call.site, a, b, subtract=subtract)
    return BROADCASTS if result is None else result


def _multiply(call: Call, *, divide: bool = False) -> Result:
    if call.args.get("rounding_mode") is not None:
        return "division with rounding is a step function"
    result = algebra.multiply(
        call.build, call.site, call.value("self"), call.value("other"), divide=divide
    )
    return BROADCASTS if result is None else result


def _power(call: Call) -> Result:
    exponent = call.value("exponent")
    if isinstance(exponent, Constant) and isinstance(exponent.number, int | float):
        power = elementwise.number(exponent.number)
        result = call.build.apply(call.site, lambda x: x**power, call.signal())
        return BROADCASTS if result is None else result
    return "its exponent is not a number"


def _clamp(call: Call) -> Result:
    lower, upper = call.args.get("min"), call.args.get("max")
    bounds = [-float("inf") if lower is None else lower, float("inf") if upper is None else upper]
    if any(isinstance(bound, Constant | Signal) for bound in bounds):
        return "its bounds are tensors"
    result = call.build.apply(
        call.site, lambda x: elementwise.clip(x, *map(float, bounds)), call.signal()
    )
    return BROADCASTS if result is None else result


MATRIX = "only products with a constant matrix over one vector for each input are supported"


def _linear(call: Call) -> Result:
    weight, bias = call.args["weight"], call.args.get("bias")
    if not isinstance(weight, Constant) or isinstance(bias, Signal):
        return MATRIX
    if weight.value.ndim != 2 or not isinstance(call.args["input"], Signal):
        return MATRIX
    result = algebra.dense(call.build, call.site, call.signal("input"), weight.swapped(), bias)
    return MATRIX if result is None else result


def _matmul(call: Call) -> Result:
    return _product(
        call, call.value("self"), call.value("mat2" if "mat2" in call.args else "other")
    )


def _product(call: Call, a: Value, b: Value) -> Result:
    result = algebra.matmul(call.build, call.site, a, b)
    return MATRIX if result is None else result


def _addmm(call: Call) -> Result:
    product = _product(call, call.value("mat1"), call.value("mat2"))
    beta, alpha = call.args.get("beta", 1), call.args.get("alpha", 1)
    if isinstance(product, str):
        return product
    scaled: Value | None = product
    bias: Value | None = call.value("self")
    if alpha != 1:
        scaled = algebra.multiply(
            call.build, call.site, product, Constant(torch.tensor(float(alpha)))
        )
    if beta != 1 and isinstance(bias, Constant):
        bias = call.build.derive(bias.value.double() * beta, bias)
    if scaled is None or bias is None:
        return BROADCASTS
    result = algebra.add(call.build, call.site, scaled, bias)
    return BROADCASTS if result is None else result


def _convolution(call: Call) -> Result:
    reason = "only convolutions whose kernel covers their whole unpadded input are supported"
    signal, weight, bias = call.args["input"], call.args["weight"], call.args.get("bias")
    if not isinstance(signal, Signal) or not isinstance(weight, Constant):
        return reason
    padding = call.args.get("padding", 0)
    padded = padding != "valid" if isinstance(padding, str) else any(_listed(padding))
    if padded or call.args.get("groups", 1) != 1 or isinstance(bias, Signal):
        return reason
    result = algebra.convolution(call.build, call.site, signal, weight, bias)
    return reason if result is None else result


def _listed(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _batch_norm(call: Call) -> Result:
    mean, variance = call.args["running_mean"], call.args["running_var"]
    weight, bias = call.args["weight"], call.args["bias"]
    if call.args.get("training") or call.args.get("use_input_stats"):
        return "batch normalisation by the statistics of the batch couples the inputs"
    if not all(isinstance(v, Constant | None) for v in (mean, variance, weight, bias)):
        return "its statistics are not constant"
    if mean is None or variance is None:
        return "batch normalisation without frozen statistics couples the inputs"
    result = algebra.batch_norm(
        call.build,
        call.site,
        call.signal("input"),
        weight,
        bias,
        mean,
        variance,
        float(call.args["eps"]),
    )
    return (
        "only batch normalisation of (batch, features) is supported" if result is None else result
    )


def _reshape(call: Call) -> Result:
    result = algebra.reshape(call.build, call.site, call.signal(), call.out)
    return "it mixes the batch with another dimension" if result is None else result


def _permute(call: Call) -> Result:
    signal = call.signal()
    axes = list(range(signal.rank))
    if "dims" in call.args:
        axes = list(call.args["dims"])
    elif "dim0" in call.args:
        i, j = call.args["dim0"], call.args["dim1"]
        axes[i], axes[j] = axes[j], axes[i]
    else:  # t, numpy_T, mT, adjoint of a matrix
        axes.reverse()
    return algebra.permute(call.build, call.site, signal, axes)


def _same(call: Call) -> Result:
    return call.signal()


def _cast(call: Call) -> Result:
    dtype = call.args.get("dtype")
    if dtype is not None and not dtype.is_floating_point:
        return f"a cast to {dtype} rounds"
    return call.signal()


def _dropout(call: Call) -> Result:
    if call.args.get("train") and call.args.get("p", 0.5) != 0:
        return "dropout that stays on in evaluation is random"
    return call.signal("input")


def _softmax(call: Call) -> Result:
    return "a softmax is no elementwise function"


_E = elementwise
_ONE = sympy.Integer(1)

#: Rules by the operator's name without its overload and without the underscore of in-place ones.
RULES: dict[str, Rule] = {
    "add": _add,
    "sub": lambda call: _add(call, subtract=True),
    "subtract": lambda call: _add(call, subtract=True),
    "rsub": lambda call: _add(call, subtract=True, swap=True),
    "mul": _multiply,
    "multiply": _multiply,
    "div": lambda call: _multiply(call, divide=True),
    "divide": lambda call: _multiply(call, divide=True),
    "true_divide": lambda call: _multiply(call, divide=True),
    "pow": _power,
    "neg": _formula(lambda x: -x),
    "negative": _formula(lambda x: -x),
    "reciprocal": _formula(lambda x: 1 / x),
    "square": _formula(lambda x: x**2),
    "sqrt": _formula(sympy.sqrt),
    "rsqrt": _formula(lambda x: 1 / sympy.sqrt(x)),
    "exp": _formula(sympy.exp),
    "expm1": _formula(lambda x: sympy.exp(x) - 1),
    "log": _formula(sympy.log),
    "log1p": _formula(lambda x: sympy.log(1 + x)),
    "abs": _formula(sympy.Abs),
    "sin": _formula(sympy.sin),
    "cos": _formula(sympy.cos),
    "atan": _formula(sympy.atan),
    "arctan": _formula(sympy.atan),
    "erf": _formula(sympy.erf),
    "special_erf": _formula(sympy.erf),
    "tanh": _formula(sympy.tanh),
    "sigmoid": _formula(_E.sigmoid),
    "special_expit": _formula(_E.sigmoid),
    "softplus": _formula(_E.softplus, "beta", "threshold", whole=False),
    "log_sigmoid": _formula(lambda x: -_E.softplus(-x)),
    "gelu": _formula(_E.gelu, "approximate", whole=True),
    "silu": _formula(_E.silu, whole=True),
    "mish": _formula(_E.mish, whole=True),
    "elu": _formula(_E.elu, "alpha", "scale", "input_scale", whole=True),
    "selu": _formula(
        lambda x: _E.elu(x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946),
        whole=True,
    ),
    "celu": _formula(_E.celu, "alpha", whole=True),
    "relu": _formula(lambda x: sympy.Max(x, 0)),
    "relu6": _formula(lambda x: _E.clip(x, 0, 6)),
    "leaky_relu": _formula(_E.leaky_relu, "negative_slope"),
    "hardtanh": _formula(_E.clip, "min_val", "max_val"),
    "hardsigmoid": _formula(_E.hardsigmoid),
    "hardswish": _formula(_E.hardswish, whole=True),
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "maximum": _binary(sympy.Max, "self", "other"),
    "minimum": _binary(sympy.Min, "self", "other"),
    "gt": _binary(sympy.Gt, "self", "other"),
    "ge": _binary(sympy.Ge, "self", "other"),
    "lt": _binary(sympy.Lt, "self", "other"),
    "le": _binary(sympy.Le, "self", "other"),
    "where": _binary(_E.choose, "condition", "self", "other"),
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "addmm": _addmm,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "dropout": _dropout,
    "feature_dropout": _dropout,
    "alpha_dropout": _dropout,
    "feature_alpha_dropout": _dropout,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "to": _cast,
    "_to_copy": _cast,
    **dict.fromkeys(
        (
            "flatten",
            "view",
            "reshape",
            "_unsafe_view",
            "unflatten",
            "squeeze",
            "unsqueeze",
            "ravel",
            "view_as",
            "reshape_as",
        ),
        _reshape,
    ),
    **dict.fromkeys(
        ("permute", "transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT"), _permute
    ),
    **dict.fromkeys(("contiguous", "clone", "detach", "alias", "lift_fresh_copy"), _same),
}

RESHAPES = frozenset(name for name, rule in RULES.items() if rule is _reshape)
TRANSPOSES = frozenset(name for name, rule in RULES.items() if rule is _permute)
KEEPS = frozenset(name for name, rule in RULES.items() if rule in (_same, _cast))
CASTS = frozenset(name for name, rule in RULES.items() if rule is _cast)
SOFTMAX = ("softmax", "log_softmax")
