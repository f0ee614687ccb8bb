"""Heads that change no comparison: radii as without them, bounds of the model's own outputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from attacks import least_margin
from torch import Tensor, nn

import vercomp
from vercomp import Deviation, Labels, Threshold
from vercomp.backends.torch.memory import import_package


class Headed(nn.Module):
    """A small network with something behind its last layer."""

    def __init__(self, head: Callable[[Tensor], Tensor], outputs: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(outputs)
            self.base = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs))
        self.head = head
        for parameter in self.parameters():
            parameter.data *= 2.0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.base(x))


def spelled_out(z: Tensor) -> Tensor:
    e = torch.exp(z - z.amax(1, keepdim=True))
    return e / e.sum(1, keepdim=True)


def complement(z: Tensor) -> Tensor:
    p = torch.sigmoid(z)
    return torch.cat([1 - p, p], 1)


KEPT: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": nn.functional.softplus,
    "leaky relu": lambda z: nn.functional.leaky_relu(z, 0.2),
    "two": lambda z: torch.tanh(nn.functional.softplus(z)),
}
LOST: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda z: torch.softmax(z, 1),
    "temperature": lambda z: torch.softmax(z / 2.5, 1),
    "spelled out": spelled_out,
    "without the maximum": lambda z: torch.exp(z) / torch.exp(z).sum(1, keepdim=True),
    "log softmax": lambda z: z - torch.logsumexp(z, 1, keepdim=True),
    "normalised": lambda z: torch.sigmoid(z) / torch.sigmoid(z).sum(1, keepdim=True),
}
X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [*KEPT, *LOST])
def test_radii_are_those_of_the_logits(name: str) -> None:
    plain = vercomp.compile(Headed(lambda z: z), (4,))
    module = Headed({**KEPT, **LOST}[name])
    net = vercomp.compile(module, (4,))
    y = module(X).argmax(1)
    assert torch.equal(y, module.base(X).argmax(1))
    bare = plain.certify(X, y)
    found = net.certify(X, y)
    torch.testing.assert_close(found.radius, bare.radius, rtol=1e-4, atol=0.0)
    assert (net.certify(X, Labels(top=2)).radius >= bare.radius * 0.999).all()
    assert (net.certify(X, y, norm="linf").radius > 0).all()
    scale = 2.5 if name == "temperature" else 1.0
    attacked = scale * net.attack(X, y, 0.3).margin
    torch.testing.assert_close(attacked, plain.attack(X, y, 0.3).margin, rtol=0.0, atol=1e-3)
    kept = name in KEPT
    assert (net.network.tail is not None) == kept
    assert (net.manifest["tail"] is not None) == kept
    if kept:
        torch.testing.assert_close(net.network(X), module(X))
        torch.testing.assert_close(net.network.logits(X), module.base(X))


@pytest.mark.parametrize("name", [*KEPT, "complement"])
def test_bounds_deviations_and_thresholds_are_those_of_the_outputs(name: str) -> None:
    head = complement if name == "complement" else KEPT[name]
    module = Headed(head, 1 if name == "complement" else 3)
    net = vercomp.compile(module, (4,))
    outputs = net.network.outputs
    torch.testing.assert_close(net.network(X), module(X))
    exact = module.double()
    x = X.double()
    z = exact(x).detach()
    units = torch.eye(outputs, dtype=torch.float64)
    region = vercomp.Ball(x, 0.2)
    points = region.sample(50)
    values = exact(points.flatten(0, 1)).reshape(len(x), 50, outputs).detach()
    low, high = net.bound(region, units), -net.bound(region, -units)
    assert (low[:, None] <= values).all()
    assert (values <= high[:, None]).all()
    assert ((high - low).amax(1) < 3.0).all()
    moved = net.certify(X, Deviation(0.2)).radius
    assert (moved > 0).all()
    ball = vercomp.Ball(x, moved * (1 - 1e-9))
    far = exact(ball.sample(50).flatten(0, 1)).reshape(len(x), 50, outputs)
    assert ((far - z[:, None]).abs() <= 0.2).all()
    for output in range(outputs):
        at = float(z[:, output].median()) + 0.05
        found = net.certify(X, Threshold(at, output=output))
        side = z[:, output] > at
        assert torch.equal(found.prediction.bool(), side)
        assert (found.radius > 0).all()
        there = vercomp.Ball(x, found.radius.clamp(max=1e3) * (1 - 1e-9)).sample(50)
        beyond = exact(there.flatten(0, 1)).reshape(len(x), 50, outputs)[..., output] > at
        assert (beyond == side[:, None]).all()
        near = found.exact & found.witness.isfinite().flatten(1).all(1)
        across = exact(found.witness[near])[:, output] > at
        assert bool(near.any())
        assert (across != side[near]).all()


def test_two_probabilities_decide_as_the_sign_does() -> None:
    module = Headed(complement, 1)
    net = vercomp.compile(module, (4,))
    y = module(X).argmax(1)
    sign = vercomp.compile(Headed(lambda z: torch.cat([-z, z], 1), 1), (4,))
    found = net.certify(X, y)
    torch.testing.assert_close(found.radius, sign.certify(X, y).radius, rtol=1e-3, atol=0.0)
    assert net.manifest["classes"] == 2
    assert torch.equal(net.certify(X, Labels()).radius, found.radius)
    exact = module.base.double()
    x = X.double()
    margins = lambda p: torch.cat([0 * exact(p), exact(p)], 1)  # noqa: E731
    assert (least_margin(margins, x, y, found.radius) > 0).all()


@pytest.mark.parametrize(
    "head",
    [
        torch.relu,  # two outputs may both be zero
        torch.sin,
        lambda z: torch.cat([torch.sigmoid(z[:, :1]), torch.tanh(z[:, 1:])], 1),
        lambda z: z - z.mean(1, keepdim=True),  # the mean is bounded with the rest
        lambda z: torch.cat([1 - torch.sigmoid(z[:, :1]), torch.sigmoid(z[:, 1:2])], 1),
        lambda z: torch.cat([0.9 - torch.sigmoid(z[:, :1]), torch.sigmoid(z[:, :1])], 1),
        lambda z: torch.cat([1 - torch.tanh(z[:, :1]), torch.tanh(z[:, :1])], 1),
    ],
)
def test_what_may_change_a_comparison_stays(head: Callable[[Tensor], Tensor]) -> None:
    module = Headed(head)
    net = vercomp.compile(module, (4,))
    assert net.network.tail is None
    torch.testing.assert_close(net.network(X), module(X))


def test_a_single_output_keeps_its_function_and_its_threshold_moves_through_it() -> None:
    module = Headed(torch.sigmoid, 1)
    net, bare = vercomp.compile(module, (4,)), vercomp.compile(Headed(lambda z: z, 1), (4,))
    assert net.network.tail is None
    torch.testing.assert_close(net.network(X), module(X))
    found = net.certify(X, Threshold(0.5)).radius
    torch.testing.assert_close(found, bare.certify(X, Threshold(0.0)).radius, rtol=1e-4, atol=0.0)
    exact = module.double()
    hessian = torch.autograd.functional.hessian(lambda p: exact(p[None])[0, 0], X[0].double())
    torch.testing.assert_close(net.hessian(X.double())[0], hessian)


@pytest.mark.parametrize(("value", "side"), [(2.0, 0), (-1.0, 1)])
def test_thresholds_that_no_output_reaches(value: float, side: int) -> None:
    for outputs in (1, 3):
        net = vercomp.compile(Headed(torch.sigmoid, outputs), (4,))
        found = net.certify(X, Threshold(value, output=0))
        assert (found.prediction == side).all()
        assert (found.radius > 10.0).all()
        wrong = net.certify(X, Threshold(value, output=0, above=side == 0))
        assert not wrong.radius.any()


def test_the_slack_and_the_limits_are_needed() -> None:
    """A threshold moved the wrong way is noticed by the samples."""
    module = Headed(torch.sigmoid)
    net = vercomp.compile(module, (4,))
    path = "core/tails.py"
    right = "low, high = _largest_below(function, low), _smallest_above(function, high)"
    source = net.files[path].decode()
    assert right in source
    wrong = source.replace(right, f"{right}\n        low, high = low + 0.5, high - 0.5")
    package = import_package({**net.files, path: wrong.encode()})
    network = package.Network()
    network.load_state_dict(net.network.state_dict())
    exact, x = module.double(), X.double()
    found = network.certify(X, package.Threshold(0.4, output=1))
    side = exact(x)[:, 1] > 0.4
    there = vercomp.Ball(x, found.radius.clamp(max=1e3)).sample(200)
    beyond = exact(there.flatten(0, 1)).reshape(len(x), 200, 3)[..., 1] > 0.4
    assert (beyond != side[:, None]).any()


def test_views_follow_the_weights_and_are_not_copied() -> None:
    import copy

    module = Headed(torch.sigmoid)
    net = vercomp.compile(module, (4,))
    before = net.certify(X, Deviation(0.1)).radius
    copied = copy.deepcopy(net.network)
    with torch.no_grad():
        for parameter in net.network.parameters():
            parameter *= 0.5
    after = net.certify(X, Deviation(0.1)).radius
    assert (after > before).all()
    torch.testing.assert_close(copied.certify(X, Deviation(0.1)).radius, before)
