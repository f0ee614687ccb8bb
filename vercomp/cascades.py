"""A compiled cascade: packages in order, and the rule by which one of them answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from vercomp.backends.torch.files import FORMAT
from vercomp.backends.torch.package import with_core
from vercomp.compiled import CompiledNetwork, load_package
from vercomp.core.methods.cascade import Answers, Cascade, CascadeCertificates, Rule
from vercomp.errors import ModelFileError, UsageError
from vercomp.names import identifier
from vercomp.outputs import CASCADE, MANIFEST, kind_of, write_package

if TYPE_CHECKING:
    from vercomp.core.methods.cascade_attack import CascadeAttacks
    from vercomp.core.methods.portfolio import Certifiable

_STAGE = "stage_{}"


@dataclass(frozen=True)
class CompiledCascade:
    """Compiled networks as the stages of a cascade; see :mod:`vercomp.core.methods.cascade`.

    Args:
        stages: Compiled networks, in the order in which they are asked.
        rule: What a stage must prove to answer.
        name: What the package calls itself.

    Raises:
        UsageError: A stage cannot certify, or no method of the rule.
        InputError: No stages, or stages that do not fit each other.
    """

    stages: Sequence[CompiledNetwork]
    rule: Rule
    name: str = "cascade"

    def __post_init__(self) -> None:
        for place, stage in enumerate(self.stages, start=1):
            if getattr(stage.network, "certify", None) is None:
                raise UsageError(
                    f"stage {place} was compiled without 'certify'",
                    node=stage.name,
                    remedy="Compile it again with certify in emit",
                )
            known = {method.name: method for method in stage.network.methods}
            for name in self.rule.methods or ():
                if name not in known:
                    raise UsageError(
                        f"stage {place} has no method {name!r}",
                        node=stage.name,
                        remedy=f"It has {', '.join(known)}",
                    )
                if known[name].probable:
                    raise UsageError(
                        f"a cascade answers by what is proved, and {name!r} is probable",
                        remedy="Choose methods that prove",
                    )
        _ = self.network  # stages that do not fit are found now

    @cached_property
    def network(self) -> Cascade:
        """The cascade over the stages' networks; an ordinary ``nn.Module``, which gives labels."""
        return Cascade([cast("Certifiable", stage.network) for stage in self.stages], self.rule)

    def predict(self, x: Tensor) -> Answers:
        """What the rule answers at x (B, *input_shape), −1 where it abstains, and which stage."""
        return self.network.predict(x)

    def certify(self, x: Tensor, y: Tensor) -> CascadeCertificates:
        """Where no point of the rule's ball has an answer other than y, and the paper's count."""
        return self.network.certify(x, y)

    def attack(self, x: Tensor, y: Tensor, **options: Any) -> CascadeAttacks:
        """Points of the rule's balls with wrong answers.

        The options are those of :func:`vercomp.core.methods.cascade_attack.attack`.
        """
        return self.network.attack(x, y, **options)

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """Contents of the package by relative path: each stage is a package of its own within."""
        content = {"__init__.py": _init_text(self.name, len(self.stages), self.rule).encode()}
        content |= with_core({}, {"core/methods/cascade.py"})
        for number, stage in enumerate(self.stages, 1):
            folder = _STAGE.format(number)
            content |= {f"{folder}/{path}": text for path, text in stage.files.items()}
        content = dict(sorted(content.items()))
        manifest = {
            "format": FORMAT,
            "kind": CASCADE,
            "name": self.name,
            "rule": asdict(self.rule),
            "stages": [stage.name for stage in self.stages],
            "input_shape": list(self.network.input_shape),
            "classes": self.network.classes,
            "files": {path: hashlib.sha256(text).hexdigest() for path, text in content.items()},
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=True) + "\n"
        return {**content, MANIFEST: text.encode()}

    def save(self, folder: str | Path) -> Path:
        """Write the package; an unmodified package of ours is replaced, anything else refused.

        Raises:
            OutputFolderError: The folder holds something else, or cannot be written.
        """
        write_package(folder, self.files)
        return Path(folder)


def load_cascade(folder: str | Path) -> CompiledCascade:
    """Open a cascade that was saved.

    Raises:
        ModelFileError: The folder is not such a package.
    """
    folder = Path(folder)
    if kind_of(folder) != CASCADE:
        raise ModelFileError(
            "not a cascade",
            location=str(folder),
            remedy="A cascade is a folder that `vercomp cascade STAGE … --out DIR` has written",
        )
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        count = len(manifest["stages"])
        found = dict(manifest["rule"])
        for name in ("box", "methods"):
            found[name] = None if found[name] is None else tuple(found[name])
        rule = Rule(**found)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ModelFileError(
            f"its {MANIFEST} cannot be used: {error!r}",
            location=str(folder),
            remedy="Make the cascade again from its stages",
        ) from error
    stages = [load_package(folder / _STAGE.format(number)) for number in range(1, count + 1)]
    return CompiledCascade(stages, rule, str(manifest["name"]))


def cascade(
    stages: Sequence[CompiledNetwork],
    radius: float,
    *,
    norm: str = "linf",
    box: tuple[float, float] | None = None,
    methods: Sequence[str] | None = None,
    name: str = "cascade",
) -> CompiledCascade:
    """A cascade of compiled networks.

    Args:
        stages: In the order in which they are asked.
        radius: Of the ball in which a stage must prove its class to answer.
        norm: ``"linf"``, ``"l2"``, ``"l1"`` or another registered kind.
        box: (lo, hi): inputs lie inside, and points outside do not count.
        methods: Names of the methods that prove it; None for those that a stage uses by itself.
        name: What the package calls itself.

    Raises:
        UsageError: A stage that cannot certify, or not by these methods.
        InputError: No stages, stages that do not fit each other, a rule that makes no sense.
    """
    chosen = None if methods is None else tuple(methods)
    return CompiledCascade(
        tuple(stages), Rule(radius, norm, box, chosen), identifier(name, "cascade")
    )


def _init_text(name: str, count: int, rule: Rule) -> str:
    """The source of ``__init__.py``."""
    folders = [_STAGE.format(number) for number in range(1, count + 1)]
    imports = "\n".join(f"from .{folder} import load as load_{folder}" for folder in folders)
    loads = ", ".join(f"load_{folder}()" for folder in folders)
    return f'''\
"""The cascade {name}, compiled by vercomp. Begin with ``load()``."""

from .core.methods.cascade import Cascade, Rule
{imports}

__all__ = ["RULE", "load"]

RULE = Rule(
    radius={rule.radius!r},
    norm={json.dumps(rule.norm)},
    box={rule.box!r},
    methods={_names(rule.methods)},
)
"""What a stage must prove to answer."""


def load() -> Cascade:
    """The cascade with the weights that lie in this package."""
    return Cascade([{loads}], RULE)
'''


def _names(methods: tuple[str, ...] | None) -> str:
    """Names as a tuple in Python."""
    if methods is None:
        return "None"
    return "(" + "".join(f"{json.dumps(name)}, " for name in methods).rstrip() + ")"
