"""Certificates of a batch as plain arrays: what is kept, summed up and drawn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vercomp.core.claims.labels import Labels

if TYPE_CHECKING:
    from vercomp.compiled import CompiledNetwork
    from vercomp.core.claims.claim import Claim


def certificate_arrays(
    network: CompiledNetwork,
    x: Tensor,
    claim: Claim | Tensor,
    y: Tensor | None = None,
    *,
    radius: float | None = None,
    decide: bool = False,
    targets: str = "all",
    norm: str = "l2",
    box: tuple[float, float] | None = None,
    methods: Sequence[str] | None = None,
    scales: Tensor | None = None,
    runner_up: bool = True,
    confidence: float | None = None,
    seed: int | None = None,
) -> dict[str, NDArray[Any]]:
    """Certificates of a batch as the arrays of ``certificates.npz``.

    With ``targets="runner-up"`` no radius is a certificate against every class: ``radius`` is NaN
    and only ``radius_runner_up`` is filled. Of a probable method ``radius``,
    ``radius_per_target`` and ``radius_runner_up`` are NaN, since nothing is proved: then there are
    ``probable_radius`` and ``failure_probability``, the δ of each.

    Args:
        network: With the feature ``certify``.
        x: Inputs (B, *input_shape).
        claim: What shall stay true: labels (B,), or another claim.
        y: Labels (B,) that the predictions are compared with; None for the predictions themselves.
        radius: As for :func:`vercomp.core.methods.portfolio.certify`; so are the others.
        decide: The same.
        targets: ``"all"`` or ``"runner-up"``.
        norm: The same.
        box: The same.
        methods: The same.
        scales: The same.
        runner_up: Whether the runner-up has, beside all targets, a search of its own; without,
            ``radius_runner_up`` is NaN.
        confidence: As for :func:`vercomp.core.methods.portfolio.certify`; None for its default.
        seed: The same.
    """
    options: dict[str, Any] = {
        "radius": radius,
        "decide": decide,
        "norm": norm,
        "box": box,
        "methods": methods,
        "scales": scales,
    }
    chance = {"confidence": confidence, "seed": seed}  # packages of old versions know neither
    options |= {name: value for name, value in chance.items() if value is not None}
    begin = time.perf_counter()
    found = network.certify(x, claim, targets=targets, **options)
    seconds = (time.perf_counter() - begin) / max(len(x), 1)
    if isinstance(claim, Tensor) and y is None:
        y = claim
    y = found.prediction if y is None else y
    second, beyond = found.target, found.radius
    whole = found.radius
    failure = getattr(found, "failure_probability", None)
    if not _about_labels(claim):
        second, beyond = torch.full_like(y, -1), torch.full_like(found.radius, torch.nan)
    elif targets == "all":
        second = runners_up(network, x, y)
        beyond = found.radius_per_target.gather(1, second[:, None])[:, 0]
        # Targets that are not the nearest are refined only as far as it takes to know that: a
        # figure for the runner-up alone needs a search of its own.
        other = (second != found.target) & (found.radius > 0)
        if not runner_up or failure is not None:
            beyond = torch.full_like(beyond, torch.nan)
        elif other.any():
            alone = network.certify(x[other], y[other], targets=second[other], **options)
            beyond = beyond.clone()
            beyond[other] = torch.maximum(beyond[other], alone.radius)
    else:
        whole = torch.full_like(found.radius, torch.nan)
    columns = {
        "label": y,
        "prediction": found.prediction,
        "radius": whole,
        "target": found.target,
        "exact": found.exact,
        "gap": found.gap,
        "radius_per_target": found.radius_per_target,
        "runner_up": second,
        "radius_runner_up": beyond,
        "evaluations": found.evaluations,
        "seconds": torch.full_like(found.radius, seconds),
    }
    if failure is not None:
        columns |= {"probable_radius": whole, "failure_probability": failure}
        unproved = ("radius", "radius_per_target", "radius_runner_up")
        columns |= {name: torch.full_like(columns[name], torch.nan) for name in unproved}
    arrays = {name: tensor.cpu().numpy() for name, tensor in columns.items()}
    return {**arrays, "method": np.array(found.method, dtype=np.str_)}


def _about_labels(claim: Claim | Tensor) -> bool:
    """Whether the claim is that a label is the largest."""
    return isinstance(claim, Tensor) or (
        isinstance(claim, Labels) and claim.top == 1 and not claim.groups
    )


def runners_up(network: CompiledNetwork, x: Tensor, y: Tensor) -> Tensor:
    """The class of the largest logit that is not the label's (B,), in the network's own type."""
    with torch.no_grad():
        logits = network.network.logits(x.to(network.network.device, network.network.dtype))
        if logits.shape[1] == 1:  # of two classes, zero and the logit
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
    return logits.to(y.device).scatter(1, y[:, None], -torch.inf).argmax(1)
