"""A graph that torch.export has written, node by node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree

from vercomp.activations import ActivationTable
from vercomp.errors import UnsupportedError, UsageError
from vercomp.frontends.builder import Builder
from vercomp.frontends.fx_call import Call, Rule, Size
from vercomp.frontends.fx_constants import (
    evaluated,
    filled_type,
    passed_on,
    piece_of,
    recomputed,
)
from vercomp.frontends.fx_nodes import (
    Lost,
    Several,
    flat,
    is_view,
    over_classes,
    plain,
    reads_floats,
    runner,
    sole_input,
)
from vercomp.frontends.fx_operators import (
    CASTS,
    REFUSED,
    RULES,
    SEVERAL,
    SOFTMAX,
)
from vercomp.frontends.torch_outputs import choose
from vercomp.frontends.torch_source import first_line, location_in
from vercomp.frontends.translation import Offence, unsupported
from vercomp.frontends.values import Constant, Signal, Site
from vercomp.ir.graph import Graph
from vercomp.ir.linear_maps import Shape

STAND_IN = 7919
"""Stands for a symbolic batch in the source's shapes: a prime that is no layer's width."""

NO_RULE = "vercomp has no rule for this operator"

FILLS: dict[str, float | None] = {
    **dict.fromkeys(("zeros", "zeros_like", "new_zeros"), 0.0),
    **dict.fromkeys(("ones", "ones_like", "new_ones"), 1.0),
    **dict.fromkeys(("full", "full_like", "new_full"), None),
}
"""Operators that give equal numbers in the shape of something; None for one that they are told."""


class Translator:
    """Walks an exported graph once."""

    def __init__(
        self,
        program: ExportedProgram,
        input_shape: Sequence[int] | None,
        table: ActivationTable,
        location: str,
        names: dict[int, str],
        operators: Mapping[str, Rule],
    ) -> None:
        self.program = program
        self.location = location
        self.names = names
        self.operators = operators
        self.env: dict[fx.Node, Any] = {}
        self.modules: set[str] = set()
        self.state: set[str] = set()
        self.found: dict[Any, int] = {}
        self.lost: list[Offence] = []
        self.input = sole_input(program, location)
        value = self.input.meta["val"]
        size = value.shape[0]
        self.symbol = size.node.expr if isinstance(size, torch.SymInt) else None
        batch = STAND_IN if self.symbol is not None else int(size)
        shape = tuple(int(size) for size in value.shape[1:])
        if input_shape is not None and tuple(input_shape) != shape:
            raise UsageError(
                f"the model takes inputs of shape {shape}, not {tuple(input_shape)}", node=location
            )
        tensors = (*program.state_dict, *program.constants)
        self.build = Builder(
            table,
            shape,
            batch=batch,
            location=location,
            reserved=tensors,
            input_name=self.input.name,
        )

    def translate(self, output: str | int | None = None) -> Graph:
        """The graph of the one result, or of the one that is named.

        Raises:
            UnsupportedError: See :func:`vercomp.frontends.fx.from_torch`.
        """
        self._placeholders()
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self.env[node] = self._call(node)
            elif node.op == "get_attr":
                self.env[node] = Constant(plain(getattr(self.program.graph_module, node.target)))
        outputs = self.program.graph_signature.user_outputs
        structure = _pytree.tree_unflatten(
            list(range(len(outputs))), self.program.call_spec.out_spec
        )
        index = choose(structure, output, int, self.location)
        assert isinstance(index, int)  # noqa: S101 - chosen from a structure of integers
        nodes = {node.name: node for node in self.program.graph.nodes}
        chosen = nodes.get(str(outputs[index]))
        if chosen is None:
            raise UnsupportedError("its output is not a tensor", node=self.location)
        if isinstance(self.env[chosen], Lost):
            raise unsupported([*self.build.offences(), *self.lost])
        return self.build.graph(self.env[chosen])

    def _placeholders(self) -> None:
        nodes = {node.name: node for node in self.program.graph.nodes if node.op == "placeholder"}
        self.env[self.input] = self.build.input
        own: torch.dtype | None = None  # the model's precision: that of its first parameter
        for spec in self.program.graph_signature.input_specs:
            node = nodes[spec.arg.name]
            if spec.kind == InputKind.USER_INPUT or spec.target is None:
                continue
            state = {**self.program.constants, **self.program.state_dict}
            tensor = state[spec.target]
            if not isinstance(tensor, Tensor):
                continue
            trainable = spec.kind == InputKind.PARAMETER
            name = self.names.get(id(tensor), spec.target)
            if trainable or spec.kind == InputKind.BUFFER:
                own = own or (tensor.dtype if tensor.is_floating_point() else None)
                if tensor.dtype == own:
                    self.state.add(name)
            self.env[node] = Constant.of(name, plain(tensor), trainable)

    def _call(self, node: fx.Node) -> Any:
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt | torch.SymBool | torch.SymFloat):
            return self._number(value, node)
        site = self._site(node)
        if not isinstance(node.target, torch._ops.OpOverload):
            if getattr(node.target, "__name__", "") == "getitem":
                return self._item(node, site) if node.users else None
            raise self.build.refuse(
                site, "higher-order operators are not supported", "Take it out of forward()"
            )
        schema = node.target._schema
        if not schema.returns and not schema.is_mutable:
            return None  # it asserts something that held when the model was traced
        changed = node.args[0] if schema.is_mutable and node.args else None
        changed = changed if isinstance(changed, fx.Node) else None
        if changed is not None and is_view(changed):
            raise self.build.refuse(
                site, "it changes a view of another tensor in place", "Assign its result"
            )
        args = self._arguments(node)
        name = schema.name.split("::")[1]
        name = name if name in RULES else name.removesuffix("_")
        given = flat(args.values())
        signals = [v for v in given if isinstance(v, Signal)]
        if name in FILLS and isinstance(value, Tensor) and -1 not in self._shape(value):
            result: Any = self._filled(value, name, args)
        elif any(isinstance(v, Lost) for v in given):
            if name not in RULES and name not in SEVERAL and self._plugin_rule(node) is None:
                self._lose(site, REFUSED.get(name, NO_RULE))
            return Lost()
        elif not signals:
            result = self._constant(node, name, site, args)
        else:
            result = self._translate_call(node, name, site, args, signals)
        if changed is not None:
            self.env[changed] = result  # x.relu_(): later readers of x see the result
        return result

    def _filled(self, value: Tensor, name: str, args: dict[str, Any]) -> Constant:
        """Equal numbers in a shape that may depend on the batch; one is stored."""
        number = FILLS[name] if FILLS[name] is not None else args["fill_value"]
        if isinstance(number, Constant):
            number = number.value
        filled = torch.as_tensor(number, dtype=filled_type(name, value))
        return Constant(filled.expand(self._shape(value)))

    def _translate_call(
        self, node: fx.Node, name: str, site: Site, args: dict[str, Any], signals: list[Signal]
    ) -> Any:
        value = node.meta.get("val")
        values = value if isinstance(value, list | tuple) else (value,)
        tensors = [v for v in values if isinstance(v, Tensor)]
        outs = tuple(self._shape(v) for v in tensors)
        run = self._runner(node, args, signals)
        call = Call(self.build, site, args, outs, run)
        rule, several = RULES.get(name), SEVERAL.get(name)
        own = self._plugin_rule(node)
        rule, several = (rule, several) if own is None else (own, None)
        reason = REFUSED.get(name, NO_RULE)
        if any(sum(map(self._is_batch, v.shape)) > 1 for v in tensors):
            rule, several, reason = None, None, "two of its dimensions depend on the batch size"
        if name in CASTS and not reads_floats(node) and not signals[0].is_truth:
            rule, reason = None, "it reads integers or booleans"
        if isinstance(value, Tensor):
            outcome = reason if rule is None else rule(call)
            if not isinstance(outcome, str):
                return outcome
            if name in SOFTMAX and over_classes(args, signals[0]):
                site = Site(site.name, SOFTMAX[name], site.origin)
            return self._opaque(site, signals, run, outs[0], outcome)
        if value is None:
            return None
        if several is None:
            why = reason if rule is None else rule(call)
            return Several(tuple(signals), run, (), why if isinstance(why, str) else reason)
        results = several(call)
        if isinstance(results, str):
            return Several(tuple(signals), run, (), results)
        return Several(tuple(signals), run, results, reason)

    def _plugin_rule(self, node: fx.Node) -> Rule | None:
        """The rule that a plugin has for the operator, in place or not."""
        target: Any = node.target
        name = target._schema.name
        return self.operators.get(name) or self.operators.get(name.removesuffix("_"))

    def _opaque(
        self,
        site: Site,
        signals: Sequence[Signal],
        run: Callable[..., Any],
        out: Shape,
        reason: str,
    ) -> Signal | Lost:
        if self.build.batch not in out or -1 in out:
            return self._lose(site, reason)
        return self.build.opaque(site, signals, run, out, out.index(self.build.batch), reason)

    def _lose(self, site: Site, reason: str) -> Lost:
        """Note an operator whose result no node can hold, to be listed with the others."""
        self.lost.append(Offence(site.name, site.operator, site.origin, reason))
        return Lost()

    def _item(self, node: fx.Node, site: Site) -> Any:
        source, index = self.env[node.args[0]], node.args[1]  # type: ignore[index]
        if isinstance(source, Lost):
            return source
        if not isinstance(source, Several):
            return source[index]
        value = node.meta.get("val")

        def run(*values: Tensor) -> Any:
            return source.run(*values)[index]

        if not isinstance(value, Tensor):
            return Several(source.signals, run, (), source.reason)
        assert isinstance(index, int)  # noqa: S101 - torch.export writes it
        outcome = source.results[index]() if index < len(source.results) else source.reason
        if not isinstance(outcome, str):
            return outcome
        site = self._site(node.args[0])  # type: ignore[arg-type]
        return self._opaque(site, source.signals, run, self._shape(value), outcome)

    def _constant(self, node: fx.Node, name: str, site: Site, args: dict[str, Any]) -> Any:
        """An operator over constants only: computed now, without losing whose tensor it is."""
        first = args.get("self", args.get("input"))
        if (
            node.target is torch.ops.aten.to.device
            and isinstance(first, Constant)
            and first.value.is_floating_point()
            and args["dtype"].is_floating_point
        ):
            # y.to(x) is traced with the type that x has just now; rounding to it is none of y's.
            return first

        def run(given: Mapping[str, Any]) -> Any:
            return self._runner(node, given, [])()

        kept = passed_on(name, run, args)
        if kept is not None:
            return kept
        try:
            result = evaluated(node, run, args, self.env, self.state)
        except Exception as error:  # whatever an operator of the user's may raise
            raise self.build.refuse(
                site,
                f"its constants cannot be computed here ({first_line(error)})",
                "Compute it outside forward() and keep the result as a buffer",
            ) from error
        given = flat(args.values())
        again = recomputed(run, args, given)
        if isinstance(result, Tensor):
            return self.build.derive(result.detach(), *given, live=again)
        if not (isinstance(result, list | tuple) and isinstance(result[0], Tensor)):
            return result
        return [
            self.build.derive(piece, *given, live=again and piece_of(again, place))
            for place, piece in enumerate(result)
        ]

    def _runner(
        self, node: fx.Node, args: Mapping[str, Any], signals: Sequence[Signal]
    ) -> Callable[..., Any]:
        return runner(node, args, signals, self.build.batch, symbolic=self.symbol is not None)

    def _arguments(self, node: fx.Node) -> dict[str, Any]:
        """The operator's arguments by the names of its schema, defaults filled in."""
        target: Any = node.target
        given = dict(node.kwargs)
        schema = target._schema.arguments
        for argument, value in zip(
            (a for a in schema if not a.kwarg_only), node.args, strict=False
        ):
            given[argument.name] = value
        for argument in schema:
            if argument.name not in given and (
                argument.has_default_value() or not argument.kwarg_only
            ):
                given[argument.name] = argument.default_value
        # All is computed where the constants lie, wherever the source has it.
        device = given.pop("device", None)
        if device is not None and any(a.name == "device" and not a.kwarg_only for a in schema):
            given["device"] = torch.device("cpu")  # of x.to(y), which cannot do without one
        return {key: self._resolve(value) for key, value in given.items()}

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self.env[value]
        if isinstance(value, list | tuple):
            return [self._resolve(item) for item in value]
        return value

    def _number(self, value: Any, node: fx.Node) -> Size:
        """A number of the source; its shapes are all that one may depend on."""
        symbol, source = value.node.expr, node.args[0] if node.args else None
        if symbol.is_symbol and symbol != self.symbol and isinstance(source, fx.Node):
            tensor, axis = self.env[source], node.args[-1]
            if isinstance(tensor, Signal) and isinstance(axis, int):
                self.found[symbol] = tensor.full(self.build.batch)[axis]
        size = self._size(value)
        if size is None:
            raise self.build.refuse(
                self._site(node),
                "a number is taken out of a tensor",
                "Keep it a tensor: no .item() in forward()",
            )
        return size

    def _size(self, value: Any) -> Size | None:
        """A number that depends on the batch alone, or None."""
        expression = value.node.expr.subs(self.found)
        if not expression.free_symbols <= {self.symbol}:
            return None

        def of(batch: int) -> int:
            value = expression.subs({self.symbol: batch})
            return int(bool(value) if value.is_Boolean else value)

        return Size(of)

    def _shape(self, value: Tensor) -> Shape:
        """The shape of a result, the stand-in for a symbolic batch, −1 for what is not known."""
        return tuple(self._length(size) for size in value.shape)

    def _is_batch(self, size: int | torch.SymInt) -> bool:
        return isinstance(size, torch.SymInt) and self.symbol in size.node.expr.free_symbols

    def _length(self, size: int | torch.SymInt) -> int:
        if isinstance(size, int):
            return size
        found = self._size(size)
        return -1 if found is None else found.of(self.build.batch)

    def _site(self, node: fx.Node) -> Site:
        """A layer of torch.nn gives its path to its first operator; other names are torch's own."""
        name = node.name
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        if stack and str(stack[-1][1]).startswith("torch.nn.modules."):
            path = str(stack[-1][0])
            if ".conv." in str(stack[-1][1]) and node.name.startswith("pad"):
                name = f"{path}.pad"  # the convolution itself is called after the module
                return Site(name, str(node.target), location_in(node.meta.get("stack_trace")))
            if path and path not in self.modules:
                self.modules.add(path)
                name = path
        return Site(name, str(node.target), location_in(node.meta.get("stack_trace")))
