"""What vercomp can be extended with, and by whom: activations, maps, passes, methods, targets.

A distribution names a function in the entry-point group ``vercomp.plugins``; it is called with the
registry. The built-in passes come in by this door too. A script may call :func:`register` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from vercomp.activations import BUILTIN, ActivationFamily, ActivationTable
from vercomp.backends.torch.package import Target, torch_target
from vercomp.backends.torch.rules import BUILTIN_RULES, MapRule
from vercomp.core.methods.alpha import Alpha
from vercomp.core.methods.crown import Crown
from vercomp.core.methods.curvature import Curvature
from vercomp.core.methods.interval import IntervalBounds
from vercomp.core.methods.method import Method
from vercomp.errors import PluginError
from vercomp.ir.linear_maps import LinearMap

if TYPE_CHECKING:
    from vercomp.pass_manager import Pass

GROUP = "vercomp.plugins"


@dataclass(frozen=True)
class Options:
    """What a compilation was asked for, as far as passes care.

    Args:
        mean: Mean of a normalisation to put in front of the graph; a number or one a channel.
        std: Its standard deviation.
    """

    mean: Sequence[float] | float | None = None
    std: Sequence[float] | float | None = None


MakePass = Callable[[Options], "Pass | None"]
"""Makes a pass for a compilation, or None where it has nothing to do."""


@dataclass
class Registry:
    """Everything registered so far, with the owner of each entry.

    Args:
        activations: The table that front ends match against.
        map_rules: How the torch backend spells each kind of linear map.
        passes: Constructors of the passes that rewrite a graph, in order of registration.
        methods: The methods of certification, cheapest first.
        targets: What emits a package, by name.
        owner: Who is registering at the moment.
    """

    activations: ActivationTable = BUILTIN
    map_rules: dict[type[LinearMap], MapRule] = field(default_factory=lambda: dict(BUILTIN_RULES))
    passes: list[MakePass] = field(default_factory=list)
    methods: list[Method] = field(
        default_factory=lambda: [Curvature(), IntervalBounds(), Crown(), Alpha()]
    )
    targets: dict[str, Target] = field(default_factory=lambda: {"torch": torch_target})
    owner: str = "vercomp"
    _owners: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """What is there from the start is vercomp's."""
        names = {
            "linear map": [kind.__name__ for kind in self.map_rules],
            "method": [method.name for method in self.methods],
            "target": list(self.targets),
        }
        for kind, taken in names.items():
            self._owners.update({(kind, name): "vercomp" for name in taken})

    def add_activation(self, family: ActivationFamily) -> None:
        """Recognise, analyse and emit an activation of the caller's own."""
        self._claim("activation", family.name)
        self.activations = self.activations.with_family(family)

    def add_linear_map(self, map_type: type[LinearMap], rule: MapRule) -> None:
        """Emit a linear map of the caller's own."""
        self._claim("linear map", map_type.__name__)
        self.map_rules[map_type] = rule

    def add_pass(self, name: str, make: MakePass) -> None:
        """Run a pass behind those that are registered already."""
        self._claim("pass", name)
        self.passes.append(make)

    def add_method(self, method: Method) -> None:
        """Certify by a method of the caller's own, after those that are registered already.

        Packages import its class from the module that defines it.
        """
        self._claim("method", method.name)
        self.methods.append(method)

    def add_target(self, name: str, target: Target) -> None:
        """Emit packages for something else than torch."""
        self._claim("target", name)
        self.targets[name] = target

    def make_passes(self, options: Options) -> list[Pass]:
        """The passes for one compilation."""
        made = (make(options) for make in self.passes)
        return [current for current in made if current is not None]

    def _claim(self, kind: str, name: str) -> None:
        key = (kind, name)
        if key in self._owners:
            raise PluginError(
                f"the {kind} {name!r} is registered by both {self._owners[key]} and {self.owner}",
                remedy="Rename or uninstall one of them",
            )
        self._owners[key] = self.owner


_REGISTERED_HERE: list[tuple[str, Callable[[Registry], None]]] = []


def register(plugin: Callable[[Registry], None]) -> Callable[[Registry], None]:
    """Register a plugin from a script, without an entry point. Usable as a decorator."""
    owner = f"{plugin.__module__}.{plugin.__qualname__}"
    _REGISTERED_HERE.append((owner, plugin))
    registry.cache_clear()
    return plugin


@cache
def registry() -> Registry:
    """The registry with every installed plugin, loaded once, in the order of their names.

    Raises:
        PluginError: A plugin cannot be imported, fails, or claims what another one owns.
    """
    found = Registry()
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        found.owner = f"{entry.name} ({entry.value})"
        try:
            entry.load()(found)
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(
                f"the plugin {found.owner} cannot be loaded: {error!r}",
                remedy="Repair or uninstall it",
            ) from error
    for owner, plugin in _REGISTERED_HERE:
        found.owner = owner
        plugin(found)
    return found
