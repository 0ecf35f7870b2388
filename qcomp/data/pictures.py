"""One picture as the input of a network: the only module that imports pillow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import CalibrationError
from qcomp.preprocessing import Preprocessing, Size

if TYPE_CHECKING:
    from PIL.Image import Image

F32 = NDArray[np.float32]

NEEDED = "pictures need pillow: pip install 'qcomp[data]'"


def is_picture(item: object) -> bool:
    """Whether it is an image of pillow, which is not imported for that."""
    return any(
        cls.__module__ == "PIL.Image" and cls.__name__ == "Image" for cls in type(item).__mro__
    )


def opened(item: str | os.PathLike[str] | Image) -> Image:
    """A picture from a file, as viewers show it, or one that is open already."""
    try:
        from PIL import Image as pillow
        from PIL import ImageOps
    except ImportError as error:
        raise CalibrationError(NEEDED) from error
    if is_picture(item):
        return item  # type: ignore[return-value]
    assert isinstance(item, str | os.PathLike)
    try:
        with pillow.open(Path(item)) as picture:
            upright: Image = ImageOps.exif_transpose(picture)
            upright.load()
            return upright
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise CalibrationError(f"{item}: can't be read as a picture: {error}") from error


def as_input(picture: Image, how: Preprocessing) -> F32:
    """[C, H, W] or [H, W, C] of a complete preprocessing, resized bilinearly with antialiasing."""
    assert how.is_complete, how
    pixels = pixels_of(picture, how).astype(np.float32)
    factors, offsets = (np.array(v, np.float32) for v in how.affine())
    values = pixels * factors + offsets
    return np.ascontiguousarray(values.transpose(2, 0, 1) if how.layout == "nchw" else values)


def pixels_of(picture: Image, how: Preprocessing) -> NDArray[np.uint8]:
    """[H, W, C] of bytes, after geometry and in the input's order of channels."""
    from PIL.Image import Resampling

    assert how.resize is not None
    assert isinstance(how.crop, tuple)
    picture = picture.convert("L" if how.channels == "gray" else "RGB")
    size = _resized(picture.size, how.resize)
    if size != picture.size:
        picture = picture.resize(size, Resampling.BILINEAR)
    height, width = how.crop
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    pixels: NDArray[Any] = np.asarray(picture.crop((left, top, left + width, top + height)))
    pixels = pixels.reshape(height, width, -1)
    return pixels[..., ::-1] if how.channels == "bgr" else pixels


def _resized(size: tuple[int, int], wanted: Size) -> tuple[int, int]:
    """(width, height) with the shorter side as wanted, or both."""
    if isinstance(wanted, tuple):
        return wanted[1], wanted[0]
    width, height = size
    if width <= height:
        return wanted, max(wanted, height * wanted // width)
    return max(wanted, width * wanted // height), wanted
