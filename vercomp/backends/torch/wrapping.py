"""Breaks a statement that is too long over several lines, where ruff would.

Emitted statements are assignments, returns and calls over names, calls, lists, dictionaries and
sums: what is here covers those. Anything else comes back as it is.
"""

from __future__ import annotations

import ast
from itertools import pairwise

_INDENT = "    "


def wrapped(statement: str, width: int) -> list[str]:
    """The lines of one statement, each at most ``width`` long where that is possible."""
    if len(statement) <= width:
        return [statement]
    try:
        (node,) = ast.parse(statement).body
    except (SyntaxError, ValueError):
        return [statement]
    value = getattr(node, "value", None)
    if not isinstance(value, ast.expr) or isinstance(value, ast.Constant):
        return [statement]
    layout = _Layout(statement, width)
    head = statement[: layout.start(value)]
    return layout.expression(value, head, "", 0, bracketed=False)


class _Layout:
    """Lays out expressions of one statement, by their source text."""

    def __init__(self, statement: str, width: int) -> None:
        self.text = statement.encode()  # positions of the syntax tree count bytes
        self.width = width

    def start(self, node: ast.expr) -> int:
        """Where an expression begins; a bracket around it belongs to it."""
        return len(self.text[: self._begin(node)].decode())

    def expression(
        self, node: ast.expr, prefix: str, suffix: str, depth: int, *, bracketed: bool
    ) -> list[str]:
        """The lines of ``prefix + node + suffix``.

        Args:
            node: What to lay out.
            prefix: Text before it on its first line.
            suffix: Text after it on its last line.
            depth: Indentation of the first line.
            bracketed: Whether lines may end anywhere, inside brackets that are already open.
        """
        flat = f"{prefix}{self._source(node)}{suffix}"
        if self._fits(flat, depth):
            return [_INDENT * depth + flat]
        if isinstance(node, ast.BinOp):
            return self._operators(node, prefix, suffix, depth, bracketed=bracketed)
        if isinstance(node, ast.Call):
            return self._call(node, prefix, suffix, depth)
        if isinstance(node, ast.Tuple) and node.elts:
            elements = [("", element) for element in node.elts]
            return self._brackets(f"{prefix}(", elements, f"){suffix}", depth, always=True)
        if isinstance(node, ast.List):
            elements = [("", element) for element in node.elts]
            return self._brackets(f"{prefix}[", elements, f"]{suffix}", depth)
        if isinstance(node, ast.Dict):
            entries = [
                (f"{self._source(key)}: ", value)
                for key, value in zip(node.keys, node.values, strict=True)
                if key is not None
            ]
            return self._brackets(f"{prefix}{{", entries, f"}}{suffix}", depth)
        return [_INDENT * depth + flat]

    def _call(self, node: ast.Call, prefix: str, suffix: str, depth: int) -> list[str]:
        """A call with its arguments on lines of their own."""
        arguments = [("", a) for a in node.args]
        arguments += [(f"{k.arg}=", k.value) for k in node.keywords]
        opening = f"{prefix}{self._source(node.func)}("
        return self._brackets(opening, arguments, f"){suffix}", depth, two_lines=True)

    def _brackets(
        self,
        opening: str,
        elements: list[tuple[str, ast.expr]],
        closing: str,
        depth: int,
        *,
        two_lines: bool = False,
        always: bool = False,
    ) -> list[str]:
        """Opening, elements, closing: calls may have all elements on one line, nothing else may.

        The only element of a tuple always has a comma behind it. Elements of a call or list have
        one where they stand beside others.
        """
        inside = ", ".join(prefix + self._source(node) for prefix, node in elements)
        if two_lines and self._fits(inside, depth + 1):
            body = [_INDENT * (depth + 1) + inside]
        else:
            comma = "," if len(elements) > 1 or always else ""
            body = [
                line
                for prefix, node in elements
                for line in self.expression(node, prefix, comma, depth + 1, bracketed=True)
            ]
        return [_INDENT * depth + opening, *body, _INDENT * depth + closing]

    def _operators(
        self, node: ast.BinOp, prefix: str, suffix: str, depth: int, *, bracketed: bool
    ) -> list[str]:
        """A sum or product: brackets around it, unless lines may end here, and inside, operands."""
        operands = self._operands(node)
        if bracketed and not self._in_brackets(node):
            return self._one_a_line(operands, prefix, suffix, depth)
        last = operands[-1][1]
        if not bracketed and len(operands) == 2 and isinstance(last, ast.Call) and last.args:
            # One operator before a call: the call's brackets are the ones that open.
            before = f"{prefix}{self._source(operands[0][1])} {operands[1][0]} "
            if self._fits(f"{before}{self._source(last.func)}(", depth):
                return self.expression(last, before, suffix, depth, bracketed=False)
            first = operands[0][1]
            if isinstance(first, ast.Call) and first.args:
                *lines, closing = self._call(first, prefix, "", depth)
                after = f"{closing.strip()} {operands[1][0]} "
                return lines + self.expression(last, after, suffix, depth, bracketed=False)
        inside = self._inside(node)
        if self._fits(inside, depth + 1):
            body = [_INDENT * (depth + 1) + inside]
        else:
            body = self._one_a_line(operands, "", "", depth + 1)
        return [f"{_INDENT * depth}{prefix}(", *body, f"{_INDENT * depth}){suffix}"]

    def _one_a_line(
        self, operands: list[tuple[str, ast.expr]], prefix: str, suffix: str, depth: int
    ) -> list[str]:
        lines = []
        for position, (operator, operand) in enumerate(operands):
            before = f"{operator} " if operator else prefix
            after = suffix if position == len(operands) - 1 else ""
            lines += self.expression(operand, before, after, depth, bracketed=True)
        return lines

    def _inside(self, node: ast.expr) -> str:
        """The source of an expression without brackets around it."""
        return self.text[node.col_offset : node.end_col_offset].decode()

    def _operands(self, node: ast.BinOp) -> list[tuple[str, ast.expr]]:
        """The operands of operators that bind alike, with the operator before each."""
        spine: list[ast.BinOp] = [node]
        while (
            isinstance(spine[-1].left, ast.BinOp)
            and _binds(spine[-1].left.op) == _binds(node.op)
            and not self._in_brackets(spine[-1].left)
        ):
            spine.append(spine[-1].left)
        spine.reverse()
        first = spine[0].left
        nodes = [first, *(part.right for part in spine)]
        operators = [""]
        for left, right in pairwise(nodes):
            operators.append(self.text[self._end(left) : self._begin(right)].decode().strip())
        return list(zip(operators, nodes, strict=True))

    def _source(self, node: ast.expr) -> str:
        return self.text[self._begin(node) : self._end(node)].decode()

    def _in_brackets(self, node: ast.expr) -> bool:
        return self._begin(node) != node.col_offset

    def _begin(self, node: ast.expr) -> int:
        start, end = node.col_offset, node.end_col_offset or 0
        while isinstance(node, ast.BinOp) and self._surrounded(start, end):
            start, end = start - 1, end + 1
        return start

    def _end(self, node: ast.expr) -> int:
        start, end = node.col_offset, node.end_col_offset or 0
        while isinstance(node, ast.BinOp) and self._surrounded(start, end):
            start, end = start - 1, end + 1
        return end

    def _surrounded(self, start: int, end: int) -> bool:
        """Whether an expression stands in brackets that are not those of a call."""
        if self.text[start - 1 : start] != b"(" or self.text[end : end + 1] != b")":
            return False
        before = self.text[start - 2 : start - 1]
        return not (before.isalnum() or before in (b"_", b")", b"]"))

    def _fits(self, text: str, depth: int) -> bool:
        return len(text) + len(_INDENT) * depth <= self.width


def _binds(operator: ast.operator) -> int:
    if isinstance(operator, ast.Add | ast.Sub):
        return 0
    return 2 if isinstance(operator, ast.Pow) else 1
