"""Proved norms: never below the exact norm, and hardly above it, however nasty the matrix."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vercomp.core.maps.convolution import Convolution
from vercomp.core.maps.monomials import Diagonal, Monomial
from vercomp.core.maps.operators import Dense, Operator
from vercomp.core.norms import convolution_norms
from vercomp.core.norms.bounds import norm2, weighted_norm2_squared
from vercomp.core.norms.majorants import majorants

PRECISE = mpmath.MPContext()
PRECISE.dps = 60


def exact_norm(matrix: Tensor) -> mpmath.mpf:
    """‖A‖₂ to some 30 digits: λ_max of the smaller Gram matrix in 60-digit arithmetic."""
    a = PRECISE.matrix([[PRECISE.mpf(float(v)) for v in row] for row in matrix])
    gram = a * a.T if a.rows <= a.cols else a.T * a
    return PRECISE.sqrt(max(0, *PRECISE.eigsy(gram, eigvals_only=True)))


def exact_weighted(matrix: Tensor, q: Tensor) -> mpmath.mpf:
    """λ_max(Aᵀ diag(q) A) to some 30 digits."""
    a = PRECISE.matrix([[PRECISE.mpf(float(v)) for v in row] for row in matrix])
    weights = PRECISE.diag([PRECISE.mpf(float(v)) for v in q])
    return max(0, *PRECISE.eigsy(a.T * weights * a, eigvals_only=True))


def as_matrix(operator: Operator) -> Tensor:
    return operator.apply(torch.eye(operator.shape[1], dtype=torch.float64)).T


def random(seed: int, m: int, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(m, n, dtype=torch.float64, generator=generator)


def repeated_rows() -> Tensor:
    return random(1, 1, 7).expand(5, 7).contiguous()


def graded() -> Tensor:
    return random(2, 6, 4) * torch.logspace(0, -40, 6, dtype=torch.float64)[:, None]


def clustered() -> Tensor:
    """Singular values that agree to 12 digits: hard for iterations, easy for a proof."""
    q, _ = torch.linalg.qr(random(3, 12, 12))
    r, _ = torch.linalg.qr(random(4, 12, 12))
    return q @ torch.diag(1.0 - 1e-12 * torch.arange(12, dtype=torch.float64)) @ r


NASTY = {
    "wide": lambda: random(5, 4, 9),
    "tall": lambda: random(6, 9, 4),
    "square": lambda: random(7, 8, 8),
    "one row": lambda: random(8, 1, 9),
    "one column": lambda: random(9, 9, 1),
    "one entry": lambda: torch.tensor([[-3.0]], dtype=torch.float64),
    "rank one": lambda: torch.outer(random(10, 1, 8)[0], random(11, 1, 5)[0]),
    "repeated rows": repeated_rows,
    "graded rows": graded,
    "clustered": clustered,
    "orthogonal": lambda: torch.linalg.qr(random(12, 10, 10))[0],
    "identity": lambda: torch.eye(6, dtype=torch.float64),
    "dead rows": lambda: random(13, 6, 6) * torch.tensor([1.0, 0, 0, 1, 0, 1])[:, None],
    "tiny": lambda: 1e-200 * random(14, 6, 5),
    "huge": lambda: 1e150 * random(15, 5, 6),
    "subnormal": lambda: 1e-310 * random(16, 3, 3),
    "largest": lambda: torch.full((2, 2), 7e307, dtype=torch.float64),
    "one huge entry": lambda: random(17, 5, 5) + 1e120 * torch.eye(5, dtype=torch.float64)[2],
}


@pytest.mark.parametrize("name", NASTY)
def test_norm_is_above_the_exact_one_and_tight(name: str) -> None:
    matrix = NASTY[name]()
    bound, exact = norm2(Dense(matrix)), exact_norm(matrix)
    assert PRECISE.mpf(bound) >= exact
    assert PRECISE.mpf(bound) <= exact * (1 + PRECISE.mpf(1e-6))


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("kind", ["ones", "random", "graded", "mostly zero"])
def test_weighted_norm_is_above_the_exact_one_and_tight(name: str, kind: str) -> None:
    matrix = NASTY[name]()
    m = len(matrix)
    weights = {
        "ones": torch.ones(m, dtype=torch.float64),
        "random": random(m, 1, m)[0].abs(),
        "graded": torch.logspace(3, -60, m, dtype=torch.float64),
        "mostly zero": torch.nn.functional.one_hot(torch.tensor(m // 2), m).double() * 0.3,
    }[kind]
    bound = float(weighted_norm2_squared(Dense(matrix), weights[None])[0])
    exact = exact_weighted(matrix, weights)
    assert PRECISE.mpf(bound) >= exact
    if 1e-290 < exact < 1e300:
        assert PRECISE.mpf(bound) <= exact * (1 + PRECISE.mpf(2e-6))


@settings(max_examples=40)
@given(
    m=st.integers(1, 7),
    n=st.integers(1, 7),
    seed=st.integers(0, 10**6),
    rank=st.integers(1, 7),
    spread=st.floats(0, 30),
    error=st.sampled_from([0.0, 1e-9, 0.5]),
)
def test_random_products(m: int, n: int, seed: int, rank: int, spread: float, error: float) -> None:
    left = random(seed, m, rank) * torch.logspace(0, -spread, m, dtype=torch.float64)[:, None]
    matrix = left @ random(seed + 1, rank, n)
    q = random(seed + 2, 3, m).clamp_min(0.0)
    exact = exact_norm(matrix)
    bound = norm2(Dense(matrix, error))
    assert exact + PRECISE.mpf(error) <= bound <= (exact + error) * (1 + PRECISE.mpf(1e-6))
    # The worst matrix within the stored error is aligned with the leading singular vectors.
    bounds = weighted_norm2_squared(Dense(matrix, error), q)
    for row, value in zip(q, bounds, strict=True):
        worst = PRECISE.sqrt(exact_weighted(matrix, row)) + PRECISE.sqrt(row.max().item()) * error
        if error == 0.0:
            assert PRECISE.mpf(float(value)) >= worst**2
        assert PRECISE.mpf(float(value)) <= worst**2 * (1 + PRECISE.mpf(2e-6)) + PRECISE.mpf(1e-270)


def test_stored_error_of_a_weighted_norm_is_covered() -> None:
    # A + E with ‖E‖_F = error, E along the leading singular vectors of diag(√q) A.
    matrix, q = random(20, 4, 6), torch.tensor([0.5, 0.5, 0.5, 0.5], dtype=torch.float64)
    u, _, vh = torch.linalg.svd(matrix)
    worst = exact_weighted(matrix + 0.1 * torch.outer(u[:, 0], vh[0]), q)
    bound = float(weighted_norm2_squared(Dense(matrix, 0.1 * (1 + 1e-12)), q[None])[0])
    assert worst <= bound <= float(worst) * (1 + 1e-8)
    without = float(weighted_norm2_squared(Dense(matrix), q[None])[0])
    assert without < worst


def test_an_iteration_from_below_would_not_be_a_bound() -> None:
    """What the published code does: 50 power steps. On clustered spectra it is far below."""
    matrix = random(21, 60, 60)
    v = torch.ones(60, dtype=torch.float64)
    for _ in range(50):
        v = matrix.T @ (matrix @ v)
        v = v / v.norm()
    iterated = float((matrix @ v).norm())
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    assert iterated < exact * (1 - 1e-6)
    assert exact * (1 + 1e-10) < norm2(Dense(matrix)) < exact * (1 + 1e-8)


def test_even_the_correctly_rounded_norm_would_not_be_a_bound() -> None:
    """√2 rounds down in some matrices: the bound must be strictly above the float64 norm."""
    strictly_below = 0
    for seed in range(20):
        matrix = random(100 + seed, 3, 3)
        exact = exact_norm(matrix)
        strictly_below += PRECISE.mpf(float(exact)) < exact
        assert PRECISE.mpf(norm2(Dense(matrix))) > exact
    assert strictly_below > 3


def test_no_proof_falls_back_on_the_frobenius_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(matrices: Tensor) -> tuple[Tensor, Tensor]:
        return matrices, torch.ones(len(matrices), dtype=torch.int32)

    matrix = random(22, 5, 7)
    monkeypatch.setattr(torch.linalg, "cholesky_ex", refuse)
    # That of the Gram matrix: (Σ σ⁴)^(1/4).
    assert norm2(Dense(matrix)) == pytest.approx(float((matrix @ matrix.T).norm()) ** 0.5, rel=1e-8)
    assert norm2(Dense(matrix)) >= float((matrix @ matrix.T).norm()) ** 0.5


def test_a_bad_proposal_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proposal far below is raised until it is proved, whatever the iteration says."""
    import vercomp.core.norms.cholesky as module

    real = module.lanczos

    def too_low(*arguments: object) -> tuple[Tensor, Tensor]:
        estimate, excess = real(*arguments)  # type: ignore[arg-type]
        return 0.7 * estimate, excess

    monkeypatch.setattr(module, "lanczos", too_low)
    matrix = random(23, 8, 8)
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    assert exact < norm2(Dense(matrix)) < 2 * float(matrix.norm())


def test_zero_is_exactly_zero() -> None:
    zeros = torch.zeros(3, 4, dtype=torch.float64)
    assert norm2(Dense(zeros)) == 0.0
    assert norm2(Dense(zeros, 0.25)) == pytest.approx(0.25)
    q = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    assert weighted_norm2_squared(Dense(zeros), q).tolist() == [0.0, 0.0]
    assert float(weighted_norm2_squared(Dense(random(1, 3, 4)), q)[0]) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_finite_bound(bad: float) -> None:
    matrix = random(24, 3, 3)
    matrix[1, 2] = bad
    assert norm2(Dense(matrix)) == math.inf
    q = torch.ones(2, 3, dtype=torch.float64)
    assert weighted_norm2_squared(Dense(matrix), q).tolist() == [math.inf, math.inf]
    if bad > 0 or math.isnan(bad):
        q[1, 0] = bad
        bounds = weighted_norm2_squared(Dense(random(25, 3, 3)), q)
        assert math.isfinite(bounds[0])
        assert bounds[1] == math.inf
        factor = torch.ones(3, dtype=torch.float64)
        bounds = weighted_norm2_squared(Monomial(torch.arange(3), 3, factor), q)
        assert bounds[0] == pytest.approx(1.0)
        assert bounds[1] == math.inf


def test_products_that_underflow_or_overflow_stay_bounds() -> None:
    one = torch.ones(1, 2, dtype=torch.float64)
    tiny, huge = 1e-200 * torch.eye(2).double(), 1e200 * torch.eye(2).double()
    assert float(weighted_norm2_squared(Dense(tiny), one)[0]) > 0.0
    assert float(weighted_norm2_squared(Dense(tiny), 1e300 * one)[0]) >= 1e-100
    assert float(weighted_norm2_squared(Dense(huge), one)[0]) == math.inf
    q = torch.tensor([[1e-320, 1e10]], dtype=torch.float64)
    only_first = Dense(torch.tensor([[1.0], [0.0]], dtype=torch.float64))
    assert float(weighted_norm2_squared(only_first, q)[0]) >= 1e-320


def test_a_row_that_vanishes_beside_a_large_one_is_not_a_zero_row() -> None:
    """10⁻¹⁷ / 10³⁰⁸ is no float64 number, yet the second row has a norm."""
    matrix = Dense(torch.tensor([[1e308, 1e308], [1e-17, 0.0]], dtype=torch.float64))
    q = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    assert float(weighted_norm2_squared(matrix, q)[0]) >= 1e-34


@pytest.mark.parametrize("size", [1.0, 1e-170, 1e170])
def test_monomials(size: float) -> None:
    factor = size * torch.tensor([2.0, -3.0, 0.5, 1.0, 0.0], dtype=torch.float64)
    operator = Monomial(torch.tensor([0, 2, 0, 2, 1]), 4, factor)
    exact = exact_norm(as_matrix(operator))
    assert exact <= norm2(operator) <= exact * (1 + PRECISE.mpf(1e-14))
    q = torch.tensor([[1.0, 0.25, 4.0, 0.0, 9.0]], dtype=torch.float64)
    bound = PRECISE.mpf(float(weighted_norm2_squared(operator, q)[0]))
    assert bound >= exact_weighted(as_matrix(operator), q[0])


def test_monomial_without_factor_and_with_error() -> None:
    permutation = Monomial.permutation((2, 3), (1, 0))
    assert 1.0 <= norm2(permutation) <= 1.0 + 1e-14
    divisor = torch.tensor([3.0, 7.0], dtype=torch.float64)
    scaling = Diagonal.scaling(divisor, (2,), divide=True)
    assert Fraction(norm2(scaling)) >= Fraction(1, 3)
    assert norm2(scaling) <= (1 / 3) * (1 + 1e-14)
    q = torch.tensor([[3.0, 5.0]], dtype=torch.float64)
    bound = float(weighted_norm2_squared(scaling, q)[0])
    assert Fraction(bound) >= Fraction(3, 9)
    assert bound <= (3 / 9) * (1 + 1e-13)


def test_many_rows_of_weights_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    import vercomp.core.norms.cholesky as module

    matrix, q = random(26, 5, 3), random(27, 11, 5).abs()
    q[4] = math.nan
    whole = weighted_norm2_squared(Dense(matrix), q)
    monkeypatch.setattr(module, "_BATCH_BYTES", 8 * 9 * 2)  # two rows at a time
    assert torch.allclose(weighted_norm2_squared(Dense(matrix), q), whole, rtol=1e-8)
    nothing = weighted_norm2_squared(Dense(matrix), q[:0])
    assert nothing.shape == (0,)
    assert weighted_norm2_squared(Dense(matrix), q[4:5]).tolist() == [math.inf]


def test_equal_rows_of_weights_are_proved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import vercomp.core.norms.cholesky as module

    seen: list[int] = []
    real = module._prove

    def counted(blocks: Tensor, roots: Tensor) -> Tensor:
        seen.append(len(roots))
        return real(blocks, roots)

    monkeypatch.setattr(module, "_prove", counted)
    matrix, q = random(29, 5, 3), random(30, 4, 5).abs()
    bounds = weighted_norm2_squared(Dense(matrix), q[[2, 0, 0, 3, 1, 2]])
    assert seen == [4]
    each = torch.cat([weighted_norm2_squared(Dense(matrix), row[None]) for row in q])
    assert torch.allclose(bounds, each[[2, 0, 0, 3, 1, 2]], rtol=1e-12)


def test_bounds_are_tight_at_the_width_of_real_layers() -> None:
    matrix = random(28, 500, 300)
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    assert exact < norm2(Dense(matrix)) < exact * (1 + 1e-7)


def test_a_block_of_rows_takes_its_share_of_the_work_and_stays_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = random(31, 8, 9).reshape(4, 2, 3, 3)
    convolution = Convolution.sliding(kernel, (2, 6, 6), padding=1)
    q = random(32, 20, convolution.shape[0]).abs()
    covers: list[int] = []

    def spied(rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        found = majorants(rows, count)
        covers.append(len(found[0]))
        return found

    monkeypatch.setattr(convolution_norms, "majorants", spied)
    monkeypatch.setattr(convolution_norms, "_MOST_FOR_ROWS", 2e8)
    whole = weighted_norm2_squared(convolution, q)
    part = weighted_norm2_squared(convolution, q, blocks=20)
    assert covers[1] < covers[0]
    matrix = convolution.materialise()
    for row, one, other in zip(q, whole, part, strict=True):
        truth = torch.linalg.matrix_norm(row.sqrt()[:, None] * matrix, 2).square()
        assert float(truth) <= float(one) * (1 + 1e-12)
        assert float(truth) <= float(other) * (1 + 1e-12)
