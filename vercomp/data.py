"""Labelled inputs: `.npz` archives, scikit-learn's digits, files of MNIST and of CIFAR-10."""

from __future__ import annotations

import gzip
import importlib.util
import math
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vercomp.errors import InputDataError, UsageError

Arrays = tuple[NDArray[np.generic], NDArray[np.generic]]

DIGITS_TEST = 450  # the last 450 of the 1,797 digits are the test split
IMAGES_MAGIC, LABELS_MAGIC = 0x0803, 0x0801  # unsigned bytes in three, in one dimension
IDX_KINDS = ("mnist", "fashion-mnist")
FOLDER_KINDS = (*IDX_KINDS, "cifar10")
SPLITS = {"train": "train", "test": "t10k"}
FORMS = "a .npz file, digits, mnist:FOLDER, fashion-mnist:FOLDER or cifar10:FOLDER"
CIFAR_SHAPE, CIFAR_CLASSES = (3, 32, 32), 10
CIFAR_ROW = 1 + math.prod(CIFAR_SHAPE)  # a label, then the pixels
CIFAR_FILES = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
_NO_LABELS = (
    "numpy.savez(FILE, x=inputs, y=labels) writes both; certify --labels predicted needs no y"
)
FOLDERS = {"cifar10": "cifar-10-batches-bin"}
"""What a data set's archive calls its folder, where that is not the name used here."""
UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,  # a compression method that zipfile does not know
    RuntimeError,  # an encrypted member
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Dataset:
    """Labelled inputs in the shape, and the units, of a model's input.

    Args:
        x: (N, *input_shape), float32 or float64, finite, N ≥ 1.
        y: (N,) int64, every label in [0, C).
        name: What the user called it.
        layout: The shape of one input as the data has it, before it is reshaped for a model: where
            pictures are, a report draws them.
    """

    x: Tensor
    y: Tensor
    name: str
    layout: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    @property
    def title(self) -> str:
        """What the data are called, without the folder that they lie in."""
        source, split = _split_of(self.name)
        kind, colon, _ = source.partition(":")
        if colon and kind in FOLDER_KINDS:
            return f"{kind}, {split}"
        return Path(self.name).name


def say(line: str) -> None:
    """One line on standard error, where notes belong: standard output may be JSON."""
    print(line, file=sys.stderr)


def load_data(
    text: str,
    input_shape: tuple[int, ...] | None,
    limit: int | None = None,
    *,
    classes: int | None = None,
    labelled: bool = True,
    tell: Callable[[str], None] = say,
) -> Dataset:
    """Read labelled inputs for a model.

    Args:
        text: ``FILE.npz`` (arrays ``x`` and ``y``), ``digits``, ``mnist:FOLDER``,
            ``fashion-mnist:FOLDER`` or ``cifar10:FOLDER``; all but the first give the test split,
            or the training split where ``:train`` follows. Pixels are in [0, 1].
        input_shape: Of one input. Inputs with as many elements are reshaped row-major. None: as
            the data has it, and pictures without channels get one.
        limit: Read the first so many rows only; what follows them is not looked at.
        classes: C; labels must lie in [0, C).
        labelled: Whether labels are needed. Without, an archive may lack ``y``, and labels are 0.
        tell: Receives the word said when inputs are reshaped.

    Raises:
        UsageError: ``text`` names no data, or ``limit`` is not positive.
        InputDataError: The data cannot be read, or cannot be this model's input.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, not {limit}")
    source, split = _split_of(text)
    kind, colon, folder = source.partition(":")
    if source == "digits":
        images, labels = _digits(split, input_shape)
    elif colon and kind in IDX_KINDS:
        images, labels = _idx_pair(kind, folder, split)
    elif colon and kind == "cifar10":
        images, labels = _cifar(folder, split, limit)
    elif text.endswith(".npz"):
        images, labels = _npz(Path(text), labelled)
    else:
        raise UsageError(f"DATA {text!r} is none of these: {FORMS}")
    where = text
    if not labelled:
        labels = np.zeros(len(images) if images.ndim else 0, dtype=np.int64)
    y = _labels(labels, where)
    if images.ndim == 0 or len(images) != len(y):
        count = len(images) if images.ndim else "no"
        raise InputDataError(f"{count} inputs but {len(y)} labels", location=where)
    if len(y) == 0:
        raise InputDataError("there is not a single input", location=where)
    y, images = y[:limit], images[:limit]
    _check_range(y, classes, where)
    if input_shape is None:
        input_shape = (1, *images.shape[1:]) if images.ndim == 3 else images.shape[1:]
    layout = (8, 8) if source == "digits" else images.shape[1:]
    x = _reshape(_inputs(images, where), input_shape, where, tell)
    return Dataset(torch.from_numpy(x), torch.from_numpy(y), text, layout)


def training_split(text: str) -> str:
    """DATA as training may read it: ``digits`` is its training split.

    Raises:
        UsageError: It is a test split. Numbers on what was trained on are worth nothing.
    """
    source, split = _split_of(text)
    if text.endswith(".npz") or split == "train":
        return text
    if text == "digits":
        return "digits:train"
    if source != "digits" and source.partition(":")[0] not in FOLDER_KINDS:
        return text  # of no kind: that is for load_data to say
    raise UsageError(
        f"DATA {text!r} is a test split, which must not be trained on",
        remedy=f"Write {source}:train",
    )


def _split_of(text: str) -> tuple[str, str]:
    for split in SPLITS:
        if not text.endswith(".npz") and text.endswith(":" + split):
            return text.removesuffix(":" + split), split
    return text, "test"


def _digits(split: str, input_shape: tuple[int, ...] | None) -> Arrays:
    """The digits of scikit-learn, from its file: to import the library takes longer than the rest.

    Raises:
        InputDataError: scikit-learn is not installed, or keeps the file elsewhere.
    """
    found = importlib.util.find_spec("sklearn")
    folder = next(iter(found.submodule_search_locations or ()), None) if found else None
    path = Path(folder or "") / "datasets" / "data" / "digits.csv.gz"
    if folder is None or not path.is_file():
        raise InputDataError(
            "scikit-learn, which has them, is not installed with its data",
            location="digits",
            remedy="pip install scikit-learn",
        )
    with gzip.open(path, "rt", encoding="ascii") as file:
        rows = np.loadtxt(file, delimiter=",")
    part = slice(-DIGITS_TEST, None) if split == "test" else slice(None, -DIGITS_TEST)
    images, labels = rows[part, :-1], rows[part, -1].astype(np.int64)
    shaped = images if input_shape == (64,) else images.reshape(-1, 8, 8)
    return (shaped / 16).astype(np.float32), labels


def _npz(path: Path, labelled: bool) -> Arrays:
    where = str(path)
    if not path.is_file():
        raise InputDataError("no such file", location=where)
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputDataError(f"cannot be read: {error.strerror}", location=where) from error
    with file:  # numpy, given a path, would leave a damaged file open
        archive = _open_archive(file, where)
        needed = ("x", "y") if labelled else ("x",)
        missing = [name for name in needed if name not in archive.files]
        if missing:
            wanted = " and ".join(repr(name) for name in missing)
            there = ", ".join(repr(name) for name in archive.files) or "nothing"
            raise InputDataError(
                f"no array {wanted}; the archive holds {there}",
                location=where,
                remedy=_NO_LABELS if missing == ["y"] else "",
            )
        x = _member(archive, "x", where)
        return x, _member(archive, "y", where) if labelled else np.zeros(0, dtype=np.int64)


def _open_archive(file: BinaryIO, where: str) -> np.lib.npyio.NpzFile:
    remedy = "numpy.savez(FILE, x=inputs, y=labels) writes one"
    try:
        archive = np.load(file, allow_pickle=False)
    except UNREADABLE as error:
        raise InputDataError(
            "not a .npz archive, or a truncated one", location=where, remedy=remedy
        ) from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputDataError("a single array, not a .npz archive", location=where, remedy=remedy)
    return archive


def _member(archive: np.lib.npyio.NpzFile, name: str, where: str) -> NDArray[np.generic]:
    try:
        array = archive[name]
    except UNREADABLE as error:
        if "allow_pickle" in str(error):  # numpy refuses to unpickle, and so do we
            raise InputDataError(
                f"array {name!r} holds Python objects, which are never unpickled",
                location=where,
                remedy="Save numbers of one type",
            ) from error
        raise InputDataError(f"array {name!r} cannot be read: {error}", location=where) from error
    if not isinstance(array, np.ndarray):
        raise InputDataError(f"member {name!r} is not an array", location=where)
    return array


def _idx_pair(kind: str, folder: str, split: str) -> Arrays:
    _check_folder(kind, folder)
    prefix = SPLITS[split]
    images = _find(kind, folder, f"{prefix}-images-idx3-ubyte")
    labels = _find(kind, folder, f"{prefix}-labels-idx1-ubyte")
    return (
        _read_idx(images, IMAGES_MAGIC, 3).astype(np.float32) / np.float32(255),
        _read_idx(labels, LABELS_MAGIC, 1),
    )


def _check_folder(kind: str, folder: str) -> None:
    if not folder:
        raise UsageError(f"DATA {kind + ':'!r} names no folder; write {kind}:FOLDER")
    if not Path(folder).is_dir():
        raise InputDataError("no such folder", location=folder)


def _find(kind: str, folder: str, name: str) -> Path:
    inner = FOLDERS.get(kind, kind)
    for base in (Path(folder), Path(folder, inner)):
        for path in (base / name, base / f"{name}.gz"):
            if path.is_file():
                return path
    raise InputDataError(
        f"neither {name} nor {name}.gz is there, nor in its folder {inner}", location=folder
    )


def _content(path: Path) -> bytes:
    where = str(path)
    try:
        opener = gzip.open if path.suffix == ".gz" else Path.open
        with opener(path, "rb") as file:
            return bytes(file.read())
    except PermissionError as error:
        raise InputDataError(f"cannot be read: {error.strerror}", location=where) from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputDataError(
            f"the gzip stream is truncated or damaged ({error})", location=where
        ) from error


def _cifar(folder: str, split: str, limit: int | None) -> Arrays:
    """CIFAR-10's binary version: rows of a label and 3×32×32 bytes, all red, all green, all blue.

    Files are read in order, and no further than the limit asks.
    """
    _check_folder("cifar10", folder)
    parts: list[NDArray[np.uint8]] = []
    wanted = math.inf if limit is None else limit
    for name in CIFAR_FILES[split]:
        if sum(map(len, parts)) < wanted:
            parts.append(_read_cifar(_find("cifar10", folder, name)))
    rows = np.concatenate(parts)[:limit]
    pixels = rows[:, 1:].reshape(-1, *CIFAR_SHAPE).astype(np.float32)
    return np.divide(pixels, np.float32(255), out=pixels), rows[:, 0]


def _read_cifar(path: Path) -> NDArray[np.uint8]:
    content = _content(path)
    if len(content) == 0 or len(content) % CIFAR_ROW:
        raise InputDataError(
            f"truncated, or no binary version of CIFAR-10: {len(content)} bytes are no whole "
            f"number of rows of {CIFAR_ROW}",
            location=str(path),
        )
    rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, CIFAR_ROW)
    wrong = rows[:, 0] >= CIFAR_CLASSES
    if wrong.any():
        row = int(wrong.argmax())
        raise InputDataError(
            f"not the binary version of CIFAR-10: row {row} begins with {rows[row, 0]}, where a "
            f"label below {CIFAR_CLASSES} should stand",
            location=str(path),
        )
    return rows


def _read_idx(path: Path, magic: int, dimensions: int) -> NDArray[np.uint8]:
    """The array of an idx file: magic number, sizes (big-endian int32), then the bytes."""
    where = str(path)
    content = _content(path)
    header = 4 * (1 + dimensions)
    if len(content) < header:
        raise InputDataError(
            f"truncated: {len(content)} bytes, the header alone has {header}", location=where
        )
    found, *sizes = (int(number) for number in np.frombuffer(content[:header], dtype=">u4"))
    if found != magic:
        raise InputDataError(
            f"not an idx file of the kind expected: magic number {found:#010x}, not {magic:#010x}",
            location=where,
        )
    announced = header + math.prod(sizes)
    if len(content) != announced:
        state = "truncated" if len(content) < announced else "too long"
        raise InputDataError(
            f"{state}: {len(content)} bytes where the header announces {announced}",
            location=where,
        )
    return np.frombuffer(content[header:], dtype=np.uint8).reshape(sizes)


def _labels(labels: NDArray[np.generic], where: str) -> NDArray[np.int64]:
    if labels.ndim != 1:
        raise InputDataError(f"labels have shape {labels.shape}, not (N,)", location=where)
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputDataError(
            f"labels are of type {labels.dtype}, not of an integer type", location=where
        )
    # uint64 beyond int64 wraps to a negative number here, and is then out of range
    return labels.astype(np.int64)


def _check_range(y: NDArray[np.int64], classes: int | None, where: str) -> None:
    wrong = (y < 0) | (y >= (classes if classes is not None else math.inf))
    if wrong.any():
        row = int(wrong.argmax())
        allowed = f"0 to {classes - 1}" if classes is not None else "0 and above"
        raise InputDataError(
            f"label {y[row]} of row {row} is out of range: the model's classes are {allowed}",
            location=where,
        )


def _inputs(images: NDArray[np.generic], where: str) -> NDArray[np.generic]:
    if np.issubdtype(images.dtype, np.integer):
        raise InputDataError(
            f"array 'x' is of the integer type {images.dtype}, so its units are unclear",
            location=where,
            remedy="Save x.astype('float32') / 255 for pixels in [0, 1], "
            "or x.astype('float32') if the model takes the numbers as they are",
        )
    if not np.issubdtype(images.dtype, np.floating):
        raise InputDataError(
            f"array 'x' is of type {images.dtype}, not of a floating-point type", location=where
        )
    dtype: type[np.generic] = np.float64 if images.dtype.itemsize > 4 else np.float32
    x = np.ascontiguousarray(images, dtype=dtype)
    finite = np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    if not finite.all():
        raise InputDataError(
            f"array 'x' holds NaN or infinity, first in row {int(finite.argmin())}", location=where
        )
    return x


def _reshape(
    x: NDArray[np.generic],
    input_shape: tuple[int, ...],
    where: str,
    tell: Callable[[str], None],
) -> NDArray[np.generic]:
    shape = x.shape[1:]
    if math.prod(shape) != math.prod(input_shape):
        raise InputDataError(
            f"inputs have shape {shape}, {math.prod(shape)} elements; "
            f"the model takes {input_shape}, {math.prod(input_shape)} elements",
            location=where,
        )
    # axes of length one carry nothing that row-major order could get wrong
    given, taken = ([size for size in sizes if size != 1] for sizes in (shape, input_shape))
    if given != taken and sorted(given) == sorted(taken):
        raise InputDataError(
            f"inputs have shape {shape}, the model takes {input_shape}: the same axes in another "
            "order, which a reshape would scramble",
            location=where,
            remedy=f"Save {_transposition(shape, input_shape)} as x of an .npz file",
        )
    if given != taken:
        tell(f"note: inputs of {where} reshaped from {shape} to {input_shape}, row-major")
    return x.reshape(len(x), *input_shape)


def _transposition(shape: tuple[int, ...], target: tuple[int, ...]) -> str:
    """How numpy brings the axes behind the first into another order; equal ones stay in theirs."""
    if sorted(shape) != sorted(target):
        return "the transposed array"
    left = list(enumerate(shape, start=1))
    axes = [0]
    for size in target:
        pair = next(pair for pair in left if pair[1] == size)
        left.remove(pair)
        axes.append(pair[0])
    return f"x.transpose({', '.join(map(str, axes))})"
