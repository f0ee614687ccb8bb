"""Certificates: for every perturbation below a radius, the class does not change."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

EXACT_GAP = 1e-3
"""A certificate is exact if a witness lies within this relative distance of it."""


@dataclass(frozen=True)
class Certificates:
    """What was proved for B inputs and C classes, on the device of the inputs.

    Certificates hold for the real-arithmetic function of the given weights, if torch's elementwise
    functions are as close to the real ones as :mod:`vercomp.core.domains.rounding` says. They are
    proved where ``failure_probability`` is None. Elsewhere the method that made them is *probable*:
    each radius by itself holds with probability 1 − δ over the random numbers of the method, and
    those of several inputs together with probability 1 − Σδ.

    Args:
        radius: For every perturbation with a norm below it, the label's logit stays strictly the
            largest (of the targets asked for). Inputs that are not classified as their label, or
            whose margin is within the rounding error of zero, have radius 0. Shape (B,), float64.
        target: The class whose certificate is the smallest, shape (B,).
        exact: A witness lies within a relative 1e-3 of ``radius``, shape (B,).
        gap: Distance of the witness over ``radius``, less 1; inf where there is none. Where the
            input itself is the witness (it is misclassified), the radius 0 is exact: gap 0.
        witness: A point where, in real arithmetic, a target's logit is at least the label's: the
            nearest found, float64, shape (B, *input_shape); NaN where none was found.
        prediction: The class of the largest logit in the model's dtype; the label where a positive
            radius over all targets proves it.
        radius_per_target: A certificate for every target, shape (B, C): inf in the label's column
            and for targets that were not asked for. Only the smallest one is refined in full:
            the others are refined no further than to show that they are not the smallest.
        evaluations: Gradient evaluations spent in the search for each, shape (B, C): 1 where the
            closed form was enough, 0 where the target was not asked for. The float64 evaluations
            that have the last word are not counted.
        method: The name of the method that proved each radius, B of them.
        certified: The radius exceeds the one asked about, shape (B,); None if none was.
        refuted: A witness lies within the radius asked about, shape (B,); None if none was.
        failure_probability: δ of every radius, shape (B,), float64, zero where a radius is proved
            all the same; None where all of them are proved.
    """

    radius: Tensor
    target: Tensor
    exact: Tensor
    gap: Tensor
    witness: Tensor
    prediction: Tensor
    radius_per_target: Tensor
    evaluations: Tensor
    method: tuple[str, ...]
    certified: Tensor | None = None
    refuted: Tensor | None = None
    failure_probability: Tensor | None = None

    @property
    def proved(self) -> bool:
        """Whether every radius is proved, and none is probable."""
        return self.failure_probability is None

    def to_frame(self) -> Any:
        """One row for each input, in the order of the inputs.

        The columns are ``radius``, ``target``, ``exact``, ``gap``, ``prediction``, ``certified``
        and ``refuted`` where a radius was asked about, ``failure_probability`` where radii are
        probable, ``evaluations`` (the sum over all targets) and ``method``. ``radius_per_target``
        and ``witness`` have more than one number for each input and are left out.

        Returns:
            A ``pandas.DataFrame`` where pandas is installed; otherwise a numpy structured array
            (B,) with these columns as its fields.
        """
        columns: dict[str, Any] = {}
        for name in _COLUMNS:
            values = getattr(self, name)
            if values is not None:
                columns[name] = values.sum(1) if values.ndim > 1 else values
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in columns.items()}
        return _frame(arrays, self.method)


_COLUMNS = (
    *("radius", "target", "exact", "gap", "prediction", "certified", "refuted"),
    *("failure_probability", "evaluations"),
)


def _frame(arrays: dict[str, Any], method: tuple[str, ...]) -> Any:
    """The arrays and the names of the methods as the columns of a table."""
    try:
        import pandas
    except ModuleNotFoundError:
        import numpy  # torch made the arrays with it, so that it is there

        arrays = {**arrays, "method": numpy.array(method, dtype=numpy.str_)}
        kinds = [(name, array.dtype) for name, array in arrays.items()]
        table = numpy.empty(len(method), dtype=kinds)
        for name, array in arrays.items():
            table[name] = array
        return table
    return pandas.DataFrame({**arrays, "method": list(method)})


def assembled(parts: list[Certificates], x: Tensor) -> Certificates:
    """The certificates of consecutive inputs in one, on the device of the inputs x."""
    joined: dict[str, Any] = {"method": tuple(name for part in parts for name in part.method)}
    for field in fields(Certificates):
        pieces = [getattr(part, field.name) for part in parts]
        if field.name != "method":
            joined[field.name] = None if pieces[0] is None else torch.cat(pieces).to(x.device)
    joined["witness"] = joined["witness"].reshape(x.shape)
    return Certificates(**joined)
