"""What builds need to know of a compiled network."""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.runtime.interface import TensorInfo
from qcomp.targets.base import Memory


@dataclass(frozen=True)
class Package:
    """`libraries` are those of the system that programs are linked with."""

    name: str
    static: str
    shared: str | None
    libraries: tuple[str, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    memory: Memory

    @property
    def opens(self) -> bool:
        """Whether an arena is opened before the first run, as that of a device."""
        return self.memory.kept

    @property
    def link_flags(self) -> str:
        """A linker's, each behind a space."""
        return "".join(f" -l{library}" for library in self.libraries)
