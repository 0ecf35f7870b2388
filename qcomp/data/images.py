"""Pictures as samples: a folder, a list of paths, of pillow's images, or a data set of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcomp.data.files import PICTURES, found_in, listed, spread
from qcomp.data.inputs import Shapes, only_input
from qcomp.data.pictures import as_input, is_picture, opened
from qcomp.errors import CalibrationError
from qcomp.preprocessing import Preprocessing, Size

DEFAULT_SAMPLES = 128
"""Pictures of a folder that calibration looks at unless told otherwise, evenly spread over it."""

Transform = Callable[[Any], ArrayLike]


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures, opened one at a time as they are asked for.

    items: paths, or pillow's images; a sequence, or something that gives an iterator each time.
    preprocessing: how they become inputs; what it leaves open follows from the input's shape.
    transform: takes a picture of pillow and gives the array instead.
    others: those that were not chosen.
    """

    items: Iterable[Any]
    preprocessing: Preprocessing
    transform: Transform | None = None
    others: Sequence[Any] = ()

    def __len__(self) -> int:
        """How many there are; 0 where the source does not say."""
        return len(self.items) if isinstance(self.items, Sized) else 0

    def preprocessing_for(self, inputs: Shapes) -> Preprocessing | None:
        """The record that recipes keep; None where a function does it."""
        if self.transform is not None:
            return None
        name, shape = only_input(inputs, "pictures")
        return self.preprocessing.fitted(shape, name)

    def for_inputs(self, inputs: Shapes) -> Iterator[Mapping[str, NDArray[np.float32]]]:
        """A sample for each picture, without the axis of the batch."""
        name, _ = only_input(inputs, "pictures")
        how = self.preprocessing_for(inputs)
        for item in self.items:
            picture = opened(item)
            if how is not None:
                yield {name: as_input(picture, how)}
            elif self.transform is not None:
                yield {name: np.asarray(self.transform(picture), np.float32)}


def images(
    source: str | os.PathLike[str] | Iterable[Any],
    *,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    resize: Size | None = None,
    crop: Size | None = None,
    channels: str | None = None,
    layout: str | None = None,
    white: float = 1.0,
    samples: int | None = None,
    column: str | None = None,
    transform: Transform | None = None,
) -> Images:
    """Pictures as calibration data, or to be evaluated on.

    source: a folder, with all below it; a picture's path; a list of paths or of pillow's images;
        or a data set whose rows have a picture in `column` (by default "image").
    mean, std, resize, crop, channels, layout, white: see `Preprocessing`.
    samples: so many, evenly spread; None: all.
    transform: takes a picture of pillow and gives its array, instead of all that.

    CalibrationError where there is no picture.

    >>> photos = qcomp.data.images("photos/", mean=0.5, std=0.5, samples=100)
    """
    how = Preprocessing(
        resize=resize,
        crop=crop,
        channels=channels,
        layout=layout,
        white=white,
        mean=_tuple(mean),
        std=_tuple(std),
    )
    return pictures_of(source, how, samples=samples, column=column, transform=transform)


def pictures_of(
    source: Any,
    how: Preprocessing,
    *,
    samples: int | None = None,
    column: str | None = None,
    transform: Transform | None = None,
) -> Images:
    """As `images`, with the record already made."""
    if samples is not None and samples < 1:
        raise CalibrationError(f"samples={samples}: expected 1 or more")
    items = _items(source, column)
    if not isinstance(items, Sequence):
        if samples is not None:
            items = spread(list(items), samples)
        return Images(items, how, transform)
    places = spread(range(len(items)), samples)
    others = sorted(set(range(len(items))) - set(places))
    return Images([items[i] for i in places], how, transform, [items[i] for i in others])


def _items(source: Any, column: str | None) -> Iterable[Any]:
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.is_dir():
            found = found_in(path, PICTURES)
            if not found:
                raise CalibrationError(f"{path}: no picture in it ({', '.join(PICTURES)})")
            return found
        return listed([path])
    if isinstance(source, list | tuple):
        if all(isinstance(item, str | os.PathLike) for item in source):
            return listed(source)
        if all(map(is_picture, source)):
            return list(source)
    return Column(source, column or "image")


@dataclass(frozen=True, eq=False)
class Column:
    """The pictures of a data set's rows, whatever else these have."""

    rows: Iterable[Any]
    name: str

    def __iter__(self) -> Iterator[Any]:
        for place, row in enumerate(self.rows):
            item = row
            if isinstance(row, Mapping):
                if self.name not in row:
                    raise CalibrationError(
                        f"row {place}: no column {self.name!r} among {', '.join(map(str, row))}"
                    )
                item = row[self.name]
            elif isinstance(row, tuple | list) and row:
                item = row[0]
            if not (is_picture(item) or isinstance(item, str | os.PathLike)):
                raise CalibrationError(
                    f"row {place}: a {type(item).__name__}, expected a picture of pillow or a path"
                )
            yield item


def _tuple(value: float | Sequence[float]) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float) else tuple(value)
