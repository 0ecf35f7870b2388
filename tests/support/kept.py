"""What the tests generate is kept where compilations of this run keep their code."""

from __future__ import annotations

from pathlib import Path

from qcomp.files import user_cache
from qcomp.targets.cpu.library.kept import KeptObjects


def kept_directory() -> Path:
    """That of `compile`, of which the shared conftest says where it is."""
    directory = user_cache("objects")
    assert directory is not None
    return directory


def kept_objects() -> KeptObjects:
    return KeptObjects(kept_directory())
