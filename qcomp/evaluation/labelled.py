"""Data with its labels, from wherever the user keeps both.

* a folder of classes: a folder for each, with its pictures or sounds below it;
* a folder, and a file that lists what is in it with labels (`file label` a line), or labels only;
* an .npz with an array `labels` (or `y`, `targets`) beside those of the inputs;
* a Python file that defines `data`, and a metric if it likes;
* in Python: whatever calibration takes, with labels beside it or in it, as `(x, label)`.
"""

from __future__ import annotations

import os
import runpy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qcomp.calibration.items import LABELS, are_labels, is_array
from qcomp.calibration.npy import DAMAGES, open_npz
from qcomp.data.files import ARRAYS, PICTURES, SOUNDS, found_in, kind_in, listed, spread
from qcomp.errors import CalibrationError
from qcomp.evaluation.labels import flat_labels, read_labels

Metric = Callable[[Any, Any], Any]


@dataclass(eq=False)
class Labelled:
    """What `Samples` takes, and in the same order a label and a name for each sample.

    labels: empty where there are none; of data that streams they are there when it was read.
    names: of files; empty where samples are counted only.
    """

    source: Any
    labels: list[Any] = field(default_factory=list)
    names: tuple[str, ...] = ()
    metric: Metric | None = None

    def name(self, place: int) -> str:
        """What a report calls a sample."""
        return self.names[place] if place < len(self.names) else f"sample {place}"


def labelled(
    data: Any,
    labels: Any,
    inputs: Sequence[str],
    samples: int | None = None,
) -> Labelled:
    """Data and its labels; `labels` None: those that the data has, if any.

    inputs: the names of the network's. samples: so many at most; of files they are spread evenly.
    """
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        if path.suffix == ".py":
            return _of_program(path, labels, inputs, samples)
        if path.is_dir() and kind_in(path) not in (ARRAYS, None):
            return _of_folder(path, labels, samples)
        if path.suffix == ".npz" and labels is None:
            return _of_npz(path, inputs)
    if labels is not None:
        return Labelled(data, _labels(labels))
    if is_array(data) or isinstance(data, Mapping | str | os.PathLike):
        return Labelled(data)
    if callable(data) and not isinstance(data, Iterable):
        data = data()
    if isinstance(data, Iterable) and not hasattr(data, "for_inputs"):
        found = Labelled(None)
        found.source = _without_labels(data, len(inputs), found.labels)
        return found
    return Labelled(data)


def _labels(labels: Any) -> list[Any]:
    if isinstance(labels, str | os.PathLike):
        return read_labels(labels)[1]
    if isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels):
        return list(labels)
    return flat_labels(labels, "labels")


# ----------------------------------------------------------------------- folders


def _of_folder(folder: Path, labels: Any, samples: int | None) -> Labelled:
    if labels is None:
        return _of_classes(folder, samples)
    files, values = read_labels(labels) if isinstance(labels, str | os.PathLike) else ([], labels)
    if files:
        found = [folder / name for name in files]
    else:
        found = _files(folder)
        if len(found) != len(values):
            raise CalibrationError(
                f"{folder}: {len(values)} labels for {len(found)} files; expected one for each, or "
                "lines of a file and its label"
            )
    pairs = spread(list(zip(found, values, strict=True)), samples)
    return _of_pairs(folder, pairs)


def _of_classes(folder: Path, samples: int | None) -> Labelled:
    """The first folder on the way to a file is its class; files beside the folders have none."""
    found = spread(_files(folder), samples)
    parts = [file.relative_to(folder).parts for file in found]
    if any(len(part) == 1 for part in parts):
        return Labelled(found, [], tuple("/".join(part) for part in parts))
    return _of_pairs(folder, [(f, part[0]) for f, part in zip(found, parts, strict=True)])


def _files(folder: Path) -> list[Path]:
    return found_in(folder, PICTURES) or found_in(folder, SOUNDS)


def _of_pairs(folder: Path, pairs: Sequence[tuple[Path, Any]]) -> Labelled:
    files = listed(file for file, _ in pairs)
    names = tuple(str(file.relative_to(folder)) for file in files)
    return Labelled(files, [label for _, label in pairs], names)


# ------------------------------------------------------------------------ arrays


def _of_npz(path: Path, inputs: Sequence[str]) -> Labelled:
    """An array that is no label, if it is the only one, is the only input, whatever its name is."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names = list(file.files)
            found = next((n for n in names if n.lower() in LABELS and n not in inputs), None)
            labels = [] if found is None else flat_labels(file[found], f"{path}, {found}")
    except (OSError, *DAMAGES) as error:
        raise CalibrationError(f"{path}: can't be read: {error}") from error
    others = [name for name in names if name != found]
    if len(inputs) == 1 and len(others) == 1 and others != list(inputs):
        return Labelled(lambda: _array_of(path, others[0]), labels)
    return Labelled(path, labels)


def _array_of(path: Path, name: str) -> Iterator[Any]:
    """The rows of an array in an .npz, one at a time."""
    with open_npz(path, [name]) as arrays:
        yield from arrays[name].parts(arrays[name].shape[0])


def _without_labels(items: Iterable[Any], inputs: int, labels: list[Any]) -> Iterator[Any]:
    """The items of a loader without their labels, which are kept."""
    for item in items:
        if isinstance(item, Mapping):
            names = [name for name in item if name in LABELS]
            if names:
                labels += _flat(item[names[0]])
            yield {name: value for name, value in item.items() if name not in names}
        elif isinstance(item, tuple | list) and len(item) == inputs + 1 and is_array(item[0]):
            labels += _flat(item[-1])
            yield tuple(item[:-1])
        else:
            yield item


def _flat(label: Any) -> list[Any]:
    if hasattr(label, "detach") and hasattr(label, "cpu"):
        label = label.detach().cpu()
    if is_array(label):
        return list(np.asarray(label).reshape(-1).tolist()) if are_labels(label) else [label]
    return list(label) if isinstance(label, list | tuple) else [label]


# ---------------------------------------------------------------------- programs


def _of_program(path: Path, labels: Any, inputs: Sequence[str], samples: int | None) -> Labelled:
    """A Python file of the user: `data`, and `metric(outputs, labels)` if it likes.

    `data` is what `evaluate` takes in Python, or a function that gives it.
    """
    if not path.is_file():
        raise CalibrationError(f"{path}: does not exist")
    program = runpy.run_path(str(path))
    if "data" not in program:
        raise CalibrationError(f"{path}: defines no `data`; expected samples, or a function")
    data = program["data"]
    found = labelled(data() if callable(data) else data, labels, inputs, samples)
    metric = program.get("metric")
    if metric is not None and not callable(metric):
        raise CalibrationError(f"{path}: `metric` is no function of outputs and labels")
    found.metric = metric
    return found
