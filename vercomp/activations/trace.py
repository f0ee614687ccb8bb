"""The torch spelling of an activation as text, from a trace."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from vercomp.errors import UnsupportedError
from vercomp.ir.activation import Activation

_INFIX: Mapping[Callable[..., Any], tuple[str, int]] = {
    operator.add: ("+", 0),
    operator.sub: ("-", 0),
    operator.mul: ("*", 1),
    operator.truediv: ("/", 1),
    operator.pow: ("**", 3),
    operator.gt: (">", -1),
    operator.ge: (">=", -1),
    operator.lt: ("<", -1),
    operator.le: ("<=", -1),
}
_ATOM = 4
_NAMES = "abcdghkmnpqruvw"


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return False


def traced(activation: Activation) -> list[str]:
    """The statements that compute the spelling of ``z``: names for shared parts, then a return.

    Raises:
        UnsupportedError: The spelling depends on values, holds parameters, or calls something
            that is not torch's.
    """
    spelling = activation.spelling
    root = spelling if isinstance(spelling, nn.Module) else lambda z: spelling(z)
    try:
        graph = _Tracer().trace(root)
    except Exception as error:
        raise UnsupportedError(
            f"the torch function of {activation} cannot be traced: {error}",
            remedy="Spell it with torch functions of one tensor, without control flow",
        ) from error
    return _Writer(activation).statements(graph)


class _Writer:
    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self._text: dict[fx.Node, tuple[str, int]] = {}

    def statements(self, graph: fx.Graph) -> list[str]:
        """Assignments and the return statement."""
        names = iter(_NAMES)
        lines: list[str] = []
        for node in graph.nodes:
            if node.op == "placeholder":
                self._text[node] = ("z", _ATOM)
            elif node.op == "output":
                lines.append(f"return {self._argument(node.args[0])}")
            elif node.op in ("call_function", "call_method"):
                self._text[node] = self._call(node)
                if len(node.users) > 1:
                    name = next(names, None)
                    if name is None:
                        raise self._refusal("it has too many parts")
                    lines.append(f"{name} = {self._text[node][0]}")
                    self._text[node] = (name, _ATOM)
            else:
                raise self._refusal(f"it holds parameters ({node.target})")
        return lines

    def _call(self, node: fx.Node) -> tuple[str, int]:
        target: Any = node.target
        if target is operator.neg:
            return f"-{self._operand(node.args[0], 3)}", 2
        if target in _INFIX and len(node.args) == 2:
            return self._infix(*_INFIX[target], *node.args)
        arguments = [self._argument(value) for value in node.args]
        arguments += [f"{key}={self._argument(value)}" for key, value in node.kwargs.items()]
        if node.op == "call_method":
            return (
                f"{self._operand(node.args[0], _ATOM)}.{target}({', '.join(arguments[1:])})",
                _ATOM,
            )
        return f"{self._name(target)}({', '.join(arguments)})", _ATOM

    def _infix(self, sign: str, binding: int, left: Any, right: Any) -> tuple[str, int]:
        if sign == "**":
            before, after = self._operand(left, _ATOM), self._operand(right, _ATOM)
            simple = all(text.isidentifier() or text.isdecimal() for text in (before, after))
            return (f"{before}**{after}" if simple else f"{before} ** {after}"), binding
        before, after = self._operand(left, binding), self._operand(right, binding + 1)
        return f"{before} {sign} {after}", binding

    def _name(self, target: Any) -> str:
        name = getattr(target, "__name__", "")
        for module, prefix in ((F, "F"), (torch, "torch")):
            if name and getattr(module, name, None) is target:
                return f"{prefix}.{name}"
        raise self._refusal(f"{name or target!r} is not a function of torch")

    def _operand(self, value: Any, binding: int) -> str:
        if isinstance(value, fx.Node):
            text, found = self._text[value]
            return text if found >= binding else f"({text})"
        text = self._argument(value)
        return f"({text})" if text.startswith("-") and binding > 1 else text

    def _argument(self, value: Any) -> str:
        if isinstance(value, fx.Node):
            return self._text[value][0]
        if isinstance(value, bool | int | float) or value is None:
            return repr(value)
        if isinstance(value, str):
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        raise self._refusal(f"it uses the value {value!r}")

    def _refusal(self, reason: str) -> UnsupportedError:
        return UnsupportedError(
            f"the torch function of {self._activation} cannot be written down: {reason}",
            remedy="Spell it with torch functions of one tensor and plain numbers",
        )
