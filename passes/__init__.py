"""The built-in passes of vercomp: one a file, registered like any plugin's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vercomp.registry import Registry


def register(registry: Registry) -> None:
    """Add the built-in passes, in the order in which they run."""
    from passes.flatten_activations import FlattenActivations
    from passes.merge_affine import MergeAffine
    from passes.normalize_input import NormalizeInput
    from passes.strip_head import StripHead

    registry.add_pass(StripHead.name, lambda _: StripHead())
    registry.add_pass(
        NormalizeInput.name,
        lambda options: (
            NormalizeInput(options.mean, options.std)
            if options.mean is not None or options.std is not None
            else None
        ),
    )
    registry.add_pass(MergeAffine.name, lambda _: MergeAffine())
    registry.add_pass(FlattenActivations.name, lambda _: FlattenActivations())
