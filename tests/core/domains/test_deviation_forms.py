"""Forms in deviations: exact cases that need their slack, windows, and torch's settings."""

from __future__ import annotations

import math
from functools import cache, partial
from weakref import WeakKeyDictionary

import pytest
import torch
from graph_table import GRAPHS
from graphs import emit
from torch import Tensor, nn

import vercomp
from vercomp.core.domains import deviation_forms, refined_intervals
from vercomp.core.domains.linear_forms import LinearForms
from vercomp.core.domains.refined_intervals import Relaxation, relax
from vercomp.core.domains.windows import Window
from vercomp.core.graph import Activate, Affine, Graph
from vercomp.core.maps import typed
from vercomp.core.network import VerifiedNetwork
from vercomp.core.regions.constructors import Ball
from vercomp.core.relaxation.lines import Line
from vercomp.core.walk import backward

RADII = {"linf": 1.0, "l2": 8.0, "l1": 16.0}
NORMS = tuple(RADII)


def steady(seed: int, image: bool) -> nn.Module:
    """ReLUs that are always active, and behind them some that are undecided."""
    torch.manual_seed(seed)
    if image:
        layers = [
            nn.Conv2d(2, 6, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 5, 2, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(80, 2),
        ]
    else:
        layers = [nn.Linear(20, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU()]
        layers += [nn.Linear(300, 40), nn.ReLU(), nn.Linear(40, 2)]
    with torch.no_grad():
        for layer in layers[:4:2]:
            layer.bias.fill_(50.0)  # type: ignore[operator, union-attr]
        if not image:
            layers[2].weight.abs_()  # type: ignore[operator, union-attr]
        weight: Tensor = layers[4].weight  # type: ignore[assignment]
        weight.sub_(weight.flatten(1).mean(1).reshape(-1, *(1,) * (weight.ndim - 1)))
        if not image:
            value = nn.Sequential(*layers[:5])(torch.zeros(20))
            layers[4].bias.sub_(value)  # type: ignore[operator, union-attr]
    return nn.Sequential(*layers)


def shared_line(relaxation: Relaxation, node: Activate, c: Tensor) -> Line:
    """The line below an activation, which is also the line above where it does not bend."""
    slope, intercept = relaxation.lines[node.name].below
    return Line(slope[:, None], intercept[:, None])


def excess(image: bool, norm: str) -> tuple[int, float]:
    """How many bounds are better than the exact ones, and the largest loss as a share of a width.

    The network is affine up to the node that is asked about: its smallest value has a closed form.
    """
    too_good, lost = 0, 0.0
    for seed in range(2):
        net = vercomp.compile(steady(seed, image), (2, 9, 9) if image else (20,)).network
        _, graph = net.in_double()
        x = torch.randn(2, math.prod(net.input_shape), dtype=torch.float64)
        region = Ball(x.reshape(2, *net.input_shape), RADII[norm], norm)
        relaxation = relax(graph, region)
        assert relaxation.costs is not None
        name = [node.name for node in graph.nodes if node.name in relaxation.lines][-1]
        name = graph.node(name).parents[0]
        size = math.prod(graph.node(name).shape)
        rows = torch.eye(size, dtype=torch.float64)[None]
        exact = LinearForms(partial(shared_line, relaxation))
        part = Graph(graph.nodes[: [n.name for n in graph.nodes].index(name) + 1], name)
        g = backward(exact, part, rows)[graph.nodes[0].name]
        value = (g * x[:, None]).sum(-1) + exact.constant
        half = RADII[norm] * region.kind.dual_norm(g)
        lower, upper = relaxation.intervals[name]
        tiny = 1e-12 * (value.abs() + half)
        undecided = (value - half < 0.0) & (value + half > 0.0)
        assert undecided.any()
        too_good += int(((lower > value - half + tiny) & undecided).sum())
        too_good += int(((upper < value + half - tiny) & undecided).sum())
        loss = torch.maximum(value - half - lower, upper - value - half) / half
        lost = max(lost, float(loss[undecided].max()))
    return too_good, lost


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("image", [False, True])
def test_where_the_network_is_affine_nothing_but_rounding_is_lost(image: bool, norm: str) -> None:
    too_good, lost = excess(image, norm)
    assert too_good == 0
    assert lost < 1e-2  # rows that cancel lose a thousand times what their width is worth


@pytest.mark.parametrize("image", [False, True])
def test_without_what_rounding_takes_bounds_are_wrong(
    image: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typed, "UNIT_ROUNDOFF_32", 0.0)
    monkeypatch.setattr(typed, "_KNOWN", WeakKeyDictionary())
    too_good, _ = excess(image, "linf")
    assert too_good > 0


@cache
def network_of(name: str) -> VerifiedNetwork:
    return emit(GRAPHS[name]()).network


def relaxed(name: str, norm: str, *, boxed: bool = False) -> Relaxation:
    network = network_of(name)
    _, graph = network.in_double()
    x = torch.randn(3, *network.input_shape, generator=torch.Generator().manual_seed(0)).double()
    return relax(graph, Ball(x, 0.2, norm, box=(x - 0.1, x + 0.15) if boxed else None))


def assert_alike(one: Relaxation, other: Relaxation, share: float) -> None:
    """Intervals differ by no more than a share of their widths."""
    for name, (lower, upper) in one.intervals.items():
        low, high = other.intervals[name]
        width = (upper - lower) + 1e-9 * (1.0 + upper.abs())
        assert ((lower - low).abs() <= share * width).all(), name
        assert ((upper - high).abs() <= share * width).all(), name


@pytest.mark.parametrize("name", GRAPHS)
def test_bounds_in_both_precisions_are_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [relaxed(name, norm, boxed=norm == "l2") for norm in NORMS]
    monkeypatch.setattr(refined_intervals, "deviation_costs", lambda *_: None)
    for norm, ours in zip(NORMS, found, strict=True):
        assert_alike(ours, relaxed(name, norm, boxed=norm == "l2"), 1e-2)


def small_image(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=(0, 1), stride=(1, 2)),
        nn.Sigmoid(),
        nn.AvgPool2d(2, 1),
        nn.Conv2d(4, 6, (2, 3), dilation=(2, 1), groups=2),
        nn.Tanh(),
        nn.Conv2d(6, 3, 2),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.LazyLinear(2),
    )


class Residual(nn.Module):
    """A skip connection around two convolutions, and one with a stride of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
        self.fourth, self.short = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(3, 4, 1, 2)
        self.last = nn.Linear(100, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        x = torch.tanh(self.third(torch.tanh(self.second(x))) + x)
        x = torch.tanh(self.fourth(x) + self.short(x))
        y: Tensor = self.last(x.flatten(1))
        return y


@pytest.mark.parametrize("kind", ["pooled", "residual"])
def test_windows_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, shape = (small_image(1), (2, 9, 16)) if kind == "pooled" else (Residual(), (1, 9, 10))
    model(torch.zeros(1, *shape))
    _, graph = vercomp.compile(model.eval(), shape).network.in_double()
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).double()
    regions = [Ball(x, 0.1, "linf"), Ball(x, 0.3, "l2", box=(x - 0.1, x + 0.1)), Ball(x, 1.0, "l1")]
    used: list[object] = []
    honest = Window.adjoint
    monkeypatch.setattr(
        deviation_forms.Window, "adjoint", lambda w, f: used.append(f) or honest(w, f)
    )
    windows = [relax(graph, region) for region in regions]
    assert used
    monkeypatch.setattr(deviation_forms, "fitting", lambda *_: None)
    for region, found in zip(regions, windows, strict=True):
        assert_alike(found, relax(graph, region), 1e-5)


def test_other_precisions_of_torch_are_not_relied_upon() -> None:
    name = "images in branches"
    reference = relaxed(name, "linf")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_alike(reference, relaxed(name, "linf"), 1e-9)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert not typed.products_are_single()
        costs = relaxed(name, "linf").costs
        assert costs is not None
        assert costs.dtype == torch.float64
    finally:
        torch.set_float32_matmul_precision(before)
    assert typed.products_are_single()


@pytest.mark.parametrize(("large", "small"), [(1e34, 0.3 * 2.0**-149), (1e20, 10.4 * 2.0**-149)])
def test_what_underflows_between_factors_is_not_lost(large: float, small: float) -> None:
    torch.manual_seed(0)
    first, last = nn.Conv2d(1, 1, 3, bias=False), nn.Conv2d(1, 1, 3, bias=False)
    model = nn.Sequential(
        nn.Linear(2, 36), nn.ReLU(), nn.Unflatten(1, (1, 6, 6)), first, last, nn.Flatten(),
        nn.ReLU(), nn.Linear(4, 2),
    ).double()  # fmt: skip
    nn.init.constant_(first.weight, large)
    nn.init.constant_(last.weight, small)
    nn.init.uniform_(model[0].weight, 0.1, 1.0)
    nn.init.constant_(model[0].bias, 3.0)
    _, graph = vercomp.compile(model, (2,)).network.in_double()
    relaxation = relax(graph, Ball(torch.zeros(1, 2).double(), 0.1, "linf"))
    name = graph.node(graph.node(graph.output).parents[0]).parents[0]
    node = graph.node(name)
    assert isinstance(node, Affine)
    low, high = relaxation.entry_bounds(node, torch.ones(1, 4, dtype=torch.bool))
    with torch.no_grad():
        corners = model[:6](torch.tensor([[-0.1, -0.1], [0.1, 0.1]], dtype=torch.float64))
    assert (low <= corners[0] * (1.0 + 1e-9)).all()
    assert (high >= corners[1] * (1.0 - 1e-9)).all()
