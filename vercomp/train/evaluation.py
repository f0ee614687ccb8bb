"""What a trained network is worth: certified accuracy, provably exact solutions, its curvature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from vercomp.errors import UsageError
from vercomp.results.certificates import certificate_arrays, runners_up
from vercomp.results.eigenvalues import largest_eigenvalues
from vercomp.results.summaries import certificate_summary

if TYPE_CHECKING:
    from vercomp.compiled import CompiledNetwork

SCREENING, REFINEMENT = 5, 12
"""Lanczos steps for every image of a pair, and for those of the largest curvature seen by them."""

REFINED, AT_LEAST_REFINED = 8, 8
"""Every eighth image is refined, and of few images eight."""

UNITS = 2_000_000
"""Hidden units of a chunk: a Hessian's product holds a few numbers for each."""


@dataclass(frozen=True)
class Scores:
    """Certified accuracy on N inputs.

    Args:
        clean_accuracy: Share of the inputs that are classified as their labels.
        certified_accuracy: Share that are, and whose certificate against *every* other class
            exceeds the radius asked about.
        certified_accuracy_runner_up: The same with the certificate against the runner-up alone: the
            papers' figure, and no certificate. None if it was not asked for.
        mean_radius: Of the inputs classified correctly; None without any. A lower bound where
            certificates were only to decide.
        exact_fraction: Of those, the share with a witness within a relative 10⁻³ of the radius;
            likewise.
        radii: Certified radii (N,), float64; 0 where misclassified.
        correct: Whether each input is classified as its label (N,).
    """

    clean_accuracy: float
    certified_accuracy: float
    certified_accuracy_runner_up: float | None
    mean_radius: float | None
    exact_fraction: float | None
    radii: Tensor
    correct: Tensor


def certified(
    network: CompiledNetwork,
    x: Tensor,
    y: Tensor,
    radius: float,
    *,
    decide: bool = False,
    runner_up: bool = False,
    norm: str = "l2",
    box: tuple[float, float] | None = None,
    methods: Sequence[str] | None = None,
) -> Scores:
    """Certify inputs, and sum up.

    Args:
        network: With the feature ``certify``.
        x: Inputs (N, *input_shape).
        y: Labels (N,).
        radius: ρ, at which accuracies are counted.
        decide: Refine radii only as far as it takes to compare them with ρ, which is cheaper.
        runner_up: Search against the runner-up alone as well, for the papers' figure.
        norm: Of the radii.
        box: Inputs outside of it do not count.
        methods: Names of the methods to use; None for every usual one that can take the network.
    """
    arrays = certificate_arrays(
        network,
        x,
        y,
        radius=radius,
        decide=decide,
        runner_up=runner_up,
        norm=norm,
        box=box,
        methods=methods,
    )
    found = certificate_summary(arrays, radius=radius, targets="all", decide=decide)
    correct = torch.from_numpy(arrays["label"] == arrays["prediction"])
    return Scores(
        clean_accuracy=found["clean_accuracy"],
        certified_accuracy=found["certified_accuracy"],
        certified_accuracy_runner_up=found["certified_accuracy_runner_up"] if runner_up else None,
        mean_radius=found["mean_radius"],
        exact_fraction=found["exact_fraction"],
        radii=torch.from_numpy(arrays["radius"]).where(correct, 0.0),
        correct=correct,
    )


@dataclass(frozen=True)
class Success:
    """Shares of the inputs classified correctly, for which the solution is provably the best one.

    The paper counts a certificate as a success if z_y − z_t = 0 at the point that attains the dual
    (primal = dual in Theorem 1), and an attack if its point is on the sphere (primal = dual in
    Theorem 2), for t the runner-up. Here both are counted by the proved gap itself: a certificate,
    if a point of the other class lies within a relative 10⁻³ of the certified radius; an attack, if
    margin and proved lower bound differ by at most 10⁻³ of the change of the margin.

    Args:
        certificate: Of all targets: provably (to 10⁻³) the nearest misclassified point.
        certificate_runner_up: Against the runner-up alone, as in the paper's Table 2.
        attack: Of all targets: provably (to 10⁻³) the least margin in the ball.
        attack_runner_up: Against the runner-up alone.
    """

    certificate: float
    certificate_runner_up: float
    attack: float
    attack_runner_up: float


def success(network: CompiledNetwork, x: Tensor, y: Tensor, radius: float = 0.5) -> Success:
    """How often certificates, and attacks in balls of a radius, are exact; NaN without any input.

    Args:
        network: With the features ``certify`` and ``attack``.
        x: Inputs (N, *input_shape).
        y: Labels (N,).
        radius: ρ of the balls of attacks.
    """
    with torch.no_grad():
        own = network.network
        correct = own(x.to(own.device, own.dtype)).argmax(1).to(y.device) == y
    x, y = x[correct], y[correct]
    shares = {}
    for suffix, targets in (("", "all"), ("_runner_up", "runner-up")):
        shares[f"certificate{suffix}"] = network.certify(x, y, targets=targets).exact
        shares[f"attack{suffix}"] = network.attack(x, y, radius, targets=targets).exact
    return Success(**{name: float(exact.double().mean()) for name, exact in shares.items()})


class CurvatureBounds(NamedTuple):
    """K_lb ≤ K_ub, means over pairs of classes.

    Args:
        lower: K_lb: the largest curvature found at an input, from exact Hessians.
        upper: K_ub: the proved bound, for every input.
        pairs: How many pairs had enough inputs. Without any, both bounds are NaN.
    """

    lower: float
    upper: float
    pairs: int


def curvature_bounds(
    network: CompiledNetwork, x: Tensor, y: Tensor, *, at_least: int = 100
) -> CurvatureBounds:
    """K_lb and K_ub of "Second-Order Provable Defenses", appendix H.1.

    For every pair of a label y and a runner-up t that at least so many inputs have, K_lb is the
    maximum over these inputs of the largest |eigenvalue| of ∇²(z_y − z_t), and K_ub is max(−m, M)
    where m·I ≼ ∇²(z_y − z_t) ≼ M·I everywhere. Both are averaged over the same pairs.

    Eigenvalues come from below, by Lanczos iterations in the network's own type: a few steps at
    every input, more at those where they found most.

    Args:
        network: With the feature ``hessian``.
        x: Inputs (N, *input_shape).
        y: Labels (N,).
        at_least: Inputs a pair must have.

    Raises:
        UsageError: The package was compiled without ``hessian``.
    """
    own = network.network
    if getattr(own, "hessian_vector_product", None) is None:
        raise UsageError(
            "this package was compiled without 'hessian', which curvature at inputs needs",
            remedy="Compile it again with hessian in --emit",
        )
    x, y = x.to(own.device, own.dtype), y.to(own.device)
    low, high = (bound.to(own.device) for bound in network.curvature())
    proved = torch.maximum(-low, high)
    pair = y * own.classes + runners_up(network, x, y)
    inputs = pair.bincount(minlength=own.classes**2)
    wanted = (inputs >= at_least) & (inputs > 0)
    kept = wanted.nonzero()[:, 0]
    found = _largest_curvature(network, x, pair, wanted[pair].nonzero()[:, 0], SCREENING)
    seen = []
    for k in kept:
        rows = (pair == k).nonzero()[:, 0]
        count = max(AT_LEAST_REFINED, len(rows) // REFINED)
        seen.append(rows[found[rows].argsort(descending=True)[:count]])
    if not seen:
        return CurvatureBounds(float("nan"), float("nan"), 0)
    refined = _largest_curvature(network, x, pair, torch.cat(seen), REFINEMENT)
    best = torch.maximum(found, refined)
    largest = [float(best[rows].max()) for rows in seen]
    return CurvatureBounds(
        sum(largest) / len(largest), float(proved.flatten()[kept].mean()), len(largest)
    )


def _largest_curvature(
    network: CompiledNetwork, x: Tensor, pair: Tensor, rows: Tensor, steps: int
) -> Tensor:
    """The largest |eigenvalue| of ∇²(z_y − z_t) at these rows (N,), pair = yC + t; 0 elsewhere."""
    classes = network.network.classes
    found = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    chunk = max(1, UNITS // max(1, network.analysis().hidden_units))
    for begin in range(0, len(rows), chunk):
        part = rows[begin : begin + chunk]
        point, y, t = x[part], pair[part] // classes, pair[part] % classes
        product = partial(network.hessian_vector_product, point, y, t)
        found[part] = largest_eigenvalues(product, point, steps)
    return found
