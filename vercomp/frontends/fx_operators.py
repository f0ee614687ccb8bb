"""The rules of the torch front end: one for each aten operator that it translates.

A rule gets the arguments by the names of the operator's schema and gives the value, or a sentence
that says why the operator is opaque.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy
import torch
from torch import Tensor

from vercomp.frontends import (
    algebra,
    elementwise,
    fx_positions,
    fx_products,
    fx_shapes,
    fx_windows,
    maxima,
)
from vercomp.frontends.fx_call import BROADCASTS, Call, Result, Results, Rule, known
from vercomp.frontends.values import Constant, Signal, Value

PLACES = "the place of a maximum jumps"


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
        return known(result, BROADCASTS)

    return rule


def _binary(formula: Callable[..., sympy.Basic], *names: str) -> Rule:
    """An elementwise operator of several tensors over one node, and numbers."""

    def rule(call: Call) -> Result:
        operands = [call.value(name) for name in names]
        result = call.build.apply(call.site, formula, *operands)
        return known(result, BROADCASTS)

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
    return known(result, BROADCASTS)


def _multiply(call: Call, *, divide: bool = False) -> Result:
    if call.args.get("rounding_mode") is not None:
        return "division with rounding is a step function"
    a, b = call.value("self"), call.value("other")
    result = algebra.multiply(call.build, call.site, a, b, divide=divide)
    if isinstance(a, Signal) and isinstance(b, Signal):
        verb = "divides" if divide else "multiplies"
        return known(result, f"it {verb} two values that both depend on the input")
    return known(result, BROADCASTS)


def _power(call: Call) -> Result:
    exponent = call.value("exponent")
    if isinstance(exponent, Constant) and isinstance(exponent.number, int | float):
        power = elementwise.number(exponent.number)
        result = call.build.apply(call.site, lambda x: x**power, call.signal())
        return known(result, BROADCASTS)
    return "its exponent is not a number"


def _clamp(call: Call) -> Result:
    lower, upper = call.args.get("min"), call.args.get("max")
    bounds = [-float("inf") if lower is None else lower, float("inf") if upper is None else upper]
    if any(isinstance(bound, Constant | Signal) for bound in bounds):
        return "its bounds are tensors"
    result = call.build.apply(
        call.site, lambda x: elementwise.clip(x, *map(float, bounds)), call.signal()
    )
    return known(result, BROADCASTS)


def _where(call: Call) -> Result:
    """A choice: by a formula, or between entries that are known from the start."""
    condition = call.value("condition")
    if isinstance(condition, Constant) and condition.number is None:
        return _choice(call, condition.value.bool(), call.value("self"), call.value("other"))
    return _binary(elementwise.choose, "condition", "self", "other")(call)


def _masked_fill(call: Call) -> Result:
    mask = call.value("mask")
    if not isinstance(mask, Constant):
        return "its mask depends on the input"
    return _choice(call, mask.value.bool(), call.value("value"), call.value("self"))


def _choice(call: Call, condition: Tensor, a: Value, b: Value) -> Result:
    """a where the condition holds, else b, as a sum of both times zeros and ones."""
    total: Value | None = None
    for value, mask in ((a, condition), (b, ~condition)):
        ones = Constant(mask.double())
        if isinstance(value, Constant):
            if not bool(value.value.isfinite().all()):
                return "its values are not finite"
            chosen = torch.where(mask, value.value.double(), 0.0)
            part: Value | None = call.build.derive(chosen, value)
        else:
            part = algebra.multiply(call.build, call.site, value, ones)
        if part is None:
            return BROADCASTS
        total = part if total is None else algebra.add(call.build, call.site, total, part)
    return known(total, BROADCASTS)


def _larger(call: Call, *, smaller: bool = False) -> Result:
    """The maximum of two tensors, or over axes of one."""
    if "other" in call.args:
        operands = [call.value("self"), call.value("other")]
        return maxima.of_several(call.build, call.site, operands, smaller=smaller)
    signal, axes = call.signal(), call.args.get("dim")
    axes = [axes] if isinstance(axes, int) else axes or list(range(signal.rank))
    keepdim = bool(call.args.get("keepdim", False))
    return maxima.over_axes(call.build, call.site, signal, axes, keepdim, smaller=smaller)


def _smaller(call: Call) -> Result:
    return _larger(call, smaller=True)


def _extremes(call: Call) -> Results:
    return [lambda: _smaller(call), lambda: _larger(call)]


def _lerp(call: Call) -> Result:
    """a + w (b − a)."""
    difference = algebra.add(
        call.build, call.site, call.value("end"), call.value("self"), subtract=True
    )
    return _plus_scaled(call, difference, call.value("weight"))


def _add_product(call: Call, *, divide: bool = False) -> Result:
    """a + value · b ⊙ c, or ⊘ c."""
    product: Value | None = algebra.multiply(
        call.build, call.site, call.value("tensor1"), call.value("tensor2"), divide=divide
    )
    return _plus_scaled(call, product, call.value("value"))


def _plus_scaled(call: Call, a: Value | None, factor: Value) -> Result:
    """``self`` plus a multiple."""
    scaled = None if a is None else algebra.multiply(call.build, call.site, a, factor)
    if scaled is None:
        return BROADCASTS
    return known(algebra.add(call.build, call.site, call.value("self"), scaled), BROADCASTS)


def _prelu(call: Call) -> Result:
    slopes, signal = call.args["weight"], call.signal()
    if not isinstance(slopes, Constant):
        return "its slopes depend on the input"
    if slopes.value.numel() > 1:  # one for each channel, which is the second axis
        slopes = slopes.reshaped((-1, *(1,) * (signal.rank - 2)))
    return known(algebra.leaky_relu(call.build, call.site, signal, slopes), BROADCASTS)


def _randomised_leaky_relu(call: Call) -> Result:
    lower, upper = float(call.args["lower"]), float(call.args["upper"])
    if call.args.get("training"):
        return "slopes that are drawn at random"
    slope = (lower + upper) / 2
    formula = call.build.apply(call.site, lambda x: elementwise.leaky_relu(x, slope), call.signal())
    return known(formula, BROADCASTS)


def _same(call: Call) -> Result:
    return call.signal()


def _cast(call: Call) -> Result:
    dtype = call.args.get("dtype")
    if dtype is not None and not dtype.is_floating_point:
        return f"a cast to {dtype} rounds"
    signal = call.signal()
    if signal.is_truth:
        as_number = elementwise.of_numbers(lambda x: x)
        return known(call.build.apply(call.site, as_number, signal), BROADCASTS)
    return signal


def _dropout(call: Call) -> Result:
    if call.args.get("train") and call.args.get("p", 0.5) != 0:
        return "dropout that stays on in evaluation is random"
    return call.signal("input")


KEPT = ("contiguous", "clone", "detach", "alias", "lift_fresh_copy")
"""Operators that give what they take."""

_E = elementwise
_ONE = sympy.Integer(1)

SOFTMAX = {
    "softmax": "softmax",
    "_softmax": "softmax",
    "log_softmax": "log_softmax",
    "_log_softmax": "log_softmax",
}
"""A softmax under its names; what a pass may strip as the head of a classifier is called so."""

_D = (1, 2, 3)

REFUSED: dict[str, str] = {
    **dict.fromkeys(SOFTMAX, "a softmax is no elementwise function"),
    **dict.fromkeys(
        (
            "layer_norm",
            "native_layer_norm",
            "group_norm",
            "native_group_norm",
            "rms_norm",
            "_fused_rms_norm",
        ),
        fx_windows.STATISTICS,
    ),
    **dict.fromkeys(
        ("floor", "ceil", "round", "trunc", "fix", "frac", "heaviside", "bucketize"),
        "it is a step function: its value jumps",
    ),
    **dict.fromkeys(
        ("linalg_vector_norm", "norm", "std", "var", "std_mean", "var_mean", "cdist"),
        "a norm or a deviation is neither affine nor elementwise",
    ),
    **dict.fromkeys(
        (
            *("max", "min", "argmax", "argmin"),
            *(f"adaptive_max_pool{d}d" for d in _D),
            *(f"max_pool{d}d_with_indices" for d in _D),
        ),
        PLACES,
    ),
    **dict.fromkeys(
        ("scaled_dot_product_attention", "glu", "bilinear", "prod"), fx_products.TWO_SIGNALS
    ),
}
"""Operators that no linear map and no activation is, and why."""


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
    "sinh": _formula(sympy.sinh),
    "cosh": _formula(sympy.cosh),
    **dict.fromkeys(("asinh", "arcsinh"), _formula(sympy.asinh)),
    **dict.fromkeys(("sign", "sgn"), _formula(sympy.sign)),
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
    "rrelu": _randomised_leaky_relu,
    "threshold": _formula(_E.threshold, "threshold", "value"),
    "softshrink": _formula(lambda x, limit: _E.shrink(x, limit, limit), "lambd"),
    "hardshrink": _formula(lambda x, limit: _E.shrink(x, limit, 0.0), "lambd"),
    "hardtanh": _formula(_E.clip, "min_val", "max_val"),
    "hardsigmoid": _formula(_E.hardsigmoid),
    "hardswish": _formula(_E.hardswish, whole=True),
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    **dict.fromkeys(("maximum", "max", "amax", "fmax"), _larger),
    **dict.fromkeys(("minimum", "min", "amin", "fmin"), _smaller),
    "gt": _binary(sympy.Gt, "self", "other"),
    "ge": _binary(sympy.Ge, "self", "other"),
    "lt": _binary(sympy.Lt, "self", "other"),
    "le": _binary(sympy.Le, "self", "other"),
    "where": _where,
    "lerp": _lerp,
    "addcmul": _add_product,
    "addcdiv": lambda call: _add_product(call, divide=True),
    "masked_fill": _masked_fill,
    "prelu": _prelu,
    "dropout": _dropout,
    "feature_dropout": _dropout,
    "alpha_dropout": _dropout,
    "feature_alpha_dropout": _dropout,
    **dict.fromkeys(("to", "_to_copy", "type_as"), _cast),
    **dict.fromkeys(KEPT, _same),
    **fx_windows.RULES,
    **fx_shapes.RULES,
    **fx_positions.RULES,
    **fx_products.RULES,
}

#: The same for operators that give several results.
SEVERAL: dict[str, Callable[[Call], Results | str]] = {
    **fx_shapes.SEVERAL,
    "_native_batch_norm_legit_no_training": fx_shapes.only_first(fx_windows.batch_norm),
    "max": fx_shapes.only_first(_larger),
    "min": fx_shapes.only_first(_smaller),
    "aminmax": _extremes,
    **{name: fx_shapes.only_first(rule) for name, rule in fx_windows.MAXIMA.items()},
}

RESHAPES = frozenset(fx_shapes.RESHAPES)
TRANSPOSES = frozenset(fx_shapes.TRANSPOSES)
CASTS = frozenset(name for name, rule in RULES.items() if rule is _cast)
KEEPS = frozenset(KEPT) | CASTS
