"""Source text of σ, σ′ and σ″ as torch functions, for emitted packages.

σ is the torch spelling, traced; its derivatives come from the formula: rewritten so that nothing
overflows (:mod:`vercomp.activations.functions`), differentiated branch by branch, shared parts
named. The functions need ``torch``, ``Tensor`` and ``F`` and stand as a formatter would leave them.
"""

from __future__ import annotations

import keyword
from collections.abc import Generator, Iterator

import sympy

from vercomp.activations.branches import Branch, branches
from vercomp.activations.formula_text import formula_text
from vercomp.activations.functions import shortest, without_cancellation
from vercomp.activations.torch_printer import code, needs_care
from vercomp.activations.trace import traced
from vercomp.errors import InternalError, UnsupportedError
from vercomp.ir.activation import Activation, X

WIDTH = 100
_INDENT = "    "
_TITLES = ("σ", "σ′", "σ″")
_ORDERS = ("", "first derivative of ", "second derivative of ")
_NAMES = {"Sigmoid": "s", "tanh": "t", "exp": "e", "erf": "r", "Softplus": "p"}
_SPARE = ("a", "b", "c", "d", "g", "h", "k", "m", "n", "q", "u", "v", "w")


def function_source(activation: Activation, order: int, name: str) -> str:
    """The source of ``def name(z: Tensor) -> Tensor`` for σ, σ′ or σ″, ending in a newline.

    Derivatives are accurate to 10u(1 + |z|) and free of NaN for |z| ≤ 1e4 (the built-in ones are
    tested for it). A formula that holds no torch function, or whose spelling cannot be traced, is
    refused.

    Args:
        activation: The activation.
        order: 0, 1 or 2: how often it is differentiated.
        name: The function's name, an identifier.

    Raises:
        UnsupportedError: The spelling or the formula cannot be written down.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise InternalError(f"{name!r} is not a name for a function")
    if order == 0:
        docstring = _docstring(activation, 0, activation.formula)
        lines = traced(activation)
    else:
        expression = derivative(activation, order)
        docstring = _docstring(activation, order, expression)
        lines = list(_statements(expression))
    lines = [part for line in lines for part in _wrapped(line)]
    for line in lines:
        if len(line) + len(_INDENT) > WIDTH:
            raise UnsupportedError(f"the formula of {activation} is too long to be written down")
    body = [f'"""{docstring}"""', *lines]
    header = f"def {name}(z: Tensor) -> Tensor:"
    return "\n".join([header, *(_INDENT + line for line in body)]) + "\n"


def _wrapped(line: str) -> Iterator[str]:
    """A call that is too long, as a formatter breaks it: its arguments on a line of their own."""
    head, opened, inside = line.partition("(")
    if len(line) + len(_INDENT) <= WIDTH or not inside.endswith(")") or ")" in inside[:-1]:
        yield line
        return
    yield head + opened
    yield _INDENT + inside[:-1]
    yield ")"


def derivative(activation: Activation, order: int) -> sympy.Expr:
    """σ′ or σ″ in short form: one expression, or a Piecewise of smooth ones."""
    parts = [
        Branch(
            part.lower, part.upper, shortest(without_cancellation(part.derivative(order).formula))
        )
        for part in branches(activation.formula)
    ]
    if len(parts) == 1:
        return parts[0].formula
    if len(parts) == 2 and parts[0].upper == 0:
        left, right = (part.formula for part in parts)
        mirrored = left.subs(X, -X)
        if right.has(X) and sympy.simplify(mirrored - right) == 0:
            return right.subs(X, sympy.Abs(X))
        if right.has(X) and sympy.simplify(mirrored + right) == 0:
            return sympy.sign(X) * right.subs(X, sympy.Abs(X))
    pieces = [(parts[0].formula, sympy.true)]
    for part in parts[1:]:
        if part.formula != pieces[0][0]:
            pieces.insert(0, (part.formula, sympy.Gt(X, part.lower)))
    return sympy.Piecewise(*pieces, evaluate=False) if len(pieces) > 1 else pieces[0][0]


def _docstring(activation: Activation, order: int, expression: sympy.Expr) -> str:
    text = f"{_TITLES[order]}(z) = {formula_text(expression)}."
    if len(text) + len(_INDENT) + 6 > WIDTH or '"' in text or "\\" in text:
        text = f"{_TITLES[order]}(z), the {_ORDERS[order]}{activation.name}."
        if order == 0:
            text = f"{_TITLES[order]}(z), the activation {activation.name}."
    return text


def _statements(expression: sympy.Expr) -> Iterator[str]:
    """Assignments to names for shared parts, and the return statement."""
    if not expression.has(X):
        constant = code(expression)
        yield {
            "0": "return torch.zeros_like(z)",
            "1": "return torch.ones_like(z)",
        }.get(constant, f"return torch.full_like(z, {constant})")
        return
    names = _Names()
    z = sympy.Symbol("z", real=True)
    if isinstance(expression, sympy.Piecewise):
        expression = yield from _clamped(expression, names)
    expression = expression.subs(X, z)
    shared, (result,) = sympy.cse(expression, symbols=sympy.numbered_symbols("shared", real=True))
    inlined: dict[sympy.Symbol, sympy.Expr] = {}
    for symbol, part in shared:
        part = part.xreplace(inlined)
        short = part.is_Mul and len(part.free_symbols) == 1 and part.count_ops() <= 2
        if not part.free_symbols or (short and not part.has(sympy.Function)):
            inlined[symbol] = part
            continue
        name = sympy.Symbol(names.of(part), real=True)
        yield from _assignment(f"{name.name} = ", part, names)
        inlined[symbol] = name
    yield from _assignment("return ", result.xreplace(inlined), names)


def _assignment(prefix: str, expression: sympy.Expr, names: _Names) -> Iterator[str]:
    """The statement; what makes it too long gets a name before it."""
    while len(prefix + code(expression)) + len(_INDENT) > WIDTH:
        if isinstance(expression, sympy.Piecewise) and len(expression.args) > 2:
            first, *others = expression.args
            name = sympy.Symbol(names.of(expression), real=True)
            otherwise = sympy.Piecewise(*others, evaluate=False)
            yield from _assignment(f"{name.name} = ", otherwise, names)
            expression = sympy.Piecewise(first, (name, True), evaluate=False)
            continue
        parts = [part for part in expression.args if part.free_symbols and part.args]
        if not parts:
            break
        longest = max(parts, key=lambda part: len(code(part)))
        name = sympy.Symbol(names.of(longest), real=True)
        yield from _assignment(f"{name.name} = ", longest, names)
        expression = expression.xreplace({longest: name})
    yield prefix + code(expression)


def _clamped(expression: sympy.Piecewise, names: _Names) -> Generator[str, None, sympy.Piecewise]:
    """Branches see only their own side of z: what they are elsewhere must not overflow."""
    pieces = []
    upper: sympy.Expr = sympy.oo
    for value, condition in expression.args:
        lower = -sympy.oo if condition == sympy.true else condition.lts
        if needs_care(value):
            name = sympy.Symbol(names.side(lower, upper), real=True)
            ends = [
                f"{side}={code(end)}"
                for side, end in (("min", lower), ("max", upper))
                if end.is_finite
            ]
            yield f"{name.name} = z.clamp({', '.join(ends)})"
            value = value.subs(X, name)
        pieces.append((value, condition))
        upper = lower
    return sympy.Piecewise(*pieces, evaluate=False)


class _Names:
    """Names for shared parts: a letter that recalls the function, or the next spare one."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def of(self, part: sympy.Expr) -> str:
        """A name for an expression."""
        wanted = _NAMES.get(part.func.__name__)
        if wanted is not None and wanted not in self._used:
            self._used.add(wanted)
            return wanted
        return self.spare()

    def side(self, lower: sympy.Expr, upper: sympy.Expr) -> str:
        """A name for z clamped to an interval."""
        name = (
            "inside"
            if lower.is_finite and upper.is_finite
            else "above"
            if lower.is_finite
            else "below"
        )
        if name in self._used:
            return self.spare()
        self._used.add(name)
        return name

    def spare(self) -> str:
        """A name that means nothing yet."""
        for name in _SPARE:
            if name not in self._used:
                self._used.add(name)
                return name
        name = f"a{len(self._used)}"
        self._used.add(name)
        return name
