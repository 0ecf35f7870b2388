"""The names that a COFF object defines: "PE Format", COFF File Header and COFF Symbol Table.

https://learn.microsoft.com/windows/win32/debug/pe-format
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

MACHINES = (bytes.fromhex("6486"), bytes.fromhex("64aa"))  # x64, ARM64

_SYMBOLS_AT = 8
_SYMBOL = struct.Struct("<8sIhHBB")  # name, value, section, type, storage class, more records
_SHORT_NAME = 8
_EXTERNAL, _UNDEFINED = 2, 0


def defined_symbols(content: bytes) -> Iterator[str]:
    """On these machines C's names as they are."""
    table, count = struct.unpack_from("<2I", content, _SYMBOLS_AT)
    strings = table + count * _SYMBOL.size
    more = 0
    for n in range(count):
        if more:  # what follows a record belongs to it
            more -= 1
            continue
        name, _, section, _, storage, more = _SYMBOL.unpack_from(content, table + n * _SYMBOL.size)
        if storage == _EXTERNAL and section != _UNDEFINED:
            yield _name(content, name, strings)


def _name(content: bytes, field: bytes, strings: int) -> str:
    """Eight bytes, or where a longer name stands in the table of strings."""
    zeros, offset = struct.unpack("<2I", field)
    if zeros:
        return field.rstrip(b"\0").decode()
    end = content.find(b"\0", strings + offset)
    if end < 0:
        raise IndexError(offset)
    return content[strings + offset : end].decode()
