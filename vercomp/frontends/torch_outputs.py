"""Models that return several things: which of them are the logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from vercomp.errors import UnsupportedError, UsageError

ALONE = "Wrap it in a module that returns the logits alone"


def choose(result: object, output: str | int | None, kind: type, node: str) -> object:
    """The one result, or the one that is named.

    Args:
        result: What the model returns, or the same structure with something in place of tensors.
        output: A key of a dict, a field of a named tuple or dataclass, an index of a tuple; None
            where the model returns one tensor.
        kind: What stands for a tensor.
        node: The model, for messages.

    Raises:
        UnsupportedError: Several results and no name, or that result is no tensor.
        UsageError: There is no output of that name.
    """
    if output is None and isinstance(result, kind):
        return result
    named = _named(result)
    listed = ", ".join(map(repr, named))
    if output is None:
        what = f"a {type(result).__name__}" + (f" with the outputs {listed}" if named else "")
        remedy = f"Name one of them, as in output={next(iter(named))!r}" if named else ALONE
        raise UnsupportedError(
            f"the model returns {what}, not one tensor of logits", node=node, remedy=remedy
        )
    if output not in named:
        remedy = f"It has the outputs {listed}" if named else "It has one; leave the name out"
        raise UsageError(f"the model has no output {output!r}", node=node, remedy=remedy)
    if not isinstance(named[output], kind):
        raise UnsupportedError(
            f"its output {output!r} is a {type(named[output]).__name__}, not a tensor of logits",
            node=node,
            remedy=ALONE,
        )
    return named[output]


def _named(result: object) -> dict[str | int, object]:
    """Results by what a user may call them."""
    if isinstance(result, Mapping):
        return dict(result)
    if isinstance(result, tuple | list):
        fields = getattr(result, "_fields", range(len(result)))
        return dict(zip(fields, result, strict=True))
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    return {}
