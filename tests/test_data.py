"""Data: what is read, in which units and shapes, and the exact words for what is refused."""

from __future__ import annotations

import gzip
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vercomp.data import load_data, training_split
from vercomp.errors import InputDataError, UsageError


@pytest.fixture
def said() -> list[str]:
    return []


def save(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def good(n: int = 5) -> dict[str, Any]:
    x = np.arange(n * 6, dtype=np.float32).reshape(n, 2, 3)
    return {"x": x, "y": np.arange(n) % 3}


def idx(array: np.ndarray, magic: int) -> bytes:
    sizes = np.array([magic, *array.shape], dtype=">u4").tobytes()
    return sizes + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, *, images: bytes | None = None, labels: bytes | None = None) -> None:
    pixels = np.arange(3 * 4).reshape(3, 2, 2) * 20
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "t10k-images-idx3-ubyte").write_bytes(images or idx(pixels, 0x803))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(labels or idx(np.array([7, 2, 1]), 0x801))
    )


def test_npz_keeps_numbers_and_type(tmp_path: Path, said: list[str]) -> None:
    arrays = good()
    data = load_data(save(tmp_path / "d.npz", **arrays), (2, 3), tell=said.append)
    assert data.x.dtype == torch.float32
    assert data.y.dtype == torch.int64
    np.testing.assert_array_equal(data.x.numpy(), arrays["x"])
    np.testing.assert_array_equal(data.y.numpy(), arrays["y"])
    arrays["x"] = arrays["x"].astype(np.float64) + 1e-12
    double = load_data(save(tmp_path / "e.npz", **arrays), (2, 3), tell=said.append)
    assert double.x.dtype == torch.float64
    np.testing.assert_array_equal(double.x.numpy(), arrays["x"])
    assert said == []


def test_reshapes_row_major_and_says_so(tmp_path: Path, said: list[str]) -> None:
    name = save(tmp_path / "d.npz", **good())
    data = load_data(name, (6,), tell=said.append)
    assert data.x[1].tolist() == [6, 7, 8, 9, 10, 11]
    assert said == [f"note: inputs of {name} reshaped from (2, 3) to (6,), row-major"]


def test_the_word_goes_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_data(save(tmp_path / "d.npz", **good()), (6,))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("reshaped from (2, 3) to (6,), row-major\n")


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((2, 3), "x.transpose(0, 2, 1)"),
        ((4, 5, 3), "x.transpose(0, 3, 1, 2)"),
        ((3, 4, 4), "x.transpose(0, 2, 3, 1)"),
    ],
)
def test_axes_in_another_order_are_no_matter_of_reshaping(
    tmp_path: Path, shape: tuple[int, ...], axes: str
) -> None:
    x = np.random.default_rng(0).random((5, *shape))
    wanted = eval(axes, {"x": x})  # noqa: S307
    name = save(tmp_path / "d.npz", **(good() | {"x": x}))
    with pytest.raises(InputDataError) as refused:
        load_data(name, wanted.shape[1:])
    assert "the same axes in another order" in str(refused.value)
    assert str(refused.value).endswith(f"Save {axes} as x of an .npz file")
    with pytest.raises(InputDataError, match="Save the transposed array"):
        load_data(name, (1, *wanted.shape[1:]))


def test_axes_of_length_one_need_no_word(tmp_path: Path, said: list[str]) -> None:
    data = load_data(save(tmp_path / "d.npz", **good()), (1, 2, 3), tell=said.append)
    assert data.x.shape == (5, 1, 2, 3)
    assert said == []


def test_the_layout_is_that_of_the_data_and_the_title_has_no_folder(
    tmp_path: Path, said: list[str]
) -> None:
    name = save(tmp_path / "d.npz", **good())
    data = load_data(name, (6,), tell=said.append)
    assert (data.layout, tuple(data.x.shape)) == ((2, 3), (5, 6))
    assert data.title == "d.npz"
    digits = load_data("digits", (64,), limit=2)
    assert (digits.layout, digits.title) == ((8, 8), "digits")
    write_mnist(tmp_path / "m")
    assert load_data(f"mnist:{tmp_path / 'm'}", (4,), tell=said.append).title == "mnist, test"


def test_limit_reads_the_first_rows_only(tmp_path: Path) -> None:
    arrays = good()
    arrays["x"][4] = np.nan
    data = load_data(save(tmp_path / "d.npz", **arrays), (2, 3), limit=3)
    assert len(data) == 3


def test_the_training_split_is_never_the_test_split() -> None:
    assert training_split("digits") == training_split("digits:train") == "digits:train"
    assert training_split("mnist:data:train") == "mnist:data:train"
    assert training_split("some.npz") == "some.npz"
    for text in ("mnist:data", "cifar10:data:test", "digits:test"):
        source = text.removesuffix(":test")
        with pytest.raises(UsageError, match=f"is a test split.* Write {source}:train"):
            training_split(text)
    with pytest.raises(UsageError, match="DATA 'digits:tran' is none of these"):
        load_data(training_split("digits:tran"), (64,))


def test_without_a_shape_the_data_has_its_own(tmp_path: Path) -> None:
    assert load_data("digits", None).x.shape == (450, 1, 8, 8)  # pictures get a channel
    for shape in ((3,), (2, 4, 4), (1, 4, 4)):
        np.savez(tmp_path / "a.npz", x=np.zeros((5, *shape), np.float32), y=np.arange(5))
        assert load_data(str(tmp_path / "a.npz"), None).x.shape == (5, *shape)


def test_digits_splits() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    test = load_data("digits", (64,), classes=10)
    train = load_data("digits:train", (8, 8))
    assert len(test) == 450
    assert len(train) == 1797 - 450
    np.testing.assert_array_equal(test.x.numpy(), digits.data[-450:] / 16)
    np.testing.assert_array_equal(train.x.numpy(), digits.images[:-450] / 16)
    np.testing.assert_array_equal(test.y.numpy(), digits.target[-450:])


@pytest.mark.parametrize("inner", ["", "mnist"])
def test_idx_files_in_the_folder_or_in_its_subfolder(tmp_path: Path, inner: str) -> None:
    write_mnist(tmp_path / inner)
    data = load_data(f"mnist:{tmp_path}", (1, 2, 2), classes=10)
    expected = (np.arange(12, dtype=np.float32) * 20).reshape(3, 1, 2, 2) / np.float32(255)
    np.testing.assert_array_equal(data.x.numpy(), expected)
    assert data.y.tolist() == [7, 2, 1]


def test_idx_training_split(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.full((1, 1, 2), 255), 0x803))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.array([4]), 0x801))
    data = load_data(f"fashion-mnist:{tmp_path}:train", (2,))
    assert data.x.tolist() == [[1.0, 1.0]]
    assert data.y.tolist() == [4]


def x_of(array: Any) -> dict[str, Any]:
    return {**good(), "x": array}


def y_of(array: Any) -> dict[str, Any]:
    return {**good(), "y": array}


ROW3 = good()["x"].copy()
ROW3[3, 1, 1] = np.nan
BAD_ARRAYS = [
    (
        {"x": good()["x"]},
        "no array 'y'; the archive holds 'x'. numpy.savez(FILE, x=inputs, y=labels) writes both; "
        "certify --labels predicted needs no y",
    ),
    ({"images": good()["x"], "z": 1}, "no array 'x' and 'y'; the archive holds 'images', 'z'"),
    ({}, "no array 'x' and 'y'; the archive holds nothing"),
    (
        x_of(np.array([{}], dtype=object)),
        "array 'x' holds Python objects, which are never unpickled. Save numbers of one type",
    ),
    (
        y_of(np.array([{}], dtype=object)),
        "array 'y' holds Python objects, which are never unpickled. Save numbers of one type",
    ),
    (
        x_of(np.zeros((5, 2, 2))),
        "inputs have shape (2, 2), 4 elements; the model takes (2, 3), 6 elements",
    ),
    (x_of(ROW3), "array 'x' holds NaN or infinity, first in row 3"),
    (x_of(np.full((5, 2, 3), -np.inf)), "array 'x' holds NaN or infinity, first in row 0"),
    (
        x_of(np.zeros((5, 2, 3), dtype=np.uint8)),
        "array 'x' is of the integer type uint8, so its units are unclear. Save "
        "x.astype('float32') / 255 for pixels in [0, 1], or x.astype('float32') if the model "
        "takes the numbers as they are",
    ),
    (
        x_of(np.zeros((5, 2, 3), dtype=complex)),
        "array 'x' is of type complex128, not of a floating-point type",
    ),
    (
        x_of(np.zeros((5, 2, 3), dtype=bool)),
        "array 'x' is of type bool, not of a floating-point type",
    ),
    (x_of(np.zeros((4, 2, 3))), "4 inputs but 5 labels"),
    (x_of(np.float32(1)), "no inputs but 5 labels"),
    ({"x": np.zeros((0, 2, 3)), "y": np.zeros(0, int)}, "there is not a single input"),
    (y_of(np.zeros(5)), "labels are of type float64, not of an integer type"),
    (y_of(np.array(list("abcde"))), "labels are of type <U1, not of an integer type"),
    (y_of(np.zeros((5, 3), int)), "labels have shape (5, 3), not (N,)"),
    (
        y_of(np.array([0, 1, 3, 0, 0])),
        "label 3 of row 2 is out of range: the model's classes are 0 to 2",
    ),
    (
        y_of(np.array([0, -1, 2, 0, 0])),
        "label -1 of row 1 is out of range: the model's classes are 0 to 2",
    ),
    (
        y_of(np.array([2**63, 1, 2, 0, 0], dtype=np.uint64)),
        "label -9223372036854775808 of row 0 is out of range: the model's classes are 0 to 2",
    ),
]


@pytest.mark.parametrize(("arrays", "message"), BAD_ARRAYS)
def test_bad_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    name = save(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputDataError) as caught:
        load_data(name, (2, 3), classes=3)
    assert str(caught.value) == f"at {name}: {message}"


def test_without_classes_negative_labels_are_refused_still(tmp_path: Path) -> None:
    name = save(tmp_path / "bad.npz", **y_of(np.array([0, -2, 2, 0, 0])))
    with pytest.raises(InputDataError, match=r"label -2 of row 1 .* classes are 0 and above$"):
        load_data(name, (2, 3))


NOT_AN_ARCHIVE = (
    "not a .npz archive, or a truncated one. numpy.savez(FILE, x=inputs, y=labels) writes one"
)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello, world", b"\x80\x04N."])
def test_files_that_are_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(InputDataError) as caught:
        load_data(str(path), (2, 3))
    assert str(caught.value) == f"at {path}: {NOT_AN_ARCHIVE}"


def test_every_truncation_of_an_archive_is_refused(tmp_path: Path) -> None:
    whole = Path(save(tmp_path / "good.npz", **good())).read_bytes()
    path = tmp_path / "bad.npz"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputDataError):
            load_data(str(path), (2, 3))


def test_an_archive_with_a_flipped_byte(tmp_path: Path) -> None:
    whole = bytearray(Path(save(tmp_path / "good.npz", **good())).read_bytes())
    whole[200] ^= 0xFF  # within the data of x: zip's checksum must catch it
    path = tmp_path / "bad.npz"
    path.write_bytes(whole)
    with pytest.raises(InputDataError, match=r"array 'x' cannot be read: Bad CRC-32"):
        load_data(str(path), (2, 3))


def test_a_single_array_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with path.open("wb") as file:
        np.save(file, good()["x"])
    with pytest.raises(InputDataError, match=r"a single array, not a \.npz archive"):
        load_data(str(path), (2, 3))


def test_a_member_that_is_no_array(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", "text")
        file.writestr("y", "text")
    with pytest.raises(InputDataError) as caught:
        load_data(str(path), (2, 3))
    assert str(caught.value) == f"at {path}: member 'x' is not an array"


IMAGES = idx(np.zeros((3, 2, 2)), 0x803)
BAD_IDX = [
    (IMAGES[:10], "truncated: 10 bytes, the header alone has 16"),
    (IMAGES[:-1], "truncated: 27 bytes where the header announces 28"),
    (IMAGES + b"\0", "too long: 29 bytes where the header announces 28"),
    (
        idx(np.zeros((3, 2, 2)), 0x801),
        "not an idx file of the kind expected: magic number 0x00000801, not 0x00000803",
    ),
    (
        IMAGES[:4] + b"\xff" * 12,
        f"truncated: 16 bytes where the header announces {16 + (2**32 - 1) ** 3}",
    ),
]


@pytest.mark.parametrize(("images", "message"), BAD_IDX)
def test_bad_idx_files(tmp_path: Path, images: bytes, message: str) -> None:
    write_mnist(tmp_path, images=images)
    with pytest.raises(InputDataError) as caught:
        load_data(f"mnist:{tmp_path}", (2, 2))
    assert str(caught.value) == f"at {tmp_path / 't10k-images-idx3-ubyte'}: {message}"


def test_a_truncated_gzip_stream(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(InputDataError, match="the gzip stream is truncated or damaged"):
        load_data(f"mnist:{tmp_path}", (2, 2))


def test_images_and_labels_that_do_not_pair(tmp_path: Path) -> None:
    write_mnist(tmp_path, labels=idx(np.array([1, 2]), 0x801))
    with pytest.raises(InputDataError) as caught:
        load_data(f"mnist:{tmp_path}", (2, 2))
    assert str(caught.value) == f"at mnist:{tmp_path}: 3 inputs but 2 labels"


def test_missing_files_and_folders(tmp_path: Path) -> None:
    cases = {
        "nowhere.npz": "at nowhere.npz: no such file",
        "mnist:nowhere": "at nowhere: no such folder",
        f"mnist:{tmp_path}": f"at {tmp_path}: neither t10k-images-idx3-ubyte nor "
        "t10k-images-idx3-ubyte.gz is there, nor in its folder mnist",
    }
    for text, message in cases.items():
        with pytest.raises(InputDataError) as caught:
            load_data(text, (2, 2))
        assert str(caught.value) == message


def test_what_is_no_data_at_all() -> None:
    for text in ("cifar", "data.pkl", "", "digits:valid"):
        message = (
            f"DATA {text!r} is none of these: "
            "a .npz file, digits, mnist:FOLDER, fashion-mnist:FOLDER or cifar10:FOLDER"
        )
        with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
            load_data(text, (2, 2))
    with pytest.raises(UsageError, match=r"^DATA 'mnist:' names no folder; write mnist:FOLDER$"):
        load_data("mnist:", (2, 2))
    with pytest.raises(UsageError, match=r"^limit must be at least 1, not 0$"):
        load_data("digits", (64,), limit=0)
