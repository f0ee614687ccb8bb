"""Starts sides, each job in a process of its own, and keeps what they answer.

Results that are kept are used again as long as the code of the side, the weights of the network and
the job are the same; a job that was interrupted, or ran out of time, goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.zoo import Subject

from .job import OURS, PEER, Job, Results, parsed

PEER_PYTHON = "VERCOMP_PEER_PYTHON"
REPOSITORY = Path(__file__).parents[2]
SIDE_CODE = {
    OURS: ("vercomp", "passes", "benchmarks/sides/vercomp_side.py"),
    PEER: ("benchmarks/sides/auto_lirpa_side.py",),
}
"""The code that a side's answers depend on, as far as it is in this repository."""


@dataclass(frozen=True)
class Runner:
    """Runs jobs about networks, and keeps their results in a folder.

    Args:
        folder: Where networks, inputs and results are kept.
        timeout: Seconds after which a job begins no further block of inputs.
    """

    folder: Path
    timeout: float

    def run(self, job: Job, subject: Subject) -> Results | None:
        """The answers for the subject's inputs; None if there is no environment for the side.

        There may be fewer answers than inputs: because of the time, or because the side failed.
        """
        python = interpreter(job.side)
        if python is None:
            return None
        folder = self.folder / subject.name
        stamp = digest(json.dumps(asdict(job)), code_of(job.side), weights_of(subject.module))
        path = folder / f"{job.name}.json"
        kept = read(path, stamp)
        if kept is not None and len(kept.values) >= len(subject.x):
            return kept
        hand_over(subject, folder)
        assignment = {
            "job": asdict(job),
            "stamp": stamp,
            "count": len(subject.x),
            "timeout": self.timeout,
            "network": str(folder / "network.pt"),
            "inputs": str(folder / "inputs.pt"),
            "results": str(path),
        }
        written = folder / f"{job.name}.assignment.json"
        written.write_text(json.dumps(assignment))
        with (folder / f"{job.name}.log").open("w") as log:
            subprocess.run(  # noqa: S603 — the interpreters of this process and of the user's choice
                [python, "-m", "benchmarks.sides.worker", str(written)],
                env=environment(job),
                cwd=Path.cwd(),
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        written.unlink()
        return read(path, stamp) or Results(stamp, failed="the process ended without a word")


def end_with_us() -> None:
    """Let a terminated benchmark take the side that is running with it."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def interpreter(side: str) -> str | None:
    """The Python of a side's environment."""
    return sys.executable if side == OURS else os.environ.get(PEER_PYTHON)


def environment(job: Job) -> dict[str, str]:
    """The variables of a side's process: as many threads as the job says, and no busy waiting."""
    paths = (str(REPOSITORY), os.environ.get("PYTHONPATH", ""))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "OMP_NUM_THREADS": str(job.threads),
        "GOMP_SPINCOUNT": "0",
    }


def hand_over(subject: Subject, folder: Path) -> None:
    """Write the network and its inputs for the processes of both sides."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(torch.fx.symbolic_trace(subject.module), folder / "network.pt")
    torch.save({"x": subject.x, "y": subject.y}, folder / "inputs.pt")


def read(path: Path, stamp: str) -> Results | None:
    """The results that are kept, unless they are of other code or another network."""
    if not path.exists():
        return None
    results = parsed(json.loads(path.read_text()))
    if results.stamp == stamp:
        return results
    path.unlink()
    return None


def code_of(side: str) -> str:
    """A digest of the code of a side, and of what both share."""
    roots = [REPOSITORY / name for name in SIDE_CODE[side]]
    files = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*.py"))]
    return digest(*(path.read_text() for path in sorted(files)))


def weights_of(module: nn.Module) -> str:
    """A digest of the weights of a network."""
    state = module.state_dict().items()
    return digest(
        *(f"{name}{tensor.shape}" for name, tensor in state),
        *(hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest() for _, tensor in state),
    )


def digest(*texts: str) -> str:
    """The SHA-256 of some texts, in hexadecimal."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
