"""Folders with a configuration and weights, as Hugging Face keeps models, and a class given.

``config.json`` says how the class is built, the ``.safetensors`` files hold its weights. A class
with ``from_pretrained`` reads the folder itself; any other callable takes the entries of the
configuration as keyword arguments. Either way every parameter must have come from the files: a
weight that was left at random unnoticed would be certified as if it were the model's.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vercomp.errors import ModelFileError, UsageError, VercompError

CONFIG = "config.json"
SIZES = ("image_size", "input_size", "img_size")
DESCRIPTIVE = {
    "_name_or_path",
    "architectures",
    "dtype",
    "id2label",
    "input_shape",
    "label2id",
    "model_type",
    "torch_dtype",
    "transformers_version",
}
"""Entries of a configuration that describe a model and are no arguments of its class."""


def module_from_folder(make: Callable[..., object], text: str, folder: Path) -> nn.Module:
    """The model of a folder, with an attribute ``input_shape`` where its configuration says it.

    Args:
        make: The class, or a function that returns the module.
        text: What the user calls it.
        folder: The folder.

    Raises:
        ModelFileError: The folder lacks a file, or a file cannot be read or does not fit.
        UsageError: The class cannot be built from the configuration.
    """
    config, weights = _config(folder), _weights(folder)
    if hasattr(make, "from_pretrained"):
        model = _call(lambda: make.from_pretrained(str(folder)), f"{text}.from_pretrained")
    else:
        arguments = _arguments(make, text, config)
        model = _call(lambda: make(**arguments), text)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{text!r} returned a {type(model).__name__}, not a torch nn.Module")
    if not hasattr(make, "from_pretrained"):
        _fill(model, weights, folder)
    _check_filled(model, weights, folder)
    shape = _input_shape(config)
    if shape is not None and not hasattr(model, "input_shape"):
        model.input_shape = shape  # type: ignore[assignment]
    return model.eval()


def _config(folder: Path) -> Mapping[str, Any]:
    if not folder.is_dir():
        raise ModelFileError("no such folder", location=str(folder))
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFileError(
            f"the folder has no {CONFIG}",
            location=str(folder),
            remedy="module:Class@FOLDER is for folders with config.json and .safetensors files",
        ) from error
    except (OSError, ValueError) as error:
        raise ModelFileError(f"cannot be read: {error}", location=str(path)) from error
    if not isinstance(config, dict):
        raise ModelFileError("not a JSON object", location=str(path))
    return config


def _weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of all files, each under one name."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelFileError(
            "the folder has no .safetensors file",
            location=str(folder),
            remedy="Weights in pickles are never read: save them with safetensors",
        )
    found: dict[str, Tensor] = {}
    for path in files:
        try:
            part = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ModelFileError(f"cannot be read: {error}", location=str(path)) from error
        twice = sorted(found.keys() & part.keys())
        if twice:
            raise ModelFileError(
                f"{twice[0]!r} is in another file of the folder as well",
                location=str(path),
                remedy="Leave one set of files in it",
            )
        found |= part
    return found


def _arguments(make: Callable[..., object], text: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of the configuration that the class takes; all others must be descriptive."""
    parameters = inspect.signature(make).parameters
    every = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    taken = {
        key: value
        for key, value in config.items()
        if key in parameters or (every and key not in DESCRIPTIVE)
    }
    left = sorted(config.keys() - taken.keys() - DESCRIPTIVE)
    if left:
        raise UsageError(
            f"{CONFIG} has {', '.join(map(repr, left))}, which {text!r} does not take",
            remedy="Name a function that takes what the model is built from: def build(**config)",
        )
    return taken


def _call(make: Callable[[], object], text: str) -> object:
    try:
        return make()
    except VercompError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"calling {text!r} failed: {type(error).__name__}: {error}") from error


def _fill(model: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    try:
        _, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # shapes
        raise ModelFileError(f"the weights do not fit: {error}", location=str(folder)) from error
    if unexpected:
        raise ModelFileError(
            f"the model has no {_some(unexpected)}, which the weights hold",
            location=str(folder),
            remedy="Give the class that the weights were saved from",
        )


def _check_filled(model: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Every parameter and buffer is what the files hold, or shares its memory with one that is."""
    state = model.state_dict()
    places = {_place(value) for name, value in state.items() if name in weights}
    missing = [
        name for name, value in state.items() if name not in weights and _place(value) not in places
    ]
    if missing:
        raise ModelFileError(
            f"the weights hold no {_some(missing)}, which the model has",
            location=str(folder),
            remedy="Give the class that the weights were saved from",
        )
    other = [
        name
        for name, value in state.items()
        if name in weights and not torch.equal(value, weights[name].to(value))
    ]
    if other:
        raise ModelFileError(
            f"the model's {_some(other)} is not what the weights hold",
            location=str(folder),
            remedy="Give a function that builds the model and loads its weights: "
            "package.module:callable",
        )


def _place(value: Tensor) -> tuple[int, int]:
    """Where a tensor is, and how large."""
    return value.data_ptr(), value.numel()


def _some(names: Sequence[str]) -> str:
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]!r}{others}"


def _input_shape(config: Mapping[str, Any]) -> tuple[int, ...] | None:
    """``input_shape``, or channels and the size of an image under their usual names."""
    declared = config.get("input_shape")
    if isinstance(declared, list) and all(isinstance(size, int) for size in declared):
        return tuple(declared)
    channels = config.get("num_channels", config.get("in_chans"))
    size = next((config[key] for key in SIZES if key in config), None)
    if isinstance(size, int):
        size = [size, size]
    if isinstance(channels, int) and isinstance(size, list) and len(size) == 2:
        return (channels, *size)
    return None
