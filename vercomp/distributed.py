"""Several processes at one task: what ``torchrun`` has started, or one process alone.

A command runs in every process; what each does for itself and what they tell each other is written
once, and reads the same with one of them::

    with processes() as team:
        loss = step(batch[team.rank :: team.size])
        team.average([parameter.grad for parameter in model.parameters()])
        if team.main:
            print(loss)
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from vercomp.errors import UsageError

T = TypeVar("T")

NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun leaves in the environment of every process that it starts."""
GRACE = 10.0  # seconds in which torchrun ends this process, after another has ended by an error


@dataclass(frozen=True)
class Processes:
    """The processes at this task, seen from one of them.

    Every method but :meth:`say` is collective: all processes call it, in the same order. With one
    process nothing is sent, and no process group is needed.

    Args:
        rank: Number of this process, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that prints and writes files."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace floating-point tensors by their means over the processes, in place.

        Tensors of one type and device travel together. All processes hold the same bits afterwards.
        """
        if self.size == 1:
            return
        alike: dict[tuple[torch.dtype, torch.device], list[Tensor]] = defaultdict(list)
        for tensor in tensors:
            alike[tensor.dtype, tensor.device].append(tensor)
        for group in alike.values():
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in group])
            dist.all_reduce(flat)
            flat /= self.size
            parts = torch.split(flat, [tensor.numel() for tensor in group])
            for tensor, part in zip(group, parts, strict=True):
                tensor.detach().copy_(part.view_as(tensor))

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes of tensors of the same shape, as a new tensor."""
        result = values.detach().clone()
        if self.size > 1:
            dist.all_reduce(result)
        return result

    def gather(self, value: T) -> list[T]:
        """What every process brings, by rank; on every process. Anything that can be pickled."""
        if self.size == 1:
            return [value]
        found: list[T | None] = [None] * self.size
        dist.all_gather_object(found, value)
        return found  # type: ignore[return-value]

    def same(self, value: T) -> T:
        """The value of process 0, on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Go on when all have come this far."""
        if self.size > 1:
            dist.barrier()

    def say(self, line: str) -> None:
        """One line on standard error, once for all processes."""
        if self.main:
            print(line, file=sys.stderr)


@contextmanager
def processes() -> Iterator[Processes]:
    """The processes that ``torchrun`` has started, joined for as long as the context lasts.

    Tensors on the CPU travel by gloo, and those on CUDA by NCCL, each process with a device of its
    own (``"cuda"`` means that one); where processes share a device, all of it goes by gloo. Without
    torchrun there is one process, and no group.

    An error in one process is an end for all: torchrun ends the others when it exits. What they
    meet by then (the same error, a lost connection) is not raised, so that one message is left.

    Raises:
        UsageError: The environment has a part of what torchrun sets, or what cannot be.
    """
    rank, size, local = _environment()
    if size == 1:
        yield Processes()
        return
    backend = "gloo"
    devices = torch.cuda.device_count()
    if devices:
        torch.cuda.set_device(local % devices)
        if int(os.environ.get("LOCAL_WORLD_SIZE", size)) <= devices:
            backend = "cpu:gloo,cuda:nccl"
    store, _, _ = next(rendezvous("env://", rank, size))
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        yield Processes(rank, size)
    except Exception:
        if _fails_first(store):
            raise
        time.sleep(GRACE)
        sys.exit(1)
    finally:
        dist.destroy_process_group()


def _fails_first(store: Any) -> bool:
    """Whether no other process has met an error yet: then this one has to say what it is."""
    try:
        return bool(store.add("failures", 1) == 1)
    except RuntimeError:  # the store has ended with the process that kept it
        return False


def _environment() -> tuple[int, int, int]:
    """Rank, number of processes, and rank on this machine, from the environment."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return 0, 1, 0
    missing = [name for name in NEEDED if name not in os.environ]
    remedy = "Start the processes by torchrun, or unset RANK and WORLD_SIZE for a single one"
    if missing:
        raise UsageError(
            f"RANK and WORLD_SIZE are set, but not {', '.join(missing)}",
            location="the environment",
            remedy=remedy,
        )
    try:
        rank, size, local = (int(os.environ[name]) for name in NEEDED[:3])
    except ValueError:
        rank, size, local = -1, 0, 0
    if not 0 <= rank < size:
        raise UsageError(
            f"RANK is {os.environ['RANK']!r} of a WORLD_SIZE of {os.environ['WORLD_SIZE']!r}",
            location="the environment",
            remedy=remedy,
        )
    return rank, size, local
