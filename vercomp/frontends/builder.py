"""Builds a graph from canonical operations: what the front ends have in common.

A front end maps each operator of its framework onto a method here. Values are kept lazily (see
:mod:`vercomp.frontends.elementwise`); a node is made only where something reads one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import sympy
import torch
from torch import Tensor

from vercomp.activations import ActivationTable
from vercomp.errors import UnsupportedError, WeightError
from vercomp.frontends import elementwise
from vercomp.frontends.decomposition import (
    Applied,
    Combination,
    Leaf,
    Matcher,
    Plan,
    decompose,
    simple,
)
from vercomp.frontends.translation import Offence
from vercomp.frontends.unknown import explained
from vercomp.frontends.values import Constant, Signal, Site, Value, joint_sources
from vercomp.ir.activation import X
from vercomp.ir.check import check
from vercomp.ir.graph import Activate, Affine, Graph, Input, Node, Offset, Opaque, Term
from vercomp.ir.linear_maps import (
    LinearMap,
    Parameter,
    Scale,
    Shape,
    identity,
)
from vercomp.ir.rewrite import pruned


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
        self.matcher = Matcher(table)
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
        return check(pruned(self._nodes.values(), name))

    def offences(self) -> list[Offence]:
        """What no analysis covers, so far."""
        return [Offence.of(node) for node in self._nodes.values() if isinstance(node, Opaque)]

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
            constant: Whatever shape it is seen under, one that lives in the user's model gives its
                stored tensor; one from a file is stored here as it is seen first.
            hint: Name of a fresh one.
            weight: Whether its use is that of a weight, where the source does not say.

        Raises:
            WeightError: It holds NaN or infinity.
        """
        if constant.name is not None and constant.stored is not None:
            found = self._parameters.get(constant.name)
            if found is None:
                stored, trainable = constant.stored, constant.trainable
                if trainable is None:
                    stored = constant.value.T if constant.transposed else constant.value
                    trainable = weight
                found = self._add(constant.name, stored, trainable)
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

    @cached_property
    def _minus_one(self) -> Parameter:
        """The sign of every difference."""
        return self.number(-1.0, "minus_one")

    # ── Nodes ────────────────────────────────────────────────────────────────────────────────

    def materialise(self, signal: Signal) -> str:
        """The name of a node with the signal's value; the batch comes first in every node."""
        if signal.expression == X:
            return signal.node
        key = (signal.node, signal.expression)
        if key not in self._materialised:
            self._materialised[key] = self._make(signal)
        return self._materialised[key]

    def _make(self, signal: Signal) -> str:
        plan = simple(signal.expression, self.matcher)
        if plan is None:
            cut = self._cut(signal)
            if cut is not None:
                return self.materialise(cut)
            plan = decompose(signal.expression, self.matcher)
        if plan is None:
            cut = self._cut(signal, sums=True)
            return self._unknown_formula(signal) if cut is None else self.materialise(cut)
        return self._realise(plan, signal, signal.site.name)

    def _cut(self, signal: Signal, *, sums: bool = False) -> Signal | None:
        """The same value over a node inside its expression, where both halves are then known.

        A formula forgets where one activation ended: softplus inside a SiLU simplifies beyond
        recognition. The operators remember. The inner half may be a sum of activations (``sums``)
        only where nothing else helps: tanh(x + tanh(x)).
        """
        for part in signal.parts():
            expression = signal.over(part)
            if expression in (None, X) or not simple(expression, self.matcher):
                continue
            if self._is_known(part, sums=sums):
                return replace(signal, node=self.materialise(part), expression=expression)
        return None

    def _is_known(self, part: Signal, *, sums: bool) -> bool:
        if simple(part.expression, self.matcher) or self._cut(part, sums=sums):
            return True
        return sums and decompose(part.expression, self.matcher) is not None

    def plain(self, signal: Signal) -> Signal:
        """The signal as the bare value of a node."""
        return Signal(self.materialise(signal), signal.shape, batch=signal.batch, site=signal.site)

    def _unknown_formula(self, signal: Signal) -> str:
        expression = signal.expression
        why = explained(expression, self.matcher.table)
        return self._insert(
            Opaque(
                self._free(signal.site.name),
                signal.shape,
                (signal.node,),
                signal.site.operator,
                lambda value: elementwise.evaluate(expression, value).to(value.dtype),
                signal.site.origin,
                why.text,
                why.remedy,
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
            terms.append(Term(self.times(coefficient, signal.shape, hint), parent))
        if plan.offset != 0:
            offsets.append(self._plus(plan, signal.shape, terms[0].map, hint))
        name = self._free(hint)
        return self._insert(
            Affine(name, signal.shape, tuple(terms), tuple(offsets), signal.site.origin)
        )

    def times(self, coefficient: sympy.Expr, shape: Shape, hint: str) -> LinearMap:
        """Multiplication by a number, by a division where only that is exact (x / 255)."""
        if coefficient == 1:
            return identity(shape)
        if coefficient == -1:
            return Scale(shape, self._minus_one)
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

        node = Opaque(
            self._free(site.name),
            shape,
            parents,
            site.operator,
            batched,
            site.origin,
            reason,
            site=site.name,
        )
        name = self._insert(node)
        return Signal(name, shape, batch=batch, site=site)

    def _insert(self, node: Node) -> str:
        self._nodes[node.name] = node
        return node.name

    def _free(self, hint: str) -> str:
        return unique(hint or "node", self._nodes.keys())

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
        expressions = [p.expression if isinstance(p, Signal) else p for p in parts]
        try:
            expression = formula(*expressions)
        except TypeError:  # x · (x > 0): arithmetic with a truth value
            formula = elementwise.of_numbers(formula)
            expression = formula(*expressions)
        if expression.has(sympy.oo, -sympy.oo, sympy.zoo, sympy.nan):
            return None
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
