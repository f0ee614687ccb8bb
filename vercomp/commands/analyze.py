"""``vercomp analyze``: layers, norms, and the curvature of every pair of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType

from vercomp.commands.html import check_html_path, write_html
from vercomp.commands.models import open_model
from vercomp.commands.patience import Patience
from vercomp.commands.printing import check_json_path, deliver
from vercomp.compiled import CompiledNetwork
from vercomp.data import load_data
from vercomp.errors import UsageError
from vercomp.report.page import Found, report_page
from vercomp.report.tables import layer_table, number, pair_table
from vercomp.results.analysis import LayerRow
from vercomp.results.sampled_curvature import first_of_each_class, sampled_curvature

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
    analysis = network.analysis()
    lower, upper = analysis.curvature
    bound = torch.maximum(lower.abs(), upper.abs()).numpy()
    summary: dict[str, Any] = {
        "name": network.name,
        "input_shape": list(network.network.input_shape),
        "classes": network.network.classes,
        "layers": [_layer(row) for row in analysis.layers],
        "curvature_lower": lower.tolist(),
        "curvature_upper": upper.tolist(),
        "K": bound.tolist(),
    }
    shape = "×".join(map(str, network.network.input_shape))
    tables: list[RenderableType] = [
        layer_table(analysis, f"{network.name}: inputs {shape}, {network.network.classes} classes"),
        pair_table(bound, "K: no input has |curvature| of z_y − z_t above it"),
    ]
    beside: Found | None = None
    if data is not None:
        found, inputs = _found(network, data, limit)
        summary |= _comparison(bound, found, data, inputs)
        label = f"K_lb: the largest found at {inputs} inputs of {data}"
        label += " (Lanczos iterations, a lower bound)"
        beside = Found(found, label)
        tables += [
            pair_table(found, label),
            f"K / K_lb: {number(summary['ratio_mean'], 3)} on average over the pairs, "
            f"{number(summary['ratio_max'], 3)} at most",
        ]
    if html is not None:
        parameters = sum(tensor.numel() for tensor in network.network.parameters())
        write_html(html, report_page(analysis, network.manifest, parameters, beside))
    deliver(summary, json_path, *tables)


def _layer(row: LayerRow) -> dict[str, Any]:
    """A layer as JSON has it."""
    return {
        "name": row.name,
        "shape": list(row.shape),
        "activation": row.activation,
        "g": row.g,
        "h": row.h,
        "norm": row.norm,
        "share": row.share,
    }


def _found(
    network: CompiledNetwork, data: str, limit: int | None
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], int]:
    dataset = load_data(
        data, tuple(network.network.input_shape), limit, classes=network.network.classes
    )
    x, y = dataset.x, dataset.y
    if limit is None:
        rows = first_of_each_class(y, INPUTS_PER_CLASS)
        x, y = x[rows], y[rows]
    with Patience("Lanczos iterations on Hessians", len(x)) as patience:
        return sampled_curvature(network, x, y, advance=patience.advance).numpy(), len(x)


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
