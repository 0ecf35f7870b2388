"""Calibration data from wherever the user keeps it, one dict of arrays per run of the graph.

Accepted sources:

* an iterable, also one that can be read only once, of arrays, dicts (by input name) or tuples (in
  the order of the inputs), with or without labels behind; a callable that gives one; a
  CalibrationDataReader of onnxruntime;
* one array, or a dict of arrays, whose first axis counts samples;
* the path of a .npy file; of an .npz file with one array per input; or of a directory of such
  files, read in the order of their names;
* pictures and sounds: a folder of them, their paths, or what `qcomp.data` gives.

Numbers are floats or integers, all finite; they are converted to f32 and not scaled. Data streams:
at any time one run is in memory, and what the source itself holds.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from qcomp.calibration.items import by_name, is_array, names_of
from qcomp.calibration.npy import open_npy, open_npz
from qcomp.calibration.runs import Inputs, Run, Runs, Tell, run_count
from qcomp.data.files import ARRAYS, PICTURES, SOUNDS, kind_in, kind_of
from qcomp.data.images import DEFAULT_SAMPLES, Images, pictures_of
from qcomp.data.inputs import ForInputs
from qcomp.data.pictures import is_picture
from qcomp.data.sounds import sounds
from qcomp.errors import CalibrationError
from qcomp.preprocessing import Preprocessing

__all__ = ["Inputs", "Source", "expected_runs", "open_calibration", "resolved"]

Source = str | os.PathLike[str] | Iterable[Any] | Callable[[], Iterable[Any]] | ForInputs

_ACCEPTED = (
    "expected an iterable of arrays, dicts or tuples, one array, or the path of a .npy file, of an "
    ".npz file or of a directory of them, or of pictures or sounds"
)


@runtime_checkable
class Reader(Protocol):
    """A CalibrationDataReader, as quantizers of onnxruntime take it."""

    def get_next(self) -> Mapping[str, Any] | None:
        """The next feed by input name; None at the end."""
        ...


def resolved(
    source: Any, preprocessing: Preprocessing | None = None, samples: int | None = None
) -> Any:
    """A source with pictures and sounds opened by `qcomp.data`; others as they are.

    samples: so many at most; of files they are spread evenly.
    """
    how = preprocessing or Preprocessing()
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            kind = kind_in(path) if path.is_dir() else kind_of(path)
        except OSError as error:
            raise CalibrationError(f"{path}: can't be read: {error}") from error
        if kind == PICTURES:
            wanted = samples or (DEFAULT_SAMPLES if path.is_dir() else None)
            return pictures_of(source, how, samples=wanted)
        if kind == SOUNDS:
            return sounds(source, samples=samples)
    elif isinstance(source, list | tuple) and source:
        if all(map(is_picture, source)) or all(_is_path_of(item, PICTURES) for item in source):
            return pictures_of(source, how, samples=samples)
        if all(_is_path_of(item, SOUNDS) for item in source):
            return sounds(source, samples=samples)
    return source


def is_pictures(source: Any) -> bool:
    """Whether the samples are pictures that `qcomp.data` turns into inputs."""
    found = resolved(source)
    return isinstance(found, Images) and found.transform is None


def open_calibration(
    source: Source, inputs: Inputs, tell: Tell | None = None, samples: int | None = None
) -> Iterator[Run]:
    """The runs that `source` holds for a graph with these inputs, or CalibrationError.

    tell: is called with what of the data was left out, and why.
    samples: so many at most.
    """
    for _, run in open_items(source, inputs, tell, samples):
        yield run


def open_items(
    source: Source, inputs: Inputs, tell: Tell | None = None, samples: int | None = None
) -> Iterator[tuple[int, Run]]:
    """The same, each run with the number of the item or file that it is part of."""
    say = tell or _silently
    runs = Runs(inputs)
    made = _runs(resolved(source), inputs, runs, say)
    limit = None if samples is None else max(samples // runs.batch, 1)
    empty = True
    for run in itertools.islice(made, limit):
        empty = False
        yield runs.items, run
    if limit is None or empty:
        runs.end(say)
    if empty:
        raise CalibrationError(f"calibration data is empty; {_ACCEPTED} with at least one sample")


def _runs(source: Any, inputs: Inputs, runs: Runs, tell: Tell) -> Iterator[Run]:
    if isinstance(source, str | os.PathLike):
        yield from _from_path(Path(source), inputs, runs, tell)
    elif isinstance(source, ForInputs):
        for i, item in enumerate(source.for_inputs(inputs)):
            where = f"calibration item {i}"
            yield from runs.of(where, by_name(where, item, inputs, tell))
    elif isinstance(source, Mapping) or is_array(source):
        where = "calibration data"
        yield from runs.of(where, by_name(where, source, inputs, tell))
    elif isinstance(source, Reader):
        yield from _items(iter(source.get_next, None), inputs, runs, tell)
    elif isinstance(source, Iterable):
        yield from _items(source, inputs, runs, tell)
    elif callable(source):
        yield from _runs(source(), inputs, runs, tell)
    else:
        raise CalibrationError(f"calibration data is a {type(source).__name__}; {_ACCEPTED}")


def _items(items: Iterable[Any], inputs: Inputs, runs: Runs, tell: Tell) -> Iterator[Run]:
    for i, item in enumerate(items):
        if _is_path_of(item, ARRAYS):
            yield from _from_path(Path(item), inputs, runs, tell)
            continue
        where = f"calibration item {i}"
        yield from runs.of(where, by_name(where, item, inputs, tell))


def expected_runs(source: Any, inputs: Inputs, samples: int | None = None) -> int | None:
    """How many runs there will be if one item makes one run; None where the source does not say."""
    count = _expected_runs(source, inputs)
    if count is None or samples is None:
        return count
    return min(count, max(samples // Runs(inputs).batch, 1))


def _expected_runs(source: Any, inputs: Inputs) -> int | None:
    if isinstance(source, str | os.PathLike):
        files = _files(Path(source))
        return None if files is None else len(files)
    if isinstance(source, ForInputs):
        count = len(source) if isinstance(source, Sized) else 0
        return count // Runs(inputs).batch or None
    if is_array(source):
        return run_count(np.asarray(source).shape, next(iter(inputs.values()))) or None
    if Runs(inputs).batch > 1:
        return None  # items may be gathered
    return len(source) if isinstance(source, Sequence) else None


# ------------------------------------------------------------------------- files


def _is_path_of(item: object, suffixes: tuple[str, ...]) -> bool:
    return isinstance(item, str | os.PathLike) and kind_of(item) == suffixes


def _files(path: Path) -> list[Path] | None:
    """The data files of a directory by name; None if the path is not a directory."""
    try:
        if not path.is_dir():
            return None
        return sorted(p for p in path.iterdir() if p.suffix in ARRAYS and p.is_file())
    except OSError as error:
        raise CalibrationError(f"{path}: can't be read: {error}") from error


def _from_path(path: Path, inputs: Inputs, runs: Runs, tell: Tell) -> Iterator[Run]:
    files = _files(path)
    if files is not None:
        if not files:
            raise CalibrationError(f"{path}: no .npy or .npz file in it, no picture and no sound")
        for file in files:
            yield from _from_file(file, inputs, runs, tell)
    elif path.exists():
        yield from _from_file(path, inputs, runs, tell)
    else:
        raise CalibrationError(f"{path}: does not exist; {_ACCEPTED}")


def _from_file(path: Path, inputs: Inputs, runs: Runs, tell: Tell) -> Iterator[Run]:
    if path.suffix == ".npz":
        with open_npz(path, list(inputs), tell) as arrays:
            yield from runs.of(str(path), arrays)
    elif path.suffix != ".npy":
        raise CalibrationError(f"{path}: unknown kind of file; {_ACCEPTED}")
    elif len(inputs) > 1:
        raise CalibrationError(
            f"{path}: one array for {len(inputs)} inputs; expected an .npz file with "
            f"{names_of(inputs)}"
        )
    else:
        with open_npy(path) as array:
            yield from runs.of(str(path), {next(iter(inputs)): array})


def _silently(text: str) -> None:
    """Nobody is told."""
