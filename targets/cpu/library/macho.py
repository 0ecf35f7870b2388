"""The names that a Mach-O object defines: mach-o/loader.h and mach-o/nlist.h, of 64 bits."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAGIC = bytes.fromhex("cffaedfe")

_HEADER_BYTES = 32
_COUNT_AT = 16  # of load commands
_LC_SYMTAB = 2
_SYMBOL = struct.Struct("<IBBHQ")  # nlist_64: name, type, section, description, value
_EXTERNAL, _DEFINED = 0x01, 0x0E  # N_EXT; the bits of N_TYPE, none of which an undefined one has


def defined_symbols(content: bytes) -> Iterator[str]:
    """As the linker sees them: C's names behind an underscore."""
    (commands,) = struct.unpack_from("<I", content, _COUNT_AT)
    place = _HEADER_BYTES
    for _ in range(commands):
        command, size = struct.unpack_from("<2I", content, place)
        if command == _LC_SYMTAB:
            at, count, strings, length = struct.unpack_from("<4I", content, place + 8)
            if strings + length > len(content):
                raise IndexError(strings)
            for n in range(count):
                name, type, *_ = _SYMBOL.unpack_from(content, at + n * _SYMBOL.size)
                if type & _EXTERNAL and type & _DEFINED:
                    start = strings + name
                    yield content[start : content.index(b"\0", start)].decode()
        place += size
