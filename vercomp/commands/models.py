"""What MODEL on the command line may be: an ONNX file, a package, a callable, and with weights."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from vercomp.errors import ModelFileError, UnsupportedError, UsageError, VercompError
from vercomp.outputs import CASCADE, MANIFEST, changed_code, kind_of

if TYPE_CHECKING:
    from torch import nn

    from vercomp.cascades import CompiledCascade
    from vercomp.compiled import CompiledNetwork
    from vercomp.smoothing.classifier import Classifier

FORMS = (
    "an .onnx file, the folder of a compiled package, package.module:callable, or "
    "package.module:Class@FOLDER with its config.json and .safetensors files"
)
_CLASS_NEEDED = (
    "A folder with config.json needs the model's class: MODEL is package.module:Class@FOLDER"
)
CHECKPOINTS = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")
ARRAYS = (".npz", ".npy")
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


@dataclass(frozen=True)
class Source:
    """A model that is not compiled yet.

    Args:
        model: The path of an ONNX file, or a module.
        input_shape: Of one input; None where an ONNX file says it.
        output: Which result the logits are, where the model returns several.
    """

    model: str | nn.Module
    input_shape: tuple[int, ...] | None
    output: str | int | None


def open_model(
    text: str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_shape: Sequence[int] | None = None,
    output: str | None = None,
    emit: Sequence[str] | None = None,
) -> CompiledNetwork:
    """Compile, or open, what the user calls MODEL.

    Args:
        text: One of the four forms.
        mean: Of a normalisation in front of the model; one number or one a channel.
        std: Its standard deviation.
        input_shape: Of one input; a callable's module may carry it as ``input_shape`` instead.
        output: Which result the logits are, where the model returns several.
        emit: What the package shall be able to do; everything by default.

    Raises:
        UsageError: ``text`` is none of the forms, or an option does not go with it.
        ModelFileError: The file or folder holds something else.
        VercompError: The model cannot be compiled.
    """
    path = Path(text)
    if path.is_dir():
        if mean is not None or std is not None:
            raise UsageError(
                "a compiled package has its normalisation inside, so --mean and --std do not apply",
                location=text,
                remedy="Compile the source model with them",
            )
        if output is not None:
            raise UsageError(
                "a compiled package has one output, so --output does not apply",
                location=text,
                remedy="Compile the source model with it",
            )
        package = _open_package(path)
        declared = tuple(package.network.input_shape)
        if input_shape is not None and tuple(input_shape) != declared:
            raise UsageError(
                f"the package's inputs have shape {declared}, not {tuple(input_shape)}",
                location=text,
            )
        return package
    source = open_source(text, input_shape, output)
    with aside():
        from vercomp import driver

        return driver.compile(
            source.model,
            input_shape=source.input_shape,
            mean=scalar(mean),
            std=scalar(std),
            output=source.output,
            emit=emit,
        )


def open_classifier(
    text: str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_shape: Sequence[int] | None = None,
    output: str | None = None,
    tell: Callable[[str], None],
) -> Classifier:
    """What can be run on batches of inputs, compiled or, where it cannot be compiled, as it is.

    Arguments and errors are those of :func:`open_model`; ``tell`` receives a note.
    """
    from vercomp.smoothing.classifier import of_module, of_network, of_onnx

    try:
        return of_network(
            open_model(text, mean=mean, std=std, input_shape=input_shape, output=output)
        )
    except UnsupportedError:
        if output is not None:
            raise
    tell(f"{text} cannot be compiled, and is run as it is")
    source = open_source(text, input_shape)
    with aside():
        if isinstance(source.model, str):
            return of_onnx(source.model, scalar(mean), scalar(std))
        return of_module(source.model, source.input_shape or (), scalar(mean), scalar(std))


def open_source(
    text: str, input_shape: Sequence[int] | None = None, output: str | None = None
) -> Source:
    """An ONNX file or a callable's module; arguments and errors are those of :func:`open_model`.

    A whole number names an output of a module by its index.
    """
    path = Path(text)
    shape = None if input_shape is None else tuple(input_shape)
    if path.is_file() or text.endswith(".onnx"):
        _check_file(path)
        return Source(text, shape, output)
    if ":" not in text:
        raise ModelFileError("no such file or folder", location=text, remedy=f"MODEL is {FORMS}")
    with aside():
        model = _call(text)
    shape = shape or _declared_shape(model, text)
    if shape is None:
        raise UsageError(
            f"MODEL {text!r} does not say what shape its inputs have",
            remedy="Add --input-shape 1,28,28, or give the module an attribute input_shape",
        )
    return Source(model, shape, int(output) if output and output.isdecimal() else output)


def _declared_shape(model: nn.Module, text: str) -> tuple[int, ...] | None:
    declared = getattr(model, "input_shape", None)
    if declared is None:
        return None
    shape = tuple(declared) if isinstance(declared, Sequence) else ()
    if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        raise UsageError(
            f"the attribute input_shape of {text!r} is {declared!r}, not sizes such as (1, 28, 28)",
            remedy="Say the shape of one input, without the batch, or give --input-shape",
        )
    return shape


def aside() -> contextlib.redirect_stdout[TextIO]:
    """What the user's own code prints goes to standard error: standard output may be JSON."""
    return contextlib.redirect_stdout(sys.stderr)


def open_cascade(text: str) -> CompiledCascade:
    """A cascade whose code, and that of its stages, is as we wrote it.

    Raises:
        ModelFileError: The folder is no such package, or its code has changed.
    """
    from vercomp.cascades import load_cascade

    _check_code(Path(text))
    return load_cascade(text)


def identity(network: CompiledNetwork | CompiledCascade) -> str:
    """SHA-256 of a package's files: of architecture, weights and the code that certifies."""
    digest = hashlib.sha256()
    for name in sorted(network.files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(network.files[name]).digest())
    return digest.hexdigest()


def _open_package(path: Path) -> CompiledNetwork:
    """A package whose code is as we wrote it.

    Its weights may have changed, and then its bounds are computed anew; bounds of changed code
    would be another network's.
    """
    from safetensors import SafetensorError

    from vercomp import compiled

    where = str(path)
    _check_code(path)
    if kind_of(path) == CASCADE:
        raise UsageError(
            "this is a cascade of several networks, which certify and attack take",
            location=where,
            remedy=f"Take one of its stages, which are packages themselves: {where}/stage_1, …",
        )
    try:
        return compiled.load_package(path)
    except (SafetensorError, RuntimeError, TypeError) as error:
        raise ModelFileError(
            f"its net.safetensors or {MANIFEST} cannot be used: {error}",
            location=where,
            remedy="Compile its source again",
        ) from error


def _check_code(path: Path) -> None:
    """Refuse a folder that is no package of ours, or whose code is not as it was written."""
    where = str(path)
    try:
        changed = changed_code(path)
    except OSError as error:
        raise ModelFileError(f"cannot be read: {error.strerror}", location=where) from error
    if changed is None:
        raise ModelFileError(
            f"not a compiled package: no {MANIFEST} of vercomp is in it",
            location=where,
            remedy=_CLASS_NEEDED
            if (path / "config.json").exists()
            else "A package is a folder that `vercomp compile MODEL --out DIR` has written",
        )
    if changed:
        raise ModelFileError(
            f"the package's code is not what vercomp wrote: see {', '.join(map(repr, changed))}",
            location=where,
            remedy="Its bounds hold for the code as it was: compile its source again",
        )


def scalar(numbers: Sequence[float] | None) -> Sequence[float] | float | None:
    """One number stands for all channels."""
    return numbers[0] if numbers is not None and len(numbers) == 1 else numbers


def _check_file(path: Path) -> None:
    where = str(path)
    if not path.is_file():
        raise ModelFileError("no such file", location=where)
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ModelFileError(f"cannot be read: {error.strerror}", location=where) from error
    if path.suffix.lower() in ARRAYS:
        raise ModelFileError(
            "a file of arrays, and no model", location=where, remedy=f"MODEL is {FORMS}"
        )
    if start.startswith(PICKLES) or path.suffix in CHECKPOINTS:
        raise ModelFileError(
            "a PyTorch checkpoint or another pickle, which is never unpickled",
            location=where,
            remedy="Export the model to ONNX, or name a function that builds and loads it: "
            "package.module:callable",
        )
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"MODEL {where!r} is none of these: {FORMS}")


def _call(text: str) -> nn.Module:
    from torch import nn

    text, at, folder = text.partition("@")
    found = _find(text)
    if at:
        if isinstance(found, nn.Module):
            raise UsageError(
                f"{text!r} is a module already, so that it takes no weights from a folder",
                remedy="Name its class, or leave out the folder",
            )
        from vercomp.commands.weight_folders import module_from_folder

        return module_from_folder(found, text, Path(folder))
    try:
        model = found if isinstance(found, nn.Module) else found()
    except VercompError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"calling {text!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{text!r} returned a {type(model).__name__}, not a torch nn.Module",
            remedy="The callable takes no arguments and returns the model",
        )
    return model.eval()


def _find(text: str) -> Callable[..., object]:
    """What ``package.module:attribute`` names."""
    module_name, _, attribute = text.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise UsageError(f"MODEL {text!r} is none of these: {FORMS}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"module {module_name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"module {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"{text!r} is a {type(found).__name__}, not a callable")
    return found
