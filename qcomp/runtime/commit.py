"""The files of an output directory, replaced in one step.

Its readers, and a power cut, find the old ones or the new ones. A directory that does not exist
appears by one rename. One that exists changes places with the new one
(qcomp/runtime/exchange.py), to which the user's own files in it were linked before. Where that
can't be, files are replaced one by one, the manifest last, and `load` tells a mixture by its
hashes: where the user has folders inside, where it is a mount point, another user's or the working
directory, and where the parent can't be written to or the system does not exchange.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from qcomp.errors import OutputError
from qcomp.runtime.exchange import exchange

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PREFIX, _FILES = ".qcomp-", "files"


@contextmanager
def staged(
    directory: Path, last: str, obsolete: Callable[[Path], set[str]] = lambda directory: set()
) -> Iterator[Path]:
    """A temporary folder whose files take the place of those in `directory`, or vanish.

    Files of other names stay, but for those of an earlier writer that `obsolete` names. `last` is
    how the name of the file ends that comes last where they are replaced one by one. OutputError
    where files can't be written.
    """
    directory = directory.absolute()
    try:
        with ExitStack() as cleanup:
            for folder in reversed(directory.parents):
                if not folder.exists():
                    folder.mkdir(exist_ok=True)
                    cleanup.callback(_remove_empty, folder)
            with _aside(_beside(directory)) as aside:
                stage = aside / _FILES
                stage.mkdir()
                yield stage
                _sync(stage)
                _commit(stage, directory, last, obsolete)
            cleanup.pop_all()
    except OSError as error:
        raise OutputError(f"can't write {directory}: {error.strerror or error}") from error


def _beside(directory: Path) -> Path:
    """A folder on the same file system, the parent if it may be."""
    real = directory.resolve()
    if real.exists() and (real.is_mount() or not os.access(real.parent, os.W_OK)):
        return real
    return real.parent


@contextmanager
def _aside(where: Path) -> Iterator[Path]:
    """A new folder there, locked while this writer lives; those of killed writers go."""
    for left in where.glob(f"{_PREFIX}*"):
        with suppress(OSError), _locked(left, wait=False) as ours:
            if ours and {f.name for f in left.iterdir()} <= {_FILES}:
                shutil.rmtree(left, ignore_errors=True)
    with ExitStack() as cleanup:
        aside = None
        while aside is None:
            aside = _locked_folder(where, cleanup)
        yield aside


def _locked_folder(where: Path, cleanup: ExitStack) -> Path | None:
    """None where another writer took it for one of a killed one, before it was locked."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=where))
    cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
    with suppress(FileNotFoundError):
        cleanup.enter_context(_locked(folder))
        if folder.exists():
            return folder
    return None


def _commit(stage: Path, directory: Path, last: str, obsolete: Callable[[Path], set[str]]) -> None:
    """While other writers wait."""
    while not _renamed(stage, directory):
        with _locked(directory) as lock:
            if lock is not None and not _is_at(lock, directory):
                continue  # another writer has put its own there
            gone = obsolete(directory) - {file.name for file in stage.iterdir()}
            if not _exchanged(stage, directory.resolve(), gone):
                _replace_one_by_one(stage, directory, last)
                for name in gone:
                    (directory / name).unlink(missing_ok=True)
            break
    _sync_folder(directory.resolve().parent)


def _renamed(stage: Path, directory: Path) -> bool:
    """Whether there was no directory, which this one is now."""
    if directory.exists():
        return False
    try:
        stage.rename(directory)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False  # another writer was first
        raise
    return True


def _exchanged(stage: Path, directory: Path, obsolete: set[str]) -> bool:
    """Whether the stage, with the user's own files, is the directory now."""
    old = directory.stat()
    if os.path.samestat(old, Path.cwd().stat()) or _is_anothers(old):
        return False
    new = {file.name for file in stage.iterdir()}
    kept = [f for f in directory.iterdir() if f.name not in new | obsolete]
    if any(f.is_dir() and not f.is_symlink() for f in kept):
        return False
    try:
        for file in kept:
            os.link(file, stage / file.name, follow_symlinks=False)
        if hasattr(os, "chown"):
            os.chown(stage, -1, old.st_gid)
        shutil.copystat(directory, stage)
        os.utime(stage)
        _sync_folder(stage)
        done = exchange(stage, directory)
    except OSError:
        done = False
    if not done:
        for file in kept:
            (stage / file.name).unlink(missing_ok=True)
    return done


def _is_anothers(folder: os.stat_result) -> bool:
    """Whether it belongs to another user."""
    return hasattr(os, "getuid") and folder.st_uid != os.getuid()


def _replace_one_by_one(stage: Path, directory: Path, last: str) -> None:
    with _aside(directory) as aside:
        for file in stage.iterdir():  # the stage may be on another file system
            shutil.move(file, aside / file.name)
        _sync(aside)
        for file in sorted(aside.iterdir(), key=lambda f: (f.name.endswith(last), f)):
            file.replace(directory / file.name)
        _sync_folder(directory)


def _sync(folder: Path) -> None:
    """Files and folder are on the disk."""
    for file in folder.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # folders are not opened there
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def _locked(folder: Path, wait: bool = True) -> Iterator[int | None]:
    """The folder, open, while other writers wait; None where it is another's, and `wait` is not
    asked for, or where the system or its file system has no locks of folders.
    """
    if fcntl is None:
        yield None
        return
    lock = os.open(folder, os.O_RDONLY)
    try:
        locked = True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            locked = False
        yield lock if locked else None
    finally:
        os.close(lock)


def _is_at(opened: int, folder: Path) -> bool:
    """Whether the open folder is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(opened), folder.stat())
    except FileNotFoundError:
        return False


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # someone else has put a file there
        folder.rmdir()
