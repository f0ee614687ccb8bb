"""Certificates of smoothed classifiers: known probabilities, coverage, what draws depend on."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor, nn

from vercomp.core.memory import memory_limit
from vercomp.errors import InputError, InputTypeError, UsageError
from vercomp.smoothing import draws
from vercomp.smoothing.certify import Noise, SmoothedCertificates, certify
from vercomp.smoothing.classifier import Classifier, of_module
from vercomp.smoothing.draws import Draws, generator_of

SIGMA = 0.5


class HalfSpace(nn.Module):
    """Two classes, the first where w·v > 0, ‖w‖ = 1: P[1 at x + ε] = Φ(w·x/σ)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((inputs,), inputs**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        z = x @ self.w
        return torch.stack([z, -z], 1)


@pytest.fixture
def half() -> Classifier:
    return of_module(HalfSpace(3), (3,))


def _points(distances: Tensor) -> Tensor:
    """Inputs at these distances (B,) from the boundary, and anywhere along it."""
    along = torch.randn(len(distances), 3, dtype=torch.float64)
    normal = torch.full((3,), 3**-0.5, dtype=torch.float64)
    along -= (along @ normal)[:, None] * normal
    return along + distances[:, None].double() * normal


def test_a_half_space_is_certified_just_below_its_distance(half: Classifier) -> None:
    """Smoothing a half-space changes nothing: the radius of a sample converges to the distance."""
    distance = torch.tensor([-1.0, -0.4, -0.1, 0.1, 0.4, 1.0])
    found = certify(half, _points(distance), Noise(SIGMA, samples=20_000))
    assert found.prediction.tolist() == [1, 1, 1, 0, 0, 0]
    assert (found.radius < distance.abs()).all()
    assert (found.radius > 0.85 * distance.abs() - 0.03).all()
    assert torch.equal(found.base, found.prediction)
    least = [NormalDist().cdf(abs(d) / SIGMA) for d in distance.tolist()]
    assert (found.probability < torch.tensor(least)).all()


def _failures(half: Classifier, noise: Noise, inputs: int) -> tuple[int, int]:
    """Certificates that are wrong, and predictions that are none, of so many inputs."""
    distance = torch.empty(inputs).uniform_(-0.5, 0.5)
    found = certify(half, _points(distance), noise)
    truth = torch.where(distance > 0.0, 0, 1)
    wrong = (~found.abstained) & ((found.prediction != truth) | (found.radius > distance.abs()))
    return int(wrong.sum()), int(found.abstained.sum())


def _allowed(inputs: int, failure: float) -> float:
    """Failures that are no surprise: four deviations above the most that may be expected."""
    return failure * inputs + 4.0 * math.sqrt(inputs * failure * (1.0 - failure))


def test_coverage_of_the_whole_procedure(half: Classifier) -> None:
    inputs, noise = 500, Noise(SIGMA, samples=60, selection=5, confidence=0.9)
    wrong, none = _failures(half, noise, inputs)
    assert 0 < wrong <= _allowed(inputs, noise.failure)
    assert 0 < none < inputs


@pytest.mark.slow
@pytest.mark.parametrize("confidence", [0.6, 0.9, 0.99])
@pytest.mark.parametrize("samples", [20, 200])
def test_coverage_over_thousands_of_inputs(
    half: Classifier, confidence: float, samples: int
) -> None:
    inputs, noise = 6000, Noise(SIGMA, samples=samples, selection=10, confidence=confidence)
    wrong, _ = _failures(half, noise, inputs)
    assert wrong <= _allowed(inputs, noise.failure)


def test_coverage_notices_a_share_that_is_no_bound(
    half: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vercomp.smoothing.certify.lower_probability", lambda count, draws, failure: count / draws
    )
    inputs, noise = 500, Noise(SIGMA, samples=60, selection=5, confidence=0.9)
    wrong, _ = _failures(half, noise, inputs)
    assert wrong > _allowed(inputs, noise.failure)


@pytest.mark.parametrize("fresh", [True, False])
def test_coverage_notices_draws_that_selected_the_class(
    half: Classifier, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    """On the boundary both classes have ½: four equal draws are certified, either of two ways."""
    counts = Draws.counts

    def again(self: Draws, x: Tensor, count: int, generator: torch.Generator) -> Tensor:
        return counts(self, x, count, generator_of(x, 0, generator.device))

    if not fresh:
        monkeypatch.setattr(Draws, "counts", again)
    inputs, noise = 1500, Noise(SIGMA, samples=4, selection=4, confidence=0.93)
    found = certify(half, _points(torch.zeros(inputs)), noise)
    wrong = int((~found.abstained).sum())
    assert (wrong <= _allowed(inputs, noise.failure)) == fresh


def _same(one: SmoothedCertificates, other: SmoothedCertificates) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("prediction", "radius", "probability", "selected", "count", "base")
    )


def _rows(found: SmoothedCertificates, index: Tensor) -> SmoothedCertificates:
    parts = {
        name: getattr(found, name)[index]
        for name in ("prediction", "radius", "probability", "selected", "count", "base")
    }
    return SmoothedCertificates(**parts, noise=found.noise)


@pytest.fixture
def network() -> Classifier:
    return of_module(nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4)), (6,))


def test_draws_depend_on_the_input_and_the_seed_alone(network: Classifier) -> None:
    x, noise = torch.randn(6, 6), Noise(SIGMA, samples=3000)
    found = certify(network, x, noise)
    order = torch.tensor([4, 0, 5, 2])
    assert _same(certify(network, x[order], noise), _rows(found, order))
    assert _same(certify(network, x.double(), noise), found)
    other = certify(network, x, Noise(SIGMA, samples=3000, seed=1))
    assert not torch.equal(other.count, found.count)


def test_memory_changes_no_result(network: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    x, noise = torch.randn(3, 6), Noise(SIGMA, samples=3000)
    found = certify(network, x, noise)
    with memory_limit(0.005):
        assert _same(certify(network, x, noise), found)
    sizes = []
    logits = network.logits
    watched = Classifier(
        **{
            **{name: getattr(network, name) for name in network.__dataclass_fields__},
            "logits": lambda x: sizes.append(len(x)) or logits(x),
        }
    )
    monkeypatch.setattr(draws, "working_set", lambda device: 5000)
    assert _same(certify(watched, x, noise), found)
    assert 1 < max(sizes) < 100


def test_logits_that_are_no_numbers_are_of_no_class() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, 0] * torch.nan, -x[:, 0]], 1)

    found = certify(of_module(Broken(), (2,)), torch.zeros(1, 2), Noise(SIGMA, samples=50))
    assert found.prediction.tolist() == [-1]
    assert found.radius.tolist() == [0.0]
    assert found.abstained.all()


def test_one_logit_is_two_classes() -> None:
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 0.0]]))
        module.bias.zero_()
    found = certify(of_module(module, (2,)), torch.tensor([[2.0, 0.0], [-2.0, 0.0]]), Noise(SIGMA))
    assert found.prediction.tolist() == [1, 0]


def test_the_normalisation_in_front_moves_with_the_noise() -> None:
    """σ is in the units of the input, not of what the network sees."""
    shifted = of_module(HalfSpace(3), (3,), mean=0.25, std=0.1)
    distance = torch.tensor([0.3, -0.3])
    x = _points(distance) + 0.25
    found = certify(shifted, x, Noise(SIGMA, samples=10_000))
    assert (found.radius < 0.3).all()
    assert (found.radius > 0.25).all()


def test_more_draws_certify_more_and_the_largest_radius_is_the_limit(half: Classifier) -> None:
    x = _points(torch.tensor([50.0]))
    radii = []
    for samples in (10, 100, 1000):
        noise = Noise(SIGMA, samples=samples)
        radii.append(float(certify(half, x, noise).radius))
        assert radii[-1] == noise.largest_radius
    assert radii == sorted(radii)
    assert noise.largest_radius == pytest.approx(SIGMA * NormalDist().inv_cdf(0.001 ** (1 / 1000)))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sigma": 0.0}, InputError),
        ({"sigma": math.inf}, InputError),
        ({"sigma": 1.0, "confidence": 1.0}, InputError),
        ({"sigma": 1.0, "samples": 0}, InputError),
        ({"sigma": 1.0, "samples": 1.5}, InputTypeError),
        ({"sigma": 1.0, "seed": 0.5}, InputTypeError),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, float], error: type) -> None:
    with pytest.raises(error):
        Noise(**options)


def test_inputs_that_do_not_fit_are_refused(half: Classifier) -> None:
    for x in (torch.zeros(2, 4), torch.full((1, 3), torch.nan)):
        with pytest.raises(InputError):
            certify(half, x, Noise(SIGMA))
    with pytest.raises(InputTypeError):
        certify(half, torch.zeros(2, 3, dtype=torch.long), Noise(SIGMA))
    with pytest.raises(UsageError, match="cannot be run"):
        of_module(nn.Linear(4, 2), (3,))
