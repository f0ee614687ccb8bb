"""Proved norms of convolutions from their Fourier transforms.

**One stride.** In each axis write an input position as j = s q + r, with the stride s and
0 ≤ r < s. Then s p + d k − b = s (p + t) + r for the tap k, where r = (d k − b) mod s and
t = ⌊(d k − b) / s⌋: a strided convolution is a convolution with stride 1 of the C_in · Πs residue
components of x, and its taps are shared out among them.

**A torus.** Let the taps have offsets t_min ≤ t ≤ t_max, the result m entries and each component at
most n. On a torus of M positions that convolution becomes circular. A, with its zero padding, is a
part (some rows, some columns) of the circular operator if no offset that wraps is met again:

    M ≥ n − t_min,   M ≥ m + t_max,   M ≥ n,   M ≥ m   (in each axis).

So ‖A‖ is at most the norm of the circular operator. Entries that wrap are not in the part: they may
be multiplied by any phase e^{iφ}, which moves the frequencies to ω = (2π l + φ) / M; and M may be
any larger number. ‖A‖ is at most the smallest of all these norms. For the kernel (1, 1, 1) on n
entries, M = n + 1 and φ = π give 1 + 2cos(π/(n + 1)), the norm itself.

**Frequencies.** Characters diagonalise the circular operator: its norm is max_ω ‖Ŵ(ω)‖₂ over the
grid, where Ŵ(ω) = Σ_t W_t e^{iωt} are matrices (C_out, C_in · Πs), each group of channels by
itself. For real W the frequencies ω and −ω give conjugate matrices: one of them is enough.

**Axes kept as they are.** The torus is a choice for each axis. Along an axis that is kept,
positions stay rows and columns: a block has C_out · Πm rows and C_in · Πs · Πn columns then, with m
and n of the kept axes and s of the others, and is the matrix of A itself where all are kept. That
costs more and gives away less.

Along a wrapped axis (:mod:`.circular`) the torus is the convolution's own, M = n, without a phase.

With weights the blocks are diag(√q) Ŵ(ω), where q is its maximum over the positions on the torus.

**Rounding.** The phases are computed from integers, each component to within η = 2⁻⁴⁴, so that an
entry of Ŵ is off by at most 2(K + 2)u + η times Σ_t |W_t| in its real and its imaginary part (K
taps), and Ŵ(ω) by twice the 2-norm of that matrix of sums.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..arithmetic.outward import UNIT_ROUNDOFF, power_of_two
from ..maps.convolution import Convolution
from .cholesky import Batch

_PHASE_ERROR = 2.0**-44
_BLOCK_BYTES = 2**26

Grid = tuple[tuple[int, int], ...]
"""For each axis (M, h): M positions, frequencies π(2l + h)/M with h = 0 or 1."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The Fourier blocks of a convolution.

    Args:
        convolution: In float64, on the CPU, with finite weights.
        kept: The axes (0, 1, …) that are not put on a torus.
        wrapped: Those along which the convolution is circular: its own entries stand where its
            geometry has zeros. Strides divide them.
    """

    convolution: Convolution
    kept: tuple[int, ...] = ()
    wrapped: tuple[int, ...] = ()

    @cached_property
    def size(self) -> float:
        """A power of two: blocks are of W divided by it."""
        return power_of_two(self.convolution.kernel)

    @cached_property
    def around(self) -> tuple[int, ...]:
        """The axes on the torus."""
        return tuple(a for a in range(self.convolution.dimensions) if a not in self.kept)

    @cached_property
    def offsets(self) -> list[list[tuple[int, int]]]:
        """For each axis on the torus and tap: (t, r)."""
        geometry = self.convolution
        return [
            [
                divmod(geometry.dilation[axis] * k - geometry.pads[axis][0], geometry.stride[axis])
                for k in range(geometry.kernel.shape[2 + axis])
            ]
            for axis in self.around
        ]

    @cached_property
    def residues(self) -> dict[tuple[int, ...], list[tuple[int, ...]]]:
        """The residues r that are met, for each axis on the torus, and the taps that meet them."""
        found: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for taps in itertools.product(*(range(len(line)) for line in self.offsets)):
            residue = tuple(line[k][1] for line, k in zip(self.offsets, taps, strict=True))
            found.setdefault(residue, []).append(taps)
        return found

    @cached_property
    def least(self) -> tuple[int, ...]:
        """The smallest torus, for each of its axes."""
        geometry = self.convolution
        sizes = []
        for axis, line in zip(self.around, self.offsets, strict=True):
            first, last = min(t for t, _ in line), max(t for t, _ in line)
            component = -(-geometry.of[1 + axis] // geometry.stride[axis])
            m = geometry.to[1 + axis]
            own = axis in self.wrapped
            sizes.append(component if own else max(component - first, m + last, component, m))
        return tuple(sizes)

    @cached_property
    def extents(self) -> tuple[int, int]:
        """(c, c'): rows and columns of a block."""
        geometry = self.convolution
        outputs = math.prod(geometry.to[1 + axis] for axis in self.kept)
        inputs = math.prod(geometry.of[1 + axis] for axis in self.kept)
        channels = geometry.kernel.shape[0] // geometry.groups, geometry.kernel.shape[1]
        return channels[0] * outputs, channels[1] * inputs * len(self.residues)

    @cached_property
    def frequencies(self) -> int:
        """How many blocks there are of every group, about."""
        return math.prod(self.least) // 2 + 1 if self.around else 1

    def work(self, rows: int = 1) -> float:
        """Floating-point operations of a proof, roughly, for so many rows of weights."""
        c, other = self.extents
        k = min(c, other)
        each = (k**3 / 3.0 + 200.0 * k**2 + 1e5) * rows
        if c > other and rows > 1:
            each += 2.0 * c * other * k * rows
        pairs = math.prod(self.convolution.kernel.shape[2 + axis] ** 2 for axis in self.kept)
        each += 2.0 * pairs * k**2
        field = 4.0 if self.around else 1.0
        return field * self.convolution.groups * self.frequencies * each

    @cached_property
    def error(self) -> float:
        """Bound of what every computed block is off by, in the 2-norm."""
        if not self.around:
            return 0.0
        # |B̂ − B| is entrywise at most this factor times a convolution with |W| whose taps on the
        # torus are added up: its norm is at most ‖|W|‖ by the largest sums of rows and of columns.
        kernel = (self.convolution.kernel / self.size).abs()
        rows = float(kernel.flatten(1).sum(1).max())
        grouped = kernel.reshape(self.convolution.groups, -1, *kernel.shape[1:])
        columns = float(grouped.flatten(3).sum((1, 3)).max())
        terms = 2.0 * (2.0 * (kernel[0, 0].numel() + 2) * UNIT_ROUNDOFF + _PHASE_ERROR)
        return terms * math.sqrt(rows) * math.sqrt(columns) * (1.0 + 1e-9) + 1e-280

    def grids(self, more: int = 0) -> list[Grid]:
        """Tori that hold the convolution, ``more`` positions larger than they must be."""
        axes = [
            [(least, 0)] if axis in self.wrapped else [(least + more, 0), (least + more, 1)]
            for axis, least in zip(self.around, self.least, strict=True)
        ]
        return list(itertools.product(*axes))

    def batches(
        self, grid: Grid, *, adjoint: bool = False, weighted: bool = False
    ) -> Iterator[Batch]:
        """Ŵ(ω) / size for one of each ±ω, some frequencies at a time.

        Args:
            grid: The frequencies.
            adjoint: Give Ŵᴴ.
            weighted: Whether rows will be weighted. Where they will not, either Gram matrix does,
                and it is the smaller one that is given.
        """
        rows, columns = reversed(self.extents) if adjoint else self.extents
        if rows > columns and not weighted:
            adjoint, rows, columns = not adjoint, columns, rows
        squared = rows <= columns
        entries = rows * rows if squared else rows * columns
        part = max(1, _BLOCK_BYTES // (16 * self.convolution.groups * entries))
        alive = self._alive(adjoint)
        for chosen in torch.split(_half(grid), part):
            weights = self._transformed(grid, chosen)
            if squared:
                yield Batch(self._gram(weights, adjoint), True, alive, self._terms)
            else:
                block = self._spread(weights)
                yield Batch(block.mH if adjoint else block, False, alive, self._terms)

    @property
    def _terms(self) -> int:
        """Products summed in one entry of a Gram matrix, and operations after each of them."""
        return max(self.extents) + 2 * self.convolution.kernel[0, 0].numel() ** 2

    def _alive(self, adjoint: bool) -> Tensor:
        """Rows of channels that have a weight that is not zero: (groups, rows)."""
        kernel = self.convolution.kernel
        grouped = (kernel != 0).reshape(self.convolution.groups, -1, *kernel.shape[1:]).flatten(3)
        channels = grouped.any(3).any(1 if adjoint else 2)
        if not adjoint:
            return channels.repeat_interleave(self.extents[0] // channels.shape[1], 1)
        inputs = self.extents[1] // (channels.shape[1] * len(self.residues))
        return channels.repeat(1, len(self.residues)).repeat_interleave(inputs, 1)

    def _transformed(self, grid: Grid, frequencies: Tensor) -> Tensor:
        """Σ over taps on the torus: (F, taps along kept axes, g, c_out, c_in · residues)."""
        geometry = self.convolution
        kernel = geometry.kernel / self.size
        kernel = kernel.reshape(geometry.groups, -1, *kernel.shape[1:])
        # Taps on the torus first, then those along kept axes, last the channels.
        spatial = [3 + axis for axis in (*self.around, *self.kept)]
        kernel = kernel.permute(*spatial, 0, 1, 2)
        kernel = kernel.reshape(*kernel.shape[: len(self.around)], -1, *kernel.shape[-3:])
        parts = []
        for taps in self.residues.values():
            weights = torch.stack([kernel[place] for place in taps])
            if self.around:
                phase = self._phases(taps, grid, frequencies)
                flat = weights.flatten(1)
                sums = torch.complex(phase.cos() @ flat, phase.sin() @ flat)
                weights = sums.reshape(len(frequencies), *weights.shape[1:])
            parts.append(weights)
        return torch.cat(parts, 4) if len(parts) > 1 else parts[0]

    @cached_property
    def _places(self) -> list[Tensor]:
        """For each kept axis, whether tap k of the result p reads the entry j: (k, p, j)."""
        geometry = self.convolution
        found = []
        for axis in self.kept:
            m, n = geometry.to[1 + axis], geometry.of[1 + axis]
            p = torch.arange(m)[:, None] * geometry.stride[axis] - geometry.pads[axis][0]
            taps = torch.arange(geometry.kernel.shape[2 + axis])[:, None, None]
            found.append((p + geometry.dilation[axis] * taps == torch.arange(n)).double())
        return found

    def _spread(self, weights: Tensor) -> Tensor:
        """(F, taps along kept axes, g, c_out, c_in) to (F, g, c_out · Πm, c_in · Πn)."""
        place = torch.ones(1, 1, 1, dtype=torch.float64)
        for line in self._places:
            place = torch.einsum("kpj,lqi->klpqji", place, line)
            place = place.flatten(4, 5).flatten(2, 3).flatten(0, 1)
        block = torch.einsum("fkgoi,kpj->fgopij", weights, place.to(weights.dtype))
        return block.flatten(4, 5).flatten(2, 3)

    def _gram(self, weights: Tensor, adjoint: bool) -> Tensor:
        """BBᴴ, or BᴴB for the adjoint, from the products of two taps: (F, g, k, k).

        Results p and p' share the entry j if taps k and k' read it: the block for (p, p') is the
        sum of W_k W_k'ᴴ over those. For the adjoint p, p' and j change places.
        """
        both = torch.ones(1, 1, 1, 1, dtype=torch.float64)  # (k, k', p, p')
        for line in self._places:
            met = torch.einsum("kpj,lqj->klpq" if not adjoint else "kjp,ljq->klpq", line, line)
            both = torch.einsum("klpq,mnrs->kmlnprqs", both, met)
            both = both.flatten(6, 7).flatten(4, 5).flatten(2, 3).flatten(0, 1)
        if adjoint:
            products = torch.einsum("fkgoi,flgoj->fgijkl", weights.conj(), weights)
        else:
            products = torch.einsum("fkgoi,flgji->fgojkl", weights, weights.conj())
        positions = both.shape[2]
        flat = products.flatten(4) @ both.flatten(2).flatten(0, 1).to(products.dtype)
        gram = flat.reshape(*flat.shape[:-1], positions, positions)
        return gram.transpose(3, 4).flatten(4, 5).flatten(2, 3)

    def _phases(self, taps: list[tuple[int, ...]], grid: Grid, frequencies: Tensor) -> Tensor:
        """Angles (frequencies, taps), from integers modulo whole turns."""
        total = torch.zeros(len(frequencies), len(taps), dtype=torch.float64)
        for axis, (line, (m, _)) in enumerate(zip(self.offsets, grid, strict=True)):
            offset = torch.tensor([line[place[axis]][0] for place in taps])
            turns = torch.remainder(frequencies[:, axis, None] * offset, 2 * m)
            total = total + turns.double() * (math.pi / m)
        return total

    def output_weights(self, q: Tensor) -> Tensor:
        """Weights (P, m) of outputs as weights of the rows of blocks: (P, groups, c)."""
        geometry = self.convolution
        rows = q.reshape(len(q), geometry.groups, -1, *geometry.to[1:])
        if self.around:
            rows = rows.amax([3 + axis for axis in self.around])
        return rows.flatten(2)

    def input_weights(self, q: Tensor) -> Tensor:
        """Weights (P, n) of inputs as weights of the columns: (P, groups, c')."""
        geometry = self.convolution
        shaped = q.reshape(len(q), geometry.groups, -1, *geometry.of[1:])
        parts = []
        for residue in self.residues:
            part = shaped
            for axis, r in zip(self.around, residue, strict=True):
                n, s = geometry.of[1 + axis], geometry.stride[axis]
                places = torch.arange(min(r, n), n, s)
                part = part.index_select(3 + axis, places)
            if part.numel() == 0:  # nothing of the input has this residue
                part = shaped.new_zeros(part.shape).sum([3 + axis for axis in self.around])
            elif self.around:
                part = part.amax([3 + axis for axis in self.around])
            parts.append(part.flatten(2))
        return torch.cat(parts, 2)


def _half(grid: Grid) -> Tensor:
    """2l + h of one of each pair ±ω: (F, axes)."""
    lines = [torch.arange(m) * 2 + h for m, h in grid]
    points = torch.cartesian_prod(*lines).reshape(-1, len(grid)) if grid else torch.zeros(1, 0)
    flat, mirrored = torch.zeros(len(points)).long(), torch.zeros(len(points)).long()
    for axis, (m, _) in enumerate(grid):
        flat = flat * 2 * m + points[:, axis]
        mirrored = mirrored * 2 * m + torch.remainder(-points[:, axis], 2 * m)
    return points[flat <= mirrored]
