"""What a side is asked to compute, and what it answers: plain data, kept as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

OURS, PEER = "vercomp", "auto_LiRPA"
SIDES = (OURS, PEER)
BOUNDS, RADII = "bounds", "radii"


@dataclass(frozen=True)
class Job:
    """One method of one side on one network.

    Args:
        side: ``"vercomp"`` or ``"auto_LiRPA"``.
        task: ``"bounds"``: lower bounds of the margins of all other classes in a ball; ``"radii"``:
            the largest ball in which all of them stay positive.
        network: Its name.
        method: ``"interval"``, ``"crown"``, ``"alpha"``, …; ``"portfolio"`` for all of ours.
        norm: ``"linf"``, ``"l1"`` or ``"l2"``.
        radius: Of the ball; None where radii are looked for.
        iterations: Of a method that optimises.
        block: Inputs that are given to the side at once.
        threads: Of torch.
    """

    side: str
    task: str
    network: str
    method: str
    norm: str
    radius: float | None
    iterations: int = 20
    block: int = 10
    threads: int = 1

    def by(self, side: str) -> Job:
        """The same question to another side."""
        return replace(self, side=side)

    @property
    def ball(self) -> float:
        """The radius of the ball that bounds are asked for in."""
        if self.radius is None:
            raise ValueError("radii are looked for, not bounds in a ball")
        return self.radius

    @property
    def name(self) -> str:
        """What the file of the results is called."""
        radius = "" if self.radius is None else f"-{self.radius:g}"
        return f"{self.side}-{self.task}-{self.method}-{self.norm}{radius}"


@dataclass
class Block:
    """The answers for some consecutive inputs.

    Args:
        values: For each input its bounds, or its radius alone.
        wall: Seconds by the clock.
        cpu: Seconds of the processor.
    """

    values: list[list[float]]
    wall: float
    cpu: float


@dataclass
class Results:
    """What a side has computed so far.

    Args:
        stamp: What else the answers depend on: the code of the side, the weights, the options.
        versions: Of the side and of torch, in words.
        setup: Seconds of the processor before the first answer: compiling, caches, a warm-up.
        before: Megabytes that the process held at most before, with the network in memory.
        peak: Megabytes that it has held at most, setup included.
        answering: Megabytes that it has held at most since the setup, where the system can tell.
        failed: Why there are no answers, or no more; None where nothing failed.
        blocks: The answers, in the order of the inputs.
    """

    stamp: str
    versions: str = ""
    setup: float = 0.0
    before: float = 0.0
    peak: float = 0.0
    answering: float = 0.0
    failed: str | None = None
    blocks: list[Block] = field(default_factory=list)

    @property
    def values(self) -> list[list[float]]:
        return [row for block in self.blocks for row in block.values]

    def seconds(self, clock: str) -> float:
        """Mean seconds an input, by ``"wall"`` or ``"cpu"``."""
        return sum(getattr(block, clock) for block in self.blocks) / max(1, len(self.values))


def parsed(content: dict[str, object]) -> Results:
    """Results from what ``dataclasses.asdict`` made of them."""
    blocks = content.pop("blocks")
    return Results(**content, blocks=[Block(**block) for block in blocks])  # type: ignore[arg-type, attr-defined]
