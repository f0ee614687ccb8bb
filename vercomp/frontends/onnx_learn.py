"""Operators of the domain ``ai.onnx.ml``, as scikit-learn's models are exported: affine maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vercomp.frontends import algebra, elementwise, shaping
from vercomp.frontends.onnx_call import BROADCASTS, Call, Result, Rule, or_reason
from vercomp.frontends.values import Constant, Signal, Site

MATRIX = "its input is not of shape (batch, features)"
LABEL = "a label jumps"


def _numbers(call: Call, name: str) -> Tensor:
    """A list of numbers among the attributes, in the precision in which a file holds them."""
    return torch.tensor(list(call.attributes.get(name, ())), dtype=torch.float32)


def _scaler(call: Call) -> Result:
    """(x − offset) · scale."""
    result: Signal | None = call.signal()
    offset, scale = _numbers(call, "offset"), _numbers(call, "scale")
    if offset.numel() and result is not None:
        result = algebra.add(call.build, call.site, result, Constant(offset), subtract=True)
    if scale.numel() and result is not None:
        result = algebra.multiply(call.build, call.site, result, Constant(scale))
    return or_reason(result, BROADCASTS)


def _linear(call: Call, rows: int | None = None) -> Signal | str:
    """x Wᵀ + b, with the rows of W one after the other among the attributes."""
    signal = call.signal()
    if signal.batch != 0 or len(signal.shape) != 1:
        return MATRIX
    weight = _numbers(call, "coefficients").reshape(-1, signal.shape[0])
    bias = _numbers(call, "intercepts")
    if rows == 2 and len(weight) == 1:  # one score for two classes: that of the second
        weight, bias = torch.cat([-weight, weight]), torch.cat([-bias, bias])
    shift = Constant(bias) if bias.numel() else None
    named = Constant(weight.T)
    found = algebra.dense(call.build, call.site, signal, named, shift)
    return MATRIX if found is None else found


def _regressor(call: Call) -> Result:
    return _transformed(call, _linear(call))


def _classifier(call: Call) -> Result:
    """A label, which jumps, and the scores of the classes."""
    labels = call.attributes.get("classlabels_ints") or call.attributes.get("classlabels_strings")
    rows = len(call.attributes.get("intercepts", ()))
    if rows == 1 and call.attributes.get("post_transform", "NONE") != "LOGISTIC":
        return "one score for two classes is only supported as LOGISTIC"
    scores = _transformed(call, _linear(call, len(labels or ())))
    return scores if isinstance(scores, str) else (None, scores)


def _transformed(call: Call, scores: Signal | str) -> Signal | str:
    """The scores after the function that the node applies to them."""
    if isinstance(scores, str):
        return scores
    kind = call.attributes.get("post_transform", "NONE")
    if kind == "NONE":
        return scores
    if kind == "LOGISTIC":
        found = call.build.apply(call.site, elementwise.sigmoid, scores)
        return BROADCASTS if found is None else found
    if kind == "SOFTMAX":
        site = Site(f"{call.site.name}.softmax", "softmax", call.site.origin)
        full, reason = scores.full(call.build.batch), "a softmax is no elementwise function"
        return call.build.opaque(site, [scores], lambda z: z.softmax(-1), full, 0, reason)
    return f"scores transformed by {kind} are not supported"


def _normaliser(call: Call) -> Result:
    return "it divides each input by its norm, which is not affine"


def _picked(call: Call) -> Result:
    """Columns by their numbers."""
    index = call.constant(1, "indices")
    if index is None:
        return "its indices are missing"
    signal, picks = call.signal(), [int(i) for i in index.value.reshape(-1)]
    return shaping.gather(call.build, call.site, signal, signal.rank - 1, picks)


def _imputer(call: Call) -> Result:
    """Where only NaN is replaced, numbers are left as they are."""
    if math.isnan(float(call.attributes.get("replaced_value_float", 0.0))):
        return call.signal()
    return "it replaces one value by another: its value jumps"


RULES: dict[str, Rule] = {
    "ArrayFeatureExtractor": _picked,
    "Imputer": _imputer,
    "LinearClassifier": _classifier,
    "LinearRegressor": _regressor,
    "Normalizer": _normaliser,
    "Scaler": _scaler,
}

_STEPS = "it is a step function: its value jumps"
_KERNEL = "support vector machines are not supported"

REASONS = {
    **dict.fromkeys(("Binarizer", "CategoryMapper", "LabelEncoder", "OneHotEncoder"), _STEPS),
    **dict.fromkeys(("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"), _STEPS),
    **dict.fromkeys(("SVMClassifier", "SVMRegressor"), _KERNEL),
}
"""Why operators without a rule have none, where more can be said than that."""

ORDERLY = ("L1", "L2")
"""Norms by which a Normalizer divides without a class changing places."""
