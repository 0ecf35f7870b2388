"""Files of the user: what may never end is not read, and what failed half-way does not stay."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import IO

from qcomp.errors import OutputError


def user_cache(part: str) -> Path | None:
    """Where a part of what can be made again is kept; None where the user has no home.

    In QCOMP_CACHE, or else in `qcomp` among the user's caches.
    """
    if ours := os.environ.get("QCOMP_CACHE"):
        return Path(ours) / part
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "qcomp" / part
    home = os.path.expanduser("~")
    return Path(home) / ".cache/qcomp" / part if os.path.isabs(home) else None


def open_regular(path: Path) -> IO[bytes]:
    """Open a file to be read; OSError for pipes and devices, which may block or have no end."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.open("rb")


def write_file(path: Path, content: bytes) -> None:
    """Write aside, then rename; write directly into a device (/dev/null). Raises OutputError."""
    aside = None
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        target = path.resolve()  # a link stays
        with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".part", delete=False) as file:
            aside = Path(file.name)
            file.write(content)
        aside.chmod(0o644)
        aside.replace(target)
        aside = None
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror or error}") from error
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)
