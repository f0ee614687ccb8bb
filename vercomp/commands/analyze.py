"""``vercomp analyze``: layers, norms, and the curvature of every pair of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from torch import Tensor

from vercomp.commands.html import check_html_path, write_html
from vercomp.commands.models import open_model
from vercomp.commands.patience import Patience
from vercomp.commands.printing import check_json_path, deliver
from vercomp.compiled import CompiledNetwork
from vercomp.data import load_data
from vercomp.errors import UnsupportedError, UsageError
from vercomp.report.page import Found, report_page
from vercomp.report.tables import layer_table, local_table, number, pair_table
from vercomp.results.analysis import LayerRow
from vercomp.results.regional import LOOKED_AT, LocalAnalysis, local_analysis
from vercomp.results.sampled_curvature import first_of_each_class, sampled_curvature
from vercomp.results.tightness import curvature_notes

INPUTS_PER_CLASS = 8


def run(
    model: str,
    *,
    data: str | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    input_shape: tuple[int, ...] | None,
    output: str | None,
    limit: int | None,
    html: Path | None,
    json_path: str | None,
) -> None:
    """Analyse; with data, set the bound beside the curvature found at real inputs."""
    if data is None and limit is not None:
        raise UsageError("--limit needs --data: without it no input is looked at")
    check_json_path(json_path)
    if html is not None:
        check_html_path(html)
    with Patience(f"compiling {model}"):
        network = open_model(model, mean=mean, std=std, input_shape=input_shape, output=output)
    layers, outputs = network.layers(), network.network.outputs
    summary: dict[str, Any] = {
        "name": network.name,
        "input_shape": list(network.network.input_shape),
        "classes": outputs,
        "layers": [_layer(row, curved=network.curved) for row in layers],
        "methods": network.manifest["methods"],
    }
    shape = "×".join(map(str, network.network.input_shape))
    what = f"{outputs} classes" if outputs > 1 else "1 output"
    title = f"{network.name}: inputs {shape}, {what}"
    tables: list[RenderableType] = [layer_table(layers, title, curved=network.curved)]
    if network.curved:
        tables += _curvature(network, summary, data, limit, html)
    else:
        _without_curvature(network, data, html)
        summary |= {"curvature_lower": None, "curvature_upper": None, "K": None}
        tables.append(
            "no curvature: an activation has no second derivative; certified by "
            f"{', '.join(network.manifest['methods'])}"
        )
    deliver(summary, json_path, *tables)


def _curvature(
    network: CompiledNetwork,
    summary: dict[str, Any],
    data: str | None,
    limit: int | None,
    html: Path | None,
) -> list[RenderableType]:
    """The bounds of all pairs, beside what is found at inputs; the summary takes them up."""
    analysis = network.analysis()
    lower, upper = analysis.curvature
    bound = torch.maximum(lower.abs(), upper.abs()).numpy()
    summary |= {
        "curvature_lower": lower.tolist(),
        "curvature_upper": upper.tolist(),
        "K": bound.tolist(),
    }
    single = network.network.scores == 1
    margins = "the margin of 1 over 0" if single else "z_y − z_t"
    tables: list[RenderableType] = [
        pair_table(bound, f"K: no input has |curvature| of {margins} above it")
    ]
    beside: Found | None = None
    nearby: LocalAnalysis | None = None
    if data is not None:
        x, y = _inputs(network, data, limit)
        found, inputs = _found(network, x, y), len(x)
        summary |= _comparison(bound, found, data, inputs)
        label = f"K_lb: the largest found at {inputs} inputs of {data}"
        label += " (Lanczos iterations, a lower bound)"
        beside = Found(found, label)
        tables += [
            pair_table(found, label),
            f"K / K_lb: {number(summary['ratio_mean'], 3)} on average over the pairs, "
            f"{number(summary['ratio_max'], 3)} at most",
            *curvature_notes(network, summary["ratio_mean"]),
        ]
        nearby = _nearby(network, x)
        summary["local"] = None if nearby is None else nearby.json()
        if nearby is not None:
            tables.append(local_table(nearby))
    if html is not None:
        parameters = sum(tensor.numel() for tensor in network.network.parameters())
        write_html(html, report_page(analysis, network.manifest, parameters, beside, nearby))
    return tables


def _without_curvature(network: CompiledNetwork, data: str | None, html: Path | None) -> None:
    """Refuse what is about curvature alone.

    Raises:
        UnsupportedError: Curvature was asked about.
    """
    if data is not None or html is not None:
        raise UnsupportedError(
            "an activation has no second derivative, so the network has no curvature to look for",
            node=network.name,
            remedy=f"Leave out {'--data' if data is not None else '--html'}",
        )


def _layer(row: LayerRow, *, curved: bool) -> dict[str, Any]:
    """A layer as JSON has it."""
    return {
        "name": row.name,
        "shape": list(row.shape),
        "activation": row.activation,
        "g": row.g,
        "h": row.h,
        "norm": row.norm,
        "share": row.share if curved else None,
    }


def _inputs(network: CompiledNetwork, data: str, limit: int | None) -> tuple[Tensor, Tensor]:
    """The inputs that are looked at, with their labels."""
    own = network.network
    single = own.outputs == 1
    dataset = load_data(
        data, tuple(own.input_shape), limit, classes=own.classes, labelled=not single
    )
    x, y = dataset.x, dataset.y
    if single:  # of two classes, which the output's sign tells apart
        with torch.no_grad():
            y = (own(x.to(own.device, own.dtype)).flatten() > 0).long().to(y.device)
    if limit is None:
        rows = first_of_each_class(y, INPUTS_PER_CLASS)
        x, y = x[rows], y[rows]
    return x, y


def _found(network: CompiledNetwork, x: Tensor, y: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The largest curvature found at the inputs."""
    with Patience("Lanczos iterations on Hessians", len(x)) as patience:
        return sampled_curvature(network, x, y, advance=patience.advance).numpy()


def _nearby(network: CompiledNetwork, x: Tensor) -> LocalAnalysis | None:
    """Curvature bounds in balls around a few of the inputs, where a network is small enough."""
    few = x[:: max(1, -(-len(x) // LOOKED_AT))]
    with Patience("curvature in balls around inputs", len(few)) as patience:
        return local_analysis(network, few, advance=patience.advance)


def _comparison(
    bound: np.ndarray[Any, np.dtype[np.float64]],
    found: np.ndarray[Any, np.dtype[np.float64]],
    data: str,
    inputs: int,
) -> dict[str, Any]:
    known = found > 0  # not the diagonal, no pair without inputs, no margin that is affine
    ratio = np.full_like(bound, np.nan)
    ratio[known] = bound[known] / found[known]
    return {
        "data": data,
        "inputs": inputs,
        "K_lb": found.tolist(),
        "ratio": ratio.tolist(),
        "ratio_mean": float(ratio[known].mean()) if known.any() else None,
        "ratio_max": float(ratio[known].max()) if known.any() else None,
    }
