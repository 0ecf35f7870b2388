"""Object code that was generated in an earlier run of the tests, or earlier in this one."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from llvmlite import binding as llvm

from qcomp.targets.cpu.library.codegen import object_code

_GENERATOR = f"{version('llvmlite')} {llvm.llvm_version_info}"


@dataclass(frozen=True)
class KeptObjects:
    """`object_code`, with its results in a directory under the hash of what they are made of."""

    directory: Path

    def __call__(self, text: str, triple: str) -> bytes:
        key = "\n".join((_GENERATOR, triple, text))
        path = self.directory / hashlib.sha256(key.encode()).hexdigest()
        try:
            return path.read_bytes()
        except FileNotFoundError:
            code = object_code(text, triple)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(code)
        unfinished.rename(path)
        return code

    def forget_oldest(self, most_bytes: int = 1 << 30) -> None:
        """Keep the directory below its limit; files that were read lately stay."""
        with os.scandir(self.directory) as entries:
            files = sorted((e.stat().st_atime, e.stat().st_size, e.path) for e in entries)
        excess = sum(size for _, size, _ in files) - most_bytes
        for _, size, path in files:
            if excess <= 0:
                break
            Path(path).unlink(missing_ok=True)  # another worker may have been here
            excess -= size
