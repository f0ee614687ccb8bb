"""Exact ranges of smooth functions, where a method of bounded cost finds them.

Two shapes are recognised. A rational function of one generator w (a sigmoid, a tanh, an exponential
of an affine function of x): its range is that of a rational function on an interval. And a function
whose derivative is a polynomial in x times something that never vanishes: its extrema are at the
roots. sympy's general solver is never asked; it may not come back.
"""

from __future__ import annotations

from collections.abc import Iterable

import sympy
from sympy import oo

from vercomp.activations.branches import Branch
from vercomp.activations.functions import Sigmoid, Softplus, factored
from vercomp.activations.tails import limit
from vercomp.ir.activation import X

Range = tuple[sympy.Expr, sympy.Expr]

LIMITS: dict[type, Range] = {
    Sigmoid: (sympy.Integer(0), sympy.Integer(1)),
    sympy.tanh: (sympy.Integer(-1), sympy.Integer(1)),
    sympy.erf: (sympy.Integer(-1), sympy.Integer(1)),
    sympy.atan: (-sympy.pi / 2, sympy.pi / 2),
    sympy.exp: (sympy.Integer(0), oo),
}
"""Monotone functions with their limits at −∞ and ∞."""

NEVER_ZERO = (Sigmoid, Softplus, sympy.cosh)

_LONGEST = 10**6
"""Numerators and denominators beyond this (the exact values of floats) swamp sympy's roots."""


def exact_range(branch: Branch) -> Range | None:
    """Infimum and supremum of a branch in closed form, or None where none is found."""
    if not branch.formula.has(X):
        return branch.formula, branch.formula
    return _range_by_generator(branch) or _range_by_critical_points(branch)


def order(values: Iterable[sympy.Expr]) -> list[sympy.Expr]:
    """Closed forms sorted by value."""
    return sorted(values, key=numeric)


def numeric(value: sympy.Expr) -> sympy.Float:
    """A closed form to 50 digits."""
    return sympy.N(value, 50)


def _range_by_generator(branch: Branch) -> Range | None:
    w = sympy.Dummy("w", real=True)
    for generator in branch.formula.atoms(sympy.Function):
        if generator.func not in (*LIMITS, sympy.sin, sympy.cos) or not generator.has(X):
            continue
        rational = branch.formula.subs(generator, w)
        if rational.has(X) or not rational.is_rational_function(w):
            continue
        interval = _values_of(generator, branch)
        if interval is not None:
            return _rational_range(rational, w, *interval)
    return None


def _values_of(generator: sympy.Expr, branch: Branch) -> Range | None:
    """The closure of the values of a generator of an affine function on a branch."""
    inner = generator.args[0]
    slope = inner.diff(X)
    if slope.has(X) or slope.is_zero:
        return None
    if generator.func in (sympy.sin, sympy.cos):
        whole = (branch.lower, branch.upper) == (-oo, oo)
        return (sympy.Integer(-1), sympy.Integer(1)) if whole else None
    below, above = LIMITS[generator.func]
    rising = bool(slope > 0)
    left, right = (below, above) if rising else (above, below)
    ends = (
        left if branch.lower == -oo else generator.subs(X, branch.lower),
        right if branch.upper == oo else generator.subs(X, branch.upper),
    )
    return ends if rising else (ends[1], ends[0])


def _rational_range(
    function: sympy.Expr, w: sympy.Symbol, lower: sympy.Expr, upper: sympy.Expr
) -> Range | None:
    """The range of a rational function on a bounded closed interval on which it has no pole."""
    if oo in (lower, upper) or -oo in (lower, upper):
        return None
    denominator = sympy.fraction(sympy.together(function))[1]
    poles = real_roots(denominator, w)
    slope = sympy.fraction(sympy.together(sympy.diff(function, w)))[0]
    critical = real_roots(slope, w)
    if poles is None or critical is None or any(lower <= pole <= upper for pole in poles):
        return None
    points = [lower, *(root for root in critical if lower < root < upper), upper]
    ordered = order(sympy.radsimp(sympy.simplify(function.subs(w, point))) for point in points)
    return ordered[0], ordered[-1]


def _range_by_critical_points(branch: Branch) -> Range | None:
    """Extrema at the roots of the derivative, where that is a polynomial times no zeros."""
    formula = branch.formula
    if any(max(abs(r.p), r.q) > _LONGEST for r in formula.atoms(sympy.Rational)):
        return None
    critical: list[sympy.Expr] = []
    for factor in sympy.Mul.make_args(factored(sympy.diff(formula, X))):
        base, exponent = factor.as_base_exp()
        if not factor.has(X) or isinstance(base, NEVER_ZERO) or isinstance(factor, sympy.exp):
            continue
        roots = real_roots(base, X)
        if roots is None:
            return None
        if exponent.is_positive:
            critical.extend(root for root in roots if branch.lower < root < branch.upper)
        elif any(branch.lower <= root <= branch.upper for root in roots):
            return None
    left = limit(formula, -1) if branch.lower == -oo else formula.subs(X, branch.lower)
    right = limit(formula, 1) if branch.upper == oo else formula.subs(X, branch.upper)
    if left is None or right is None:
        return None
    values = order([left, right, *(formula.subs(X, root) for root in critical)])
    return sympy.simplify(values[0]), sympy.simplify(values[-1])


def real_roots(expression: sympy.Expr, variable: sympy.Symbol) -> list[sympy.Expr] | None:
    """All real roots of a polynomial, or None where they are not had in closed form."""
    if not expression.has(variable):
        return []
    if not expression.is_polynomial(variable):
        return None
    polynomial = sympy.Poly(sympy.expand(expression), variable)
    polynomial = polynomial.monic() if polynomial.degree() > 0 else polynomial
    if all(c.is_Rational for c in polynomial.all_coeffs()):
        return list(dict.fromkeys(sympy.Poly(polynomial, variable, domain="QQ").real_roots()))
    if polynomial.degree() == 1:
        return [-polynomial.all_coeffs()[1]]
    if polynomial.degree() == 2:
        _, b, c = polynomial.all_coeffs()
        discriminant = sympy.simplify(b**2 / 4 - c)
        if discriminant.is_negative:
            return []
        if discriminant.is_nonnegative:
            return [-b / 2 - sympy.sqrt(discriminant), -b / 2 + sympy.sqrt(discriminant)]
    return None
