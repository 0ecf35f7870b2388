"""Labels as numbers of classes: from numbers, names of folders, and files that list them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qcomp.calibration.npy import DAMAGES
from qcomp.errors import CalibrationError


@dataclass(frozen=True)
class Classes:
    """What labels mean.

    names: of the classes, in the order of the network's outputs; empty where nobody said.
    offset: the output of class 0: 1 for networks whose first output is "background".
    """

    names: tuple[str, ...] = ()
    offset: int = 0

    @staticmethod
    def of(path: str | os.PathLike[str] | None, offset: int = 0) -> Classes:
        """A name a line, or before the first comma or tab of it."""
        if path is None:
            return Classes((), offset)
        lines = [line.strip() for line in text_of(Path(path)).splitlines() if line.strip()]
        return Classes(tuple(line.replace("\t", ",").split(",")[0] for line in lines), offset)

    def outputs(self, labels: Sequence[Any], count: int | None) -> list[int]:
        """The output of each label; `count` is how many outputs there are.

        CalibrationError for a label that is no class, or of which nothing says which one it is.
        """
        if all(_is_number(label) for label in labels):
            numbers = [int(label) for label in labels]
        else:
            numbers = self._named([str(label) for label in labels], count)
        outputs = [number + self.offset for number in numbers]
        if count is not None and outputs and not 0 <= min(outputs) <= max(outputs) < count:
            raise CalibrationError(
                f"labels {min(numbers)} to {max(numbers)} for {count} outputs, the first of which "
                f"is class {-self.offset}: expected others, or another label_offset"
            )
        return outputs

    def _named(self, labels: list[str], count: int | None) -> list[int]:
        names = self.names or tuple(sorted(set(labels)))
        if not self.names and count is not None and len(names) != count - self.offset:
            near = ": give label_offset=1" if len(names) == count - 1 else ""
            raise CalibrationError(
                f"{len(names)} classes ({', '.join(names[:3])}, ...) for {count} outputs{near}; "
                "expected one for each, or numbers as names, or a file of their names in the "
                "order of the outputs (classes=)"
            )
        place = {name: i for i, name in enumerate(names)}
        if unknown := [label for label in dict.fromkeys(labels) if label not in place]:
            raise CalibrationError(
                f"class {unknown[0]!r} is none of the {len(names)} names that were given "
                f"({', '.join(names[:3])}, ...)"
            )
        return [place[label] for label in labels]


def read_labels(path: str | os.PathLike[str]) -> tuple[list[str], list[Any]]:
    """(files, labels) of a list; no files where it has labels only.

    A .npy of whole numbers, or lines of `label`, `file label` or `file,label`.
    """
    file = Path(path)
    if file.suffix == ".npy":
        try:
            values = np.load(file, allow_pickle=False)
        except (OSError, *DAMAGES) as error:
            raise CalibrationError(f"{file}: can't be read: {error}") from error
        return [], flat_labels(values, str(file))
    rows = [line.strip() for line in text_of(file).splitlines() if line.strip()]
    parts = [row.replace(",", " ").replace("\t", " ").rsplit(maxsplit=1) for row in rows]
    lengths = {len(part) for part in parts}
    if lengths == {1}:
        return [], [part[0] for part in parts]
    if lengths != {2}:
        raise CalibrationError(f"{file}: expected lines of a label, or of a file and its label")
    return [part[0] for part in parts], [part[1] for part in parts]


def flat_labels(values: Any, where: str) -> list[Any]:
    """Whole numbers [N] or [N, 1], or a single 1 among zeros [N, classes], as a list."""
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] > 1 and np.isin(array, (0, 1)).all():
        array = array.argmax(axis=1)
    array = array.reshape(-1) if array.size == len(array) else array
    if array.ndim != 1 or array.dtype.kind not in "iufU":
        raise CalibrationError(f"{where}: {array.dtype} {array.shape} are no labels")
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise CalibrationError(f"{where}: labels are whole numbers, these are not")
    return list(array.tolist())


def text_of(file: Path) -> str:
    """A text file; CalibrationError where it is none."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{file}: can't be read as text: {error}") from error


def _is_number(label: Any) -> bool:
    if isinstance(label, str):
        return label.isascii() and label.isdigit()
    return isinstance(label, int | float | np.integer | np.floating) and float(label).is_integer()
