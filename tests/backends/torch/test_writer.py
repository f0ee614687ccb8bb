"""The writer: statements that are too long are broken where ruff would break them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vercomp.backends.torch.wrapping import wrapped
from vercomp.backends.torch.writer import WIDTH, Writer

LONG = "a_rather_long_name_of_a_layer"
STATEMENTS = [
    f"{LONG} = function({', '.join([LONG] * 3)})",
    f"{LONG} = function({', '.join([LONG] * 6)})",
    f"{LONG} = outer([inner({', '.join([LONG] * 2)}), inner({', '.join([LONG] * 3)})], b.{LONG})",
    f"{LONG} = outer([inner({', '.join([LONG] * 4)})])",
    f"return function(first={LONG}, second={LONG}, third={LONG}, fourth=g({LONG}, {LONG}))",
    f"return Function({LONG}={LONG}.apply({LONG}), other={LONG} @ {LONG}, {LONG}_2={LONG})",
    f'{LONG} = {{"{LONG}": {LONG}, "{LONG}_1": {LONG}, "b": 2}}',
    f'shares: dict[str, Tensor] = {{"{LONG}": {LONG}, "{LONG}_1": {LONG}}}',
    f"{LONG} = [{LONG}, {LONG}, {LONG}, 3]",
    f"{LONG} = {LONG} + {LONG} - {LONG} + {LONG}",
    f"{LONG} = ({LONG} @ self.{LONG} - self.{LONG}) * self.{LONG} + self.b - self.c",
    f"{LONG} = {LONG} - self.{LONG}_and_more_of_it",
    f"{LONG} = {LONG} * first.{LONG} * second.{LONG} + third.value({LONG}) + fourth({LONG})",
    f"{LONG} = {LONG} + A.{LONG}.adjoint(the_gradient_{LONG})",
    f"{LONG} = A.{LONG}.apply({LONG}) + A.{LONG}.apply({LONG}, {LONG})",
    f"x = A.{LONG}.apply({LONG}) * B.{LONG}.apply({LONG}, {LONG}, {LONG})",
    f"{LONG} += quadratic(B_{LONG}, F_{LONG} * SOFTPLUS_WITH_BETA.second({LONG}))",
    f'self.register_buffer("{LONG}_{LONG}", torch.empty(10, 20, 30, 40, dtype=torch.float64))',
    f"{LONG} = rounding.total([{LONG}, rounding.adjoint(A.{LONG}, norms[{LONG!r}], s)])".replace(
        "'", '"'
    ),
    f"{LONG} = {LONG} @ Sum((Monomial.identity(108), Convolution.sliding(net.{LONG}, (3, 6, 6))))",
    f"{LONG} = Sum(({LONG}, {LONG} @ {LONG} @ {LONG}, Sum(({LONG}, {LONG}, {LONG}, {LONG}))))",
    f"{LONG} = {LONG} @ Convolution.sliding(net.{LONG}_weight, (4, 8, 8), stride=2, padding=1)",
    f"{LONG} = {LONG} * self.{LONG}_weight[:, None, None] + self.{LONG}.to(x)[:, None, None]",
    f"{LONG} = F.batch_norm({LONG}, self.{LONG}_mean, self.{LONG}_var, self.{LONG}_weight)",
    f"{LONG} = torch.div(F.avg_pool2d(F.pad({LONG}, (0, 1)), 2), F.avg_pool2d({LONG}.ones(1), 2))",
    f"{LONG} = torch.cat([{LONG}, {LONG}, {LONG}, {LONG}], 1) - self.{LONG}[:, None, None]",
    f"{LONG} = F.conv2d({LONG}, self.{LONG}_w) + {LONG} - self.{LONG}[:, None, None] + {LONG}",
]


def formatted(text: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--line-length", str(WIDTH), "-"]
    found = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return found.stdout


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_long_statements_are_broken_where_ruff_does(depth: int) -> None:
    writer = Writer()
    heads = [f"def f{level}():" for level in range(depth)]

    def write(level: int) -> None:
        if level < depth:
            writer.line(heads[level])
            with writer.indented():
                write(level + 1)
            return
        for statement in STATEMENTS:
            writer.line(statement.replace("return ", "") if depth == 0 else statement)

    write(0)
    assert max(map(len, writer.text().splitlines())) <= WIDTH
    assert writer.text() == formatted(writer.text())
    flat = [statement for statement in STATEMENTS if statement.replace(" ", "") not in
            writer.text().replace(" ", "").replace("\n", "")]  # fmt: skip
    assert len(flat) > 10  # they were broken


@pytest.mark.parametrize("statement", STATEMENTS)
def test_breaking_changes_nothing_but_the_layout(statement: str) -> None:
    import ast

    source = statement.replace("return ", "")
    broken = "\n".join(wrapped(source, 60))
    assert ast.dump(ast.parse(broken)) == ast.dump(ast.parse(source))


def test_what_is_short_or_no_statement_stays() -> None:
    assert wrapped("x = f(y)", 100) == ["x = f(y)"]
    text = '"""' + "word " * 30 + '"""'
    assert wrapped(text, 100) == [text]
    assert wrapped("not python " * 20, 100) == ["not python " * 20]


def test_lines_blocks_and_comments() -> None:
    writer = Writer()
    writer.line("def f(x):")
    with writer.indented():
        writer.comment("word " * 40)
        writer.lines("y = x\n\nz = y")
        writer.assign("w", "z")
    writer.blank(2)
    lines = writer.text().splitlines()
    assert lines[0] == "def f(x):"
    assert all(line.startswith("    # word") for line in lines[1:4])
    assert max(map(len, lines)) <= WIDTH
    assert lines[-4:] == ["    y = x", "", "    z = y", "    w = z"]
    assert writer.text().endswith("z\n")


def test_lines_that_are_written_ahead_keep_their_depth() -> None:
    """The statements before a part may depend on what is written in it."""
    writer = Writer()
    writer.line("def f():")
    with writer.indented():
        body = writer.inside()
        body.line(f"return function({', '.join([LONG] * 6)})")
        writer.line("x = 1")
        writer.append(body)
    lines = writer.text().splitlines()
    assert lines[:3] == ["def f():", "    x = 1", "    return function("]
    assert writer.text() == formatted(writer.text())


def test_headers_of_functions() -> None:
    writer = Writer()
    writer.call("def f", ["a: int", "b: int"], " -> None:")
    writer.call("def g", [f"{LONG}_{k}: int" for k in range(3)], " -> None:")
    writer.call("def h", [f"{LONG}_{k}: int" for k in range(6)], " -> None:")
    text = writer.text().replace("None:", "None: ...")
    assert text.splitlines()[0] == "def f(a: int, b: int) -> None: ..."
    assert formatted(text) == formatted(formatted(text))
    assert f"    {LONG}_5: int,\n) -> None:" in writer.text()
