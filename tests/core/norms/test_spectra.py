"""Fourier bounds of convolutions: never below the norm of the matrix, and close to it."""

from __future__ import annotations

import itertools
import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vercomp.core.maps.convolution import Convolution
from vercomp.core.maps.sums import Transposed
from vercomp.core.norms import convolution_norms
from vercomp.core.norms.bounds import norm2, weighted_norm2_squared
from vercomp.core.norms.cholesky import weighted_bounds
from vercomp.core.norms.convolution_norms import convolution_weighted, prove_convolution
from vercomp.core.norms.lanczos import norm_from_below
from vercomp.core.norms.spectra import Grid, Spectrum


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


SLACK = 1.0 + 1e-8


def square(kernel: Tensor, n: int, stride: int = 1, padding: int = 1) -> Convolution:
    of = (kernel.shape[1], n, n)
    return Convolution(kernel, of, (stride,) * 2, ((padding, padding),) * 2, (1, 1))


def norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


def squared_bound(spectrum: Spectrum, grid: Grid, rows: Tensor | None = None) -> Tensor:
    count = 0 if rows is None else len(rows)
    if rows is None:
        groups = spectrum.convolution.groups
        rows = torch.ones(1, groups, min(spectrum.extents), dtype=torch.float64)
    batches = spectrum.batches(grid, rows=count)
    return weighted_bounds(batches, rows, spectrum.error) * spectrum.size**2


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    axes = draw(st.integers(1, 3))
    largest = 4 if axes < 3 else 2

    def each(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes))

    taps, stride, dilation = each(1, largest), each(1, 3), each(1, 2)
    pads = tuple(zip(each(0, 3), each(0, 3), strict=True))
    lengths = [
        max(n, d * (k - 1) + 1 - before - behind)
        for n, d, k, (before, behind) in zip(
            each(1, 6 if axes < 3 else 3), dilation, taps, pads, strict=True
        )
    ]
    groups = draw(st.integers(1, 3))
    kernel = random(
        draw(st.integers(0, 10**6)),
        groups * draw(st.integers(1, 2)),
        draw(st.integers(1, 2)),
        *taps,
    )
    of = (groups * kernel.shape[1], *lengths)
    return Convolution(kernel, of, tuple(stride), pads, tuple(dilation), groups)


@settings(max_examples=15)
@given(convolution=convolutions(), more=st.integers(0, 2), seed=st.integers(0, 99))
def test_every_torus_and_every_choice_of_axes_gives_a_bound(
    convolution: Convolution, more: int, seed: int
) -> None:
    matrix = convolution.materialise()
    exact = norm(matrix)
    q, inputs = random(seed, 2, len(matrix)).abs(), random(seed, 2, matrix.shape[1]).abs()
    left = torch.linalg.matrix_norm(q.sqrt()[:, :, None] * matrix, 2).square()
    right = torch.linalg.matrix_norm(matrix * inputs.sqrt()[:, None], 2).square()
    axes = range(convolution.dimensions)
    for kept in itertools.chain.from_iterable(
        itertools.combinations(axes, count) for count in range(len(axes) + 1)
    ):
        spectrum = Spectrum(convolution, kept)
        is_exact = len(kept) == len(axes)
        for grid in spectrum.grids(more):
            found = math.sqrt(float(squared_bound(spectrum, grid)))
            assert exact * (1 - 1e-13) <= found
            rows = squared_bound(spectrum, grid, spectrum.output_weights(q))
            assert (left * (1 - 1e-12) <= rows).all()
            columns = spectrum.input_weights(inputs)
            batches = spectrum.batches(grid, adjoint=True, rows=len(columns))
            found_right = weighted_bounds(batches, columns, spectrum.error) * spectrum.size**2
            assert (right * (1 - 1e-12) <= found_right).all()
            if is_exact:
                assert found <= exact * SLACK + 1e-100
                assert (rows <= left * SLACK + 1e-100).all()
                assert (found_right <= right * SLACK + 1e-100).all()


@settings(max_examples=25)
@given(convolution=convolutions(), seed=st.integers(0, 99))
def test_norms_of_small_convolutions_are_those_of_their_matrices(
    convolution: Convolution, seed: int
) -> None:
    matrix = convolution.materialise()
    for operator, a in ((convolution, matrix), (Transposed(convolution), matrix.T)):
        assert norm(a) * (1 - 1e-13) <= norm2(operator) <= norm(a) * (1 + 1e-8) + 1e-100
        q = random(seed, 3, len(a)).abs()
        q[1] = 0.0
        bounds = weighted_norm2_squared(operator, q)
        exact = torch.linalg.matrix_norm(q.sqrt()[:, :, None] * a, 2).square()
        assert (exact * (1 - 1e-12) <= bounds).all()
        assert (bounds <= exact * (1 + 1e-8) + 1e-100).all()
        assert bounds[1] == 0.0


@pytest.mark.parametrize("n", [2, 5, 17])
def test_half_a_step_gives_the_norm_of_a_moving_sum(n: int) -> None:
    ones = torch.ones(1, 1, 3, dtype=torch.float64)
    convolution = Convolution(ones, (1, n), (1,), ((1, 1),), (1,))
    found = math.sqrt(float(squared_bound(Spectrum(convolution), ((n + 1, 1),))))
    assert found == pytest.approx(1 + 2 * math.cos(math.pi / (n + 1)), rel=1e-8)


def test_phases_are_computed_to_within_what_is_allowed() -> None:
    """Computed blocks against 40 digits, at frequencies whose angles are many turns."""
    convolution = square(random(1, 2, 2, 5, 4).contiguous(), 61, padding=3)
    spectrum = Spectrum(convolution)
    grid = ((67, 1), (70, 0))
    mp = mpmath.MPContext()
    mp.dps = 40
    (batch,) = spectrum.batches(grid)
    assert batch.squared
    half = [
        (a, b)
        for a, b in itertools.product(range(1, 134, 2), range(0, 140, 2))
        if a * 140 + b <= (-a % 134) * 140 + (-b % 140)
    ]
    kernel = convolution.kernel / spectrum.size
    for index in (0, 7, len(half) // 2, len(half) - 1):
        a, b = half[index]
        block = mp.matrix(2, 2)
        for o, i, j, k in itertools.product(range(2), range(2), range(5), range(4)):
            angle = mp.pi * (a * mp.mpf(j - 3) / 67 + b * mp.mpf(k - 3) / 70)
            block[o, i] += mp.mpf(float(kernel[o, i, j, k])) * mp.expj(angle)
        gram = block * block.H
        size = float(mp.norm(block))
        for o, i in itertools.product(range(2), range(2)):
            found = complex(batch.matrices[index, 0, o, i])
            assert abs(mp.mpc(found) - gram[o, i]) <= 2 * size * spectrum.error


def smooth(seed: int, outputs: int, inputs: int) -> Tensor:
    """Low-pass kernels, as training tends to give."""
    line = torch.tensor([0.5, 1.0, 0.5], dtype=torch.float64)
    mixing = random(seed, outputs, inputs, 1, 1) + 0.3
    return mixing * line[:, None] * line + 0.2 * random(seed + 1, outputs, inputs, 3, 3)


@pytest.mark.parametrize("n", [8, 16, 32])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["random", "smooth"])
def test_bounds_are_within_two_percent_on_ordinary_layers(n: int, stride: int, kind: str) -> None:
    kernel = random(2, 24, 16, 3, 3) if kind == "random" else smooth(3, 24, 16)
    convolution = square(kernel, n, stride)
    below = norm_from_below(convolution, 80)
    assert below * (1 - 1e-9) <= prove_convolution(convolution).bound <= 1.02 * below


def test_channels_keep_their_weights() -> None:
    convolution = square(smooth(4, 8, 8), 32)
    channels = torch.logspace(0, -3, 8, dtype=torch.float64)
    q = channels.repeat_interleave(32 * 32)[None]
    found = float(convolution_weighted(convolution, q)[0])
    scaled = square(convolution.kernel * channels.sqrt()[:, None, None, None], 32)
    assert found == pytest.approx(norm_from_below(scaled, 80) ** 2, rel=0.02)
    assert found < 0.7 * norm2(convolution) ** 2


def test_many_rows_of_weights_are_covered_by_few(monkeypatch: pytest.MonkeyPatch) -> None:
    convolution = square(random(5, 6, 4, 3, 3), 8)
    matrix = convolution.materialise()
    q = random(6, 40, len(matrix)).abs()
    q[7] = 0.0
    exact = torch.linalg.matrix_norm(q.sqrt()[:, :, None] * matrix, 2).square()
    each = convolution_weighted(convolution, q)
    monkeypatch.setattr(convolution_norms, "_MOST_FOR_ROWS", 5 * Spectrum(convolution).work())
    few = convolution_weighted(convolution, q)
    assert (exact * (1 - 1e-12) <= each).all()
    assert (exact * (1 - 1e-12) <= few).all()
    assert float(few[7]) == 0.0
    coarse = q.amax(1) * norm(matrix) ** 2
    assert (few <= 1.2 * coarse).all()


@pytest.mark.parametrize("size", [1e-150, 1e-300, 1e150])
def test_scales(size: float) -> None:
    kernel = random(7, 3, 2, 3, 3)
    exact = norm(square(kernel, 12).materialise())
    for choice in (Spectrum(square(size * kernel, 12)), Spectrum(square(size * kernel, 12), (1,))):
        rows = torch.ones(1, 1, min(choice.extents), dtype=torch.float64)
        bounds = [weighted_bounds(choice.batches(g), rows, choice.error) for g in choice.grids()]
        found = min(math.sqrt(float(bound)) * choice.size for bound in bounds)
        assert exact * size * (1 - 1e-12) <= found <= 1.1 * exact * size
    assert norm2(square(size * kernel, 12)) == pytest.approx(exact * size, rel=1e-6)


def test_zero_and_what_is_not_finite() -> None:
    zero = square(torch.zeros(3, 2, 3, 3, dtype=torch.float64), 24)
    assert norm2(zero) == 0.0
    kernel = random(8, 3, 2, 3, 3)
    kernel[1, 1, 0, 2] = math.nan
    assert norm2(square(kernel, 24)) == math.inf
    q = torch.ones(1, 3 * 24 * 24, dtype=torch.float64)
    assert weighted_norm2_squared(square(kernel, 24), q).tolist() == [math.inf]
    assert weighted_norm2_squared(zero, q).tolist() == [0.0]
    one = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    one[0, 0, 1, 1] = -3.0
    assert 3.0 <= norm2(square(one, 24)) <= 3.0 * (1 + 1e-8)
