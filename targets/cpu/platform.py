"""What a library is linked for: the pointers and the object files of a kind of machine."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from qcomp.errors import TargetError


class ObjectFormat(enum.Enum):
    ELF = "ELF"
    MACH_O = "Mach-O"
    COFF = "COFF"


@dataclass(frozen=True)
class Platform:
    """LLVM's triple and what follows from it; little-endian.

    `machine` and `flags` are numbers in the header of an object: in ELF e_machine, and e_flags,
    which linkers compare.
    """

    triple: str
    pointer_bytes: int
    format: ObjectFormat
    machine: int
    flags: int


def expect_supported(platform: Platform) -> None:
    """Pointers have 4 or 8 bytes, and the data is written as ELF; else TargetError."""
    if platform.pointer_bytes not in (4, 8) or platform.format is not ObjectFormat.ELF:
        raise TargetError(
            f"{platform.triple} has pointers of {platform.pointer_bytes} bytes and "
            f"{platform.format.value} objects; accepted: 4 or 8 bytes and ELF"
        )
