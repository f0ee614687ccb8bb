"""All methods at one question: the cheapest first, each of the others where it may still gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from ..chance import Chance
from ..claims.claim import Claim, Outputs, Stated, output_of
from ..claims.given import claim_of
from ..claims.labels import Labels, StatedLabels
from ..claims.threshold import Threshold
from ..errors import InputError, InputTypeError, UnanswerableError
from ..inputs import check_limits, check_number, check_points, check_radius
from ..network import VerifiedNetwork
from ..regions.ball_kind import ball_kind
from ..regions.constructors import Ball
from ..regions.region import Region
from ..specifications import Specification
from ..tails import before
from .certificates import EXACT_GAP, Certificates
from .method import Method, Question
from .pairs import own_gradient_mode
from .view import before_last, whole

_AT_ONCE = 256
"""So many inputs are bounded at a time where a claim depends on the outputs at them."""

CONFIDENCE = 0.999
"""The confidence of probable methods where none is asked for."""


class CertifyOptions(TypedDict, total=False):
    """The options of :func:`certify`, by name."""

    norm: str | float
    box: tuple[float | Tensor, float | Tensor] | None
    methods: Sequence[str] | None
    targets: str | Tensor
    radius: float | None
    decide: bool
    evaluations: int
    chunk: int | None
    scales: Tensor | None
    confidence: float | None
    seed: int


class BoundOptions(TypedDict, total=False):
    """The options of :func:`bound`, by name."""

    methods: Sequence[str] | None
    confidence: float | None
    seed: int


class Certifiable(VerifiedNetwork):
    """A network that answers questions by its methods."""

    def certify(
        self, x: Tensor, y: Tensor | Claim | Specification, **options: Unpack[CertifyOptions]
    ) -> Certificates:
        """Radii within which no perturbation changes the class; see :func:`certify`."""
        with self.held():
            return certify(self, x, y, **options)

    def bound(
        self,
        region: Region,
        coefficients: Tensor,
        offsets: Tensor | None = None,
        **options: Unpack[BoundOptions],
    ) -> Tensor:
        """Lower bounds of C z + d over a region; see :func:`bound`."""
        with self.held():
            return bound(self, region, coefficients, offsets, **options)


def certify(
    network: VerifiedNetwork,
    x: Tensor,
    y: Tensor | Claim | Specification,
    *,
    norm: str | float = "l2",
    box: tuple[float | Tensor, float | Tensor] | None = None,
    methods: Sequence[str] | None = None,
    targets: str | Tensor = "all",
    radius: float | None = None,
    decide: bool = False,
    evaluations: int = 30,
    chunk: int | None = None,
    scales: Tensor | None = None,
    confidence: float | None = None,
    seed: int = 0,
) -> Certificates:
    """Certify inputs, for exactly the numbers given.

    Args:
        network: The network.
        x: Inputs, float32 or float64, shape (B, *input_shape).
        y: What shall stay true: labels, shape (B,), whose outputs shall stay the largest; or
            :class:`~vercomp.core.claims.labels.Labels` (predicted labels, the k largest, groups),
            :class:`~vercomp.core.claims.threshold.Threshold`,
            :class:`~vercomp.core.claims.deviation.Deviation`, or a specification of any rows.
        norm: ``"l2"``, ``"linf"``, ``"l1"``, or another registered kind of ball.
        box: (lo, hi), numbers or tensors that broadcast to x: perturbed inputs outside of it do not
            count.
        methods: Names of the methods to use; None for every one that can take the network.
        targets: ``"all"`` other classes; or ``"runner-up"``, or a tensor of classes, shape (B,) or
            (B, K): then the radius speaks of these targets alone, and another class may be nearer.
        radius: Fill ``certified`` and ``refuted`` for this radius.
        decide: Only settle whether each radius exceeds ``radius``, which is cheaper: radii are then
            valid lower bounds, refined no further than that takes.
        evaluations: Gradient evaluations for each pair of input and target, at most.
        chunk: Inputs solved at once; by default what fits into the memory that is free.
        scales: s ≥ 0, broadcasting to x: the radius of feature i is sᵢ times what is reported, and
            features of scale zero do not move. None stands for ones.
        confidence: 1 − δ, where a probable method is named: each radius holds with at least this
            probability; 0.999 where None.
        seed: Of the random numbers of a probable method.

    Raises:
        InputTypeError: Inputs that are not float32 or float64, labels or targets that are not
            integers.
        InputError: A wrong shape, NaN or infinity, a class out of range, a radius that is not
            positive, ``decide`` without a radius, a norm that does not exist, targets where the
            claim has none, a confidence that no method needs, or none in (0, 1).
        UnanswerableError: A method that the network does not have, none that can answer, or a
            probable method beside others.
    """
    asked = None if radius is None else check_radius(radius)
    if decide and asked is None:
        raise InputError("decide needs a radius to decide about")
    kind = ball_kind(norm)
    check_points(network, x)
    network, claim = _stated(network, x, claim_of(y), targets)
    limits = None if box is None else check_limits(x, box)
    weights = None if scales is None else _weights(x, scales)
    first, *others = chosen(network, methods)
    question = Question(
        x,
        claim,
        kind,
        limits,
        weights,
        targets,
        asked,
        decide,
        evaluations,
        chunk,
        _chance([first, *others], confidence, seed),
    )
    found = _within_box(first.certify(network, question), question)
    for method in others:
        left = ~found.exact & found.radius.isfinite()
        if found.certified is not None and found.refuted is not None and decide:
            left &= ~(found.certified | found.refuted)
        rows = torch.nonzero(left)[:, 0]
        if len(rows):
            part = question.rows(rows)
            better = method.certify(network, part, found.radius_per_target[rows])
            found = _merged(found, better, rows, question)
    return found if _is_plain(claim) else _predicted(network, found, question)


def _stated(
    network: VerifiedNetwork, x: Tensor, claim: Claim, targets: str | Tensor
) -> tuple[VerifiedNetwork, Stated]:
    """The claim about these inputs, and the network that it is about.

    Comparisons are about the logits, everything else about the model's own outputs; a threshold
    moves through an increasing function at the output.
    """
    count = len(x)
    if isinstance(claim, Threshold):
        check_number("a threshold", claim.value)
        output = output_of(claim.output, network.outputs)
        if network.tail is not None:
            at = _at(network, x)
            logit, sign, limits = network.tail.threshold(claim.value, output)
            return network, claim.moved(count, network.scores, logit, sign, limits, at)
        front = before_last(network)
        if front is not None:
            shorter, function = front
            at = _at(shorter, x)
            limits = before([function], (claim.value, claim.value))
            return shorter, claim.moved(count, shorter.scores, output, 1.0, limits, at)
    subject = network if isinstance(claim, Labels) else whole(network)
    found = claim.about(count, subject.outputs, _at(subject, x))
    if not (_is_plain(found) or (isinstance(targets, str) and targets == "all")):
        raise InputError("only the claim that a label is the largest has targets")
    return subject, found


def _is_plain(claim: Stated) -> bool:
    """Whether the claim is that a label is the largest, which is about pairs of classes."""
    return isinstance(claim, StatedLabels) and claim.plain


def _at(network: VerifiedNetwork, x: Tensor) -> Outputs:
    """What claims learn of the logits at the inputs."""

    @own_gradient_mode()
    def bounds() -> tuple[Tensor, Tensor]:
        """Proved bounds (B, logits), by every method there is; of two classes, where z is one."""
        units = torch.eye(network.scores, dtype=torch.float64, device=network.device)
        rows = Specification.of(torch.cat([units, -units]))
        parts = []
        for start in range(0, len(x), _AT_ONCE):
            points = Ball(x[start : start + _AT_ONCE].double(), 0.0).to(network.device)
            found = [method.bound(network, points, rows) for method in network.methods]
            parts.append(torch.stack(found).amax(0))
        ends = torch.cat(parts) if parts else units.new_zeros(0, 2 * len(units))
        low, high = ends.to(x.device).chunk(2, 1)
        if network.outputs > network.scores:
            zero = torch.zeros_like(low)
            return torch.cat([zero, low], 1), torch.cat([zero, -high], 1)
        return low, -high

    return bounds


def _predicted(network: VerifiedNetwork, found: Certificates, question: Question) -> Certificates:
    """The certificates with the claim's own notion of what is predicted."""
    x = question.x
    with torch.no_grad():
        z = network.logits(x.to(network.device, network.dtype)).flatten(1).to(x.device)
    label = question.claim.label().to(x.device)
    predicted = question.claim.prediction(z)
    return replace(found, prediction=torch.where(found.radius > 0.0, label, predicted))


def bound(
    network: VerifiedNetwork,
    region: Region,
    coefficients: Tensor,
    offsets: Tensor | None = None,
    *,
    methods: Sequence[str] | None = None,
    confidence: float | None = None,
    seed: int = 0,
) -> Tensor:
    """Proved lower bounds of C z + d over a region, for networks with any outputs.

    Where a probable method is named they are not proved: those of a row of the region hold, all
    together, with the probability that is asked for.

    Args:
        network: The network.
        region: The inputs: :func:`vercomp.Ball`, :func:`vercomp.Box`.
        coefficients: C, (R, outputs) or (B, R, outputs), floating-point.
        offsets: d, (R,) or (B, R); zero where None.
        methods: Names of the methods to use; None for every one that can take the network.
        confidence: As for :func:`certify`.
        seed: As for :func:`certify`.

    Returns:
        (B, R) in float64; −∞ where nothing is proved.

    Raises:
        InputTypeError: C or d that hold no floating-point numbers.
        InputError: A wrong shape, NaN or infinity, or a confidence as for :func:`certify`.
        UnanswerableError: A method that the network does not have, or a probable method beside
            others.
    """
    if isinstance(region, Tensor):  # a region of another version's package is as good
        raise InputTypeError(
            "a bound is over a region, got Tensor",
            remedy="Make one: Ball(x, radius, norm) or Box(lo, hi)",
        )
    specification = Specification.of(coefficients, offsets)
    region, specification = region.to(network.device), specification.to(network.device)
    network = whole(network)
    _check_shapes(network, region, specification)
    wanted = chosen(network, methods)
    chance = _chance(wanted, confidence, seed)
    if chance is not None:
        found = [wanted[0].probable_bound(network, region, specification, chance)]
    else:
        found = [method.bound(network, region, specification) for method in wanted]
    return torch.stack(found).amax(0).to(coefficients.device)


def usual_methods(network: VerifiedNetwork) -> list[str]:
    """The names of the methods that are used where none are named, cheapest first."""
    graph = network.in_double()[1]
    return [method.name for method in network.methods if method.usual(graph)]


def chosen(network: VerifiedNetwork, names: Sequence[str] | None) -> list[Method]:
    """The methods of a network that are asked for, cheapest first.

    Raises:
        UnanswerableError: One of the names is no method that this network was compiled with, or a
            probable method is named beside others.
    """
    known = {method.name: method for method in network.methods}
    if names is not None and (isinstance(names, str) or not isinstance(names, Sequence)):
        raise InputTypeError(f"methods must be a list of names, got {names!r}")
    wanted = usual_methods(network) if names is None else list(dict.fromkeys(names))
    for name in wanted:
        if name not in known:
            raise UnanswerableError(
                f"the network has no method {name!r}",
                remedy=f"Choose from {', '.join(known)}" if known else None,
            )
    if not wanted:
        raise UnanswerableError("no method was asked for", remedy=f"Known: {', '.join(known)}")
    found = [method for name, method in known.items() if name in wanted]
    for method in found:
        if method.probable and len(found) > 1:
            raise UnanswerableError(
                f"the certificates of {method.name!r} are probable, and are not mixed with those "
                "of other methods",
                remedy="Name it alone",
            )
    return found


def _chance(methods: Sequence[Method], confidence: float | None, seed: int) -> Chance | None:
    """What a probable method may risk; None where the methods prove what they find."""
    if not any(method.probable for method in methods):
        if confidence is not None:
            raise InputError(
                "a confidence is for probable methods: the certificates of "
                f"{', '.join(method.name for method in methods)} are proved",
                remedy="Leave it out",
            )
        return None
    value = CONFIDENCE if confidence is None else check_number("a confidence", confidence)
    if not 0.0 < value < 1.0:
        raise InputError(f"a confidence must lie between 0 and 1, got {value}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputTypeError(f"a seed must be an integer, got {seed!r}")
    return Chance(1.0 - value, seed)


def _weights(x: Tensor, scales: object) -> Tensor:
    """The scales as a float64 tensor shaped like x."""
    if not isinstance(scales, Tensor) or not scales.is_floating_point():
        raise InputTypeError("scales must be a tensor of floating-point numbers")
    try:
        wide = scales.detach().to(x.device, torch.float64).expand_as(x)
    except RuntimeError as error:
        raise InputError(
            f"scales must broadcast to the inputs, {tuple(x.shape)}, got {tuple(scales.shape)}"
        ) from error
    if not bool(((wide >= 0.0) & wide.isfinite()).all()):
        raise InputError("scales must be finite and not negative")
    if len(x) and not bool((wide > 0.0).flatten(1).any(1).all()):
        raise InputError("every feature of an input is frozen, so that nothing can change")
    return wide


def _check_shapes(network: VerifiedNetwork, region: Region, specification: Specification) -> None:
    if region.shape != tuple(network.input_shape):
        raise InputError(
            f"the region's inputs have the shape {region.shape}, the network's "
            f"{tuple(network.input_shape)}"
        )
    outputs = specification.coefficients.shape[-1]
    if outputs != network.outputs:
        raise InputError(f"C has {outputs} columns, and the network {network.outputs} outputs")
    if specification.batched and len(specification.coefficients) != len(region):
        raise InputError(
            f"C is for {len(specification.coefficients)} inputs, and the region for {len(region)}"
        )


def _within_box(found: Certificates, question: Question) -> Certificates:
    """Witnesses outside of the box count for nothing."""
    if question.box is None:
        return found
    low, high = question.box
    inside = ((found.witness >= low) & (found.witness <= high)).flatten(1).all(1)
    broken = found.gap == 0.0  # the input itself, wherever it lies
    return _without(found, ~(inside | broken))


def _without(found: Certificates, rows: Tensor) -> Certificates:
    """The certificates without the witnesses of some inputs."""
    each = rows.reshape(-1, *(1,) * (found.witness.ndim - 1))
    refuted = None if found.refuted is None else found.refuted & ~rows
    return replace(
        found,
        witness=torch.where(each, torch.nan, found.witness),
        gap=torch.where(rows, torch.inf, found.gap),
        exact=found.exact & ~rows,
        refuted=refuted,
    )


def _merged(
    found: Certificates, other: Certificates, rows: Tensor, question: Question
) -> Certificates:
    """The better certificate of every target; the witnesses of the first."""
    table = found.radius_per_target.clone()
    table[rows] = torch.maximum(table[rows], other.radius_per_target)
    radius, target = found.radius.clone(), found.target.clone()
    radius[rows], nearest = table[rows].min(1)
    gained = radius > found.radius
    target[rows] = torch.where(gained[rows], nearest, target[rows])
    # A witness at the distance (1 + gap) r is nearer, relatively, to a larger radius.
    gap = torch.where(gained, (1.0 + found.gap) * (found.radius / radius) - 1.0, found.gap)
    gap = torch.where(gap.isnan(), torch.inf, gap)
    names = dict(zip(rows.tolist(), other.method, strict=True))
    method = tuple(
        names[i] if better else name
        for i, (name, better) in enumerate(zip(found.method, gained.tolist(), strict=True))
    )
    asked = question.radius
    return replace(
        found,
        radius=radius,
        target=target,
        radius_per_target=table,
        gap=gap,
        exact=gap <= EXACT_GAP,
        method=method,
        certified=None if asked is None else radius > asked,
    )
