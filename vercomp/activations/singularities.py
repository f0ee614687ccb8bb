"""Proof that a branch has no pole, no root of zero and no other place where it is not smooth.

atan(1/x) has a harmless derivative, −1/(1 + x²), and jumps all the same: what is said about the
derivatives of a formula means something only where the formula is smooth.
"""

from __future__ import annotations

import sympy

from vercomp.activations.branch_and_bound import UnprovedError, lower_bound
from vercomp.activations.branches import Branch, inner_point
from vercomp.activations.functions import Sigmoid, Softplus
from vercomp.errors import UnsupportedError
from vercomp.ir.activation import X

_SMOOTH = (
    *(sympy.exp, sympy.sin, sympy.cos, sympy.sinh, sympy.cosh, sympy.tanh, sympy.asinh),
    *(sympy.atan, sympy.erf, sympy.erfc, Sigmoid, Softplus),
)


def check_smooth(branch: Branch) -> None:
    """Prove that the formula is infinitely differentiable on the closed interval of the branch.

    Raises:
        UnsupportedError: It is not, or there is no proof.
    """
    for part in sympy.preorder_traversal(branch.formula):
        if not part.free_symbols or part == X or part.is_Add or part.is_Mul:
            continue
        if isinstance(part, sympy.Pow) and part.exp.is_Integer and part.exp.is_positive:
            continue
        if isinstance(part, sympy.Pow) and part.exp.is_Rational:
            _check_sign(part.base, branch, either=bool(part.exp.is_Integer))
        elif isinstance(part, sympy.log):
            _check_sign(part.args[0], branch, either=False)
        elif not isinstance(part, _SMOOTH):
            raise UnsupportedError(f"the function {part.func.__name__} is not known here")


def _check_sign(base: sympy.Expr, branch: Branch, *, either: bool) -> None:
    """Prove that an expression is positive on the branch (or, with ``either``, negative)."""
    if base.is_positive or (either and base.is_negative):
        return
    signs = (1, -1) if either else (1,)
    if base.is_polynomial(X) and all(c.is_Rational for c in sympy.Poly(base, X).all_coeffs()):
        roots = sympy.Poly(base, X).real_roots()
        point = inner_point(branch.lower, branch.upper)
        if not any(branch.lower <= root <= branch.upper for root in roots) and any(
            sign * base.subs(X, point) > 0 for sign in signs
        ):
            return
    else:
        for sign in signs:
            try:
                if lower_bound(Branch(branch.lower, branch.upper, sign * base)) > 0:
                    return
            except UnprovedError:
                continue
    raise UnsupportedError(
        f"it is not proved that {base} is {'not zero' if either else 'positive'} for every x, so "
        "that the formula is smooth"
    )
