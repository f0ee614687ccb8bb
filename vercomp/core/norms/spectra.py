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
from . import blocks
from .cholesky import Batch
from .proofs import AT_ONCE, OVERHEAD

_PHASE_ERROR = 2.0**-44

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
            # A single offset is a shift: the norm is that of its matrices at every frequency.
            if first == last:
                sizes.append(1)
            elif axis in self.wrapped:
                sizes.append(component)
            else:
                sizes.append(max(component - first, m + last, component, m))
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

    @cached_property
    def is_real(self) -> bool:
        """Whether there is a single block, without phases."""
        return all(positions == 1 for positions in self.least)

    @property
    def how(self) -> str:
        """The choice in words, for reports."""
        if not self.around:
            return "matrix"
        kept = ", ".join(str(axis) for axis in self.kept)
        return f"torus, axes kept: {kept}" if kept else "torus"

    def work(self, rows: int = 1) -> float:
        """Floating-point operations of a proof, roughly, for so many rows of weights."""
        c, other = self.extents
        each = 0.0
        if c > other and rows > 1:
            each += 2.0 * c * other**2 * rows
        if self.kept:
            written_out = 2.0 * min(c, other) ** 2 * max(c, other)
            each += min(self._work_of_pairs(c > other), written_out)
        return rows * self.work_of_row + self._all_blocks * each

    @cached_property
    def work_of_row(self) -> float:
        """Operations of the iterations and factorisations for one row of weights."""
        k = min(self.extents)
        return self._all_blocks * (k**3 / 3.0 + 200.0 * k**2 + 1e5)

    @property
    def _all_blocks(self) -> float:
        """How many blocks there are, a complex one counted as four."""
        field = 1.0 if self.is_real else 4.0
        return field * self.convolution.groups * self.frequencies

    def _work_of_pairs(self, adjoint: bool) -> float:
        """Operations of a Gram matrix that is accumulated over pairs of taps."""
        c, other = self._channels(adjoint)
        pairs, shared = blocks.meetings(self.convolution, self.kept, adjoint=adjoint)
        return c * c * (2.0 * other * pairs + 50.0 * shared)

    def _is_written_out(self, adjoint: bool) -> bool:
        """Whether a Gram matrix is the product of the block itself, which is larger but quicker."""
        c, other = reversed(self.extents) if adjoint else self.extents
        return 2.0 * c * c * other < self._work_of_pairs(adjoint) and other <= 2 * c

    def memory(self, rows: int = 0, *, adjoint: bool = False) -> int:
        """Bytes that a proof holds at once, at most, for so many rows of weights.

        Args:
            rows: 0 stands for no weights: then the smaller Gram matrix is proved.
            adjoint: Whether the weights are of the inputs.
        """
        frequencies, groups = self._at_once(rows, adjoint)
        kernel = 6 * 8 * self.convolution.kernel.numel()
        indices = 8 * 8 * len(self.around) * 2 * self.frequencies
        weights = 6 * 8 * max(1, rows) * self.convolution.groups * self.extents[int(adjoint)]
        blocks_ = frequencies * groups * self._memory_of_one(rows, adjoint)
        return kernel + indices + weights + blocks_ + OVERHEAD

    def _memory_of_one(self, rows: int, adjoint: bool) -> int:
        """Bytes for one frequency of one group: making the block and proving its norm."""
        flipped, (c, other) = self._sides(rows, adjoint)
        size = 8 if self.is_real else 16
        channels = math.prod(self._channels(flipped))
        taps = self.convolution.kernel[0, 0].numel()
        transformed = 5 * size * self._kept_taps * channels + 4 * 8 * taps
        if c > other:
            proving = 4 * size * c * other + 3 * size * other**2
        else:
            proving = 3 * size * c**2 + 4 * size * c**2 // self._positions(flipped)
            if self._is_written_out(flipped):
                making = size * c**2 + 2 * size * c * other
                proving = max(proving, making)
        return transformed + proving + max(1, rows) * (16 * c + 160)

    def _at_once(self, rows: int, adjoint: bool) -> tuple[int, int]:
        """How many frequencies, of how many groups, are treated at a time."""
        count = max(1, AT_ONCE // self._memory_of_one(rows, adjoint))
        groups = min(count, self.convolution.groups)
        return min(max(1, count // groups), 2 * self.frequencies), groups

    def _sides(self, rows: int, adjoint: bool) -> tuple[bool, tuple[int, int]]:
        """Whether blocks are Ŵᴴ, and (rows, columns) of a block."""
        c, other = reversed(self.extents) if adjoint else self.extents
        if c > other and rows == 0:
            return not adjoint, (other, c)
        return adjoint, (c, other)

    @cached_property
    def _kept_taps(self) -> int:
        return math.prod(self.convolution.kernel.shape[2 + axis] for axis in self.kept)

    def _positions(self, adjoint: bool) -> int:
        """Positions of the rows of a block along the kept axes."""
        sizes = self.convolution.of if adjoint else self.convolution.to
        return math.prod(sizes[1 + axis] for axis in self.kept)

    def _channels(self, adjoint: bool) -> tuple[int, int]:
        """Rows and columns of Ŵ_k for a tap k of the kept axes, or those of its adjoint."""
        kernel = self.convolution.kernel
        outputs, inputs = kernel.shape[0] // self.convolution.groups, kernel.shape[1]
        inputs *= len(self.residues)
        return (inputs, outputs) if adjoint else (outputs, inputs)

    @cached_property
    def error(self) -> float:
        """Bound of the error of every computed block, in the 2-norm."""
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
            [(least, 0)]
            if least == 1 or axis in self.wrapped
            else [(least + more, 0), (least + more, 1)]
            for axis, least in zip(self.around, self.least, strict=True)
        ]
        return list(itertools.product(*axes))

    def batches(self, grid: Grid, *, adjoint: bool = False, rows: int = 0) -> Iterator[Batch]:
        """Ŵ(ω) / size for one of each ±ω, some frequencies of some groups at a time.

        Args:
            grid: The frequencies.
            adjoint: Give Ŵᴴ.
            rows: How many rows of weights will be put on the blocks. Where there are none, either
                Gram matrix does, and it is the smaller one that is given.
        """
        frequencies, groups = self._at_once(rows, adjoint)
        adjoint, (c, other) = self._sides(rows, adjoint)
        alive = self._alive(adjoint)
        for first in range(0, self.convolution.groups, groups):
            some = slice(first, min(first + groups, self.convolution.groups))
            for chosen in torch.split(_half(grid), frequencies):
                squared = c <= other
                block = self._block(self._transformed(grid, chosen, some), squared, adjoint)
                yield Batch(block, squared, alive[some], self._terms, some)
                del block

    def _block(self, weights: Tensor, squared: bool, adjoint: bool) -> Tensor:
        """Blocks, or their Gram matrices, from Ŵ_k of shape (taps, F, g, c, c')."""
        if not squared or self._is_written_out(adjoint):
            rows = blocks.positions(self.convolution, self.kept, adjoint=False)
            block = blocks.matrix(weights, rows, self._positions(False))
            block = block.mH if adjoint else block
            return block @ block.mH if squared else block
        rows = blocks.positions(self.convolution, self.kept, adjoint=adjoint)
        return blocks.gram(weights.mH if adjoint else weights, rows, self._positions(adjoint))

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

    def _transformed(self, grid: Grid, frequencies: Tensor, groups: slice) -> Tensor:
        """Σ over taps on the torus: (taps along kept axes, F, g, c_out, c_in · residues)."""
        is_real = all(size == (1, 0) for size in grid)
        parts = []
        for taps, arranged in zip(self.residues.values(), self._arranged, strict=True):
            weights = arranged[:, :, groups]
            if is_real:
                parts.append(weights.sum(1, keepdim=True))
                continue
            phase = self._phases(taps, grid, frequencies)
            flat = weights.flatten(2)
            sums = torch.complex(phase.cos() @ flat, phase.sin() @ flat)
            parts.append(sums.reshape(len(weights), len(frequencies), *weights.shape[2:]))
        return torch.cat(parts, 4) if len(parts) > 1 else parts[0]

    @cached_property
    def _arranged(self) -> list[Tensor]:
        """W / size by residues: (taps along kept axes, taps on the torus, g, c_out, c_in)."""
        geometry = self.convolution
        kernel = geometry.kernel / self.size
        kernel = kernel.reshape(geometry.groups, -1, *kernel.shape[1:])
        # Taps on the torus first, then those along kept axes, last the channels.
        spatial = [3 + axis for axis in (*self.around, *self.kept)]
        kernel = kernel.permute(*spatial, 0, 1, 2)
        kernel = kernel.reshape(*kernel.shape[: len(self.around)], -1, *kernel.shape[-3:])
        return [
            torch.stack([kernel[place] for place in taps], 1) for taps in self.residues.values()
        ]

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
