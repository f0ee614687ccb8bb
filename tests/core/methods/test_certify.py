"""Certificates attacked: known distances, grids, PGD, every target; and wrong formulas caught."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from certifiables import ByHand, affine, against_zero, least_margin, sphere, two_layers
from torch import Tensor, nn

import vercomp
from benchmarks.algorithm1 import algorithm1
from vercomp.core.linearization import Linearization
from vercomp.core.methods.certificates import Certificates
from vercomp.core.methods.certify import certify
from vercomp.core.methods.pairs import Margins, Screen, placement


def doubles(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def zeros(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.long)


def random_inputs(network: ByHand, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *network.input_shape, generator=generator, dtype=torch.float64)
    return x, network.function(x.flatten(1)).argmax(1)


def check_witnesses(network: ByHand, x: Tensor, y: Tensor, found: Certificates) -> None:
    """Every witness is misclassified (a tie counts), no nearer than the radius; gap is its own."""
    rows = torch.isfinite(found.gap) & (found.radius > 0)
    z = network.function(found.witness[rows].flatten(1))
    others = z.scatter(1, y[rows, None], -torch.inf).amax(1)
    assert (z.gather(1, y[rows, None])[:, 0] <= others).all()
    distance = (found.witness - x)[rows].flatten(1).norm(dim=1)
    assert (distance >= found.radius[rows]).all()
    torch.testing.assert_close(distance, found.radius[rows] * (1.0 + found.gap[rows]))


# Distances known in closed form.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kappa", [1e-3, 1.0, 50.0])
def test_a_sphere_is_certified_exactly(kappa: float, dtype: torch.dtype) -> None:
    network = sphere(3, radius=2.0, kappa=kappa)
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    x = x / x.norm(dim=1, keepdim=True) * torch.linspace(0.05, 1.95, 40, dtype=dtype)[:, None]
    found = certify(network, x, zeros(40))
    distance = 2.0 - x.double().norm(dim=1)
    assert (found.radius <= distance).all()
    torch.testing.assert_close(found.radius, distance, rtol=1e-5, atol=1e-9)
    assert found.exact.all()
    check_witnesses(network, x.double(), zeros(40), found)


def test_a_plane_is_certified_exactly() -> None:
    network = affine(torch.tensor([3.0, 4.0], dtype=torch.float64), 10.0)
    found = certify(network, doubles([0.0, 0.0], [1.0, 1.0], [-2.0, 0.5]), zeros(3))
    expected = torch.tensor([2.0, 3.4, 1.2], dtype=torch.float64)
    assert (found.radius <= expected).all()
    torch.testing.assert_close(found.radius, expected, rtol=1e-10, atol=0.0)
    assert found.exact.all()


def test_from_outside_a_sphere_the_nearest_point_is_found() -> None:
    """Label 1 outside the unit ball: f = ½(‖x‖² − 1) is convex, so κ = 0."""
    network = sphere(3)
    x = doubles([2.0, 0.0, 0.0], [0.0, -1.5, 0.0], [1.0, 1.0, 1.0])
    found = certify(network, x, zeros(3) + 1)
    distance = x.norm(dim=1) - 1.0
    assert (found.radius <= distance).all()
    torch.testing.assert_close(found.radius, distance, rtol=1e-4, atol=0.0)
    assert found.exact.all()


# Wrong formulas that must exceed a true distance: the examples have teeth.


def test_wrong_formulas_exceed_the_true_distance() -> None:
    network = sphere(2)
    x0 = doubles([0.01, 0.0])
    distance = 0.99
    value = 0.5 * (1.0 - 0.01**2)
    # The dual at η = 1/κ, x̂ = x₀, without the correction for inexact minimisation.
    assert (2.0 * value) ** 0.5 > distance
    # ‖x_cert − x₀‖ where the published algorithm ends.
    one = torch.ones(1, dtype=torch.float64)
    published = algorithm1(lambda x: (0.5 * (1.0 - (x * x).sum(1)), -x), x0, -one, one)
    assert (published.point - x0).norm() > 2.0 * distance
    # f / ‖g‖, as if there were no curvature.
    assert value / 0.01 > distance
    # And the cut, from the very point at which the published distance is false.
    assert certify(network, x0, zeros(1)).radius <= distance


def test_the_runner_up_alone_is_not_a_certificate() -> None:
    def logits(x: Tensor) -> Tensor:
        one = torch.ones_like(x[:, 0])
        return torch.stack([0.0 * one, -1.0 + 0.1 * x[:, 0], -2.0 + 4.0 * x[:, 1]], 1)

    flat = torch.zeros(3, 3, dtype=torch.float64)
    network = ByHand(logits, (2,), 3, flat, flat)
    x, y = doubles([0.0, 0.0]), zeros(1)
    partial = certify(network, x, y, targets="runner-up")
    torch.testing.assert_close(partial.radius.item(), 10.0, rtol=1e-9, atol=0.0)
    assert partial.target.tolist() == [1]
    assert partial.radius_per_target[0, 2] == torch.inf
    assert partial.evaluations[0, 2] == 0
    full = certify(network, x, y)
    torch.testing.assert_close(full.radius.item(), 0.5, rtol=1e-9, atol=0.0)
    assert full.target.tolist() == [2]
    for targets in (torch.tensor([1]), torch.tensor([[1]])):
        assert certify(network, x, y, targets=targets).radius == partial.radius
    both = certify(network, x, y, targets=torch.tensor([[1, 2]]))
    assert both.radius == full.radius


# Random networks.


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
@pytest.mark.parametrize("seed", range(4))
def test_no_point_of_a_grid_enters_a_certified_disc(activation: str, seed: int) -> None:
    network = two_layers(activation, inputs=2, width=8, scale=2.0, seed=seed)
    x, y = random_inputs(network, 25, seed)
    found = certify(network, x, y)
    assert (found.radius > 0).all()
    angle = torch.linspace(0.0, 2.0 * torch.pi, 361, dtype=torch.float64)
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    disc = torch.cat([ring * share for share in torch.linspace(0.0, 1.0 - 1e-12, 40).double()])
    points = x[:, None] + found.radius[:, None, None] * disc
    classes = network.function(points.reshape(-1, 2)).argmax(1).reshape(25, -1)
    assert (classes == y[:, None]).all()
    check_witnesses(network, x, y, found)


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pgd_never_enters_a_certified_ball(activation: str, dtype: torch.dtype) -> None:
    network = two_layers(activation, inputs=12, width=20, classes=5, seed=3)
    x, y = random_inputs(network, 40)
    x = x.to(dtype)
    found = certify(network, x, y)
    assert (found.radius > 0).all()
    assert (least_margin(network, x.double(), y, found.radius) > 0).all()
    # The attack is strong enough to notice: a little beyond an exact certificate it succeeds.
    exact = found.exact
    assert exact.double().mean() > 0.3
    beyond = least_margin(network, x.double()[exact], y[exact], 1.01 * found.radius[exact])
    assert (beyond <= 0).double().mean() > 0.8
    check_witnesses(network, x.double(), y, found)


def test_every_target_has_its_own_certificate() -> None:
    network = two_layers("tanh", inputs=6, width=10, classes=4, seed=1)
    x, y = random_inputs(network, 20)
    found = certify(network, x, y)
    rows = torch.arange(20)
    assert (found.radius_per_target[rows, y] == torch.inf).all()
    assert (found.radius == found.radius_per_target.amin(1)).all()
    assert (found.radius == found.radius_per_target[rows, found.target]).all()
    alone = torch.stack(
        [certify(network, x, y, targets=(y + step) % 4).radius for step in range(1, 4)],
        1,
    )
    # Skipping pairs that cannot be the smallest does not change the smallest.
    torch.testing.assert_close(found.radius, alone.amin(1), rtol=1e-3, atol=0.0)
    counted = found.evaluations.scatter(1, y[:, None], 1)
    assert (counted >= 1).all()
    assert (found.evaluations[rows, y] == 0).all()
    assert (counted == 1).any()


def test_chunks_change_nothing() -> None:
    network = two_layers("softplus", inputs=5, width=10, seed=2)
    x, y = random_inputs(network, 11)
    whole, parts = certify(network, x, y), certify(network, x, y, chunk=3)
    for field in fields(Certificates):
        one, other = getattr(whole, field.name), getattr(parts, field.name)
        if field.name == "method":
            assert one == other
        elif one is not None:
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9, equal_nan=True)


def test_deciding_agrees_with_the_radius_and_costs_less() -> None:
    network = two_layers("tanh", inputs=10, width=20, classes=4, seed=5)
    x, y = random_inputs(network, 60)
    full = certify(network, x, y)
    question = float(full.radius.median()) * 1.01
    asked = certify(network, x, y, radius=question)
    assert asked.certified is not None
    assert asked.refuted is not None
    torch.testing.assert_close(asked.radius, full.radius)
    assert (asked.certified == (full.radius > question)).all()
    quick = certify(network, x, y, radius=question, decide=True)
    assert quick.certified is not None
    assert quick.refuted is not None
    assert (quick.certified == asked.certified).all()
    assert not (quick.certified & quick.refuted).any()
    assert (quick.refuted | quick.certified).double().mean() > 0.7
    assert quick.evaluations.sum() < 0.9 * full.evaluations.sum()
    assert (
        least_margin(
            network,
            x[quick.certified],
            y[quick.certified],
            torch.full((int(quick.certified.sum()),), question).double(),
        )
        > 0
    ).all()


# Degenerate inputs and networks.


def test_misclassified_inputs_have_radius_zero_and_are_their_own_witness() -> None:
    found = certify(sphere(2), doubles([2.0, 0.0], [0.5, 0.0]), zeros(2))
    assert found.radius[0] == 0.0
    assert found.gap[0] == 0.0
    assert found.exact.tolist() == [True, True]
    assert found.witness[0].tolist() == [2.0, 0.0]
    assert found.prediction.tolist() == [1, 0]


@pytest.mark.parametrize("margin", [0.0, 1e-13, -1e-13])
def test_ties_and_margins_within_the_rounding_error_have_radius_zero(margin: float) -> None:
    network = affine(torch.tensor([1.0, 0.0], dtype=torch.float64), margin)
    found = certify(network, doubles([0.0, 0.0]), zeros(1))
    assert found.radius.tolist() == [0.0]


def test_a_dead_network_is_certified_without_limit_or_not_at_all() -> None:
    network = replace(two_layers("tanh", inputs=4, width=5, dead=True), error=0.0)
    x, y = random_inputs(network, 3)
    found = certify(network, x, y)
    assert (found.radius == torch.inf).all()
    assert (found.gap == torch.inf).all()
    assert not found.exact.any()
    assert found.witness.isnan().all()
    wrong = certify(network, x, (y + 1) % 3)
    assert (wrong.radius == 0.0).all()


def test_logits_that_do_not_depend_on_the_input_at_all() -> None:
    flat = torch.zeros(2, 2, dtype=torch.float64)
    logits = torch.tensor([1.0, 0.0], dtype=torch.float64)
    network = ByHand(lambda x: logits.expand(len(x), -1), (3,), 2, flat, flat, error=0.0)
    found = certify(network, torch.zeros(2, 3), zeros(2))
    assert found.radius.tolist() == [torch.inf, torch.inf]


def test_a_critical_point_is_certified_by_curvature_alone() -> None:
    found = certify(sphere(3, kappa=7.0), torch.zeros(1, 3), zeros(1))
    assert found.radius <= 1.0
    torch.testing.assert_close(found.radius.item(), 1.0, rtol=1e-9, atol=0.0)


def test_nan_from_the_network_certifies_nothing() -> None:
    class Broken(ByHand):
        def linearize(self, x: Tensor, c: Tensor) -> Linearization:
            found = super().linearize(x, c)
            return found._replace(gradient_error=torch.full_like(found.value, torch.nan))

    flat = torch.zeros(2, 2, dtype=torch.float64)
    network = Broken(lambda x: torch.stack([x[:, 0], -x[:, 0]], 1), (2,), 2, flat, flat)
    found = certify(network, doubles([1.0, 0.0]), zeros(1))
    assert found.radius.tolist() == [0.0]
    silent = against_zero(lambda x: torch.full_like(x[:, 0], torch.nan), 2, 0.0, 0.0)
    assert certify(silent, doubles([1.0, 0.0]), zeros(1)).radius.tolist() == [0.0]


def test_float64_has_the_last_word() -> None:
    """A screen that flatters (a model whose own dtype is far off) changes no promise."""

    class Flattering(ByHand):
        def __call__(self, x: Tensor) -> Tensor:
            return super().__call__(x) * torch.tensor([5.0, 0.1]).to(x)

    whole = sphere(2)
    network = Flattering(whole.function, (2,), 2, whole.lower, whole.upper)
    x = doubles([0.2, 0.0], [0.0, 0.9])
    found = certify(network, x, zeros(2))
    assert (found.radius <= 1.0 - x.norm(dim=1)).all()
    assert (found.radius > 0.0).all()
    # The screen may even be wrong about the class.
    backwards = Flattering(lambda x: whole.function(x), (2,), 2, whole.lower, whole.upper)
    backwards.dtype = torch.float32
    near = doubles([1.0 - 1e-9, 0.0])
    found = certify(backwards, near, zeros(1))
    assert 0.9e-9 < found.radius < 1e-9
    assert found.prediction.tolist() == [0]


def test_a_module_keeps_its_parameters_and_gradients() -> None:
    class Module(nn.Module):
        input_shape, classes = (1, 2, 2), 3

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.linear(x.flatten(1))
            return logits

        def linearize(self, x: Tensor, c: Tensor) -> Linearization:
            weight, bias = self.linear.weight.detach().double(), self.linear.bias.detach().double()
            error = torch.full_like(c[..., 0], 1e-12)
            value = ((x @ weight.T + bias) * c).sum(-1)
            return Linearization(value, c @ weight, error, error)

        def enclose(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
            found = self.linearize(x, c)
            return found.value, found.value_error

        def curvature(self) -> tuple[Tensor, Tensor]:
            return torch.zeros(3, 3).double(), torch.zeros(3, 3).double()

        def lipschitz(self) -> Tensor:
            return torch.full((3, 3), torch.inf, dtype=torch.float64)

    torch.manual_seed(0)
    module = Module()
    x = torch.randn(6, 1, 2, 2)
    y = module(x).argmax(1)
    weight = module.linear.weight.double()
    with torch.no_grad():
        expected = torch.stack(
            [
                (z[y[i]] - z) / (weight[y[i]] - weight).norm(dim=1)
                for i, z in enumerate(module(x).double())
            ]
        ).nan_to_num(nan=torch.inf)
    before = module.linear.weight.detach().clone()
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            found = certify(module, x, y)
        torch.testing.assert_close(found.radius, expected.amin(1), rtol=1e-4, atol=1e-6)
        assert found.witness.shape == x.shape
        assert not found.radius.requires_grad
    assert module.linear.weight.grad is None
    assert torch.equal(module.linear.weight, before)
    module.requires_grad_(False)
    torch.testing.assert_close(certify(module, x, y).radius, found.radius)


def test_an_empty_batch_gives_empty_certificates() -> None:
    found = certify(sphere(3), torch.zeros(0, 3), zeros(0), radius=0.1)
    assert found.radius.shape == (0,)
    assert found.witness.shape == (0, 3)
    assert found.radius_per_target.shape == (0, 2)


# What a user may get wrong.


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(2, 4)}, ValueError, r"shape \(batch, 3\), got \(2, 4\)"),
        ({"x": torch.zeros(3)}, ValueError, r"shape \(batch, 3\), got \(3,\)"),
        (
            {"x": torch.zeros(2, 3, dtype=torch.long)},
            TypeError,
            "float32 or float64, got torch.int64",
        ),
        ({"x": torch.zeros(2, 3).half()}, TypeError, "float32 or float64, got torch.float16"),
        ({"x": [[0.0, 0.0, 0.0]]}, TypeError, "float32 or float64, got list"),
        (
            {"x": torch.tensor([[0.0, 0.0, 0.0], [0.0, torch.nan, 0.0]])},
            ValueError,
            "input 1 holds NaN or infinity",
        ),
        ({"y": torch.tensor([0, 2])}, ValueError, r"labels must lie in 0\.\.1, got 2"),
        ({"y": torch.tensor([-1, 0])}, ValueError, r"labels must lie in 0\.\.1, got -1"),
        ({"y": torch.tensor([0.0, 1.0])}, TypeError, "labels must be a tensor of integers"),
        ({"y": torch.tensor([0])}, ValueError, r"labels must have the shape \(2,\), got \(1,\)"),
        ({"radius": 0.0}, ValueError, "radius must be positive and finite, got 0.0"),
        ({"radius": -1.0}, ValueError, "radius must be positive and finite, got -1.0"),
        ({"radius": float("nan")}, ValueError, "radius must be positive and finite, got nan"),
        ({"radius": "1"}, TypeError, "radius must be a number, got str"),
        ({"decide": True}, ValueError, "decide needs a radius"),
        ({"evaluations": 0}, ValueError, "evaluations must be at least 1, got 0"),
        ({"evaluations": 2.5}, TypeError, "evaluations must be an integer, got float"),
        ({"chunk": 0}, ValueError, "chunk must be at least 1, got 0"),
        ({"targets": "some"}, ValueError, "targets must be 'all', 'runner-up'"),
        ({"targets": torch.tensor([1, 0])}, ValueError, "differ from the label: see input 1"),
        ({"targets": torch.tensor([1, 5])}, ValueError, r"targets must lie in 0\.\.1, got 5"),
        ({"targets": torch.tensor([1])}, ValueError, r"targets must have the shape \(2,\)"),
        ({"targets": torch.tensor([1.0, 1.0])}, TypeError, "targets must be a tensor of integers"),
    ],
)
def test_mistakes_are_named(
    change: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments: dict[str, object] = {"x": torch.zeros(2, 3), "y": zeros(2), **change}
    with pytest.raises(error, match=message):
        certify(sphere(3), **arguments)  # type: ignore[arg-type]


# How the model is asked.


@pytest.mark.parametrize("activation", ["Sigmoid", "Tanh", "Softplus", "GELU", "SiLU", "ELU"])
def test_gradients_of_all_targets_are_the_same_together_or_one_by_one(activation: str) -> None:
    """The path of a GPU, where starting kernels costs more than their arithmetic."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        getattr(nn, activation)(),
        nn.AvgPool2d(2),
        nn.ConvTranspose2d(4, 2, 2, stride=2),
        getattr(nn, activation)(),
        nn.Flatten(),
        nn.Linear(32, 4),
    )
    network = vercomp.compile(module.eval(), input_shape=(2, 4, 4)).network
    margins = Margins(network, placement(network, torch.zeros(1)))
    x, y = torch.randn(5, 32), torch.tensor([0, 1, 2, 3, 0])
    targets = (y[:, None] + torch.arange(1, 4)) % 4
    together = Screen(margins, x, together=True).margins(y, targets)
    apart = Screen(margins, x, together=False).margins(y, targets)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other)
    assert all(parameter.grad is None for parameter in network.parameters())
    values, errors = margins.value(x.double(), y, targets[:, 0])
    whole = margins.linearize(x.double(), y, targets[:, 0])
    torch.testing.assert_close(values, whole.value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(errors, whole.value_error, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("order", [[0, 1, 2], [0, 2, 1]])
def test_a_tie_in_the_models_own_precision_is_no_certificate(order: list[int]) -> None:
    """In float32 all logits are 2; in real arithmetic one target is 2⁻²⁴ below, the other ties."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 3))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([[1.0], [1.0], [1.25]])[order])
        model[2].bias.copy_(torch.tensor([1.0, 1.0 - 2.0**-24, 0.75])[order])
    x = torch.full((1, 1), 20.0)  # where tanh is 1 in float32
    assert model(x).unique().numel() == 1
    found = vercomp.compile(model, (1,)).certify(x, torch.tensor([0]))
    assert float(found.radius) == 0.0
    assert found.radius_per_target[0].tolist()[1 + order[1:].index(2)] == 0.0
