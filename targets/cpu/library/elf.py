"""Read-only data as a relocatable ELF file, written without tools; and the names an object defines.

The System V gABI, chapters 4 and 5: https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html.
Little-endian ELF64 only, which is what both CPU targets are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from qcomp.errors import TargetError

# Code reaches the data by an offset of 64 bits, but in an executable that links the library, the
# program's own code and data stand on both sides of it, and those reach each other by 32 bits.
LARGEST_DATA = 1 << 30

_MACHINES = {"x86_64": 62, "aarch64": 183}
_IDENT = b"\x7fELF\x02\x01\x01" + bytes(9)  # 64-bit, little-endian, version 1, System V
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")

_RELOCATABLE, _VERSION = 1, 1
_PROGBITS, _SYMTAB, _STRTAB = 1, 2, 3
_ALLOC = 2
_LOCAL, _OBJECT, _HIDDEN = 0, 1, 2
_GLOBAL = 1
_UNDEFINED = 0


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


def data_object(triple: str, symbol: str, content: bytes, align: int) -> bytes:
    """An object whose .rodata is `content`, under a global but hidden symbol.

    Hidden: objects linked with it find it, and it is no symbol of the library made of them.
    """
    if len(content) > LARGEST_DATA:
        raise TargetError(
            f"{symbol} has {len(content)} bytes of constants; accepted: up to {LARGEST_DATA}"
        )
    architecture = triple.split("-")[0]
    if architecture not in _MACHINES:
        raise TargetError(
            f"no ELF machine is known for {triple}; known: {', '.join(sorted(_MACHINES))}"
        )
    names = b"\0" + symbol.encode() + b"\0"
    first_global = 1
    data_index, strings_index = 1, 3
    symbols = bytes(_SYMBOL.size) + _SYMBOL.pack(
        1, _GLOBAL << 4 | _OBJECT, _HIDDEN, data_index, 0, len(content)
    )
    return _file(
        _MACHINES[architecture],
        [
            _Section(".rodata", _PROGBITS, content, flags=_ALLOC, align=align),
            _Section(
                ".symtab", _SYMTAB, symbols,
                link=strings_index, info=first_global, align=8, entry=_SYMBOL.size,
            ),
            _Section(".strtab", _STRTAB, names),
            _Section(".note.GNU-stack", _PROGBITS, b""),  # asks for no executable stack
        ],
    )  # fmt: skip


def _file(machine: int, sections: list[_Section]) -> bytes:
    """Header, contents, section headers; section 0 is empty and the last one holds the names."""
    names, places = b"\0", []
    for name in (*(s.name for s in sections), ".shstrtab"):
        places.append(len(names))
        names += name.encode() + b"\0"
    parts, headers, size = [bytes(_HEADER.size)], [bytes(_SECTION.size)], _HEADER.size
    for s, name_at in zip([*sections, _Section("", _STRTAB, names)], places, strict=True):
        padding = -size % s.align
        size += padding
        headers.append(
            _SECTION.pack(
                name_at, s.type, s.flags, 0, size, len(s.content), s.link, s.info, s.align, s.entry
            )
        )
        parts += [bytes(padding), s.content]
        size += len(s.content)
    padding = -size % 8
    parts[0] = _HEADER.pack(
        _IDENT, _RELOCATABLE, machine, _VERSION, 0, 0, size + padding, 0,
        _HEADER.size, 0, 0, _SECTION.size, len(headers), len(headers) - 1,
    )  # fmt: skip
    return b"".join([*parts, bytes(padding), *headers])


def defined_symbols(content: bytes) -> list[str]:
    """The names of an object that other objects may refer to; ValueError where it is no object."""
    try:
        return list(_defined(content))
    except (struct.error, IndexError) as error:
        raise ValueError("an object that is cut") from error


def _defined(content: bytes) -> list[str]:
    ident, *_, headers_at, _, _, _, _, _, count, _ = _HEADER.unpack_from(content)
    if ident[:7] != _IDENT[:7]:
        raise ValueError("not a little-endian ELF64 object")
    sections = [_SECTION.unpack_from(content, headers_at + i * _SECTION.size) for i in range(count)]
    found = []
    for _, type, _, _, at, size, link, *_ in sections:
        if type == _SYMTAB:
            strings = sections[link][4]
            for name, info, _, section, *_ in _SYMBOL.iter_unpack(content[at : at + size]):
                if info >> 4 != _LOCAL and section != _UNDEFINED:
                    start = strings + name
                    found.append(content[start : content.index(b"\0", start)].decode())
    return found
