"""Builds a graph from canonical operations: what the front ends have in common.

A front end maps each operator of its framework onto a method here. Values are kept lazily (see
:mod:`vercomp.frontends.elementwise`); a node is made only where something reads one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import sympy
import torch
from torch import Tensor

from vercomp.activations import ActivationTable
from vercomp.errors import UnsupportedError, WeightError
from vercomp.frontends import elementwise
from vercomp.frontends.elementwise import Applied, Combination, Leaf, Plan
from vercomp.frontends.values import Constant, Signal, Site, Value, joint_sources
from vercomp.ir.activation import X
from vercomp.ir.check import broadcasts, check
from vercomp.ir.graph import Activate, Affine, Graph, Input, Node, Offset, Opaque, Term
from vercomp.ir.linear_maps import (
    Dense,
    LinearMap,
    Parameter,
    Permute,
    Reshape,
    Scale,
    Shape,
    compose,
    identity,
)


class Builder:
    """A graph in the making.

    Args:
        table: The activations to recognise.
        shape: Shape of the input, without the batch.
        batch: The batch size of the source's own shapes (a stand-in where it is symbolic).
        location: The file or class of the model, for messages.
        reserved: Names of the source's tensors, which derived ones must not take.
    """

    def __init__(
        self,
        table: ActivationTable,
        shape: Shape,
        *,
        batch: int,
        location: str,
        reserved: Sequence[str] = (),
        input_name: str = "x",
    ) -> None:
        self.table = table
        self.batch = batch
        self.location = location
        self.derived: dict[str, tuple[str, ...]] = {}
        self._reserved = set(reserved)
        self._nodes: dict[str, Node] = {input_name: Input(input_name, shape)}
        self._parameters: dict[str, Parameter] = {}
        self._materialised: dict[tuple[str, sympy.Basic], str] = {}
        self.input = Signal(input_name, shape, site=Site(input_name, "input"))

    # ── Results ──────────────────────────────────────────────────────────────────────────────

    def graph(self, output: Value) -> Graph:
        """The finished graph.

        Raises:
            UnsupportedError: The output does not depend on the input, or is not (batch, classes).
        """
        if not isinstance(output, Signal):
            raise UnsupportedError(
                "the output does not depend on the input", location=self.location
            )
        if len(output.shape) != 1 or output.batch != 0:
            shape = ["batch" if i == output.batch else str(s) for i, s in enumerate(output.full(0))]
            raise UnsupportedError(
                f"the output has shape ({', '.join(shape)})",
                node=output.site.name,
                operator=output.site.operator,
                location=output.site.origin or self.location,
                remedy="A classifier gives one logit for each class: (batch, classes)",
            )
        name = self.materialise(output)
        return check(Graph(tuple(self._nodes.values()), name))

    def refuse(self, site: Site, message: str, remedy: str | None = None) -> UnsupportedError:
        """An error about an operator, for the caller to raise."""
        return UnsupportedError(
            message,
            node=site.name,
            operator=site.operator,
            location=site.origin or self.location,
            remedy=remedy,
        )

    # ── Parameters ───────────────────────────────────────────────────────────────────────────

    def parameter(self, constant: Constant, hint: str, *, weight: bool = True) -> Parameter:
        """The parameter behind a constant: the source's own, or a fresh one.

        Args:
            constant: Whatever shape it is seen under, a named one gives its stored tensor.
            hint: Name of a fresh one.
            weight: Whether its use is that of a weight, where the source does not say.

        Raises:
            WeightError: It holds NaN or infinity.
        """
        if constant.name is not None and constant.stored is not None:
            found = self._parameters.get(constant.name)
            if found is None:
                trainable = weight if constant.trainable is None else constant.trainable
                found = self._add(constant.name, constant.stored, trainable)
            return found
        return self.fresh(hint, constant.value, constant.sources)

    def fresh(self, hint: str, value: Tensor, sources: frozenset[str] = frozenset()) -> Parameter:
        """A parameter that the source does not have under this value."""
        name = unique(hint, self._reserved | self._parameters.keys())
        if sources:
            self.derived[name] = tuple(sorted(sources))
        return self._add(name, value, trainable=False)

    def number(self, value: float, hint: str) -> Parameter:
        """A scalar constant, float64."""
        return self.fresh(hint, torch.tensor(float(value), dtype=torch.float64))

    def _add(self, name: str, value: Tensor, trainable: bool) -> Parameter:
        wrong = int((~torch.isfinite(value)).sum())
        if wrong:
            raise WeightError(
                f"{wrong} of its {value.numel()} values are NaN or infinite",
                node=name,
                location=self.location,
                remedy="Train again or repair the weights",
            )
        if value.dtype not in (torch.float32, torch.float64):
            value = value.to(torch.float32 if value.is_floating_point() else torch.float64)
        parameter = Parameter(name, value.contiguous(), trainable)
        self._parameters[name] = parameter
        return parameter

    # ── Nodes ────────────────────────────────────────────────────────────────────────────────

    def materialise(self, signal: Signal) -> str:
        """The name of a node with the signal's value; the batch comes first in every node."""
        if signal.expression == X:
            return signal.node
        key = (signal.node, signal.expression)
        if key not in self._materialised:
            plan = elementwise.decompose(signal.expression, self.table)
            if plan is not None:
                self._materialised[key] = self._realise(plan, signal, signal.site.name)
            else:
                cut = self._cut(signal)
                name = self._unknown_formula(signal) if cut is None else self.materialise(cut)
                self._materialised[key] = name
        return self._materialised[key]

    def _cut(self, signal: Signal) -> Signal | None:
        """The same value over a node inside its expression, where both halves are then known.

        A formula forgets where one activation ended: softplus inside a SiLU simplifies beyond
        recognition. The operators remember.
        """
        for part in signal.parts():
            expression = signal.over(part)
            if expression is None or elementwise.decompose(expression, self.table) is None:
                continue
            if elementwise.decompose(part.expression, self.table) is None:
                inner = self._cut(part)
                if inner is None:
                    continue
            return replace(self.plain(part), expression=expression, site=signal.site)
        return None

    def plain(self, signal: Signal) -> Signal:
        """The signal as the bare value of a node."""
        return Signal(self.materialise(signal), signal.shape, batch=signal.batch, site=signal.site)

    def _unknown_formula(self, signal: Signal) -> str:
        expression = signal.expression
        return self._insert(
            Opaque(
                self._free(signal.site.name),
                signal.shape,
                (signal.node,),
                signal.site.operator,
                lambda value: elementwise.evaluate(expression, value).to(value.dtype),
                signal.site.origin,
                f"{sympy.N(expression, 4)} is not made of activations that vercomp knows",
            )
        )

    def _realise(self, plan: Plan, signal: Signal, hint: str) -> str:
        if isinstance(plan, Leaf):
            return signal.node
        if isinstance(plan, Applied):
            inner_hint = f"{hint}.input"
            parent = self._realise(plan.inner, signal, inner_hint)
            spelled = any(isinstance(o, Signal) and o.formula for o in signal.operands)
            if spelled and hint == signal.site.name:  # x·sigmoid(x) is called silu, not mul
                hint = plan.function.name
            return self._insert(
                Activate(self._free(hint), signal.shape, parent, plan.function, signal.site.origin)
            )
        return self._combine(plan, signal, hint)

    def _combine(self, plan: Combination, signal: Signal, hint: str) -> str:
        terms, offsets = [], []
        for coefficient, inner in plan.terms:
            inner_hint = f"{hint}.{inner.function.name if isinstance(inner, Applied) else 'part'}"
            parent = self._realise(inner, signal, inner_hint)
            terms.append(Term(self._times(coefficient, signal.shape, hint), parent))
        if plan.offset != 0:
            offsets.append(self._plus(plan, signal.shape, terms[0].map, hint))
        name = self._free(hint)
        return self._insert(
            Affine(name, signal.shape, tuple(terms), tuple(offsets), signal.site.origin)
        )

    def _times(self, coefficient: sympy.Expr, shape: Shape, hint: str) -> LinearMap:
        """Multiplication by a number, by a division where only that is exact (x / 255)."""
        if coefficient == 1:
            return identity(shape)
        if not _is_double(coefficient) and _is_double(1 / coefficient):
            return Scale(shape, self.number(1 / coefficient, f"{hint}.divisor"), divide=True)
        return Scale(shape, self.number(coefficient, f"{hint}.factor"))

    def _plus(self, plan: Combination, shape: Shape, scaled: LinearMap, hint: str) -> Offset:
        """The offset, carried through the scaling where only that is exact: (x − μ)/s."""
        coefficient = plan.terms[0][0]
        if not _is_double(plan.offset) and _is_double(plan.offset / coefficient):
            shift = self.number(plan.offset / coefficient, f"{hint}.shift")
            return Offset(scaled, shift)
        return Offset(identity(shape), self.number(plan.offset, f"{hint}.shift"))

    def affine(
        self,
        site: Site,
        shape: Shape,
        terms: Sequence[Term],
        offsets: Sequence[Offset] = (),
        batch: int = 0,
    ) -> Signal:
        """A new affine node."""
        node = Affine(self._free(site.name), shape, tuple(terms), tuple(offsets), site.origin)
        return Signal(self._insert(node), shape, batch=batch, site=site)

    def opaque(
        self,
        site: Site,
        signals: Sequence[Signal],
        run: Callable[..., Tensor],
        full_shape: Shape,
        batch: int,
        reason: str,
    ) -> Signal:
        """A node that only the reference interpreter runs.

        ``run`` takes and gives tensors as the source has them; the batch is moved to and from the
        front here.
        """
        shape = (*full_shape[:batch], *full_shape[batch + 1 :])
        parents = tuple(self.materialise(signal) for signal in signals)
        axes = [signal.batch for signal in signals]

        def batched(*values: Tensor) -> Tensor:
            moved = [v.movedim(0, axis) for v, axis in zip(values, axes, strict=True)]
            return run(*moved).movedim(batch, 0)

        name = self._insert(
            Opaque(
                self._free(site.name), shape, parents, site.operator, batched, site.origin, reason
            )
        )
        return Signal(name, shape, batch=batch, site=site)

    def _insert(self, node: Node) -> str:
        self._nodes[node.name] = node
        return node.name

    def _free(self, hint: str) -> str:
        return unique(hint, self._nodes.keys())

    # ── Elementwise operations ───────────────────────────────────────────────────────────────

    def apply(
        self, site: Site, formula: Callable[..., sympy.Basic], *operands: Value
    ) -> Signal | None:
        """An elementwise formula of signals over one node and of numbers; None if it is not so."""
        first = next(operand for operand in operands if isinstance(operand, Signal))
        parts: list[Signal | sympy.Basic] = []
        for operand in operands:
            if isinstance(operand, Signal):
                same = (operand.node, operand.shape, operand.batch)
                if same != (first.node, first.shape, first.batch):
                    return None
                parts.append(operand)
            elif operand.number is None or operand.value.ndim > first.rank:
                return None
            else:
                parts.append(self._exact(operand.number, site))
        expression = formula(*(p.expression if isinstance(p, Signal) else p for p in parts))
        return replace(
            first, expression=expression, site=site, formula=formula, operands=tuple(parts)
        )

    def _exact(self, value: float, site: Site) -> sympy.Basic:
        if isinstance(value, bool):
            return sympy.true if value else sympy.false
        if math.isnan(value):
            raise WeightError(
                "a constant is NaN",
                node=site.name,
                operator=site.operator,
                location=site.origin or self.location,
            )
        return elementwise.number(value)

    def add(self, site: Site, a: Value, b: Value, *, subtract: bool = False) -> Signal | None:
        """a + b or a − b; None where shapes broadcast in a way that no map expresses."""
        sign = -1 if subtract else 1
        lazy = self.apply(site, lambda x, y: x + sign * y, a, b)
        if lazy is not None:
            return lazy
        if isinstance(a, Signal) and isinstance(b, Signal):
            if (a.shape, a.batch) != (b.shape, b.batch):
                return None
            plus = self._term(a, a.expression, site)
            minus = self._term(b, sign * b.expression, site)
            return self.affine(site, a.shape, (plus, minus), batch=a.batch)
        signal, constant = (a, b) if isinstance(a, Signal) else (b, a)
        if not isinstance(signal, Signal) or not isinstance(constant, Constant):
            return None
        negate_constant = subtract and isinstance(b, Constant)
        negate_signal = subtract and isinstance(a, Constant)
        offset = self.offset(constant, signal, f"{site.name}.bias", negate=negate_constant)
        if offset is None:
            return None
        expression = -signal.expression if negate_signal else signal.expression
        term = self._term(signal, expression, site)
        return self.affine(site, signal.shape, (term,), (offset,), batch=signal.batch)

    def _term(self, signal: Signal, expression: sympy.Expr, site: Site) -> Term:
        """A summand: the sign of a difference goes into the map rather than into a node."""
        if expression == signal.expression:
            return Term(identity(signal.shape), self.materialise(signal))
        return Term(
            self._times(sympy.Integer(-1), signal.shape, site.name), self.materialise(signal)
        )

    def multiply(self, site: Site, a: Value, b: Value, *, divide: bool = False) -> Signal | None:
        """a ⊙ b or a ⊘ b; None for a product of two signals or shapes that no map expresses."""
        lazy = self.apply(site, lambda x, y: x / y if divide else x * y, a, b)
        if lazy is not None:
            return lazy
        if divide and isinstance(a, Constant) and isinstance(b, Signal):
            reciprocal = self.apply(site, lambda x: 1 / x, b)
            return None if reciprocal is None else self.multiply(site, reciprocal, a)
        signal, constant = (a, b) if isinstance(a, Signal) else (b, a)
        if not isinstance(signal, Signal) or not isinstance(constant, Constant):
            return None
        factor = self._factor(constant, signal, f"{site.name}.factor")
        if factor is None:
            return None
        term = Term(Scale(signal.shape, factor, divide), self.materialise(signal))
        return self.affine(site, signal.shape, (term,), batch=signal.batch)

    def offset(
        self, constant: Constant, signal: Signal, hint: str, *, negate: bool = False
    ) -> Offset | None:
        """A constant that is added to a signal, as a summand of a bias."""
        seen = self._without_batch(constant, signal)
        if seen is None:
            return None
        weight = not negate
        if seen.name is not None and seen.stored is not None and not seen.transposed:
            stored = tuple(seen.stored.shape)
            if _same_broadcast(stored, tuple(seen.value.shape)):
                vector = self.parameter(seen, hint, weight=weight)
                return Offset(identity(signal.shape), vector, negate)
            if tuple(seen.value.shape) == signal.shape:
                vector = self.parameter(seen, hint, weight=weight)
                return Offset(Reshape(stored, signal.shape), vector, negate)
        vector = self.fresh(hint, seen.value, seen.sources)
        return Offset(identity(signal.shape), vector, negate)

    def _factor(self, constant: Constant, signal: Signal, hint: str) -> Parameter | None:
        """A constant by which a signal is multiplied."""
        seen = self._without_batch(constant, signal)
        if seen is None:
            return None
        if (
            seen.stored is not None
            and not seen.transposed
            and _same_broadcast(tuple(seen.stored.shape), tuple(seen.value.shape))
        ):
            return self.parameter(seen, hint, weight=False)
        return self.fresh(hint, seen.value, seen.sources)

    def _without_batch(self, constant: Constant, signal: Signal) -> Constant | None:
        """The constant without its batch axis, if it then broadcasts to the signal's shape."""
        value = constant.value
        missing = signal.rank - value.ndim
        axis = signal.batch - missing
        if missing < 0:
            return None
        if axis >= 0:
            rows = value.movedim(axis, 0)
            if rows.shape[0] != 1 and not bool((rows == rows[:1]).all()):
                return None
            shape = tuple(rows.shape[1:])
            if rows.shape[0] == 1:
                constant = constant.reshaped(shape)
            else:
                constant = Constant(rows[0].clone(), sources=constant.sources)
        return constant if broadcasts(tuple(constant.value.shape), signal.shape) else None

    # ── Linear maps ──────────────────────────────────────────────────────────────────────────

    def dense(
        self,
        site: Site,
        signal: Signal,
        weight: Constant,
        bias: Constant | None = None,
        *,
        out_full: Shape | None = None,
    ) -> Signal | None:
        """x W + b for W of shape (n, m) as seen here, over the last axis of x.

        Every other axis of x but the batch must have size 1. ``out_full`` is the shape of the
        result where it is not that of a matrix product.
        """
        if math.prod(signal.shape) != weight.value.shape[0]:
            return None
        out_features = weight.value.shape[1]
        linear = self._dense_map(weight, f"{site.name}.weight")
        if out_full is None:
            shape = (*signal.shape[:-1], out_features)
        else:
            shape = (*out_full[: signal.batch], *out_full[signal.batch + 1 :])
        inner = Reshape(signal.shape, linear.in_shape)
        outer = Reshape(linear.out_shape, shape)
        term = Term(compose(outer, compose(linear, inner)), self.materialise(signal))
        result = Signal(signal.node, shape, batch=signal.batch)
        offsets = []
        if bias is not None:
            offset = self.offset(bias, result, f"{site.name}.bias")
            if offset is None:
                return None
            offsets.append(offset)
        named = self._layer_name(weight)
        site = replace(site, name=named) if named else site
        return self.affine(site, shape, (term,), offsets, batch=signal.batch)

    def _dense_map(self, weight: Constant, hint: str) -> Dense:
        """The map of x ↦ x W, over the source's own tensor where it is one."""
        parameter = self.parameter(weight, hint)
        rows, columns = tuple(weight.value.shape)
        if weight.name is None:
            return Dense(parameter, transposed=True)
        view = (columns, rows) if weight.transposed else (rows, columns)
        return Dense(
            parameter,
            transposed=not weight.transposed,
            view=None if parameter.shape == view else view,
        )

    def _layer_name(self, weight: Constant) -> str | None:
        """``fc1`` for the weight ``fc1.weight``."""
        if weight.name is None:
            return None
        module, _, last = weight.name.rpartition(".")
        return (module or None) if last == "weight" else None

    def reshape(self, site: Site, signal: Signal, full_shape: Shape) -> Signal | None:
        """Another shape, row-major; None where the batch is mixed with another axis."""
        before = math.prod(signal.shape[: signal.batch])
        after = math.prod(signal.shape[signal.batch :])
        for axis, size in enumerate(full_shape):
            rest = math.prod(full_shape[axis + 1 :])
            if size == self.batch and math.prod(full_shape[:axis]) == before and rest == after:
                shape = (*full_shape[:axis], *full_shape[axis + 1 :])
                if shape == signal.shape:
                    return replace(signal, batch=axis)
                term = Term(Reshape(signal.shape, shape), self.materialise(signal))
                return self.affine(site, shape, (term,), batch=axis)
        return None

    def permute(self, site: Site, signal: Signal, axes: Sequence[int]) -> Signal:
        """``x.permute(axes)``, over all axes of the source, the batch included."""
        axes = [axis % signal.rank for axis in axes]
        batch = axes.index(signal.batch)
        kept = tuple(axis - (axis > signal.batch) for axis in axes if axis != signal.batch)
        if kept == tuple(range(len(kept))):
            return replace(signal, batch=batch)
        linear = Permute(signal.shape, kept)
        term = Term(linear, self.materialise(signal))
        return self.affine(site, linear.out_shape, (term,), batch=batch)

    def batch_norm(
        self,
        site: Site,
        signal: Signal,
        weight: Constant | None,
        bias: Constant | None,
        mean: Constant,
        variance: Constant,
        eps: float,
    ) -> Signal | None:
        """(z − mean)/√(variance + eps) · weight + bias with frozen statistics, on (batch, n).

        √(variance + eps) is one derived constant, in float64.
        """
        if signal.batch != 0 or len(signal.shape) != 1:
            return None
        deviation = (variance.value.double() + eps).sqrt()
        divisor = self.fresh(f"{site.name}.std", deviation, variance.sources)
        linear: LinearMap = Scale(signal.shape, divisor, divide=True)
        if weight is not None:
            scale = Scale(signal.shape, self.parameter(weight, f"{site.name}.weight"))
            linear = compose(scale, linear)
        center = self.parameter(mean, f"{site.name}.mean", weight=False)
        offsets = [Offset(linear, center, negate=True)]
        if bias is not None:
            shift = self.parameter(bias, f"{site.name}.bias")
            offsets.append(Offset(identity(signal.shape), shift))
        term = Term(linear, self.materialise(signal))
        return self.affine(site, signal.shape, (term,), offsets)

    def derive(self, value: Tensor, *inputs: object) -> Constant:
        """A constant computed from others."""
        return Constant(value, sources=joint_sources(*inputs))


def unique(hint: str, taken: object) -> str:
    """The hint, or the hint with the first free number."""
    name, count = hint, 1
    while name in taken:  # type: ignore[operator]
        count += 1
        name = f"{hint}_{count}"
    return name


def _is_double(value: sympy.Expr) -> bool:
    """Whether a number is exactly a float64."""
    return bool(value.is_Rational) and sympy.Rational(float(value)) == value


def _same_broadcast(a: Shape, b: Shape) -> bool:
    """Whether tensors of two shapes with equal entries broadcast in the same way."""

    def stripped(shape: Shape) -> Shape:
        start = next((i for i, size in enumerate(shape) if size != 1), len(shape))
        return shape[start:]

    return stripped(a) == stripped(b)
