"""Sounds as samples, for networks that take waves: the only module that imports soundfile."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcomp.data.files import SOUNDS, found_in, listed, spread
from qcomp.data.inputs import Shapes, only_input
from qcomp.errors import CalibrationError
from qcomp.preprocessing import Preprocessing

F32 = NDArray[np.float32]

NEEDED = "sounds need soundfile: pip install 'qcomp[data]'"


@dataclass(frozen=True, eq=False)
class Sounds:
    """Files of sound, read one at a time as they are asked for.

    rate: samples per second that all must have; None: those of the first.
    transform: takes the wave [time] of -1..1 and the rate, and gives the network's input.
    """

    files: list[Path]
    rate: int | None = None
    transform: Callable[[F32, int], ArrayLike] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def preprocessing_for(self, inputs: Shapes) -> Preprocessing | None:
        """None: that record is of pictures."""
        return None

    def for_inputs(self, inputs: Shapes) -> Iterator[Mapping[str, F32]]:
        """A sample for each file: one channel, cut or filled with silence to the input's length."""
        name, shape = only_input(inputs, "sounds")
        rate = self.rate
        for file in self.files:
            wave, its_rate = read_sound(file)
            rate = rate or its_rate
            if its_rate != rate:
                raise CalibrationError(
                    f"{file}: {its_rate} samples per second, expected {rate}: resample it"
                )
            if self.transform is not None:
                yield {name: np.asarray(self.transform(wave, rate), np.float32)}
            else:
                yield {name: _filled(wave, shape, name)}


def sounds(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    rate: int | None = None,
    samples: int | None = None,
    transform: Callable[[F32, int], ArrayLike] | None = None,
) -> Sounds:
    """Sounds as calibration data, for networks whose input is a wave of -1..1.

    source: a folder, with all below it, or paths.
    rate: samples per second that each file must have; nothing is resampled.
    samples: so many of the files, evenly spread; None: all.
    transform: takes the wave [time] and the rate and gives the input, such as a spectrogram.

    >>> clips = qcomp.data.sounds("clips/", rate=16000, transform=spectrogram)
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        files = found_in(path, SOUNDS) if path.is_dir() else listed([path])
    else:
        files = listed(source)
    if not files:
        raise CalibrationError(f"{source}: no sound in it ({', '.join(SOUNDS)})")
    return Sounds(spread(files, samples), rate, transform)


def read_sound(file: Path) -> tuple[F32, int]:
    """The mean of the channels [time], -1..1, and the samples per second."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: libsndfile is missing
        raise CalibrationError(NEEDED) from error
    try:
        wave, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise CalibrationError(f"{file}: can't be read as a sound: {error}") from error
    return np.asarray(wave.mean(axis=1), np.float32), int(rate)


def _filled(wave: F32, shape: tuple[int, ...], name: str) -> Any:
    """Of the shape of one sample, where all but one of its extents are 1."""
    sample = shape[1:] if len(shape) > 1 else shape
    length = math.prod(sample)
    if max(sample, default=0) != length:
        raise CalibrationError(
            f"input {name}: shape {shape} is no wave; give qcomp.data.sounds a transform that "
            "makes what the network takes of waves, or give arrays"
        )
    filled = np.zeros(length, np.float32)
    filled[: min(length, len(wave))] = wave[:length]
    return filled.reshape(sample)
