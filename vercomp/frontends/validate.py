"""Run the source and the translated graph on the same inputs, and compare.

A graph that computes something else than its source is an error, not a warning: everything that
follows is proved about the graph.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vercomp.errors import ValidationError
from vercomp.frontends.translation import Translation, refuse_opaque
from vercomp.ir.convolutions import Convolution, TransposedConvolution
from vercomp.ir.graph import Affine, Graph
from vercomp.ir.reference import result, stored_as

BATCH = 8
ENTRIES = 2**25
"""A batch is smaller where all values of a graph and the patches of its largest convolution, which
torch unfolds, would have more entries than this (but not 1: inputs of one batch must not mix)."""

TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 2e-4,
    torch.float16: 3e-2,
    torch.bfloat16: 2e-1,
}
"""Largest difference by the source's precision, relative to the largest logit: a wrong translation
is wrong by much more, while float32 networks of some depth differ by 1e-5 from the order of
summation alone."""

LEAST = {torch.float64: 1e-2, torch.float32: 1e-2, torch.float16: 1.0, torch.bfloat16: 1.0}
"""What smaller logits are compared as: they are small differences of values of order one."""

LARGE = 100.0
"""Scale of the large inputs; they are allowed that much more, and half precision is spared."""

LARGE_KIND = "large inputs"


def validate(translation: Translation, *, seed: int = 0) -> None:
    """Compare a translation with its source on random inputs of several scales.

    Inputs are uniform in [0, 1], standard normal, and normal with deviation 100, in the model's
    precision; a PyTorch source in single precision is compared in float64 as well.

    Raises:
        ValidationError: The two differ, the source gives NaN, or it gives two different answers
            to one input.
    """
    precisions = [translation.dtype]
    if translation.source_kind == "torch" and translation.dtype == torch.float32:
        precisions.append(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    batch = max(2, min(BATCH, ENTRIES // _entries(translation.graph)))
    shape = (batch, *translation.graph.input.shape)
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    for precision in precisions:
        if precision != translation.dtype and not _computes(translation, uniform.to(precision)):
            continue
        tolerance = TOLERANCE[precision]
        _compare(translation, uniform, precision, tolerance, "inputs in [0, 1]")
        _compare(translation, normal, precision, tolerance, "normal inputs")
        if precision in (torch.float32, torch.float64):
            _compare(translation, LARGE * normal, precision, LARGE * tolerance, LARGE_KIND)


def _entries(graph: Graph) -> int:
    """What one input takes: the values of all nodes, and the patches of the largest convolution."""
    patches = 0
    for node in graph.nodes:
        for term in node.terms if isinstance(node, Affine) else ():
            if isinstance(term.map, Convolution):
                image, places = term.map.source, term.map.out_shape[1:]
            elif isinstance(term.map, TransposedConvolution):
                image, places = term.map.target, term.map.source[1:]
            else:
                continue
            patches = max(patches, math.prod((image[0], *term.map.window.size, *places)))
    return patches + sum(math.prod(node.shape) for node in graph.nodes)


def _computes(translation: Translation, x: Tensor) -> bool:
    """Whether the source can compute in another precision than its own (it may cast inside)."""
    try:
        translation.source(x)
    except Exception:  # whatever the user's code raises
        return False
    return True


def _compare(
    translation: Translation, inputs: Tensor, precision: torch.dtype, tolerance: float, kind: str
) -> None:
    where = f"{kind} in {str(precision).removeprefix('torch.')}"
    # Rounded to the source's precision, then kept in one in which the graph can compute.
    x = inputs.to(precision)
    x = x if precision == torch.float64 else x.float()
    expected, again = translation.source(x), translation.source(x)
    finite = expected.isfinite()
    if bool(expected.isnan().any()) and kind != LARGE_KIND:
        raise ValidationError(f"the model itself gives NaN on {where}")
    if not torch.equal(expected[finite], again[finite]):
        raise ValidationError(
            f"the model gives two different answers to one input ({where})",
            remedy="It is random or changes itself; switch dropout off in evaluation",
        )
    graph = translation.graph
    try:
        with torch.no_grad():
            found = result(graph, x, stored_as(x.dtype))
    except (RuntimeError, TypeError):
        refuse_opaque(graph)  # a graph holds numbers; what is neither may want truth values
        raise
    if found.shape != expected.shape:
        _refuse_what_couples(graph)
        raise ValidationError(
            f"the translation gives shape {tuple(found.shape)}, the model {tuple(expected.shape)}"
        )
    largest = float(expected[finite].abs().max()) if bool(finite.any()) else 0.0
    scale = max(LEAST[precision], largest)
    wrong = ~((found == expected) | ((found - expected).abs() <= tolerance * scale))
    if kind == LARGE_KIND:  # log(1 + exp(x)) overflows where softplus does not
        wrong &= finite
    if bool(wrong.any()):
        _refuse_what_couples(graph)
        difference = (found - expected).abs()[wrong]
        raise ValidationError(
            f"the translation differs from the model by {float(difference.max()):.2g} on {where}, "
            f"where the largest logit is {scale:.2g}, in {difference.numel()} of {wrong.numel()} "
            "logits",
            remedy="Either the model does not do in evaluation what it does when it is traced, "
            "or this is a bug of vercomp",
        )


def _refuse_what_couples(graph: Graph) -> None:
    """Refuse opaque nodes before a difference that may be theirs: statistics of a batch, say.

    A softmax at the end is not to blame, and a pass may strip it.
    """
    if any("softmax" not in node.operator for node in graph.opaque()):
        refuse_opaque(graph)
