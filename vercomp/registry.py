"""What vercomp can be extended with, and by whom.

Activations, linear maps with the rules that translate operators to them, passes, methods, targets.
Kinds of balls register themselves (:func:`vercomp.register_ball`); a domain is a class that a
method walks with, and needs no registration.

A distribution names a function in the entry-point group ``vercomp.plugins``; it is called with the
registry. The built-in passes come in by this door too. A script may call :func:`register` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, TypeVar

from vercomp.activations import BUILTIN, ActivationFamily, ActivationTable
from vercomp.backends.torch.package import Target, torch_target
from vercomp.backends.torch.rules import BUILTIN_RULES, MapRule
from vercomp.core.methods.method import Method
from vercomp.errors import PluginError, VercompError
from vercomp.features import METHODS
from vercomp.frontends import fx_call, onnx_call
from vercomp.ir.linear_maps import LinearMap

if TYPE_CHECKING:
    from vercomp.pass_manager import Pass

GROUP = "vercomp.plugins"

C = TypeVar("C")
R = TypeVar("R")


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


def _method(place: str) -> Method:
    """A method from where its class is."""
    module, _, name = place.partition(":")
    method: Method = getattr(import_module(module), name)()
    return method


@dataclass
class Registry:
    """Everything registered so far, with the owner of each entry.

    Args:
        activations: The table that front ends match against.
        map_rules: How the torch backend spells each kind of linear map.
        torch_operators: Rules of plugins for operators of torch, by full name.
        onnx_operators: Rules of plugins for operators of ONNX, by name.
        passes: Constructors of the passes that rewrite a graph, in order of registration.
        methods: The methods of certification, cheapest first.
        targets: What emits a package, by name.
        owner: Who is registering at the moment.
    """

    activations: ActivationTable = BUILTIN
    map_rules: dict[type[LinearMap], MapRule] = field(default_factory=lambda: dict(BUILTIN_RULES))
    torch_operators: dict[str, fx_call.Rule] = field(default_factory=dict)
    onnx_operators: dict[str, onnx_call.Rule] = field(default_factory=dict)
    passes: list[MakePass] = field(default_factory=list)
    methods: list[Method] = field(default_factory=lambda: list(map(_method, METHODS.values())))
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
        """Emit a linear map of the caller's own.

        A pass puts it into graphs, or a rule for the operators that it stands for:
        :meth:`add_torch_operator`, :meth:`add_onnx_operator`.
        """
        self._claim("linear map", map_type.__name__)
        self.map_rules[map_type] = rule

    def add_torch_operator(self, name: str, rule: fx_call.Rule) -> None:
        """Translate an operator of torch, in the place of vercomp's own rule where it has one.

        Args:
            name: Its full name, ``"aten::cumsum"``, or a custom operator's.
            rule: Takes the call (:class:`vercomp.frontends.fx_call.Call`), gives the value, or a
                sentence that says why the operator cannot be analysed.
        """
        self._claim("torch operator", name)
        self.torch_operators[name] = self._named(rule, name)

    def add_onnx_operator(self, name: str, rule: onnx_call.Rule) -> None:
        """Translate an operator of ONNX, in the place of vercomp's own rule where it has one.

        Args:
            name: Its name, ``"CumSum"``, with the domain where that is not the standard's:
                ``"com.microsoft::FusedGemm"``.
            rule: Takes the node (:class:`vercomp.frontends.onnx_call.Call`), gives the value, or a
                sentence that says why the operator cannot be analysed.
        """
        self._claim("ONNX operator", name)
        self.onnx_operators[name] = self._named(rule, name)

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

    def _named(self, rule: Callable[[C], R], name: str) -> Callable[[C], R]:
        """The rule, whose faults are the plugin's and say so."""
        owner = self.owner

        def named(call: C) -> R:
            try:
                return rule(call)
            except (VercompError, onnx_call.RefusalError):
                raise
            except Exception as error:
                raise PluginError(
                    f"the rule for {name!r} of the plugin {owner} failed: {error!r}",
                    remedy="Repair or uninstall it",
                ) from error

        return named

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
