"""Attacks on smoothed classifiers: what they find, and that no certificate is broken by them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import vercomp
from vercomp.core.errors import InputError
from vercomp.data import load_data

DIGITS = str(Path(__file__).parent.parent.parent / "examples" / "digits" / "digits.onnx")
SIGMA = 0.5


class HalfSpace(nn.Module):
    """Two classes, the first where x₀ > 0: smoothing does not move the boundary."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([4.0 * x[:, 0], -4.0 * x[:, 0]], 1)


def test_a_half_space_is_broken_just_beyond_its_distance() -> None:
    smoothed = vercomp.Smoothed(HalfSpace(), SIGMA, (3,))
    x = torch.randn(6, 3)
    x[:, 0] = torch.tensor([0.5, 0.5, -0.5, 0.2, -0.2, 1.0])
    y = (x[:, 0] < 0).long()
    near = smoothed.attack(x, y, 0.15, samples=2000)
    far = smoothed.attack(x, y, 1.5, samples=2000)
    assert not near.broken.any()
    assert far.broken.all()
    assert ((near.point - x).norm(dim=1) <= 0.15 * (1.0 + 1e-6)).all()
    assert (near.point[:, 0].abs() < x[:, 0].abs() - 0.1).all()  # towards the boundary
    assert torch.equal(far.found.prediction, 1 - y)


def test_no_certificate_is_broken() -> None:
    net = vercomp.compile(DIGITS)
    smoothed = vercomp.Smoothed(net, 0.25)
    data = load_data("digits", (64,), 16)
    found = smoothed.certify(data.x, samples=600)
    broken = 0
    for radius in (0.2, 0.6, 1.2):
        attacks = smoothed.attack(data.x, data.y, radius, samples=600)
        certified = (found.prediction == data.y) & (found.radius > radius)
        assert not (certified & attacks.broken).any()
        assert int(attacks.broken.sum()) >= broken
        broken = int(attacks.broken.sum())
    assert broken > 8


def test_a_file_gives_no_gradients(tmp_path: Path) -> None:
    smoothed = vercomp.Smoothed(DIGITS, 0.25)
    with pytest.raises(InputError, match="no gradients"):
        smoothed.attack(torch.zeros(1, 64), torch.zeros(1, dtype=torch.long), 0.1)
    with pytest.raises(InputError, match="radius"):
        smoothed.attack(torch.zeros(1, 64), torch.zeros(1, dtype=torch.long), math.inf)
