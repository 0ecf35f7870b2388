"""Runs of generated code on several threads of this process, by the pool in c/qcomp_pool.c."""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from qcomp.errors import TargetError

POOL_FILES = ("qcomp_pool.h", "qcomp_pool.c")
_FLAGS = ("-std=c11", "-O2", "-shared", "-fPIC", "-pthread")
_COMPILERS = ("cc", "gcc", "clang")


def pool_sources() -> Mapping[str, bytes]:
    """The files of the pool by name."""
    folder = resources.files("qcomp.targets.cpu") / "c"
    return {name: (folder / name).read_bytes() for name in POOL_FILES}


class Sharing:
    """How the runs of one loaded library share their work; changed only while none is on."""

    def __init__(self, set_parallel_for: int) -> None:
        self._set = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(set_parallel_for)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._alone = Share(self, 1)
        self._threads: int | None = 1  # None: what another has registered
        self._runs = 0

    def register(self, function: int | None, user: int | None) -> None:
        """NAME_set_parallel_for, by addresses; not while a run is in progress."""
        self._set(function, user)
        self._threads = None

    def among(self, threads: int) -> Share:
        """Runs inside use `threads` threads; waits for runs that use another number."""
        if threads == 1:
            return self._alone
        if threads < 1:
            raise ValueError(f"{threads} threads; expected at least 1")
        return Share(self, threads)

    def begin(self, threads: int) -> None:
        with self._lock:
            if self._threads != threads:
                function, user = _pool(threads) if threads > 1 else (None, None)
                self._changed.wait_for(lambda: self._runs == 0 or self._threads == threads)
                if self._threads != threads:
                    self.register(function, user)
                    self._threads = threads
            self._runs += 1

    def end(self) -> None:
        with self._lock:
            self._runs -= 1
            if self._runs == 0:
                self._changed.notify_all()


@dataclass(frozen=True)
class Share:
    """The time of some runs; a generator would take longer than a small network."""

    sharing: Sharing
    threads: int

    def __enter__(self) -> None:
        self.sharing.begin(self.threads)

    def __exit__(self, *error: object) -> None:
        self.sharing.end()


@functools.cache
def sharing(set_parallel_for: int) -> Sharing:
    """Of the library whose function is at this address, however often it was opened."""
    return Sharing(set_parallel_for)


@functools.cache
def _pool(threads: int) -> tuple[int, int]:
    """qcomp_pool_run and a pool; both live as long as the process, whose idle threads sleep."""
    library = _library()
    library.qcomp_pool_create.restype = ctypes.c_void_p
    pool = library.qcomp_pool_create(ctypes.c_int32(threads))
    if pool is None:
        raise TargetError(f"the system refuses {threads} threads")
    run = ctypes.cast(library.qcomp_pool_run, ctypes.c_void_p).value
    assert run is not None
    return run, pool


@functools.cache
def _library() -> ctypes.CDLL:
    """The pool, compiled for this process."""
    compiler = _compiler()
    with tempfile.TemporaryDirectory(prefix="qcomp-") as folder:
        for name, content in pool_sources().items():
            (Path(folder) / name).write_bytes(content)
        command = [*compiler, *_FLAGS, "qcomp_pool.c", "-o", "qcomp_pool.so"]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode != 0:
            raise TargetError(f"{compiler[0]} can't compile the pool: {done.stderr.strip()}")
        try:
            return ctypes.CDLL(str(Path(folder) / "qcomp_pool.so"))
        except OSError as error:
            raise TargetError(
                f"more than one thread needs a folder for code, and {folder} is none ({error}); "
                "TMPDIR names another"
            ) from error


def _compiler() -> list[str]:
    """A C compiler and its options: $CC or a usual one."""
    for candidate in (os.environ.get("CC", ""), *_COMPILERS):
        words = shlex.split(candidate)
        if words and (path := shutil.which(words[0])):
            return [path, *words[1:]]
    names = ", ".join(_COMPILERS)
    raise TargetError(f"more than one thread needs a C compiler; found none of $CC, {names}")
