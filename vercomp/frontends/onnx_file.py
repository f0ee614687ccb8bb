"""Reads ONNX files from outside: what is not one, is cut short or reaches outside is refused."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from vercomp.errors import ModelFileError, UnsupportedError
from vercomp.frontends.onnx_cone import ML

CHECKPOINT = "is a PyTorch checkpoint (a pickle), which vercomp does not open"
CHECKPOINT_REMEDY = (
    "Give a function that builds the model as package.module:callable, "
    "or export it with torch.onnx.export"
)
OLDEST_OPSET = 7
CONTRIBUTED = frozenset(("com.microsoft::Gelu", "com.microsoft::QuickGelu"))
"""What is taken of onnxruntime's own operators: an optimised model may hold these."""


def operator_name(node: onnx.NodeProto) -> str:
    """The name of a node's operator, with its domain where that is not the standard's."""
    standard = node.domain in ("", "ai.onnx")
    return str(node.op_type if standard else f"{node.domain}::{node.op_type}")


def load(path: Path, known: Collection[str] = ()) -> onnx.ModelProto:
    """The model with all its tensors, external ones included.

    Args:
        path: The file.
        known: Operators of other domains than the standard's that are translated all the same, as
            :func:`operator_name` has them.

    Raises:
        ModelFileError: Missing, empty, truncated, of another format, or with external data that
            is missing, too short or outside the model's folder.
    """
    data = _read(path)
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        # protobuf's DecodeError; its module has no types
        raise ModelFileError("is not an ONNX model, or is cut short", location=str(path)) from error
    if not model.graph.node or not model.opset_import:
        raise ModelFileError("holds no ONNX graph", location=str(path))
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _load_external(tensor, path)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    return model


def to_tensor(tensor: onnx.TensorProto, path: Path) -> Tensor:
    """The values of a tensor.

    Raises:
        ModelFileError: The data do not have the size that the dimensions say.
        UnsupportedError: They are no numbers.
    """
    try:
        array = numpy_helper.to_array(tensor)
        if tuple(array.shape) != tuple(tensor.dims):
            raise ValueError(f"{array.size} values")
    except (ValueError, TypeError, KeyError) as error:
        shape = "×".join(map(str, tensor.dims)) or "scalar"
        raise ModelFileError(
            f"its data do not have the size of its shape {shape}",
            node=tensor.name,
            location=str(path),
        ) from error
    if array.dtype.kind in "OSU":
        raise UnsupportedError("it holds strings", node=tensor.name, location=str(path))
    return from_numpy(array)


def sparse_tensor(sparse: onnx.SparseTensorProto, path: Path) -> Tensor:
    """The values of a sparse tensor, written out.

    Raises:
        ModelFileError: Its parts do not fit one another.
    """
    values, places = to_tensor(sparse.values, path), to_tensor(sparse.indices, path)
    try:
        dense = torch.zeros(tuple(sparse.dims), dtype=values.dtype)
        if places.ndim == 1:
            dense.view(-1)[places] = values
        else:
            dense[tuple(places.T)] = values
    except (IndexError, RuntimeError) as error:
        raise ModelFileError(
            "its sparse data do not fit its shape", node=sparse.values.name, location=str(path)
        ) from error
    return dense


def from_numpy(array: np.ndarray) -> Tensor:
    """A torch tensor with its own memory.

    Half precision stays, so that what is computed from constants is rounded as the model rounds it;
    types that numpy itself does not have (bfloat16, eight bits and fewer) become single, exactly.
    """
    if array.dtype.isbuiltin != 1:
        array = array.astype(np.int64 if "int" in array.dtype.name else np.float32)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array, order="C", copy=True))


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError("there is no such file", location=str(path)) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ModelFileError(f"cannot be read: {reason}", location=str(path)) from error
    if not data:
        raise ModelFileError("is empty", location=str(path))
    zipped, pickled = data[:4] == b"PK\x03\x04", data[:1] == b"\x80" and data[1:2] <= b"\x05"
    if zipped or pickled:
        raise ModelFileError(CHECKPOINT, location=str(path), remedy=CHECKPOINT_REMEDY)
    return data


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a graph, those in attributes and in subgraphs too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
            for subgraph in attribute.graphs:
                yield from _tensors(subgraph)


def _load_external(tensor: onnx.TensorProto, path: Path) -> None:
    """Put the data of an external tensor into it, if they lie in the model's own folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")

    def refuse(message: str) -> ModelFileError:
        return ModelFileError(message, node=tensor.name, location=str(path))

    parts = PurePosixPath(location.replace("\\", "/")).parts
    absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
    folder = path.resolve().parent
    outside = absolute or ".." in parts or "\0" in location or not parts
    if outside or not (folder / location).resolve().is_relative_to(folder):
        raise refuse(f"its external data {location!r} lie outside the model's folder")
    file = folder / location
    if not file.is_file():
        raise refuse(f"its external data {location!r} are missing")
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or file.stat().st_size - offset)
    except ValueError as error:
        raise refuse(f"its external data {location!r} have no valid offset and length") from error
    if offset < 0 or length < 0 or offset + length > file.stat().st_size:
        raise refuse(f"its external data {location!r} are cut short")
    with file.open("rb") as stream:
        stream.seek(offset)
        tensor.raw_data = stream.read(length)
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def check_operators(model: onnx.ModelProto, path: Path, known: Collection[str] = ()) -> None:
    """Refuse what is too old, or of nobody's standard.

    Args:
        model: The model.
        path: Its file.
        known: Operators of other domains that are translated all the same, as
            :func:`operator_name` has them.

    Raises:
        UnsupportedError: An opset older than 7, or operators of other domains.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    version = versions.get("", versions.get("ai.onnx", 0))
    if version < OLDEST_OPSET:
        raise UnsupportedError(
            f"opset {version} is older than {OLDEST_OPSET}",
            location=str(path),
            remedy="Export it again, or use onnx.version_converter",
        )
    custom = [
        node
        for node in model.graph.node
        if "::" in operator_name(node)
        and node.domain != ML
        and operator_name(node) not in {*CONTRIBUTED, *known}
    ]
    if custom:
        listed = ", ".join(sorted({operator_name(node) for node in custom}))
        raise UnsupportedError(
            f"operators of other domains than ai.onnx: {listed}",
            node=custom[0].name or custom[0].output[0],
            operator=custom[0].op_type,
            location=str(path),
            remedy="Export without contrib operators (and without graph optimisation)",
        )
