"""Two processes on this machine, started by torchrun as a user would, meeting on the loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
"""For processes that meet on this machine, whether or not its name can be looked up."""

HANGS = 1800
"""Seconds after which what has not ended never will, on however slow a machine."""


def torchrun(
    *command: object, processes: int = 2, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``torchrun --standalone --nproc-per-node N COMMAND``; COMMAND: a script, or -m and a name."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", str(processes)]
    alone = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **LOOPBACK}
    return subprocess.run(
        [*launcher, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, **alone, **(environment or {})},
    )
