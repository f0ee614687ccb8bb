"""CIFAR-10's binary version: tiny files of its format, and what is refused about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vercomp.data import load_data
from vercomp.errors import InputDataError, UsageError

SHAPE = (3, 32, 32)


def rows(labels: list[int], seed: int = 0) -> np.ndarray:
    """(N, 3073) bytes: a label, then the pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return np.concatenate([np.array(labels, dtype=np.uint8)[:, None], pixels], axis=1)


def write(folder: Path, name: str, found: np.ndarray) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(found.tobytes())
    return found


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_the_test_split_is_planes_of_pixels_in_0_1(tmp_path: Path, inner: str) -> None:
    found = write(tmp_path / inner, "test_batch.bin", rows([3, 9, 0]))
    found[1, 1 : 1 + 1024] = 255  # all of the second image's red
    write(tmp_path / inner, "test_batch.bin", found)
    data = load_data(f"cifar10:{tmp_path}", SHAPE, classes=10)
    assert data.y.tolist() == [3, 9, 0]
    assert data.x.shape == (3, *SHAPE)
    assert data.x.dtype == torch.float32
    assert (data.x[1, 0] == 1).all()
    expected = found[:, 1:].reshape(3, *SHAPE).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(data.x.numpy(), expected)


def test_the_training_split_is_five_files_in_order(tmp_path: Path) -> None:
    for number in range(1, 6):
        write(tmp_path, f"data_batch_{number}.bin", rows([number, number + 4], seed=number))
    data = load_data(f"cifar10:{tmp_path}:train", SHAPE)
    assert data.y.tolist() == [1, 5, 2, 6, 3, 7, 4, 8, 5, 9]
    second = rows([2, 6], seed=2)[0, 1:].reshape(SHAPE).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(data.x[2].numpy(), second)


def test_a_limit_reads_no_further_than_it_asks(tmp_path: Path) -> None:
    write(tmp_path, "data_batch_1.bin", rows([1, 2, 3]))
    assert load_data(f"cifar10:{tmp_path}:train", SHAPE, limit=2).y.tolist() == [1, 2]
    with pytest.raises(InputDataError) as caught:
        load_data(f"cifar10:{tmp_path}:train", SHAPE, limit=4)
    assert str(caught.value) == (
        f"at {tmp_path}: neither data_batch_2.bin nor data_batch_2.bin.gz is there, nor in its "
        "folder cifar-10-batches-bin"
    )


@pytest.mark.parametrize("size", [0, 1, 3072, 3 * 3073 - 1, 3 * 3073 + 1, 3 * 3074])
def test_sizes_that_are_no_rows(tmp_path: Path, size: int) -> None:
    path = tmp_path / "test_batch.bin"
    path.write_bytes(b"\1" * size)
    with pytest.raises(InputDataError) as caught:
        load_data(f"cifar10:{tmp_path}", SHAPE)
    assert str(caught.value) == (
        f"at {path}: truncated, or no binary version of CIFAR-10: {size} bytes are no whole "
        "number of rows of 3073"
    )


def test_labels_that_are_none(tmp_path: Path) -> None:
    write(tmp_path, "test_batch.bin", rows([3, 10, 200]))
    with pytest.raises(InputDataError) as caught:
        load_data(f"cifar10:{tmp_path}", SHAPE)
    assert str(caught.value) == (
        f"at {tmp_path / 'test_batch.bin'}: not the binary version of CIFAR-10: row 1 begins with "
        "10, where a label below 10 should stand"
    )


def test_models_of_other_sizes_and_classes(tmp_path: Path) -> None:
    write(tmp_path, "test_batch.bin", rows([3, 9]))
    with pytest.raises(InputDataError, match=r"inputs have shape \(3, 32, 32\), 3072 elements"):
        load_data(f"cifar10:{tmp_path}", (3, 28, 28))
    with pytest.raises(InputDataError, match=r"label 9 of row 1 is out of range"):
        load_data(f"cifar10:{tmp_path}", SHAPE, classes=5)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^DATA 'cifar10:' names no folder; write cifar10:FOLDER"):
        load_data("cifar10:", SHAPE)
    with pytest.raises(InputDataError, match=r"^at nowhere: no such folder$"):
        load_data("cifar10:nowhere", SHAPE)
