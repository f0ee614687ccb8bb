"""Proofs of norms state what memory they take, keep to it, and give way where it is too much."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from vercomp.core.maps.convolution import Convolution
from vercomp.core.maps.monomials import Monomial
from vercomp.core.maps.operators import Operator, Product
from vercomp.core.maps.sums import Sum, Transposed
from vercomp.core.norms import proofs, spectra, written
from vercomp.core.norms.bounds import explain, norm2, prove, weighted_norm2_squared
from vercomp.core.norms.cholesky import Batch, weighted_bounds
from vercomp.core.norms.convolution_norms import convolution_weighted, prove_convolution
from vercomp.core.norms.spectra import Grid, Spectrum


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def layer(
    inputs: int, outputs: int, k: int, n: int, *, stride: int = 1, groups: int = 1
) -> Convolution:
    kernel = random(1, outputs, inputs // groups, k, k)
    return Convolution.sliding(kernel, (inputs, n, n), stride=stride, padding=k // 2, groups=groups)


def allocated(run: Callable[[], object]) -> int:
    """The most bytes of tensors that a function holds at once, beyond those it was given."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


LAYERS = {
    "one channel": layer(1, 1, 9, 12),
    "more outputs": layer(1, 4, 5, 12),
    "square": layer(8, 8, 3, 6),
    "large kernel": layer(4, 4, 11, 7),
    "strided": layer(6, 12, 3, 9, stride=2),
    "pointwise": layer(16, 16, 1, 4),
    "depthwise": layer(6, 6, 3, 8, groups=6),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kept", [(), (0,), (0, 1)])
@pytest.mark.parametrize("rows", [0, 9])
def test_choices_hold_no_more_than_they_say(name: str, kept: tuple[int, ...], rows: int) -> None:
    choice = Spectrum(LAYERS[name], kept)
    c = choice.extents[0] if rows else min(choice.extents)
    weights = random(2, max(1, rows), choice.convolution.groups, c).abs()
    (grid, *_) = choice.grids()

    def run() -> None:
        weighted_bounds(choice.batches(grid, rows=rows), weights, choice.error)

    found = allocated(run)
    assert 8 * max(1, rows) * c <= found <= choice.memory(rows)
    # The estimate is of use: beyond what it allows for every proof it is not far away.
    assert choice.memory(rows) - proofs.OVERHEAD <= 40 * found


@pytest.mark.parametrize("name", ["wide", "long"])
def test_compositions_hold_no_more_than_they_say(name: str) -> None:
    operator = shuffled(8, 8, 8) if name == "wide" else Transposed(shuffled(4, 8, 16))
    found = allocated(lambda: written.prove_written(operator))
    assert 8 * min(operator.shape) ** 2 <= found <= written.memory(operator)


def shuffled(inputs: int, outputs: int, n: int) -> Operator:
    """A composition that is no convolution."""
    entries = outputs * n * n
    order = torch.randperm(entries, generator=torch.Generator().manual_seed(3))
    mixed = Product((Monomial(order, entries), layer(inputs, outputs, 3, n)))
    return Product((layer(outputs, inputs, 3, n), *mixed.factors))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("more", [0, 2**20, 2**23])
def test_a_choice_above_the_budget_is_never_started(
    name: str, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    batches = Spectrum.batches

    def recorded(
        self: Spectrum, grid: Grid, *, adjoint: bool = False, rows: int = 0
    ) -> Iterator[Batch]:
        started.append(self.memory(rows, adjoint=adjoint))
        return batches(self, grid, adjoint=adjoint, rows=rows)

    monkeypatch.setattr(Spectrum, "batches", recorded)
    monkeypatch.setattr(spectra, "AT_ONCE", 2**18)
    monkeypatch.setattr(proofs, "MEMORY", proofs.OVERHEAD + more if more else 1)
    convolution = LAYERS[name]
    proof = prove_convolution(convolution)
    q = random(4, 3, convolution.shape[0]).abs()
    bounds = convolution_weighted(convolution, q)
    assert all(memory <= proofs.MEMORY for memory in started)
    assert (proof.how == "sums of |W|") <= (proof.memory == 0)
    assert bool(started) or more < 2**23
    matrix = convolution.materialise()
    assert norm(matrix) * (1 - 1e-12) <= proof.bound <= convolution.absolute_norm
    exact = [norm(row.sqrt()[:, None] * matrix) ** 2 for row in q]
    assert (torch.tensor(exact, dtype=torch.float64) * (1 - 1e-12) <= bounds).all()
    assert torch.isfinite(bounds).all()


@pytest.mark.parametrize("convolution", [layer(6, 6, 3, 5, groups=3), layer(4, 8, 3, 6, stride=2)])
def test_some_groups_and_frequencies_at_a_time(
    convolution: Convolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    q = random(5, 4, convolution.shape[0]).abs()
    whole = [prove_convolution(convolution).bound, *convolution_weighted(convolution, q).tolist()]
    monkeypatch.setattr(spectra, "AT_ONCE", 1)
    parts = [prove_convolution(convolution).bound, *convolution_weighted(convolution, q).tolist()]
    assert parts == pytest.approx(whole, rel=1e-8)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("rows", [None, 3])
def test_compositions_are_written_out_in_strips(
    turned: bool, rows: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = Product((layer(4, 2, 3, 4), *shuffled(3, 4, 4).factors[1:]))
    operator: Operator = Transposed(composed) if turned else composed
    assert operator.shape[0] != operator.shape[1]
    if rows is not None:
        widest = 4 * 4 * 4
        monkeypatch.setattr(written, "_STRIP", 8 * widest * rows)
    matrix = operator.materialise()
    exact = norm(matrix)
    assert exact * (1 - 1e-13) <= written.prove_written(operator).bound <= exact * (1 + 1e-8)
    q = random(6, 5, len(matrix)).abs()
    exact_rows = [norm(row.sqrt()[:, None] * matrix) ** 2 for row in q]
    expected = torch.tensor(exact_rows, dtype=torch.float64)
    bounds = written.written_weighted(operator, q)
    assert (expected * (1 - 1e-12) <= bounds).all()
    assert (bounds <= expected * (1 + 1e-7)).all()


def test_compositions_that_do_not_fit_are_not_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = shuffled(3, 4, 4)
    exact = norm(operator.materialise())
    assert prove(operator).how == "matrix"
    monkeypatch.setattr(proofs, "MEMORY", 1)
    proof = prove(operator)
    assert proof.how in ("product of norms", "Schur", "norms of |A|")
    assert exact <= proof.bound < 100 * exact
    q = random(7, 2, operator.shape[0]).abs()
    assert torch.isfinite(weighted_norm2_squared(operator, q)).all()


def test_the_proof_can_be_asked_for() -> None:
    large = layer(24, 24, 3, 32)
    assert prove(layer(1, 6, 5, 12)).how == "matrix"
    assert prove(large).how == "torus"
    assert prove(large).bound == norm2(large)
    assert prove(Monomial(torch.arange(3), 3)).how == "diagonal Gram matrix"
    skip = Sum((large, Monomial(torch.arange(24 * 32 * 32), 24 * 32 * 32)))
    assert prove(skip).how == "torus"
    assert explain(large).startswith(f"‖A‖ ≤ {norm2(large):.6g} by torus, ")


def test_a_pointwise_convolution_is_proved_by_its_matrix_of_channels() -> None:
    convolution = layer(48, 32, 1, 56, stride=2)
    exact = norm(convolution.kernel.flatten(1))
    proof = prove(convolution)
    assert exact * (1 - 1e-13) <= proof.bound <= exact * (1 + 1e-8)
    assert Spectrum(convolution).frequencies == 1


COMPILED = """
import resource, sys, torch
from torch import nn
import vercomp
torch.set_num_threads(1)
outputs, k, n, padding = map(int, sys.argv[1:])
m = n + 2 * padding - k + 1
model = nn.Sequential(
    nn.Conv2d(1, outputs, k, padding=padding),
    nn.Tanh(),
    nn.Flatten(),
    nn.Linear(outputs * m * m, 10),
)
vercomp.compile(model, (1, n, n)).network.bounds()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize(("outputs", "k", "n", "padding"), [(6, 5, 32, 0), (1, 9, 28, 4)])
def test_small_convolutions_compile_in_little_memory(
    outputs: int, k: int, n: int, padding: int
) -> None:
    pytest.importorskip("resource")
    arguments = [str(number) for number in (outputs, k, n, padding)]
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, *arguments], capture_output=True, text=True, check=True
    )
    unit = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss
    assert int(done.stdout) * unit < 1.5e9
