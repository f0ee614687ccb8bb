"""Formulas that no known activation computes: what is wrong with them, and what would help."""

from __future__ import annotations

import pytest
import sympy
import torch
from sympy import Abs, Max, Piecewise, Rational, cos, exp, log, sign, sin, sqrt, tanh
from torch import nn

import vercomp
from vercomp.activations import BUILTIN, define_activation
from vercomp.errors import UnsupportedError
from vercomp.frontends import elementwise
from vercomp.frontends.fx import from_torch
from vercomp.frontends.scaling import scaled
from vercomp.frontends.translation import refuse_opaque
from vercomp.frontends.unknown import explained
from vercomp.ir.activation import X
from vercomp.ir.reference import result, stored_as

# torch.export warns about its own internals
pytestmark = pytest.mark.filterwarnings("default:::torch", "default::DeprecationWarning")

REASONS = {
    "a softplus with a small threshold": (
        elementwise.softplus(X, 10.0, 0.5),
        "jumps by 0.0474 at x = 0.05, its threshold, from softplus(beta=10) to x, "
        "so no bound holds on both sides",
    ),
    "a sign": (
        sign(X),
        "sign(x) jumps by 2 at x = 0 from −1 to 1, so no bound holds on both sides",
    ),
    "a comparison": (
        sympy.Gt(X, Rational(3, 10)),
        "x > 3/10 jumps by 1 at x = 0.3 from 0 to 1, so no bound holds on both sides",
    ),
    "a choice between an activation and a line": (
        elementwise.choose(X > 1, X / 2, tanh(X)),
        "x/2 where x > 1, tanh(x) otherwise jumps by 0.262 at x = 1 from tanh to x/2, "
        "so no bound holds on both sides",
    ),
    "a hard shrinkage": (elementwise.shrink(X, 0.5, 0.0), "jumps by 0.5 at x = -0.5 from x to 0"),
    "a square": (X**2, "x² cannot be bounded: the first derivative is unbounded"),
    "a pole": (1 / X, "1/x cannot be bounded: it is not proved that x is not zero for every x"),
    "a constant of float32": (
        exp(-elementwise.number(0.1) * X**2) * elementwise.number(0.30000001192092896),
        "3·exp(−x²/10)/10 is smooth, but is none of the activations that vercomp knows",
    ),
    "kinks": (
        Max(sin(X), cos(X)),
        "max(sin(x), cos(x)) is not made of activations that vercomp knows",
    ),
    "a kink": (
        Abs(X) * exp(-Abs(X)),
        "|x|·exp(−|x|) has kinks, but is none of the activations that vercomp knows",
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_is_named(name):
    formula, reason = REASONS[name]
    assert reason in explained(formula, BUILTIN).text


@pytest.mark.parametrize("formula", [sign(X), X**2, 1 / X, elementwise.softplus(X, 10.0, 0.5)])
def test_nothing_is_proposed_for_what_nobody_could_bound(formula):
    assert explained(formula, BUILTIN).remedy == ""


DEFINABLE = {
    "algebraic": (X / sqrt(1 + X**2), lambda x: x / torch.sqrt(1 + x * x)),
    "Gaussian": (exp(-(X**2)), lambda x: torch.exp(-x * x)),
    "snake": (X + sin(X) ** 2, lambda x: x + torch.sin(x) ** 2),
    "decimals": (
        elementwise.number(0.7) * X + log(1 + X**2) / 3,
        lambda x: 0.7 * x + torch.log(1 + x**2) / 3,
    ),
}


class Net(nn.Module):
    """A function between two layers."""

    def __init__(self, function):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3, 4), nn.Linear(4, 3)
        self.function = function

    def forward(self, x):
        return self.fc2(self.function(self.fc1(x)))


@pytest.mark.parametrize("name", DEFINABLE)
def test_the_lines_that_are_proposed_make_an_activation(name):
    """Run as they stand, they define one that the model is then found to use."""
    _, function = DEFINABLE[name]
    torch.manual_seed(0)
    with pytest.raises(UnsupportedError, match="is smooth, but is none") as error:
        refuse_opaque(from_torch(Net(function), (3,), BUILTIN).graph)
    _, _, lines = str(error.value).partition("plugin:\n    @vercomp.register\n")
    families = []

    class Registry:
        @staticmethod
        def add_activation(family):
            families.append(family)

    namespace = {"vercomp": vercomp, "torch": torch, "F": nn.functional}
    source = "\n".join(line[4:] for line in lines.splitlines())
    exec(source, namespace)  # noqa: S102
    namespace["register"](Registry)
    (family,) = families
    graph = from_torch(Net(function), (3,), BUILTIN.with_family(family)).graph
    (activation,) = graph.activations()
    assert activation.function.name == "mine"


bell = define_activation("bell", exp(-(X**2)), lambda x: torch.exp(-x * x))
wavelet = define_activation("wavelet", X * exp(-(X**2)), lambda x: x * torch.exp(-x * x))
algebraic = define_activation("algebraic", X / sqrt(1 + X**2), lambda x: x / torch.sqrt(1 + x * x))
TABLE = BUILTIN.with_family(bell).with_family(wavelet).with_family(algebraic)

MULTIPLES = {
    "exp(-x²/2)": (lambda x: torch.exp(-x * x / 2), "bell"),
    "exp(-2x²)": (lambda x: torch.exp(-2 * x**2), "bell"),
    "shifted and scaled": (lambda x: 1 - 3 * torch.exp(-0.3 * (x - 1) ** 2), "bell"),
    "odd": (lambda x: -x * torch.exp(-3 * x * x), "wavelet"),
    "algebraic": (lambda x: 2 * x * torch.rsqrt(0.3 + 5 * x * x) + 1, "algebraic"),
}


@pytest.mark.parametrize("name", MULTIPLES)
def test_multiples_of_a_users_activation_are_found(name):
    function, expected = MULTIPLES[name]
    torch.manual_seed(0)
    model = Net(function)
    translation = from_torch(model, (3,), TABLE)
    refuse_opaque(translation.graph)
    (activation,) = translation.graph.activations()
    assert activation.function.name == expected
    x = torch.randn(20, 3, dtype=torch.float64)
    found = result(translation.graph, x, stored_as(torch.float64))
    assert torch.allclose(found, model.double()(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "formula", [exp(-(X**4)), exp(-(X**2)) + X**3 / 100, X / (1 + X**2), Piecewise((X, X > 0))]
)
def test_what_is_no_multiple_is_not_taken_for_one(formula):
    assert scaled(formula, TABLE) is None


def test_an_operator_with_several_results_is_listed_once():
    def both(x):
        values, places = torch.sort(x, 1)
        return values + x.gather(1, places)

    with pytest.raises(UnsupportedError) as error:
        refuse_opaque(from_torch(Net(both), (3,), BUILTIN).graph)
    assert str(error.value).count("aten.sort.default") == 1


def test_a_comparison_made_a_number_is_listed_once():
    with pytest.raises(UnsupportedError) as error:
        refuse_opaque(from_torch(Net(lambda x: (x > 0).float()), (3,), BUILTIN).graph)
    assert "1 where x > 0, 0 otherwise jumps by 1 at x = 0 from 0 to 1" in str(error.value)
    assert "operators are not supported" not in str(error.value)
