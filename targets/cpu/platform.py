"""What a library is linked for: the pointers and the object files of a kind of machine."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from qcomp.errors import TargetError


class ObjectFormat(enum.Enum):
    ELF = "ELF"
    MACH_O = "Mach-O"
    COFF = "COFF"
    WASM = "WebAssembly"


@dataclass(frozen=True)
class Platform:
    """LLVM's triple and what follows from it; little-endian.

    `machine` and `flags` are numbers in the header of an object: in ELF e_machine, and e_flags,
    which linkers compare; elsewhere the type of processor, 0 where the format has none.
    """

    triple: str
    pointer_bytes: int
    format: ObjectFormat
    machine: int
    flags: int


def expect_supported(platform: Platform) -> None:
    """Pointers have 4 or 8 bytes, else TargetError."""
    if platform.pointer_bytes not in (4, 8):
        raise TargetError(
            f"{platform.triple} has pointers of {platform.pointer_bytes} bytes; accepted: 4 or 8"
        )
