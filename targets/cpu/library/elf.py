"""Read-only data as a relocatable ELF file, written without tools; and the names an object defines.

The System V gABI, chapters 4 and 5: https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html.
Little-endian, of both classes: ELF32 where pointers have 4 bytes, ELF64 where they have 8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from qcomp.errors import TargetError
from qcomp.targets.cpu.platform import Platform

# Code reaches the data by an offset as wide as a pointer, but in an executable that links the
# library, the program's own code and data stand on both sides of it, and those reach each other by
# 32 bits.
LARGEST_DATA = 1 << 30

MAGIC = b"\x7fELF"

_IDENT = struct.Struct("<4s3B9x")
_LITTLE_ENDIAN = 1

_RELOCATABLE, _VERSION = 1, 1
_PROGBITS, _SYMTAB, _STRTAB = 1, 2, 3
_ALLOC = 2
_LOCAL, _OBJECT, _HIDDEN = 0, 1, 2
_GLOBAL = 1
_UNDEFINED = 0


class _Symbol(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


@dataclass(frozen=True)
class _Class:
    """The records of one class of ELF; the header's come after its identification."""

    number: int  # in the identification
    word: int  # bytes of an address
    header: struct.Struct
    section: struct.Struct
    symbol: struct.Struct
    order: tuple[str, ...]  # of a symbol's fields

    @property
    def header_bytes(self) -> int:
        return _IDENT.size + self.header.size

    def packed(self, symbol: _Symbol) -> bytes:
        return self.symbol.pack(*(getattr(symbol, field) for field in self.order))

    def symbols(self, table: bytes) -> Iterator[_Symbol]:
        for values in self.symbol.iter_unpack(table):
            yield _Symbol(**dict(zip(self.order, values, strict=True)))


_ELF32 = _Class(
    1,
    4,
    struct.Struct("<HHIIIIIHHHHHH"),
    struct.Struct("<10I"),
    struct.Struct("<IIIBBH"),
    ("name", "value", "size", "info", "other", "section"),
)
_ELF64 = _Class(
    2,
    8,
    struct.Struct("<HHIQQQIHHHHHH"),
    struct.Struct("<IIQQQQIIQQ"),
    struct.Struct("<IBBHQQ"),
    ("name", "info", "other", "section", "value", "size"),
)
_CLASSES = {kind.number: kind for kind in (_ELF32, _ELF64)}
_BY_POINTER = {kind.word: kind for kind in (_ELF32, _ELF64)}


@dataclass(frozen=True)
class _Section:
    name: str
    type: int
    content: bytes
    flags: int = 0
    link: int = 0
    info: int = 0
    align: int = 1
    entry: int = 0


def expect_reachable(symbol: str, size: int) -> None:
    """TargetError where data is too large."""
    if size > LARGEST_DATA:
        raise TargetError(f"{symbol} has {size} bytes of constants; accepted: up to {LARGEST_DATA}")


def data_object(platform: Platform, symbol: str, content: bytes, align: int) -> bytes:
    """An object whose .rodata is `content`, under a global but hidden symbol.

    Hidden: objects linked with it find it, and it is no symbol of the library made of them.
    """
    kind = _BY_POINTER[platform.pointer_bytes]
    names = b"\0" + symbol.encode() + b"\0"
    first_global = 1
    data_index, strings_index = 1, 3
    data = _Symbol(1, _GLOBAL << 4 | _OBJECT, _HIDDEN, data_index, 0, len(content))
    return _file(
        platform,
        kind,
        [
            _Section(".rodata", _PROGBITS, content, flags=_ALLOC, align=align),
            _Section(
                ".symtab", _SYMTAB, bytes(kind.symbol.size) + kind.packed(data),
                link=strings_index, info=first_global, align=kind.word, entry=kind.symbol.size,
            ),
            _Section(".strtab", _STRTAB, names),
            _Section(".note.GNU-stack", _PROGBITS, b""),  # asks for no executable stack
        ],
    )  # fmt: skip


def _file(platform: Platform, kind: _Class, sections: list[_Section]) -> bytes:
    """Header, contents, section headers; section 0 is empty and the last one holds the names."""
    names, places = b"\0", []
    for name in (*(s.name for s in sections), ".shstrtab"):
        places.append(len(names))
        names += name.encode() + b"\0"
    size = kind.header_bytes
    parts, headers = [bytes(size)], [bytes(kind.section.size)]
    for s, name_at in zip([*sections, _Section("", _STRTAB, names)], places, strict=True):
        padding = -size % s.align
        size += padding
        headers.append(
            kind.section.pack(
                name_at, s.type, s.flags, 0, size, len(s.content), s.link, s.info, s.align, s.entry
            )
        )
        parts += [bytes(padding), s.content]
        size += len(s.content)
    padding = -size % kind.word
    parts[0] = _IDENT.pack(MAGIC, kind.number, _LITTLE_ENDIAN, _VERSION) + kind.header.pack(
        _RELOCATABLE, platform.machine, _VERSION, 0, 0, size + padding, platform.flags,
        kind.header_bytes, 0, 0, kind.section.size, len(headers), len(headers) - 1,
    )  # fmt: skip
    return b"".join([*parts, bytes(padding), *headers])


def defined_symbols(content: bytes) -> Iterator[str]:
    """The names of an object that other objects may refer to."""
    magic, number, *rest = _IDENT.unpack_from(content)
    if magic != MAGIC or number not in _CLASSES or rest != [_LITTLE_ENDIAN, _VERSION]:
        raise ValueError("not a little-endian ELF object")
    kind = _CLASSES[number]
    *_, headers_at, _, _, _, _, _, count, _ = kind.header.unpack_from(content, _IDENT.size)
    places = (headers_at + i * kind.section.size for i in range(count))
    sections = [kind.section.unpack_from(content, place) for place in places]
    for _, type, _, _, at, size, link, *_ in sections:
        if type == _SYMTAB:
            strings = sections[link][4]
            for symbol in kind.symbols(content[at : at + size]):
                if symbol.info >> 4 != _LOCAL and symbol.section != _UNDEFINED:
                    start = strings + symbol.name
                    yield content[start : content.index(b"\0", start)].decode()
