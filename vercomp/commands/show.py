"""``vercomp show``: the graph of a model as text, whether it can be analysed or not."""

from __future__ import annotations

import math
from pathlib import Path

import click

from vercomp import driver
from vercomp.commands.models import aside, open_source, scalar
from vercomp.commands.patience import Patience
from vercomp.errors import UsageError
from vercomp.frontends.translation import Translation
from vercomp.ir.graph import Graph, Opaque
from vercomp.ir.printer import node_text
from vercomp.pass_manager import run_passes
from vercomp.planning import Plan, plan
from vercomp.registry import Options, registry
from vercomp.report.markup import clean


def run(
    model: str,
    *,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    input_shape: tuple[int, ...] | None,
    output: str | None,
    merged: bool,
) -> None:
    """Translate, compare with the source, and print."""
    if Path(model).is_dir():
        raise UsageError(
            "this is a folder; show takes a model, not a package",
            location=model,
            remedy="A package is readable itself: look at its net.py",
        )
    source = open_source(model, input_shape, output)
    found = registry()
    with Patience(f"translating {model}"), aside():
        translation = driver.translate(source.model, source.input_shape, found, source.output)
    options = Options(scalar(mean), scalar(std))
    rewritten = run_passes(translation.graph, found.make_passes(options))
    planned = plan(rewritten, found.methods)  # of what compile would see, whatever is printed
    seen = merged or mean is not None or std is not None
    graph = rewritten if seen else translation.graph
    reasons = {each.name: each.reason for group in planned.offences.values() for each in group}
    reasons |= {node.name: node.reason for node in rewritten.opaque()}
    kept = {node.name for node in rewritten.nodes}
    for node in graph.nodes:
        mark = f"  ← {reasons[node.name]}" if node.name in reasons else ""
        if isinstance(node, Opaque) and node.name not in kept:
            mark = "  (left out: without it no two classes change places)"
        click.echo(clean(node_text(node) + mark))
    tail = "" if graph.tail is None else f"tail {graph.tail}, z the output\n"
    click.echo(clean(f"output {graph.output}\n{tail}", keep="\n"))
    for line in summary(graph, translation, planned):
        click.echo(line)


def summary(graph: Graph, translation: Translation, planned: Plan) -> list[str]:
    """What it comes to, in a few lines."""
    units = sum(math.prod(node.shape) for node in graph.activations())
    parameters = graph.parameters()
    trainable = sum(p.value.numel() for p in parameters if p.trainable)
    constant = sum(p.value.numel() for p in parameters if not p.trainable)
    counts = [
        _count(sum(1 for _ in graph.affine()), "affine node"),
        f"{_count(sum(1 for _ in graph.activations()), 'activation')} of {units:,} hidden units",
    ]
    opaque = sum(1 for _ in graph.opaque())
    if opaque:
        counts.append(_count(opaque, "opaque node"))
    weights = f"{_count(trainable, 'parameter')}"
    if constant:
        weights += f" and {_count(constant, 'constant')}"
    return [
        f"{', '.join(counts)}; {weights}",
        f"agrees with its source ({translation.source_kind}) on random inputs; {_verdict(planned)}",
    ]


def _verdict(planned: Plan) -> str:
    """What compile would say."""
    if planned.refused:
        return f"no method can take it: {_count(len(planned.refused), 'node')} marked ←"
    *others, last = (method.name for method in planned.methods)
    methods = f"{', '.join(others)} and {last}" if others else last
    verdict = f"nothing in it is refused: it can be certified by {methods}"
    if planned.offences:
        marked = sum(len(group) for group in planned.offences.values())
        verdict += f", not by {' or '.join(planned.offences)}: {_count(marked, 'node')} marked ←"
    return verdict


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
