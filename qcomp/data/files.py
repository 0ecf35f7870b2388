"""Which files of a folder are pictures, sounds or arrays; by their names only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from qcomp.errors import CalibrationError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
SOUNDS = (".wav", ".flac", ".ogg", ".aiff", ".aif")
ARRAYS = (".npy", ".npz")

Item = TypeVar("Item")


def kind_of(path: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """The suffixes of the kind that a file's name says it is; None for another."""
    suffix = Path(path).suffix.lower()
    return next((kind for kind in (PICTURES, SOUNDS, ARRAYS) if suffix in kind), None)


def found_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """All files below a folder with such names, in the order of their paths; hidden ones aside."""
    found: list[Path] = []
    try:
        for where, folders, names in os.walk(folder, onerror=_raise, followlinks=False):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            found += [
                Path(where) / name
                for name in sorted(names)
                if Path(name).suffix.lower() in suffixes and not name.startswith(".")
            ]
    except OSError as error:
        raise CalibrationError(f"{folder}: can't be read: {error}") from error
    return sorted(found)


def kind_in(folder: Path) -> tuple[str, ...] | None:
    """The kind of a folder's files: arrays directly in it, or pictures or sounds below it."""
    try:
        if any(path.suffix.lower() in ARRAYS for path in folder.iterdir()):
            return ARRAYS
    except OSError as error:
        raise CalibrationError(f"{folder}: can't be read: {error}") from error
    pictures, sounds = found_in(folder, PICTURES), found_in(folder, SOUNDS)
    if pictures and sounds:
        raise CalibrationError(
            f"{folder}: {len(pictures)} pictures and {len(sounds)} sounds; expected one kind"
        )
    return PICTURES if pictures else SOUNDS if sounds else None


def spread(items: Sequence[Item], count: int | None) -> list[Item]:
    """`count` of the items, evenly spread over them; all where there are no more."""
    if count is None or count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def listed(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Paths; CalibrationError for one that is not there."""
    found = [Path(path) for path in paths]
    if missing := [str(path) for path in found if not path.is_file()]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CalibrationError(f"{missing[0]}{more}: no such file")
    return found


def _raise(error: OSError) -> None:
    raise error
