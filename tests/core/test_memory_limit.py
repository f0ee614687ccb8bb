"""The limit of memory: what one working set may take, while the limit lasts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import vercomp
from vercomp.core.memory import DEFAULT, memory_limit, working_set
from vercomp.errors import InputError

CPU = torch.device("cpu")


def test_a_quarter_of_the_limit_is_for_one_working_set() -> None:
    before = working_set(CPU)
    assert before <= DEFAULT
    with memory_limit(0.1):
        assert working_set(CPU) == 25_000_000
        with memory_limit(None):
            assert working_set(CPU) == 25_000_000
        with memory_limit(0.05):
            assert working_set(CPU) == 12_500_000
        assert working_set(CPU) == 25_000_000


@pytest.mark.parametrize("limit", [1e-9, 0.0, -1.0, float("nan")])
def test_a_limit_that_nothing_can_keep_to_is_refused(limit: float) -> None:
    with pytest.raises(InputError, match=r"must be at least 0\.005 GB, got"), memory_limit(limit):
        pass


def test_certificates_do_not_depend_on_the_limit() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(300, 40), nn.Softplus(), nn.Linear(40, 5))
    net = vercomp.compile(model, (300,))
    x = torch.randn(30, 300, generator=torch.Generator().manual_seed(1))
    y = net.network(x).argmax(1)
    whole = net.certify(x, y)
    with memory_limit(0.005):
        parts = net.certify(x, y)
    torch.testing.assert_close(parts.radius, whole.radius, rtol=1e-5, atol=1e-9)
