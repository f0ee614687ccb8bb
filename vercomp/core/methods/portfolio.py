"""All methods at one question: the cheapest first, each of the others where it may still gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from ..errors import InputError, InputTypeError, UnanswerableError
from ..inputs import check_inputs, check_radius
from ..network import VerifiedNetwork
from ..regions.ball_kind import ball_kind
from ..regions.region import Region
from ..specifications import Specification
from .certificates import EXACT_GAP, Certificates
from .method import Method, Question


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


class Certifiable(VerifiedNetwork):
    """A network that answers questions by its methods."""

    def certify(self, x: Tensor, y: Tensor, **options: Unpack[CertifyOptions]) -> Certificates:
        """Radii within which no perturbation changes the class; see :func:`certify`."""
        with self.held():
            return certify(self, x, y, **options)

    def bound(
        self,
        region: Region,
        coefficients: Tensor,
        offsets: Tensor | None = None,
        *,
        methods: Sequence[str] | None = None,
    ) -> Tensor:
        """Lower bounds of C z + d over a region; see :func:`bound`."""
        with self.held():
            return bound(self, region, coefficients, offsets, methods=methods)


def certify(
    network: VerifiedNetwork,
    x: Tensor,
    y: Tensor,
    *,
    norm: str | float = "l2",
    box: tuple[float | Tensor, float | Tensor] | None = None,
    methods: Sequence[str] | None = None,
    targets: str | Tensor = "all",
    radius: float | None = None,
    decide: bool = False,
    evaluations: int = 30,
    chunk: int | None = None,
) -> Certificates:
    """Certify inputs, for exactly the numbers given.

    Args:
        network: The network.
        x: Inputs, float32 or float64, shape (B, *input_shape).
        y: Labels, shape (B,).
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

    Raises:
        InputTypeError: Inputs that are not float32 or float64, labels or targets that are not
            integers.
        InputError: A wrong shape, NaN or infinity, a class out of range, a radius that is not
            positive, ``decide`` without a radius, a norm that does not exist.
        UnanswerableError: A method that the network does not have, or none that can answer.
    """
    asked = None if radius is None else check_radius(radius)
    if decide and asked is None:
        raise InputError("decide needs a radius to decide about")
    kind = ball_kind(norm)
    check_inputs(network, x, y)
    limits = None if box is None else _limits(x, box)
    question = Question(x, y, kind, limits, targets, asked, decide, evaluations, chunk)
    first, *others = chosen(network, methods)
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
    return found


def bound(
    network: VerifiedNetwork,
    region: Region,
    coefficients: Tensor,
    offsets: Tensor | None = None,
    *,
    methods: Sequence[str] | None = None,
) -> Tensor:
    """Proved lower bounds of C z + d over a region, for networks with any outputs.

    Args:
        network: The network.
        region: The inputs: :func:`vercomp.Ball`, :func:`vercomp.Box`.
        coefficients: C, (R, outputs) or (B, R, outputs), floating-point.
        offsets: d, (R,) or (B, R); zero where None.
        methods: Names of the methods to use; None for every one that can take the network.

    Returns:
        (B, R) in float64; −∞ where nothing is proved.

    Raises:
        InputTypeError: C or d that hold no floating-point numbers.
        InputError: A wrong shape, NaN or infinity.
        UnanswerableError: A method that the network does not have.
    """
    if isinstance(region, Tensor):  # a region of another version's package is as good
        raise InputTypeError(
            "a bound is over a region, got Tensor",
            remedy="Make one: Ball(x, radius, norm) or Box(lo, hi)",
        )
    specification = Specification.of(coefficients, offsets)
    region, specification = region.to(network.device), specification.to(network.device)
    _check_shapes(network, region, specification)
    found = [method.bound(network, region, specification) for method in chosen(network, methods)]
    return torch.stack(found).amax(0).to(coefficients.device)


def chosen(network: VerifiedNetwork, names: Sequence[str] | None) -> list[Method]:
    """The methods of a network that are asked for, cheapest first.

    Raises:
        UnanswerableError: One of the names is no method that this network was compiled with.
    """
    known = {method.name: method for method in network.methods}
    if names is not None and (isinstance(names, str) or not isinstance(names, Sequence)):
        raise InputTypeError(f"methods must be a list of names, got {names!r}")
    unasked = [name for name, method in known.items() if not method.on_request]
    wanted = unasked if names is None else list(dict.fromkeys(names))
    for name in wanted:
        if name not in known:
            raise UnanswerableError(
                f"the network has no method {name!r}",
                remedy=f"Choose from {', '.join(known)}" if known else None,
            )
    if not wanted:
        raise UnanswerableError("no method was asked for", remedy=f"Known: {', '.join(known)}")
    return [method for name, method in known.items() if name in wanted]


def _limits(x: Tensor, box: object) -> tuple[Tensor, Tensor]:
    """The box as two tensors shaped like x, in float64, widened to hold the inputs themselves.

    A float32 input may be clipped to a number that float32 rounds: it lies inside as its own type
    sees it, and outside in float64.
    """
    if not (isinstance(box, tuple | list) and len(box) == 2):
        raise InputTypeError(f"box must be a pair (lo, hi), got {box!r}")
    if not all(isinstance(end, int | float | Tensor) for end in box):
        raise InputTypeError("the ends of the box must be numbers or tensors")
    low, high = (torch.as_tensor(end, dtype=torch.float64, device=x.device) for end in box)
    try:
        low, high = low.expand_as(x), high.expand_as(x)
    except RuntimeError as error:
        raise InputError(
            f"the ends of the box must broadcast to the inputs, {tuple(x.shape)}, got "
            f"{tuple(low.shape)} and {tuple(high.shape)}"
        ) from error
    if not bool((low <= high).all()):
        raise InputError("the lower end of the box must not exceed the upper one")
    inside = (x >= low.to(x.dtype)) & (x <= high.to(x.dtype))
    outside = ~inside.flatten(1).all(1)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise InputError(f"input {row} lies outside of the box, where nothing is asked about it")
    return torch.minimum(low, x.double()), torch.maximum(high, x.double())


def _check_shapes(network: VerifiedNetwork, region: Region, specification: Specification) -> None:
    if region.shape != tuple(network.input_shape):
        raise InputError(
            f"the region's inputs have the shape {region.shape}, the network's "
            f"{tuple(network.input_shape)}"
        )
    outputs = specification.coefficients.shape[-1]
    if outputs != network.classes:
        raise InputError(f"C has {outputs} columns, and the network {network.classes} outputs")
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
