"""Object code that was generated before, by this process or another: a directory of files.

A file is named by a digest of all that its code depends on, and begins with a digest of that and of
the code itself: what is damaged, or was put there under another name, is generated anew. As code
from the directory is run, it must be one that only its owner, who is the user, can write to.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qcomp.targets.cpu.library.codegen import generator, object_code

MOST_BYTES = 512 << 20
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class KeptObjects:
    """`object_code`, which looks into a directory first; one that can't be used keeps nothing."""

    directory: Path
    most_bytes: int = MOST_BYTES

    def __call__(self, text: str, triple: str) -> bytes:
        key = hashlib.sha256("\n".join((generator(triple), triple, text)).encode()).digest()
        path = self.directory / f"{key.hex()}.o"
        code = self._read(path, key)
        if code is None:
            code = object_code(text, triple)
            with suppress(OSError):  # a full or read-only disk keeps nothing
                self._write(path, _checksum(key, code) + code)
        return code

    def _read(self, path: Path, key: bytes) -> bytes | None:
        """The code of a file that is whole, which is noted as used."""
        try:
            if not self._is_ours():
                return None
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        checksum, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        return code if checksum == _checksum(key, code) else None

    def _write(self, path: Path, content: bytes) -> None:
        """Aside, then by a rename, so that other processes see whole files."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._is_ours():
            return
        with tempfile.NamedTemporaryFile(dir=self.directory, suffix=".part", delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)
        if path.name.startswith("0"):  # of sixteen files one, as it takes a look at all
            self.forget_oldest()

    def _is_ours(self) -> bool:
        """Whether nobody else can write here; OSError where there is no directory."""
        found = self.directory.stat()
        if not hasattr(os, "geteuid"):  # Windows: what a user's own folders are is the system's
            return True
        others = stat.S_IWGRP | stat.S_IWOTH
        return found.st_uid == os.geteuid() and not found.st_mode & others

    def forget_oldest(self) -> None:
        """Stay below `most_bytes`; files that were used lately stay."""
        with os.scandir(self.directory) as entries:
            files = sorted((e.stat().st_mtime, e.stat().st_size, e.path) for e in entries)
        excess = sum(size for _, size, _ in files) - self.most_bytes
        for _, size, path in files:
            if excess <= 0:
                break
            Path(path).unlink(missing_ok=True)  # another process may have been here
            excess -= size


def _checksum(key: bytes, code: bytes) -> bytes:
    return hashlib.sha256(key + code).digest()
