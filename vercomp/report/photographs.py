"""Arrays as pictures: inputs that are images, and differences of two of them."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vercomp.report.markup import Markup, tag

LARGEST = 112
"""Pixels of a side, after which a picture is averaged down."""

SMALLEST = 4

BELOW = np.array([47.0, 111.0, 183.0])
ABOVE = np.array([214.0, 83.0, 32.0])
"""The colours of pixels that fell, and of those that rose."""


def picture_shape(*shapes: Sequence[int]) -> tuple[int, int, int] | None:
    """How an input is read as a picture: (channels, height, width), or None.

    Args:
        shapes: What one input's shape may be called: the network's first, then that of the data.
            (H, W), (1, H, W) and (3, H, W) are pictures, where no side is shorter than 4.
    """
    for shape in shapes:
        sizes = tuple(shape)
        if len(sizes) == 2:
            sizes = (1, *sizes)
        if len(sizes) == 3 and sizes[0] in (1, 3) and min(sizes[1:]) >= SMALLEST:
            return (sizes[0], sizes[1], sizes[2])
    return None


def gray_range(arrays: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """What is drawn black and white: 0 and 1 where all inputs lie between, else their range."""
    low = min((float(array.min()) for array in arrays), default=0.0)
    high = max((float(array.max()) for array in arrays), default=1.0)
    return (0.0, 1.0) if low >= 0.0 and high <= 1.0 else (low, high)


def photograph(
    values: NDArray[np.float64], shape: tuple[int, int, int], limits: tuple[float, float], alt: str
) -> Markup:
    """An input as a picture.

    Args:
        values: As many as the shape has.
        shape: (channels, height, width).
        limits: What is black, and what is white.
        alt: What the picture shows.
    """
    low, high = limits
    scaled = np.clip((values.reshape(shape) - low) / ((high - low) or 1.0), 0.0, 1.0)
    return _image(255.0 * np.repeat(scaled, 3 // shape[0], axis=0), alt)


def difference(values: NDArray[np.float64], shape: tuple[int, int, int], alt: str) -> Markup:
    """A difference of two inputs: white where nothing changed.

    One channel goes to blue where it fell and to orange where it rose; of three channels each goes
    from gray to black and to white. The largest change has the full colour.
    """
    pixels = values.reshape(shape)
    scaled = pixels / (np.abs(pixels).max() or 1.0)
    if shape[0] == 3:
        return _image(127.5 + 127.5 * scaled, alt)
    rises = np.maximum(scaled, 0.0)[0]
    falls = np.maximum(-scaled, 0.0)[0]
    white = 255.0 * np.ones_like(rises)
    channels = [
        white - (255.0 - up) * rises - (255.0 - down) * falls
        for up, down in zip(ABOVE, BELOW, strict=True)
    ]
    return _image(np.stack(channels), alt)


def _image(channels: NDArray[np.float64], alt: str) -> Markup:
    """Three channels of 0 to 255, (3, H, W), as an element that holds its own PNG."""
    small = _averaged(channels)
    pixels = np.rint(small).astype(np.uint8).transpose(1, 2, 0)
    source = f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"
    return tag("img", src=source, alt=alt, width=pixels.shape[1], height=pixels.shape[0])


def _averaged(channels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blocks of pixels as their means, so that no side is longer than ``LARGEST``."""
    _, height, width = channels.shape
    block = -(-max(height, width) // LARGEST)
    rows, columns = height // block, width // block
    if block == 1 or rows == 0 or columns == 0:
        return channels
    cut = channels[:, : rows * block, : columns * block]
    means: NDArray[np.float64] = cut.reshape(3, rows, block, columns, block).mean(axis=(2, 4))
    return means


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of red, green and blue bytes, (H, W, 3): the same bytes for the same pixels."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))
