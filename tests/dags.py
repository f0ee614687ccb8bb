"""Random networks that are no chains: branches, skips over several layers, shared weights.

Every network is a little program of torch modules over tensors of its own making, drawn from one
seed, so that together the seeds meet every linear map and every activation in every arrangement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from networks import SMOOTH, Case
from torch import Tensor, nn
from torch.nn import functional as F

MODES = ("zeros", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class Step:
    """One tensor more: a function of some of the tensors that there are."""

    kind: str
    sources: tuple[int, ...]
    run: Callable[..., Tensor]


class Dag(nn.Module):
    """Runs its steps in order; the last one gives the logits."""

    def __init__(self, modules: dict[str, nn.Module], steps: list[Step]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(modules)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step in self.steps:
            values.append(step.run(self.parts, *(values[source] for source in step.sources)))
        return values[-1]


class _Draw:
    """A network in the making: what there is to read, and dice."""

    def __init__(self, seed: int, axes: int) -> None:
        self.dice = torch.Generator().manual_seed(seed)
        self.axes = axes
        self.modules: dict[str, nn.Module] = {}
        self.steps: list[Step] = []
        length = self.below(2) + (5 if axes == 2 else 7)
        self.shapes: list[tuple[int, ...]] = [(1 + self.below(3), *(length,) * axes)]

    def below(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self.dice))

    def pick(self, options: list[int]) -> int:
        return options[self.below(len(options))]

    def add(self, kind: str, sources: tuple[int, ...], run: Callable[..., Tensor]) -> int | None:
        """The index of the new tensor; None for a geometry that torch refuses, or an empty one."""
        inputs = [torch.zeros(2, *self.shapes[source]) for source in sources]
        try:
            with torch.no_grad():
                shape = tuple(run(self.modules, *inputs).shape[1:])
        except RuntimeError:
            return None
        if 0 in shape:
            return None
        self.shapes.append(shape)
        self.steps.append(Step(kind, sources, run))
        return len(self.shapes) - 1

    def module(self, module: nn.Module) -> str:
        """Registers a module in evaluation mode with weights of our own dice."""
        name = f"{type(module).__name__.lower()}{len(self.modules)}"
        with torch.no_grad():
            for key, tensor in module.state_dict().items():
                if key.endswith("var"):
                    tensor.uniform_(0.5, 2.0, generator=self.dice)
                elif tensor.is_floating_point():
                    fan = max(1, tensor[0].numel()) if tensor.ndim > 1 else 10
                    tensor.normal_(0.0, 1.2 * fan**-0.5, generator=self.dice)
        self.modules[name] = module.eval()
        return name

    # ── One step of each kind; None where it does not fit ────────────────────────────────────

    def activation(self, source: int) -> int | None:
        names = list(SMOOTH)
        name = names[self.below(len(names))]
        return self.add(name, (source,), lambda parts, x: SMOOTH[name](x))

    def convolution(self, source: int) -> int | None:
        channels, *lengths = self.shapes[source]
        if min(lengths) < 3:
            return None
        groups = channels if self.below(4) == 0 else 1
        cls = nn.Conv2d if self.axes == 2 else nn.Conv1d
        convolution = cls(
            channels,
            groups * (1 + self.below(3)),
            1 + self.below(3),
            stride=1 + self.below(2),
            padding=self.below(2),
            dilation=1 + self.below(2) * (min(lengths) > 4),
            groups=groups,
            bias=bool(self.below(2)),
            padding_mode=MODES[self.below(4)],
        )
        name = self.module(convolution)
        return self.add("convolution", (source,), lambda parts, x: parts[name](x))

    def shared(self, source: int) -> int | None:
        """A module that is there already, at another place."""
        channels = self.shapes[source][0]
        fitting = [
            name
            for name, module in self.modules.items()
            if isinstance(module, nn.Conv1d | nn.Conv2d) and module.in_channels == channels
        ]
        if not fitting or min(self.shapes[source][1:]) < 5:
            return None
        name = fitting[self.below(len(fitting))]
        return self.add("shared convolution", (source,), lambda parts, x: parts[name](x))

    def transposed(self, source: int) -> int | None:
        channels, *lengths = self.shapes[source]
        if max(lengths) > 6:
            return None
        cls = nn.ConvTranspose2d if self.axes == 2 else nn.ConvTranspose1d
        stride = 1 + self.below(2)
        convolution = cls(
            channels,
            1 + self.below(3),
            2 + self.below(2),
            stride=stride,
            padding=self.below(2),
            output_padding=self.below(stride),
        )
        name = self.module(convolution)
        return self.add("transposed", (source,), lambda parts, x: parts[name](x))

    def normalisation(self, source: int) -> int | None:
        cls = nn.BatchNorm2d if self.axes == 2 else nn.BatchNorm1d
        name = self.module(cls(self.shapes[source][0]))
        return self.add("batch norm", (source,), lambda parts, x: parts[name](x))

    def pooling(self, source: int) -> int | None:
        if min(self.shapes[source][1:]) < 4:
            return None
        counted, ceil, padding = bool(self.below(2)), bool(self.below(2)), self.below(2)
        pool = F.avg_pool2d if self.axes == 2 else F.avg_pool1d

        def run(parts: object, x: Tensor) -> Tensor:
            return pool(x, 3, 2, padding, ceil_mode=ceil, count_include_pad=counted)

        return self.add("average pool", (source,), run)

    def adaptive(self, source: int) -> int | None:
        if min(self.shapes[source][1:]) < 4:
            return None
        pool = F.adaptive_avg_pool2d if self.axes == 2 else F.adaptive_avg_pool1d
        size = 2 + self.below(2)
        return self.add("adaptive pool", (source,), lambda parts, x: pool(x, size))

    def skip(self, source: int) -> int | None:
        """A sum with an earlier tensor of the same shape, or a difference."""
        same = [
            i for i, shape in enumerate(self.shapes) if shape == self.shapes[source] and i != source
        ]
        if not same:
            return None
        sign = 1 - 2 * self.below(2)
        return self.add("skip", (source, self.pick(same)), lambda parts, a, b: a + sign * b)

    def concatenation(self, source: int) -> int | None:
        lengths = self.shapes[source][1:]
        same = [i for i, shape in enumerate(self.shapes) if shape[1:] == lengths]
        other = self.pick(same)
        if self.shapes[source][0] + self.shapes[other][0] > 8:
            return None
        return self.add("concatenation", (source, other), lambda parts, a, b: torch.cat([a, b], 1))

    def slicing(self, source: int) -> int | None:
        channels = self.shapes[source][0]
        if channels < 2:
            return None
        start = self.below(channels - 1)
        return self.add("slice", (source,), lambda parts, x: x[:, start : start + 2])

    def scaling(self, source: int) -> int | None:
        factor = 0.5 + float(torch.rand((), generator=self.dice))
        return self.add("scale", (source,), lambda parts, x: (x - 0.25) / factor)

    def turn(self, source: int) -> int | None:
        if self.axes == 2:
            return self.add("transpose", (source,), lambda parts, x: x.transpose(2, 3).flip(1))
        return self.add("flip", (source,), lambda parts, x: x.flip(2))

    def head(self) -> None:
        """A sum of dense layers over one or two of the last tensors."""
        classes = 2 + self.below(3)
        count = len(self.shapes)
        read = sorted({count - 1, self.pick(list(range(max(1, count - 3), count)))})
        mean = self.below(3) == 0
        logits = []
        for source in read:
            channels, *lengths = self.shapes[source]
            width = channels if mean else channels * int(torch.tensor(lengths).prod())
            name = self.module(nn.Linear(width, classes))

            def run(parts: nn.ModuleDict, x: Tensor, name: str = name) -> Tensor:
                return parts[name](x.flatten(2).mean(2) if mean else x.flatten(1))

            logits.append(self.add("head", (source,), run) or 0)
        if len(logits) == 2:
            self.add("sum of heads", (logits[0], logits[1]), lambda parts, a, b: a + b)


def random_dag(seed: int, *, batch: int = 3) -> Case:
    """A network of 5 to 10 steps on images of 5×5 or 6×6, or on sequences of 7 or 8."""
    draw = _Draw(seed, axes=1 if seed % 3 == 0 else 2)
    kinds = [
        draw.convolution,
        draw.shared,
        draw.transposed,
        draw.normalisation,
        draw.pooling,
        draw.adaptive,
        draw.skip,
        draw.concatenation,
        draw.slicing,
        draw.scaling,
        draw.turn,
    ]
    here = draw.activation(draw.convolution(0) or 0) or 0
    for _ in range(4 + draw.below(5)):
        source = here if draw.below(3) else draw.pick(list(range(len(draw.shapes))))
        after = kinds[draw.below(len(kinds))](source)
        if after is None:
            continue
        here = after if draw.below(2) else draw.activation(after) or after
    draw.head()
    module = Dag(draw.modules, draw.steps).eval()
    x = torch.randn(batch, *draw.shapes[0], generator=draw.dice)
    with torch.no_grad():
        y = module(x).argmax(1)
    return Case(f"{seed}: {', '.join(step.kind for step in draw.steps)}", module, x, y)


def kinds_met(seeds: range) -> Iterator[str]:
    """The kinds of steps of all networks, to see that none is missing."""
    for seed in seeds:
        yield from random_dag(seed).name.partition(": ")[2].split(", ")
