"""Emitted functions: executed, against 50-digit values and autograd, formatted and lint-clean."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vercomp.activations import BUILTIN, function_source
from vercomp.activations.branches import branches
from vercomp.activations.evaluation import real_function
from vercomp.errors import InternalError, UnsupportedError
from vercomp.ir.activation import Activation, X

HEADER = "import torch\nfrom torch import Tensor\nfrom torch.nn import functional as F\n"
U = 2.0**-53
ALL = [family.build() for family in BUILTIN] + [
    BUILTIN.build("softplus", beta=0.1),
    BUILTIN.build("softplus", beta=10.0),
    BUILTIN.build("gelu", scale=0.7071067690849304),
    BUILTIN.build("gelu_tanh", a=0.7978845834732056, b=0.044714998453855515),
    BUILTIN.build("silu", beta=1.702),
    BUILTIN.build("celu", alpha=2.5),
]
ROUGH = {
    *("relu", "abs", "relu6", "leaky_relu", "hardtanh", "selu", "hardsigmoid", "hardswish"),
    *("clamp_min", "clamp_max"),
}


def compiled(activation, order):
    namespace = {}
    exec(HEADER + function_source(activation, order, "f"), namespace)  # noqa: S102
    return namespace["f"]


def grid():
    near = torch.linspace(-13, 13, 331, dtype=torch.float64) + 1e-7
    tiny = torch.logspace(-8, -1, 8, dtype=torch.float64)
    far = torch.logspace(1.1, 4, 16, dtype=torch.float64)
    return torch.cat((near, tiny, -tiny, far, -far))


@functools.cache
def pieces(activation, order):
    return [
        (float(branch.upper), real_function(branch.derivative(order).formula))
        for branch in branches(activation.formula)
    ]


def exact(activation, order, x):
    """The derivative of the branch that x lies in, to 50 digits."""
    return next(function(x) for upper, function in pieces(activation, order) if x <= upper)


@pytest.mark.parametrize("activation", ALL, ids=str)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_values_are_accurate(activation, order):
    points = grid()
    for x, value in zip(points.tolist(), compiled(activation, order)(points).tolist(), strict=True):
        true = exact(activation, order, x)
        allowed = 8 * U * (1 + abs(true) + abs(x)) if order == 0 else 10 * U * (1 + abs(x))
        assert abs(true - value) <= allowed + (activation.deviation if order == 0 else 0), x


@pytest.mark.parametrize("activation", ALL, ids=str)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_float32_stays_float32_and_finite(activation, order):
    points = grid()
    function = compiled(activation, order)
    value = function(points.float())
    assert value.dtype == torch.float32
    assert value.shape == points.shape
    assert function(points.reshape(1, -1)).dtype == torch.float64
    reference = function(points.float().double())
    assert ((value - reference).abs() <= 40 * 2.0**-24 * (1 + points.abs())).all()


@pytest.mark.parametrize("activation", [a for a in ALL if a.name not in ROUGH], ids=str)
def test_derivatives_agree_with_autograd_of_the_spelling(activation):
    z = torch.linspace(-6, 6, 401, dtype=torch.float64) + 1e-7
    z.requires_grad_(True)
    value = activation.spelling(z).sum() + 0 * (z**2).sum()
    (first,) = torch.autograd.grad(value, z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum() + 0 * (z**3).sum(), z)
    # torch's softplus has its threshold in its derivatives, too.
    jump = 3e-9 * dict(activation.parameters).get("beta", 1) if activation.deviation else 0
    assert torch.allclose(compiled(activation, 1)(z.detach()), first.detach(), atol=1e-12 + jump)
    # torch's own second derivatives lose some digits.
    assert torch.allclose(compiled(activation, 2)(z.detach()), second, atol=1e-9 + jump)


def test_all_sources_are_formatted_and_lint_clean(tmp_path):
    parts = ['"""Activations."""\n\n' + HEADER]
    for number, activation in enumerate(ALL):
        parts += [function_source(activation, order, f"f{number}_{order}") for order in (0, 1, 2)]
    path = tmp_path / "emitted.py"
    path.write_text("\n\n".join(parts), encoding="utf-8")
    config = str(Path(__file__).parents[2] / "pyproject.toml")
    for command in (["format", "--check"], ["check", "--no-cache"]):
        run = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", config, str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("name", "order", "source"),
    [
        (
            "sigmoid",
            1,
            "def f(z: Tensor) -> Tensor:\n"
            '    """σ′(z) = (1 − sigmoid(z))·sigmoid(z)."""\n'
            "    s = torch.sigmoid(z)\n"
            "    return s * (1 - s)\n",
        ),
        (
            "softplus",
            0,
            "def f(z: Tensor) -> Tensor:\n"
            '    """σ(z) = log(1 + exp(z))."""\n'
            "    return F.softplus(z)\n",
        ),
        (
            "softsign",
            2,
            "def f(z: Tensor) -> Tensor:\n"
            '    """σ″(z) = −2·sign(z)/(1 + |z|)³."""\n'
            "    return -2 * torch.sign(z) / (1 + torch.abs(z)) ** 3\n",
        ),
        (
            "elu",
            1,
            "def f(z: Tensor) -> Tensor:\n"
            '    """σ′(z) = 1 where z > 0, exp(z) otherwise."""\n'
            "    below = z.clamp(max=0)\n"
            "    return torch.where(z > 0, 1, torch.exp(below))\n",
        ),
    ],
)
def test_source_reads_well(name, order, source):
    assert function_source(BUILTIN.build(name), order, "f") == source


def user(formula, spelling=torch.tanh):
    return Activation("mine", formula, spelling)


@pytest.mark.parametrize(
    "formula",
    [
        sympy.asinh(X),
        sympy.sqrt(1 + X**2),
        X * sympy.log(1 + 1 / (1 + sympy.exp(-X))),
        sympy.sin(3 * X) * sympy.exp(-(X**2)) + sympy.cos(X) / (1 + X**2),
        X * sympy.erf(sympy.log(1 + sympy.exp(X))),
        sympy.Piecewise((0, X < 0), (3 * X**2 - 2 * X**3, X < 1), (1, True)),
    ],
    ids=str,
)
@pytest.mark.parametrize("order", [1, 2])
def test_formulas_of_users_are_printed(formula, order):
    activation = user(formula)
    points = torch.linspace(-6, 6, 97, dtype=torch.float64) + 1e-7
    value = compiled(activation, order)(points)
    expected = [float(exact(activation, order, x)) for x in points.tolist()]
    assert torch.allclose(value, torch.tensor(expected).double(), atol=1e-7, rtol=1e-7)


@settings(max_examples=15)
@given(st.sampled_from(["softplus", "silu", "gelu", "celu"]), st.floats(0.1, 10), st.integers(1, 2))
def test_any_parameter_prints_and_computes(name, value, order):
    parameter = {"gelu": "scale", "celu": "alpha"}.get(name, "beta")
    activation = BUILTIN.build(name, **{parameter: value})
    points = torch.tensor([-30.0, -2.5, -0.3, 0.1, 0.7, 4.0, 90.0], dtype=torch.float64)
    computed = compiled(activation, order)(points).tolist()
    for x, result in zip(points.tolist(), computed, strict=True):
        # The second derivative is of the size of the parameter.
        allowed = 10 * U * (1 + abs(x)) * (1 if order == 1 else 1 + max(value, 1 / value))
        assert abs(exact(activation, order, x) - result) <= allowed


@pytest.mark.parametrize(
    ("spelling", "lines"),
    [
        (lambda x: -x * 2 + 1, ["return -z * 2 + 1"]),
        (lambda x: (x + 1) ** 2 / (x - 3), ["return (z + 1) ** 2 / (z - 3)"]),
        (lambda x: x - (x - 1), ["return z - (z - 1)"]),
        (lambda x: x**2 * x.tanh(), ["return z**2 * z.tanh()"]),
        (lambda x: 2.0**-x, ["return 2.0 ** (-z)"]),
        (lambda x: torch.clamp(x, min=-1.0), ["return torch.clamp(z, min=-1.0)"]),
    ],
)
def test_spellings_are_printed_as_they_are(spelling, lines):
    source = function_source(user(X, spelling), 0, "f")
    assert source.splitlines()[2:] == ["    " + line for line in lines]
    z = torch.linspace(0.1, 1, 7)
    assert torch.equal(compiled(user(X, spelling), 0)(z), spelling(z))


def test_parts_that_are_used_twice_get_a_name():
    def swishy(x):
        s = torch.sigmoid(x)
        return s * x + s

    source = function_source(user(X, swishy), 0, "f")
    assert source.endswith("    a = torch.sigmoid(z)\n    return a * z + a\n")


def test_refusals():
    with pytest.raises(UnsupportedError, match="torch has no function for polygamma"):
        function_source(user(sympy.loggamma(X)), 2, "f")
    with pytest.raises(UnsupportedError, match="cannot be written down: it holds parameters"):
        function_source(user(X, lambda x: x * torch.ones(3)), 0, "f")
    with pytest.raises(InternalError, match="'a b' is not a name for a function"):
        function_source(BUILTIN.build("tanh"), 1, "a b")
    with pytest.raises(InternalError, match="'def' is not a name for a function"):
        function_source(BUILTIN.build("tanh"), 1, "def")
