"""Results of tasks on disk, one small JSON file each, so that an interrupted search goes on.

A file's name is the digest of all that its result depends on. It appears by one rename, so files
are whole or absent; one that can't be read is computed again.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from qcomp.errors import OutputError
from qcomp.precision.noise import Noise


@dataclass(frozen=True)
class Cache:
    """A directory, which is made when the first result is kept; None keeps nothing."""

    directory: Path | None

    def get(self, key: str, count: int) -> list[Noise] | None:
        """The result, which has `count` parts; None if it is not there."""
        if self.directory is None:
            return None
        try:
            rows = json.loads(self._file(key).read_text(encoding="utf-8"))
            found = [Noise(float(row["signal"]), float(row["noise"])) for row in rows]
        except (OSError, ValueError, TypeError, LookupError):
            return None
        finite = all(math.isfinite(n.signal) and math.isfinite(n.noise) for n in found)
        return found if finite and len(found) == count else None

    def put(self, key: str, result: list[Noise]) -> None:
        """OutputError where it can't be written."""
        if self.directory is None:
            return
        rows = [{"signal": n.signal, "noise": n.noise} for n in result]
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(dir=self.directory, prefix=".", suffix=".part")
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    json.dump(rows, file)
                os.replace(aside, self._file(key))
            except BaseException:
                os.unlink(aside)
                raise
        except OSError as error:
            raise OutputError(f"can't write {self.directory}: {error.strerror}") from error

    def _file(self, key: str) -> Path:
        assert self.directory is not None
        return self.directory / f"{key}.json"
