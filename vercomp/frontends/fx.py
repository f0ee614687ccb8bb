"""The PyTorch front end: ``nn.Module``, ``fx.GraphModule`` and ``ExportedProgram``.

A module is traced by ``torch.export``, and its graph is read before ``run_decompositions``: there
linear, softplus, gelu and batch_norm are still whole. Constants that training may change stay the
module's own parameters, by their own names.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, ShapesCollection, export
from torch.export.passes import move_to_device_pass

from vercomp.activations import ActivationTable
from vercomp.errors import UnsupportedError, UsageError
from vercomp.frontends.fx_call import Rule
from vercomp.frontends.fx_graph import STAND_IN, Translator
from vercomp.frontends.torch_source import (
    TorchSource,
    elsewhere,
    evaluating,
    first_line,
    location_of,
    on_cpu,
)
from vercomp.frontends.translation import Translation


def from_torch(
    model: nn.Module | ExportedProgram,
    input_shape: Sequence[int] | None,
    table: ActivationTable,
    output: str | int | None = None,
    operators: Mapping[str, Rule] = MappingProxyType({}),
) -> Translation:
    """Translate a PyTorch model.

    A model on another device is translated from a copy on the CPU: what is proved is about its
    weights, and the arithmetic there is that of the precision asked for.

    Args:
        model: A module (an ``fx.GraphModule`` is one) or an exported program.
        input_shape: Shape of one input, without the batch; may be None for an exported program.
        table: The activations to recognise.
        output: Which result the logits are, for a model that returns several: a key of a dict, a
            field of a named tuple or dataclass, an index of a tuple.
        operators: Rules of plugins by the operator's full name, ``"aten::cumsum"``. They go before
            the rules in :mod:`vercomp.frontends.fx_operators`.

    Raises:
        UnsupportedError: Several inputs, several outputs of which none is named, control flow that
            depends on data, dynamic dimensions other than the batch, TorchScript.
        UsageError: It is no model, does not run on inputs of that shape, or has no such output.
        WeightError: A parameter holds NaN or infinity.
    """
    if isinstance(model, ExportedProgram):
        return _from_program(model, input_shape, table, output, operators)
    _refuse_kind(model)
    if input_shape is None:
        raise UsageError("an nn.Module needs input_shape, the shape of one input without the batch")
    source = TorchSource(on_cpu(model), tuple(input_shape), output)
    source.settle_batch()
    program = _export(source)
    names = {id(parameter): name for name, parameter in source.model.named_parameters()}
    location = type(model).__name__
    translator = Translator(program, tuple(input_shape), table, location, names, operators)
    graph = translator.translate(output)
    build = translator.build
    return Translation(graph, source, "torch", source.dtype, build.derived, build.recipes)


def _refuse_kind(model: object) -> None:
    """What is not a module, or one without Python code."""
    remedy = "Give an nn.Module, an ExportedProgram or the path of an ONNX file"
    if isinstance(model, type):
        raise UsageError(f"{model.__name__} is a class, not a model", remedy="Give an instance")
    if not isinstance(model, nn.Module):
        raise UsageError(f"a {type(model).__name__} is no model", remedy=remedy)
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise UnsupportedError(
            "it spreads batches over devices, which torch.export cannot trace",
            node=type(model).__name__,
            remedy="Give the module inside: model.module",
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise UnsupportedError(
            "TorchScript cannot be traced by torch.export",
            node=type(model).__name__,
            remedy="Give the module that it was made of",
        )


def _from_program(
    program: ExportedProgram,
    input_shape: Sequence[int] | None,
    table: ActivationTable,
    output: str | int | None,
    operators: Mapping[str, Rule],
) -> Translation:
    if elsewhere((*program.state_dict.values(), *program.constants.values())):
        program = move_to_device_pass(copy.deepcopy(program), "cpu")
    translator = Translator(program, input_shape, table, "ExportedProgram", {}, operators)
    graph = translator.translate(output)
    source = TorchSource(program.module(), graph.input.shape, output)
    source.batch = None if translator.build.batch == STAND_IN else translator.build.batch
    build = translator.build
    return Translation(graph, source, "torch", source.dtype, build.derived, build.recipes)


def _export(source: TorchSource) -> ExportedProgram:
    """The exported model: with a symbolic batch if the model takes any, else with a fixed one."""
    sizes = (2, source.batch or 2) if source.batch is None else (source.batch,)
    error: Exception | None = None
    for attempt, size in enumerate(sizes):
        example = source.example(size)
        shapes: Any = None
        if attempt == 0 and source.batch is None:
            shapes = ShapesCollection()  # type: ignore[no-untyped-call]
            shapes[example] = {0: Dim("batch", min=1)}
        try:
            with evaluating(source.model), _quiet():
                return export(source.model, (example,), dynamic_shapes=shapes)
        except Exception as problem:
            error = error or problem
    assert error is not None  # noqa: S101 - the loop runs at least once
    raise UnsupportedError(
        f"torch.export cannot trace the model ({first_line(error)})",
        node=type(source.model).__name__,
        location=location_of(error),
        remedy="Control flow must not depend on the values of tensors",
    ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What torch.export logs and prints about a failure is left out: the refusal says it.

    So is its warning of weights that a hook computes in front of each call: they are computed in
    the graph, too.
    """
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The tensor attributes? .* assigned during export")
            yield
    finally:
        logging.disable(before)
