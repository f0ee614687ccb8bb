"""Sections: the programs of the package, recorded from the walks of the core and printed.

A program is handed a recording in the place of an arithmetic; the steps that its results need are
printed, a line for each step that has a name. What is printed is what the walk runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vercomp.backends.torch.layout import Layout, Named
from vercomp.backends.torch.spelling import atom
from vercomp.backends.torch.writer import Writer
from vercomp.core.arithmetic.operations import Bound
from vercomp.core.arithmetic.recording import Recording, Step
from vercomp.core.domains.curvature import curvature
from vercomp.core.domains.hessian import hessian, hessian_product
from vercomp.core.maps.operators import Operator
from vercomp.errors import InternalError

STATEFUL = ("norm2", "weighted_norm2_squared")
"""Operations under whose name an arithmetic may keep vectors."""

_SPELLINGS: Mapping[str, str] = {
    "apply": "{0}.apply({1})",
    "adjoint": "{0}.adjoint({1})",
    "apply_to_rows": "{0}.apply_to_rows({1})",
    "value": "{0}.value({1})",
    "first": "{0}.first({1})",
    "second": "{0}.second({1})",
    "add": "{0} + {1}",
    "multiply": "{0} * {1}",
    "multiply_rows": "{0}[:, :, None] * {1}",
    "quadratic": "quadratic({0}, {1})",
}
"""How operations on plain tensors are written; those of an arithmetic are its methods."""


class Printer:
    """Prints recorded steps.

    Args:
        layout: The names of maps and functions.
        writer: Where lines go.
        plain: Whether the program is over plain tensors, not over an arithmetic ``ops``.
    """

    def __init__(self, layout: Layout, writer: Writer, *, plain: bool) -> None:
        self.writer = writer
        self.plain = plain
        self.maps = {id(term.map): f"A.{term.name}" for term in layout.terms}
        self.used: set[str] = set()
        self._inlined: dict[int, int] = {}

    def lines(self, steps: Iterable[Step]) -> None:
        """A line for every step that has a name, under the formula that it belongs to."""
        note = ""
        for step in steps:
            if not step.name:
                continue
            if step.note and step.note != note:
                self.writer.comment(step.note)
                note = step.note
            self.writer.assign(step.name, self._expression(step))

    def text(self, value: Any) -> str:
        """The expression of an argument or a result."""
        if isinstance(value, Step):
            return value.name or self._once(value)
        if isinstance(value, Operator):
            return self._seen(self.maps[id(value)])
        if isinstance(value, Named):
            return self._seen(value.text)
        if isinstance(value, float):
            return repr(value)
        raise InternalError(f"a program cannot print a {type(value).__name__}")

    def _expression(self, step: Step) -> str:
        arguments = [self.text(argument) for argument in step.arguments]
        if step.operation == "compose":
            return " @ ".join(arguments)
        if step.operation == "beside":
            return f"SideBySide(({', '.join(arguments)}))"
        if self.plain:
            spelling = _SPELLINGS[step.operation]
            if "(" not in spelling.split("{")[0]:
                arguments[0] = self._left(step, arguments[0])
            if step.operation.startswith("multiply"):
                arguments[1] = atom(arguments[1])
            return spelling.format(*arguments)
        if step.operation in STATEFUL:
            arguments.append(f'name="{step.name}"')
        return f"ops.{step.operation}({', '.join(arguments)})"

    def _left(self, step: Step, text: str) -> str:
        """A left operand: operators that bind alike need no brackets around the first."""
        first = step.arguments[0]
        alike = isinstance(first, Step) and not first.name and first.operation == step.operation
        return text if step.operation == "add" or alike else atom(text)

    def _once(self, step: Step) -> str:
        """A step without a name stands where it is read, which must be one place."""
        self._inlined[id(step)] = self._inlined.get(id(step), 0) + 1
        if self._inlined[id(step)] > 1:
            raise InternalError(f"the step {step.operation!r} is read twice and has no name")
        return self._expression(step)

    def _seen(self, text: str) -> str:
        self.used.add(text)
        return text


def curvature_section(layout: Layout, writer: Writer) -> None:
    """``curvature(ops, A, c)``: the bound program, a line a step."""
    recording: Any = Recording(("A", "c", "ops", "norms", "shares"))
    bound = curvature(recording, layout.recorded, _named("c"))
    results = [bound.curvature, bound.lipschitz, *bound.norms.values(), *bound.shares.values()]
    writer.line("def curvature(ops: Arithmetic, A: Maps, c: Tensor) -> Bound:")
    with writer.indented():
        writer.lines(_CURVATURE_DOC)
        printer = Printer(layout, writer, plain=False)
        printer.lines(recording.needed(results))
        _return_bound(printer, bound)


def _return_bound(printer: Printer, bound: Bound) -> None:
    norms = [f'"{name}": {printer.text(value)}' for name, value in bound.norms.items()]
    shares = [f'"{name}": {printer.text(value)}' for name, value in bound.shares.items()]
    printer.writer.call("norms = ", norms, brackets="{}")
    printer.writer.call("shares: dict[str, Tensor] = ", shares, brackets="{}")
    results = [printer.text(bound.curvature), printer.text(bound.lipschitz), "norms", "shares"]
    printer.writer.call("return Bound", results)


def hessian_section(layout: Layout, writer: Writer) -> None:
    """``hessian_matrix(net, x, c)``: Σ_a B_zᵀ diag(F_a ⊙ σ″(z)) B_z."""
    recording: Any = Recording(_TAKEN)
    found = hessian(recording, layout.recorded, _named("x"), _named("c"), _named("B_x"))
    writer.line("def hessian_matrix(net: Any, x: Tensor, c: Tensor) -> Tensor:")
    with writer.indented():
        writer.line('"""∇²(c·z) at flat points x (P, D), by Lemma 1: (P, D, D)."""')
        identity, zero = "B_x = torch.eye(x.shape[1]).to(x)", "x.new_zeros(*x.shape, x.shape[1])"
        _program(layout, writer, recording, found, zero, identity)


def product_section(layout: Layout, writer: Writer) -> None:
    """``hessian_product(net, x, c, v)``: tangents go forward, gradients and their tangents back."""
    recording: Any = Recording(_TAKEN)
    found = hessian_product(recording, layout.recorded, _named("x"), _named("c"), _named("v"))
    writer.line("def hessian_product(net: Any, x: Tensor, c: Tensor, v: Tensor) -> Tensor:")
    with writer.indented():
        writer.line('"""∇²(c·z) v at flat points x (P, D) for directions v (P, D): (P, D)."""')
        _program(layout, writer, recording, found, "torch.zeros_like(v)")


_TAKEN = ("A", "b", "c", "net", "x", "v", "B_x", "D", "P")


def _program(
    layout: Layout, writer: Writer, recording: Recording, found: Any, zero: str, *before: str
) -> None:
    """The steps that a result needs, and the statement that returns it.

    Args:
        layout: The names of maps and functions.
        writer: Where lines go.
        recording: What was recorded.
        found: The result; None where it is zero.
        zero: The expression of a result that is zero.
        before: Statements that come first.
    """
    if found is None:
        writer.line(f"return {zero}")
        return
    body = writer.inside()
    printer = Printer(layout, body, plain=True)
    steps = recording.needed((found,))
    printer.lines(step for step in steps if step is not found)
    body.line(f"return {printer._expression(found)}")
    writer.line("A = maps(net)")
    if any(text.startswith("b.") for text in printer.used):
        writer.line("b = biases(net)")
    for line in before:
        writer.line(line)
    writer.append(body)


def _named(text: str) -> Any:
    return Named(text)


_CURVATURE_DOC = '''\
"""κ with ∇²(c·z) ≽ −κI, and L with ‖∇(c·z)‖ ≤ L, for every input and each row of c (P, C).

``ops`` is the arithmetic: rigorous for certificates, differentiable for training.
"""
'''
