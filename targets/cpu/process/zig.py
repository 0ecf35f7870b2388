"""Zig, the compiler and linkers for every system that pip's `ziglang` has (`qcomp[cross]`)."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def zig(*words: str) -> list[str] | None:
    """The command with its first words; None where the package isn't installed."""
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent
    for name in ("zig", "zig.exe"):
        if (folder / name).is_file():
            return [str(folder / name), *words]
    return None
