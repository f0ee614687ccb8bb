"""Adversarial inputs that are known: they break the claim, and no radius reaches beyond them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vercomp
from vercomp.results.adversaries import (
    Adversaries,
    Surroundings,
    known_distances,
    nearest_of,
    searched_adversaries,
    seen_adversaries,
    witnessed_adversaries,
)
from vercomp.results.certificates import certificate_arrays

X = torch.randn(12, 5, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def network() -> vercomp.CompiledNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 4))
    return vercomp.compile(model, (5,), name="five")


def asked(network: vercomp.CompiledNetwork, **options: Any) -> Surroundings:
    y = network.network(X).argmax(1)
    return Surroundings(network, X, y, vercomp.Labels, **options)


def arrays_of(about: Surroundings, **options: Any) -> dict[str, np.ndarray]:
    found = certificate_arrays(
        about.network, X, about.claim(about.y), about.y, norm=about.norm, box=about.box, **options
    )
    return {**found, "index": np.arange(len(X))}


def broken(about: Surroundings, found: Adversaries) -> Tensor:
    z = about.network.network(found.point.float()).double()
    own = z.gather(1, about.y[:, None])[:, 0]
    best = z.scatter(1, about.y[:, None], -torch.inf).amax(1)
    return own - best <= 1e-5


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("box", [None, (-4.0, 4.0)])
def test_points_break_the_claim_at_their_distance_and_beyond_every_radius(
    network: vercomp.CompiledNetwork, norm: str, box: tuple[float, float] | None
) -> None:
    about = asked(network, norm=norm, box=box)
    arrays = arrays_of(about)
    every = torch.arange(len(X))
    searched = searched_adversaries(about, every, arrays["radius_per_target"])
    assert searched is not None
    found = nearest_of(seen_adversaries(about, every), searched)
    known = found.distance.isfinite()
    assert known.any()
    assert broken(about, found)[known].all()
    torch.testing.assert_close(
        found.distance[known], about.distances(found.point, every)[known], rtol=1e-4, atol=1e-6
    )
    distance = known_distances(about, arrays, "radius", np.array([0]))
    assert (distance * (1 + 1e-5) >= arrays["radius"]).all()
    assert (distance <= found.distance.numpy() * (1 + 1e-6)).all()
    if box is not None:
        inside = (found.point >= box[0]) & (found.point <= box[1])
        assert inside[known].all()


def test_witnesses_are_at_the_distance_that_the_gap_says(network: vercomp.CompiledNetwork) -> None:
    about = asked(network)
    arrays = arrays_of(about)
    found = witnessed_adversaries(about, torch.arange(len(X)), {})
    known = np.isfinite(arrays["gap"])
    assert known.any()
    np.testing.assert_allclose(
        found.distance.numpy()[known],
        (arrays["radius"] * (1 + arrays["gap"]))[known],
        rtol=1e-2,
    )
    assert broken(about, found)[torch.from_numpy(known)].all()


def test_frozen_features_do_not_move_and_descents_do_not_search(
    network: vercomp.CompiledNetwork,
) -> None:
    scales = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0])
    about = asked(network, scales=scales)
    found = seen_adversaries(about, torch.arange(len(X)))
    known = found.distance.isfinite()
    assert torch.equal(found.point[known][:, 1], X.double()[known][:, 1])
    torch.testing.assert_close(
        about.distances(found.point, torch.arange(len(X)))[known], found.distance[known]
    )
    assert searched_adversaries(about, torch.arange(3), np.ones((3, 4))) is None


def test_descents_look_at_the_two_nearest_targets_and_never_at_the_label(
    network: vercomp.CompiledNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = asked(network)
    seen: list[Tensor] = []
    search = network.network.nearest

    def recorded(x: Tensor, y: Tensor, **options: Any) -> Any:
        seen.append(options["targets"])
        return search(x, y, **options)

    monkeypatch.setattr(network.network, "nearest", recorded)
    radii = np.array([[0.1, 0.2, 0.3, 0.4]] * 2)
    rows = torch.arange(2)
    searched_adversaries(about, rows, radii)
    for targets, label in zip(seen[0].tolist(), about.y[rows].tolist(), strict=True):
        assert targets == [t for t in range(4) if t != label][:2]


def test_wrong_inputs_are_adversarial_themselves(network: vercomp.CompiledNetwork) -> None:
    y = (network.network(X).argmax(1) + 1) % 4
    about = Surroundings(network, X, y, vercomp.Labels)
    arrays = arrays_of(about)
    assert (known_distances(about, arrays, "radius", np.array([], dtype=np.int64)) == 0.0).all()


def test_the_nearest_of_several_counts() -> None:
    points = torch.arange(6.0).reshape(3, 2)
    first = Adversaries(points, torch.tensor([1.0, torch.inf, 3.0]).double())
    second = Adversaries(-points, torch.tensor([2.0, 5.0, torch.inf]).double())
    found = nearest_of(first, None, second)
    assert found.distance.tolist() == [1.0, 5.0, 3.0]
    assert found.point.tolist() == [[0.0, 1.0], [-2.0, -3.0], [4.0, 5.0]]
