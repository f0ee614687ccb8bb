"""What ``vercomp certify`` is asked: a claim about each input, and how far each feature moves."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from vercomp.core.claims.deviation import Deviation
from vercomp.core.claims.labels import Labels
from vercomp.core.claims.threshold import Threshold
from vercomp.core.methods.portfolio import CONFIDENCE
from vercomp.errors import InputDataError, UsageError

if TYPE_CHECKING:
    from vercomp.compiled import CompiledNetwork
    from vercomp.core.claims.claim import Claim


@dataclass(frozen=True)
class Asked:
    """The question, as the command line has it.

    Args:
        threshold: T, if outputs are compared with it.
        deviation: D, if outputs may move by so much.
        entry: The number of the output that is asked about; None for the only one, or all.
        top: How many of the largest outputs the label may be among.
        groups: Classes that count as one.
        predicted: Whether the model's own prediction is the label.
    """

    threshold: float | None = None
    deviation: float | None = None
    entry: int | None = None
    top: int = 1
    groups: tuple[tuple[int, ...], ...] = ()
    predicted: bool = False

    @property
    def labelled(self) -> bool:
        """Whether the data must have labels."""
        return self.deviation is None and not self.predicted

    @property
    def plain(self) -> bool:
        """Whether the question is that the label's output stays the largest."""
        numbers = self.threshold is not None or self.deviation is not None
        return not (numbers or self.top > 1 or self.groups)

    def classes(self, network: CompiledNetwork) -> int:
        """How many labels there are for the question.

        Raises:
            UsageError: The network cannot be asked this, and what it can be asked.
        """
        outputs = network.network.outputs
        if self.threshold is not None and self.deviation is not None:
            raise UsageError("--threshold and --deviation are two questions: ask one at a time")
        if self.threshold is not None or self.deviation is not None:
            if self.top > 1 or self.groups:
                raise UsageError("--top and --groups are about labels, not about numbers")
            return 2
        if self.entry is not None:
            raise UsageError("--entry goes with --threshold or --deviation")
        if outputs < 2:
            raise UsageError(
                "the network has one output, and so no class that could change",
                node=network.name,
                remedy="Ask for --threshold T, whether the output stays on its side of T (0: its "
                "sign), or --deviation D, how far inputs may move before it moves by D",
            )
        return outputs

    def claim(self, y: Tensor) -> Claim:
        """The claim about inputs with these labels."""
        if self.threshold is not None:
            above = None if self.predicted else y == 1
            return Threshold(self.threshold, self.entry, above)
        if self.deviation is not None:
            return Deviation(self.deviation, self.entry)
        return Labels(None if self.predicted else y, self.top, self.groups)

    def words(self) -> dict[str, Any]:
        """What was asked, but for what is asked without any option."""
        every = {
            "threshold": self.threshold,
            "deviation": self.deviation,
            "entry": self.entry,
            "top": self.top if self.top > 1 else None,
            "groups": [list(group) for group in self.groups] or None,
            "labels": "predicted" if self.predicted else None,
        }
        return {name: value for name, value in every.items() if value is not None}

    def title(self) -> str:
        """What was asked, as the head of a table says it."""
        entry = "the output" if self.entry is None else f"output {self.entry}"
        if self.threshold is not None:
            return f"{entry} stays on its side of {self.threshold:g}"
        if self.deviation is not None:
            some = "no output" if self.entry is None else f"output {self.entry} never"
            return f"{some} moves by more than {self.deviation:g}"
        words = f"the label stays among the {self.top} largest" if self.top > 1 else ""
        if self.groups:
            listed = ", ".join("{" + ", ".join(map(str, group)) + "}" for group in self.groups)
            words += f"{' and ' if words else ''}{listed} count as one"
        return words


@dataclass(frozen=True)
class Scales:
    """How far each feature moves for a radius of one.

    Args:
        file: Of an array ``scales``, or a ``.npy`` file; None for ones.
        frozen: Features, by their places in the flat input, that do not move.
    """

    file: Path | None = None
    frozen: tuple[int, ...] = ()

    def tensor(self, shape: tuple[int, ...]) -> Tensor | None:
        """The scales, shaped like an input; None where all are one.

        Raises:
            UsageError: A feature that does not exist.
            InputDataError: The file cannot be read, or holds something else.
        """
        if self.file is None and not self.frozen:
            return None
        scales = np.ones(shape) if self.file is None else _read(self.file, shape)
        flat = scales.reshape(-1)
        for place in self.frozen:
            if not 0 <= place < len(flat):
                raise UsageError(
                    f"there is no feature {place} to freeze: they are 0 to {len(flat) - 1}"
                )
            flat[place] = 0.0
        return torch.from_numpy(scales)

    def words(self) -> dict[str, Any]:
        """What was asked, for results; the file by the hash of its content."""
        found: dict[str, Any] = {}
        if self.file is not None:
            found["scales"] = hashlib.sha256(self.file.read_bytes()).hexdigest()
        if self.frozen:
            found["frozen"] = list(self.frozen)
        return found


@dataclass(frozen=True)
class Confidence:
    """What a probable method may risk.

    Args:
        value: 1 − δ; None for the default, or where no method is probable.
        jointly: Whether it is the probability of all certificates together, and not of each.
        seed: Of the method's random numbers; None for the default.
    """

    value: float | None = None
    jointly: bool = False
    seed: int | None = None

    def options(
        self, network: CompiledNetwork, methods: Sequence[str] | None, targets: str, count: int
    ) -> dict[str, Any]:
        """The confidence of each certificate, and the seed; empty where no method is probable.

        Args:
            network: The network.
            methods: The names of the methods that are asked for.
            targets: The targets that are asked for.
            count: How many inputs share δ where it is that of all.

        Raises:
            UsageError: There is nothing probable, or it is asked about runner-ups.
        """
        named = [m for m in network.network.methods if m.name in (methods or ())]
        if not any(getattr(method, "probable", False) for method in named):
            if self != Confidence():
                raise UsageError(
                    "--confidence, --jointly and --seed are for probable methods, which --methods "
                    "must name"
                )
            return {}
        if targets != "all":
            raise UsageError("a probable method certifies against all targets")
        return {"confidence": self.of_each(count), "seed": self.seed or 0}

    def of_each(self, count: int) -> float:
        """The confidence of each of so many certificates."""
        value = CONFIDENCE if self.value is None else self.value
        if self.jointly:  # rounded up: a larger confidence is a smaller risk
            value = math.nextafter(1.0 - (1.0 - value) / max(count, 1), 1.0)
        return value


def _read(file: Path, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    where = str(file)
    try:
        with file.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            values = found if isinstance(found, np.ndarray) else found["scales"]
    except KeyError as error:
        raise InputDataError("no array 'scales'", location=where) from error
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputDataError(f"cannot be read: {error}", location=where) from error
    if values.size != np.prod(shape) or not np.issubdtype(values.dtype, np.number):
        raise InputDataError(
            f"scales have the shape {values.shape}; the model's inputs have {shape}",
            location=where,
        )
    scales = values.astype(np.float64).reshape(shape)
    if not (np.isfinite(scales) & (scales >= 0.0)).all():
        raise InputDataError("scales must be finite and not negative", location=where)
    return scales
