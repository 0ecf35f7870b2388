"""Small pictures of inputs as PNG (W3C, Portable Network Graphics, 2003), without a library."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.tensor import Array

SIDE = 96  # pixels, at most
_LEAST = 4  # of an extent, else it is no picture
_COLOURS = {1: 0, 3: 2}  # PNG's colour types


def picture(value: Array, layout: str | None, *, bgr: bool = False) -> str | None:
    """A data URL of an input [1, C, H, W] or [1, H, W, C] of one or three channels; else None.

    layout: "nchw" or "nhwc"; None: the one that the shape has. Its least value is black.
    """
    if value.ndim != 4 or value.shape[0] != 1:
        return None
    image = value[0]
    first = image.shape[0] in _COLOURS and (layout or "nchw") == "nchw"
    if first:
        image = image.transpose(1, 2, 0)
    if image.shape[2] not in _COLOURS or min(image.shape[:2]) < _LEAST:
        return None
    small = _smaller(np.nan_to_num(image.astype(np.float64)))[..., :: -1 if bgr else 1]
    low, high = float(small.min()), float(small.max())
    pixels = np.rint((small - low) * (255.0 / (high - low or 1.0))).astype(np.uint8)
    return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"


def _smaller(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """By means of squares."""
    step = -(-max(image.shape[:2]) // SIDE)
    height, width = (max(extent // step, 1) for extent in image.shape[:2])
    cut = image[: height * step, : width * step]
    rows = cut.reshape(height, -1, width, cut.shape[1] // width, image.shape[2])
    return np.asarray(rows.mean(axis=(1, 3)))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Of [height, width, 1 or 3]."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    rows = np.zeros((height, 1 + width * channels), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    parts: Sequence[tuple[bytes, bytes]] = (
        (b"IHDR", header),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))
