"""Cascades: certificates hold on grids through the whole rule, and the paper's count does not."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

import vercomp
from vercomp.core.methods.cascade import Cascade, Rule
from vercomp.core.methods.portfolio import Certifiable
from vercomp.errors import InputError, VercompError

RADIUS = 0.25


def _network(seed: int, classes: int = 3, inputs: int = 2) -> Certifiable:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, classes))
        with torch.no_grad():
            model[0].weight.mul_(2.0)
            model[2].weight.mul_(3.0)
    network = vercomp.compile(model, (inputs,)).network
    assert isinstance(network, Certifiable)
    return network


@pytest.fixture(scope="module")
def networks() -> list[Certifiable]:
    return [_network(seed) for seed in range(4)]


def _grid(norm: str, count: int = 9) -> Tensor:
    """Offsets in the unit ball, its boundary among them, (K, 2)."""
    line = torch.linspace(-1.0, 1.0, count, dtype=torch.float64)
    square = torch.cartesian_prod(line, line)
    if norm == "linf":
        return square
    length = torch.linalg.vector_norm(square, ord=2 if norm == "l2" else 1, dim=1, keepdim=True)
    return (1.0 - 1e-12) * square * square.abs().amax(1, keepdim=True) / length.clamp_min(1e-9)


def _worst(cascade: Cascade, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each input has a wrong answer, and an abstention, on a grid of its ball."""
    rule = cascade.rule
    points = x.double()[:, None] + rule.radius * _grid(rule.norm)
    if rule.box is not None:
        points = points.clamp(*rule.box)
    answer = cascade(points.reshape(-1, 2)).reshape(len(x), -1)
    wrong = (answer >= 0) & (answer != y[:, None])
    return wrong.any(1), (answer < 0).any(1)


RULES = [
    Rule(RADIUS),
    Rule(0.4, "linf", box=(-0.7, 0.7)),
    pytest.param(Rule(RADIUS, "l2"), marks=pytest.mark.slow),
    pytest.param(Rule(RADIUS, "l1", methods=("interval",)), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.norm}{rule.radius}")
def test_no_certified_input_has_another_answer(networks: list[Certifiable], rule: Rule) -> None:
    x = torch.empty(20, 2).uniform_(-0.7, 0.7)
    certified = counted_and_broken = silenced = 0
    for pair in ((0, 1), (2, 3, 1), (3, 0)):
        cascade = Cascade([networks[i] for i in pair], rule)
        for label in range(3):
            y = torch.full((len(x),), label)
            found = cascade.certify(x, y)
            wrong, silent = _worst(cascade, x, y)
            assert not (found.certified & wrong).any()
            certified += int(found.certified.sum())
            counted_and_broken += int((found.counted & wrong).sum())
            silenced += int((found.certified & silent).sum())
    assert certified > 0
    assert silenced > 0  # a certificate promises no answer
    if rule.norm == "linf":
        assert counted_and_broken > 0  # and the paper's count does not promise what it seems to


def test_what_a_certificate_says(networks: list[Certifiable]) -> None:
    x = torch.empty(40, 2).uniform_(-1.0, 1.0)
    cascade = Cascade(networks[:2], Rule(0.6))
    answers = cascade.predict(x)
    for stage, network in enumerate(networks[:2]):
        own = network.logits(x).argmax(1)
        proved = network.certify(x, own, norm="linf", radius=0.6).certified
        here = answers.stage == stage
        assert torch.equal(answers.label[here], own[here])
        assert proved[here].all()
        assert not proved[(answers.stage > stage) | (answers.stage < 0)].any()
    y = answers.label.clamp_min(0)
    found = cascade.certify(x, y)
    given = torch.stack([network.logits(x).argmax(1) for network in networks[:2]])
    assert torch.equal(found.certified, (given == y).all(0))
    assert torch.equal(found.counted, answers.label == y)
    assert torch.equal(found.abstained, answers.stage < 0)
    assert found.abstained.any()
    assert not found.abstained.all()


@pytest.mark.parametrize("rule", RULES[::2], ids=lambda rule: rule.norm)
def test_attacks_find_what_grids_find(networks: list[Certifiable], rule: Rule) -> None:
    x = torch.empty(25, 2).uniform_(-0.7, 0.7)
    found_by_grid = found_by_attack = 0
    for first, second in itertools.combinations(range(3), 2):
        cascade = Cascade([networks[first], networks[second]], rule)
        y = cascade(x).clamp_min(0)
        certificates = cascade.certify(x, y)
        attacks = cascade.attack(x, y, restarts=2)
        assert not (attacks.broken & certificates.certified).any()
        inside = vercomp.Ball(x.double(), rule.radius, rule.norm).contains(attacks.point)
        assert inside.all()
        assert torch.equal(cascade(attacks.point)[attacks.broken], attacks.label[attacks.broken])
        assert (attacks.label != y)[attacks.broken].all()
        found_by_grid += int((_worst(cascade, x, y)[0] & ~attacks.broken).sum())
        found_by_attack += int(attacks.broken.sum())
    assert found_by_attack > 10
    assert found_by_grid <= 0.4 * found_by_attack


def test_attacks_notice_what_is_no_certificate(networks: list[Certifiable]) -> None:
    """Neither the paper's count nor the agreement of all stages but one holds in the balls."""
    counted = agreed = 0
    x = torch.empty(25, 2).uniform_(-0.7, 0.7)
    for first, second in ((0, 1), (2, 0)):
        cascade = Cascade([networks[first], networks[second]], Rule(RADIUS))
        y = cascade(x).clamp_min(0)
        broken = cascade.attack(x, y).broken
        counted += int((broken & cascade.certify(x, y).counted).sum())
        alone = Cascade([networks[first]], Rule(RADIUS)).certify(x, y)
        agreed += int((broken & alone.certified).sum())
    assert counted > 0
    assert agreed > 0


def test_no_stage_is_no_cascade_and_stages_fit() -> None:
    with pytest.raises(InputError, match="needs a stage"):
        Cascade([], Rule(0.1))
    with pytest.raises(InputError, match=r"inputs \(2,\) with 3 and \(2,\) with 4 classes"):
        Cascade([_network(0), _network(1, classes=4)], Rule(0.1))
    with pytest.raises(InputError, match="has one output, and no class"):
        Cascade([_network(0, classes=1)], Rule(0.1))
    with pytest.raises(InputError, match="radius"):
        Rule(0.0)
    with pytest.raises(VercompError):
        Rule(0.1, "l7")
    with pytest.raises(InputError, match="lo < hi"):
        Rule(0.1, box=(1.0, 0.0))


def test_ends_of_the_box_are_inside_in_either_type(networks: list[Certifiable]) -> None:
    rule = Rule(0.1, box=(-0.9, 0.9))
    x = torch.tensor([[0.9, -0.9]])
    cascade = Cascade(networks[:2], rule)
    assert torch.equal(cascade(x), cascade(x.double()))
    cascade.attack(x, cascade(x).clamp_min(0))
