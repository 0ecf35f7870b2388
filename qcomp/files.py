"""Files of the user: what may never end is not read, and what failed half-way does not stay."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from qcomp.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


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


@contextmanager
def staged(directory: Path, last: str) -> Iterator[Path]:
    """A temporary folder whose files move into `directory` at the end, or vanish; OutputError.

    A new directory appears whole, by one rename. Into one that exists, which may be a link or a
    mount point and so is where the files are staged, they move one by one, those that end in `last`
    at the end, while other writers wait.
    """
    directory = directory.absolute()
    try:
        with ExitStack() as cleanup:
            exists = directory.exists()
            for folder in reversed(directory.parents):
                if not folder.exists():
                    folder.mkdir(exist_ok=True)
                    cleanup.callback(_remove_empty, folder)
            where = directory if exists else directory.parent
            with tempfile.TemporaryDirectory(prefix=".qcomp-", dir=where) as aside:
                stage = Path(aside) / "files"
                stage.mkdir()
                yield stage
                if exists or not _renamed(stage, directory):
                    _move_files(stage, directory, last)
            cleanup.pop_all()
    except OSError as error:
        raise OutputError(f"can't write {directory}: {error.strerror or error}") from error


def _renamed(stage: Path, directory: Path) -> bool:
    """Rename unless another writer was first."""
    try:
        stage.rename(directory)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _move_files(stage: Path, directory: Path, last: str) -> None:
    with _locked(directory):
        for file in sorted(stage.iterdir(), key=lambda f: (f.name.endswith(last), f)):
            file.replace(directory / file.name)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """While other writers wait, where the system has locks of directories."""
    if fcntl is None:
        yield
        return
    lock = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # someone else has put a file there
        folder.rmdir()
