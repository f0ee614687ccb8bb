"""Branch and bound on its own: ends, tails, periods, and giving up."""

from __future__ import annotations

import pytest
import sympy
from sympy import atan, cos, exp, oo, sin, tanh

from vercomp.activations.branch_and_bound import UnprovedError, enclosed_range
from vercomp.activations.branches import Branch
from vercomp.activations.functions import Sigmoid
from vercomp.ir.activation import X


@pytest.mark.parametrize(
    ("lower", "upper", "formula", "expected"),
    [
        (0, 1, X**3 + X, (0, 2)),
        (-2, 1, -tanh(X) - X, (-1.7615941559557649, 2.9640275800758169)),
        (0, oo, 1 / (1 + X), (0, 1)),
        (-oo, 2, exp(X) * X, (-0.36787944117144233, 14.7781121978613)),
        (7, oo, X * exp(-X), (0, 0.006383173758881612)),
        (-oo, -5, Sigmoid(X) * X**2, (0, 0.16732127310712139)),
        (-oo, oo, sin(2 * X) + cos(3 * X), (-2, 2)),
        (-oo, oo, sin(X * sympy.pi) * cos(X * sympy.pi), (-0.5, 0.5)),
    ],
)
def test_ranges(lower, upper, formula, expected):
    branch = Branch(sympy.sympify(lower), sympy.sympify(upper), formula)
    found = enclosed_range(branch)
    assert found == pytest.approx(_sampled(branch), rel=2e-4, abs=2e-4)
    if formula != sin(2 * X) + cos(3 * X):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert found[0] <= expected[0] + 1e-15
        assert found[1] >= expected[1] - 1e-15


def _sampled(branch):
    function = sympy.lambdify(X, branch.formula.subs(Sigmoid(X), 1 / (1 + exp(-X))), "math")
    lower = max(float(branch.lower), -60.0)
    upper = min(float(branch.upper), 60.0) if branch.formula != 1 / (1 + X) else 1e5
    values = [function(lower + (upper - lower) * step / 20000) for step in range(20001)]
    return min(values), max(values)


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        (exp(X), "is unbounded"),
        (X * sin(X), "is unbounded"),
        (sin(X) + sin(sympy.sqrt(2) * X), "could not be enclosed to 1e-10 near x = "),
        (1 / X, "is unbounded"),
        (atan(1 / X), "could not be enclosed"),
        (tanh(1 / X), "could not be enclosed"),
    ],
)
@pytest.mark.slow
def test_giving_up(formula, reason):
    with pytest.raises(UnprovedError) as caught:
        enclosed_range(Branch(-oo, oo, formula))
    assert str(caught.value).startswith(reason)
