"""NAME.manifest.json: what a directory holds, under a checksum of its own.

A directory comes from anywhere: the file is read if it is a regular one of bounded size, and what
it says is compared with the hashes of the files and with what the library says of itself.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from qcomp.errors import ModelError
from qcomp.files import open_regular

VERSION = 2
SUFFIX = ".manifest.json"
MOST_BYTES = 1 << 24
_PART = 1 << 20  # bytes
_CHECKSUM = "checksum"


def manifest_text(fields: dict[str, Any]) -> str:
    """The file of these fields, with the version and the checksum of all."""
    sealed = {"version": VERSION} | fields
    return json.dumps({**sealed, _CHECKSUM: _checksum(sealed)}, indent=2, allow_nan=False) + "\n"


def manifest_of(directory: Path) -> tuple[Path, dict[str, Any]]:
    """The one manifest of a directory; ModelError where there is none, several, or a broken one."""
    found = sorted(directory.glob(f"*{SUFFIX}"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ModelError(f"{directory}: expected one NAME{SUFFIX}, found {names}")
    return found[0], read_manifest(found[0])


def read_manifest(path: Path) -> dict[str, Any]:
    """The fields of a file, as they were written; ModelError for anything else."""
    try:
        with open_regular(path) as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        manifest = json.loads(text)
    except (OSError, RecursionError, ValueError) as error:
        raise ModelError(f"{path} can't be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("version") != VERSION:
        raise ModelError(
            f"{path} is not a manifest of version {VERSION}; networks of other versions of qcomp "
            "are compiled again"
        )
    if manifest.pop(_CHECKSUM, None) != _checksum(manifest):
        raise ModelError(f"{path} is damaged: it was changed after it was written")
    return manifest


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def digest_of(file: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open_regular(file) as content:
        while part := content.read(_PART):
            digest.update(part)
    return digest.hexdigest()
