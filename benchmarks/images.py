"""Images for the benchmarks, from the folder that VERCOMP_DATA names: MNIST and CIFAR-10."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import torch
from matplotlib.image import imread
from torch import Tensor

from vercomp.data import load_data

CIFAR_SHAPE = (3, 32, 32)
CIFAR_PICTURES = {"train": "data_batch_1", "test": "test_batch"}


def data_folder() -> Path:
    """The folder of data sets and public networks.

    Raises:
        SystemExit: The environment does not name it.
    """
    if "VERCOMP_DATA" not in os.environ:
        raise SystemExit("set VERCOMP_DATA to the folder that holds mnist/, cifar10/ and onnx/")
    return Path(os.environ["VERCOMP_DATA"])


@cache
def mnist(split: str) -> tuple[Tensor, Tensor]:
    """Images (N, 784) in [0, 1] and labels (N,) of the split ``"train"`` or ``"test"``."""
    folder = data_folder() / "mnist"
    data = load_data(
        f"mnist:{folder}:{split}", input_shape=(784,), classes=10, tell=lambda line: None
    )
    return data.x, data.y


@cache
def cifar10(split: str) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) in [0, 1] and labels (N,): the first 10,000 of ``"train"``, or all of
    ``"test"``.

    The folder holds either the binary version of the data set, or one picture for each batch, with
    an image in each of its rows, and the labels beside it as ``SPLIT_labels.json``.
    """
    folder = data_folder() / "cifar10"
    picture = folder / f"{CIFAR_PICTURES[split]}.png"
    if not picture.exists():
        data = load_data(f"cifar10:{folder}:{split}", input_shape=CIFAR_SHAPE, limit=10_000)
        return data.x, data.y
    pixels = torch.from_numpy(imread(picture)[..., :3].copy())
    images = pixels.reshape(-1, 32, 32, 3).permute(0, 3, 1, 2)
    labels = json.loads((folder / f"{split}_labels.json").read_text())
    return images.contiguous(), torch.tensor(labels[: len(images)])
