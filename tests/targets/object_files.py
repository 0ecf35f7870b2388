"""What objects of Mach-O and COFF say in their headers and symbol tables, read by hand."""

from __future__ import annotations

import struct
from typing import NamedTuple


class Described(NamedTuple):
    """The type of processor, and names: what is defined for others, and what is missing."""

    machine: int
    defined: set[str]
    undefined: set[str]


def _text(content: bytes, at: int) -> str:
    return content[at : content.index(b"\0", at)].decode()


def mach_o(content: bytes) -> Described:
    magic, machine, _, kind, commands = struct.unpack_from("<5I", content)
    assert (magic, kind) == (0xFEEDFACF, 1)
    at, defined, undefined = 32, set(), set()
    for _ in range(commands):
        command, size = struct.unpack_from("<2I", content, at)
        if command == 2:
            symbols, count, strings, _ = struct.unpack_from("<4I", content, at + 8)
            for n in range(count):
                name, type, section = struct.unpack_from("<IBB", content, symbols + 16 * n)
                if type & 1:
                    (defined if section else undefined).add(_text(content, strings + name))
        at += size
    return Described(machine, defined, undefined)


def coff(content: bytes) -> Described:
    """Without the constants that the objects of several compilers may share."""
    machine, _, _, symbols, count = struct.unpack_from("<HHIII", content)
    strings, n, defined, undefined = symbols + 18 * count, 0, set(), set()
    while n < count:
        at = symbols + 18 * n
        section, _, storage, more = struct.unpack_from("<hHBB", content, at + 12)
        short, offset = content[at : at + 8], struct.unpack_from("<I", content, at + 4)[0]
        name = _text(content, strings + offset) if short[:4] == bytes(4) else short.rstrip(b"\0")
        text = name if isinstance(name, str) else name.decode()
        if storage == 2 and not text.startswith(("__xmm@", "__ymm@", "__real@")):
            (defined if section else undefined).add(text)
        n += 1 + more
    return Described(machine, defined, undefined)
