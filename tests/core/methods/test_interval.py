"""The method ``interval``: radii by hand, attacked in every norm, and noticed when it is broken."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from attacks import slope
from graphs import emit, residual
from torch import Tensor, nn

import vercomp
from vercomp import CompiledNetwork
from vercomp.backends.torch.memory import import_package

NORMS = ["l1", "l2", "linf"]


def relu_network(seed: int, inputs: int = 4) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(inputs, 9),
            nn.ReLU(),
            nn.Linear(9, 8),
            nn.LeakyReLU(0.1),
            nn.Linear(8, 3),
        )


def two_classes() -> CompiledNetwork:
    """z₀ − z₁ = relu(x₁) + relu(x₂) − 1: 3 at (2, 2), with the slope 1 along both axes."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
        model[2].bias.copy_(torch.tensor([0.0, 1.0]))
    return vercomp.compile(model, (2,))


@pytest.mark.parametrize(("norm", "radius"), [("linf", 1.5), ("l1", 1.5), ("l2", 1.5)])
def test_radii_by_hand(norm: str, radius: float) -> None:
    """Each of the hidden units falls by r at most, in every norm: 2 (2 − r) > 1. For l1 and l2 the
    truth is larger (3 and 3/√2): intervals forget that both cannot fall at once."""
    x, y = torch.full((1, 2), 2.0), torch.tensor([0])
    found = two_classes().certify(x, y, norm=norm, methods=["interval"])
    assert found.method == ("interval",)
    assert radius * 0.998 < float(found.radius) <= radius


def test_a_box_makes_radii_larger() -> None:
    net, x, y = two_classes(), torch.full((1, 2), 2.0), torch.tensor([0])
    cut = net.certify(x, y, norm="linf", box=(1.0, 4.0))
    assert float(cut.radius) > 1e3  # within the box the class never changes
    one = net.certify(x, y, norm="linf", box=(torch.tensor([[1.0, -9.0]]), 4.0))
    assert 1.998 * 0.998 < float(one.radius) <= 2.0  # 1 + (2 − r) > 1


def least_margin(module: nn.Module, x: Tensor, y: Tensor, radius: Tensor, norm: str) -> Tensor:
    """The least margin found by projected steps from random points of the ball."""
    generator = torch.Generator().manual_seed(1)
    best = torch.full((len(x),), math.inf, dtype=torch.float64)
    reach = radius[:, None] * (1.0 - 1e-9)

    def margin(points: Tensor) -> Tensor:
        z = module(points)
        others = z.scatter(1, y[:, None], -torch.inf)
        return z.gather(1, y[:, None])[:, 0] - others.amax(1)

    for start in range(8):
        ball = vercomp.Ball(x, radius * (1.0 - 1e-9), norm)
        point = x if start == 0 else ball.sample(1, generator)[:, 0]
        for step in range(25):
            leaf = point.detach().requires_grad_()
            value = margin(leaf)
            best = torch.minimum(best, value.detach())
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
            move = slope(gradient, norm) * reach * 1.5 * 0.01 ** (step / 25)
            point = ball.project((point + move)[:, None])[:, 0]
        best = torch.minimum(best, margin(point).detach())
    return best


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(6))
def test_no_attack_enters_a_certified_ball(seed: int, norm: str) -> None:
    module = relu_network(seed).double()
    net = vercomp.compile(relu_network(seed), (4,))
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
    y = module(x.double()).argmax(1)
    found = net.certify(x, y, norm=norm, methods=["interval"])
    assert (found.radius > 0).all()
    assert (least_margin(module, x.double(), y, found.radius, norm) > 0).all()


BREAKS = {
    "slopes that forget the far end": (
        "core/domains/intervals.py",
        "\n\n_image = image\n\n\ndef image(operator, ends):\n"
        "    low, high = _image(operator, ends)\n"
        "    return low, low + 0.3 * (high - low)\n",
    ),
    "balls a tenth as large": (
        "core/methods/method.py",
        "\n\n_ball = Ball\n\n\ndef Ball(x, radius, p, **options):\n"
        "    return _ball(x, 0.1 * radius, p, **options)\n",
    ),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_the_attacks_bite(broken: str) -> None:
    path, addition = BREAKS[broken]
    refuted = 0
    for seed in range(6):
        module = relu_network(seed).double()
        net = vercomp.compile(relu_network(seed), (4,))
        files = {**net.files, path: net.files[path] + addition.encode()}
        network = import_package(files).Network()
        network.load_state_dict(net.network.state_dict())
        x = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
        y = module(x.double()).argmax(1)
        radius = network.certify(x, y, norm="linf", methods=["interval"]).radius
        refuted += int((least_margin(module, x.double(), y, radius, "linf") <= 0).sum())
    assert refuted > 0


@pytest.mark.parametrize("make", [lambda: vercomp.compile(relu_network(3), (4,)).network])
def test_results_depend_neither_on_chunks_nor_on_what_shares_a_batch(
    make: Callable[[], nn.Module],
) -> None:
    network = make()
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(2))
    y = network(x).argmax(1)
    alone = ["interval"]
    whole = network.certify(x, y, norm="linf", methods=alone)
    chunks = network.certify(x, y, norm="linf", methods=alone, chunk=2)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    shuffled = network.certify(x[order], y[order], norm="linf", methods=alone)
    torch.testing.assert_close(chunks.radius, whole.radius, rtol=1e-9, atol=0.0)
    torch.testing.assert_close(shuffled.radius, whole.radius[order], rtol=1e-9, atol=0.0)


def test_bounds_of_outputs_that_are_no_classes() -> None:
    """One output, and rows of any meaning, over balls and boxes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1))
    net = vercomp.compile(model, (3,))
    x = torch.randn(4, 3, dtype=torch.float64)
    both = torch.tensor([[1.0], [-2.0]])
    d = torch.tensor([0.0, 0.5])
    for region in (vercomp.Ball(x, 0.2, "linf"), vercomp.Box(x - 0.1, x + 0.3)):
        lower = net.bound(region, both, d, methods=["interval"])
        assert lower.shape == (4, 2)
        points = region.sample(200)
        values = model.double()(points) @ both.double().T + d.double()
        assert (values.amin(1) >= lower).all()
        assert (values.amin(1) < lower + 1.0).all()
    with pytest.raises(vercomp.VercompError, match="a network with one output"):
        net.certify(x, torch.zeros(4, dtype=torch.long))


def test_misclassified_inputs_have_radius_zero_and_are_their_own_witness() -> None:
    net = vercomp.compile(relu_network(0), (4,))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    wrong = (net.network(x).argmax(1) + 1) % 3
    found = net.certify(x, wrong, norm="linf", radius=0.1)
    assert not found.radius.any()
    assert found.exact.all()
    assert found.refuted is not None
    assert found.refuted.all()
    assert torch.equal(found.witness, x.double())


def test_decide_settles_no_more_than_the_radius() -> None:
    net = vercomp.compile(relu_network(1), (4,))
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(3))
    y = net.network(x).argmax(1)
    full = net.certify(x, y, norm="linf").radius
    asked = float(full.median())
    decided = net.certify(x, y, norm="linf", radius=asked * 0.999, decide=True)
    assert torch.equal(decided.certified, full > asked * 0.999)


def test_residual_networks_in_every_norm() -> None:
    """Where curvature stands beside it, intervals may only make radii larger."""
    network = emit(residual(3, ["tanh", "silu", "softplus"])).network
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = network(x.float()).argmax(1)
    alone = network.certify(x, y, methods=["curvature"])
    both = network.certify(x, y, methods=["curvature", "interval"])
    assert (both.radius >= alone.radius).all()
    assert set(both.method) <= {"curvature", "interval"}
    for norm in ("l1", "linf"):
        found = network.certify(x, y, norm=norm, methods=["interval"])
        assert (found.radius > 0).any()


def test_a_float32_input_on_the_edge_of_a_box_lies_inside_of_it() -> None:
    """float32(0.3) exceeds 0.3; a tie leaves no radius, and refuses nothing."""
    model = relu_network(0)
    with torch.no_grad():
        model[4].weight[1] = model[4].weight[0]
        model[4].bias[1] = model[4].bias[0]
    net = vercomp.compile(model, (4,))
    x = torch.full((2, 4), 0.3)
    for norm in NORMS:
        found = net.certify(x, torch.tensor([0, 1]), norm=norm, box=(0, 0.3))
        assert not found.radius.any()


def test_a_class_that_never_changes_within_the_box_has_an_infinite_radius() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([1e3, 0.0]))
    net = vercomp.compile(model, (2,))
    x = torch.tensor([[0.5, 0.5], [0.0, 0.0]])
    found = net.certify(x, torch.tensor([0, 0]), norm="linf", box=(0.0, 1.0))
    assert found.radius.isinf().all()


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e-30])
def test_radii_do_not_shrink_with_the_input(scale: float) -> None:
    net = vercomp.compile(relu_network(2), (4,))
    zero = torch.zeros(1, 4)
    y = net.network(zero).argmax(1)
    whole = net.certify(zero, y, norm="linf").radius
    near = net.certify(zero + 1e-12 * scale, y, norm="linf").radius
    torch.testing.assert_close(near, whole, rtol=3e-3, atol=0.0)
    asked = net.certify(zero, y, norm="linf", radius=1e12).radius
    torch.testing.assert_close(asked, whole, rtol=3e-3, atol=0.0)


def test_a_bound_is_over_a_region() -> None:
    net = vercomp.compile(relu_network(0), (4,))
    with pytest.raises(vercomp.VercompError, match="over a region, got Tensor"):
        net.bound(torch.zeros(2, 4), torch.eye(3))  # type: ignore[arg-type]


def test_no_inputs_have_no_radii() -> None:
    net = vercomp.compile(relu_network(0), (4,))
    none, labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    for box in (None, (0.0, 1.0)):
        assert net.certify(none, labels, norm="linf", box=box).radius.shape == (0,)
    assert net.bound(vercomp.Ball(none, 0.1), torch.eye(3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box": 5.0}, "box must be a pair"),
        ({"box": (0.0, 1.0, 2.0)}, "box must be a pair"),
        ({"box": (0.0, None)}, "must be numbers or tensors"),
        ({"box": (1.0, 0.0)}, "must not exceed the upper one"),
        ({"box": (torch.zeros(5), torch.ones(5))}, "must broadcast to the inputs"),
        ({"box": (1.0, 2.0)}, "input 0 lies outside of the box"),
        ({"norm": None}, "a norm must be a name or a number"),
        ({"methods": "interval"}, "methods must be a list of names"),
        ({"methods": 5}, "methods must be a list of names"),
        ({"methods": []}, "no method was asked for"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], message: str) -> None:
    net = vercomp.compile(relu_network(0), (4,))
    with pytest.raises(vercomp.VercompError, match=message):
        net.certify(torch.zeros(1, 4), torch.tensor([0]), **options)
