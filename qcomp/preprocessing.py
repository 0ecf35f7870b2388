"""How a picture becomes the input of a network, in one record that recipes keep.

    geometry    the shorter side is resized, and the middle is cut out
    values      (pixel / 255 * white - mean) / std, for each channel of the input
    order       channels rgb, bgr or gray, in layout NCHW or NHWC

So a pixel of 0..255 has a factor and an offset for each channel, which is what a library that takes
a camera's bytes needs to know.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcomp.errors import CalibrationError

CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}
LAYOUTS = ("nchw", "nhwc")
BYTE = 255.0

Size = int | tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From pixels of 0..255 to the values of an image input.

    resize: the shorter side in pixels, or (height, width); None: as the input asks for.
    crop: the middle, (height, width) or a square's side; None: what the input holds.
    channels: "rgb", "bgr" or "gray"; None: rgb, or gray where the input has one channel.
    layout: "nchw" or "nhwc"; None: the one that the input's shape has.
    white: what a pixel of 255 is before `mean` and `std`: 1, or 255 for networks of bytes.
    mean, std: one number for each channel in the input's order, or one for all.

    CalibrationError for values that mean nothing.
    """

    resize: Size | None = None
    crop: Size | None = None
    channels: str | None = None
    layout: str | None = None
    white: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            values = (value,) if isinstance(value, int | float) else tuple(value)
            object.__setattr__(self, name, tuple(float(v) for v in values))
        _check_choice("channels", self.channels, tuple(CHANNELS))
        _check_choice("layout", self.layout, LAYOUTS)
        for name in ("resize", "crop"):
            _check_size(name, getattr(self, name))
        if not (math.isfinite(self.white) and self.white > 0.0):
            raise CalibrationError(f"white={self.white}: expected what 255 becomes, such as 1")
        if not all(map(math.isfinite, self.mean)):
            raise CalibrationError(f"mean={self.mean}: expected finite numbers")
        if not all(math.isfinite(s) and s > 0.0 for s in self.std):
            raise CalibrationError(f"std={self.std}: expected numbers above 0")
        for name in ("mean", "std"):
            self._check_count(name, len(getattr(self, name)))

    def _check_count(self, name: str, count: int) -> None:
        wanted = 3 if self.channels is None else CHANNELS[self.channels]
        if count not in (1, wanted):
            raise CalibrationError(f"{name}: {count} numbers, expected 1 or {wanted}")

    @property
    def is_complete(self) -> bool:
        """Whether `fitted` has decided everything."""
        decided = (self.resize, self.crop, self.channels, self.layout)
        return all(value is not None for value in decided)

    def fitted(self, shape: Sequence[int], name: str = "input") -> Preprocessing:
        """With everything decided, for an input of this shape; CalibrationError if none fits."""
        layout = self.layout or _layout(shape, name)
        channels, height, width = _extents(shape, layout, name)
        order = self.channels or {1: "gray", 3: "rgb"}.get(channels)
        if order is None or CHANNELS[order] != channels:
            raise CalibrationError(
                f"input {name}: {channels} channels in layout {layout} of {tuple(shape)}; expected "
                f"{f'{CHANNELS[order]} for {order}' if order else '1 or 3'}: give the layout, or "
                "arrays"
            )
        crop = (height, width) if self.crop is None else _both(self.crop)
        if crop != (height, width):
            raise CalibrationError(
                f"crop={self.crop}: input {name} holds {height} x {width} pixels"
            )
        square = min(height, width) if height == width else (height, width)
        resize = self.resize or square
        _check_covers(resize, crop)
        return dataclasses.replace(self, resize=resize, crop=crop, channels=order, layout=layout)

    def affine(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(factors, offsets) for each channel of the input: value = factor * pixel + offset."""
        count = CHANNELS[self.channels or "rgb"]
        mean, std = (v * count if len(v) == 1 else v for v in (self.mean, self.std))
        factors = tuple(self.white / BYTE / s for s in std)
        return factors, tuple(-m / s for m, s in zip(mean, std, strict=True))

    def __str__(self) -> str:
        """In one line, as a note tells it."""
        size = " x ".join(map(str, _both(self.crop))) if self.crop else "the input's size"
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        return f"{self.channels or 'rgb'}, {size}, white {self.white:g}, mean {mean}, std {std}"


def plain(preprocessing: Preprocessing | None) -> dict[str, Any] | None:
    """As YAML and JSON have it: only what was decided."""
    if preprocessing is None:
        return None
    fields = dataclasses.asdict(preprocessing)
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in fields.items()
        if value is not None
    }


def read(record: object) -> Preprocessing | None:
    """What `plain` gave; CalibrationError for anything else."""
    if record is None or isinstance(record, Preprocessing):
        return record
    names = [field.name for field in dataclasses.fields(Preprocessing)]
    if not isinstance(record, Mapping) or not set(record) <= set(names):
        raise CalibrationError(f"preprocessing: expected some of {', '.join(names)}, got {record}")
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in record.items()}
    try:
        return Preprocessing(**values)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"preprocessing: {error}") from error


def _layout(shape: Sequence[int], name: str) -> str:
    """By where 1 or 3 channels are."""
    if len(shape) == 4:
        first, last = shape[1] in (1, 3), shape[3] in (1, 3)
        if first != last:
            return LAYOUTS[0] if first else LAYOUTS[1]
        if first:
            raise CalibrationError(f"input {name}: {tuple(shape)} may be NCHW or NHWC; say which")
    raise CalibrationError(
        f"input {name}: shape {tuple(shape)} is no image of 1 or 3 channels; give arrays"
    )


def _extents(shape: Sequence[int], layout: str, name: str) -> tuple[int, int, int]:
    """Channels, height and width."""
    if len(shape) != 4:
        raise CalibrationError(f"input {name}: shape {tuple(shape)} is no image; give arrays")
    _, a, b, c = shape
    return (a, b, c) if layout == "nchw" else (c, a, b)


def _both(size: Size) -> tuple[int, int]:
    """(height, width)."""
    return (size, size) if isinstance(size, int) else size


def _check_covers(resize: Size, crop: tuple[int, int]) -> None:
    smallest = _both(resize)
    if smallest[0] < crop[0] or smallest[1] < crop[1]:
        raise CalibrationError(
            f"resize={resize} is smaller than the {crop[0]} x {crop[1]} pixels to cut out"
        )


def _check_size(name: str, size: object) -> None:
    sides = size if isinstance(size, tuple) and len(size) == 2 else (size,)
    if size is not None and not all(
        isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides
    ):
        raise CalibrationError(f"{name}={size!r}: expected pixels, or (height, width)")


def _check_choice(name: str, value: object, accepted: tuple[str, ...]) -> None:
    if value is not None and value not in accepted:
        raise CalibrationError(f"{name}={value!r}: expected {' or '.join(accepted)}")
