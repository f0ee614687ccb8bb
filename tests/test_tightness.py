"""Distances that are seen: true upper bounds, in every norm, and what is said of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import vercomp
from vercomp.results.tightness import certificate_notes, ratio_of, seen_distances

X = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))


def compiled(activation: type[nn.Module]) -> vercomp.CompiledNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return vercomp.compile(nn.Sequential(nn.Linear(4, 8), activation(), nn.Linear(8, 3)), (4,))


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize(
    "claim", [vercomp.Labels(), vercomp.Labels(top=2), vercomp.Threshold(0.1, 1)]
)
def test_radii_never_exceed_what_is_seen(
    norm: str, activation: type[nn.Module], claim: Any
) -> None:
    net = compiled(activation)
    scales = torch.tensor([1.0, 0.0, 2.0, 0.5])
    for own in (None, scales):
        radius = net.certify(X, claim, norm=norm, scales=own).radius
        seen = seen_distances(net, X, claim, norm, own)
        assert (seen * (1.0 + 1e-5) >= radius).all()
        assert bool(seen.isfinite().any())


def test_in_the_2_norm_they_are_near_the_exact_radii() -> None:
    net = compiled(nn.Tanh)
    found = net.certify(X, vercomp.Labels())
    seen = seen_distances(net, X, vercomp.Labels())
    assert float((seen / found.radius).median()) < 1.05
    assert ratio_of(seen, found.radius) == pytest.approx(float((seen / found.radius).median()))


def test_inputs_that_are_wrong_already_are_at_no_distance() -> None:
    net = compiled(nn.Tanh)
    wrong = (net.network(X).argmax(1) + 1) % 3
    assert not seen_distances(net, X, vercomp.Labels(wrong)).any()
    assert ratio_of(torch.zeros(3), torch.zeros(3)) is None


def test_words_are_said_from_ten_times_on() -> None:
    smooth, kinked = compiled(nn.Tanh), compiled(nn.ReLU)
    for ratio in (None, 1.0, 9.9, math.nan):
        assert certificate_notes(smooth, ratio, None) == []
    found = certificate_notes(smooth, 10.0, ("curvature",))
    assert "10 times as far away" in found[0]
    assert "'0' has 100 % of the curvature bound" in found[1]
    assert (
        "let interval, crown, local, coap, coap-projected, lipschitz, alpha, quadratic try"
        in found[2]
    )
    assert "let coap, coap-projected, lipschitz, alpha" in certificate_notes(smooth, 10.0, None)[2]
    found = certificate_notes(kinked, 1e9, None)
    assert "more than a million times" in found[0]
    assert "train a smooth network" in found[1]
