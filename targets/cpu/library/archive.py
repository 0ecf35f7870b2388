"""A static library: the ar format with a symbol index, written without tools.

The System V / GNU variant: https://en.wikipedia.org/wiki/Ar_(Unix)#System_V_(or_GNU)_variant.
Dates and owners are zero, so equal input gives equal bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from qcomp.targets.cpu.library.elf import defined_symbols

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_LONGEST_NAME = 15  # a longer one stands in a member of its own, "//"
_INDEX, _NAMES = "/", "//"


def archive(objects: Mapping[str, bytes]) -> bytes:
    """Bytes of the library of the objects, by file name; it indexes every symbol they define."""
    fields, long_names = {}, b""
    for name in objects:
        long = len(name) > _LONGEST_NAME
        fields[name] = f"/{len(long_names)}" if long else f"{name}/"
        long_names += f"{name}/\n".encode() if long else b""
    found = [(s, member) for member, content in objects.items() for s in defined_symbols(content)]
    symbols = b"".join(s.encode() + b"\0" for s, _ in found)
    before = _entry(_NAMES, long_names) if long_names else b""
    place = len(_MAGIC) + len(_entry(_INDEX, bytes(4 + 4 * len(found)) + symbols)) + len(before)
    entries, places = [], {}
    for name, content in objects.items():
        entries.append(_entry(fields[name], content))
        places[name] = place
        place += len(entries[-1])
    index = struct.pack(f">I{len(found)}I", len(found), *(places[m] for _, m in found)) + symbols
    return b"".join([_MAGIC, _entry(_INDEX, index), before, *entries])


def _entry(name: str, content: bytes) -> bytes:
    mode = 0 if name in (_INDEX, _NAMES) else 644
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{mode:<8}{len(content):<10}`\n"
    assert len(header) == _HEADER_BYTES
    return header.encode() + content + b"\n" * (len(content) % 2)


def members(library: bytes) -> dict[str, bytes]:
    """The objects of a library that `archive` made; ValueError where it is something else."""
    if not library.startswith(_MAGIC):
        raise ValueError("not a static library")
    found: dict[str, bytes] = {}
    indexed: set[int] = set()
    long_names = b""
    start = len(_MAGIC)
    while start < len(library):
        name = library[start : start + 16].decode("ascii", errors="replace").rstrip()
        digits = library[start + 48 : start + 58].strip()
        size = int(digits) if digits.isdigit() else -1
        content = library[start + _HEADER_BYTES : start + _HEADER_BYTES + size]
        if len(content) != size:
            raise ValueError("a static library that is cut")
        if name == _NAMES:
            long_names = content
        elif name == _INDEX:
            indexed = _indexed(content)
        else:
            indexed.discard(start)
            found[_member_name(name, long_names)] = content
        start += _HEADER_BYTES + size + size % 2
    if indexed or not found:
        raise ValueError("a static library that lacks objects")
    return found


def _indexed(index: bytes) -> set[int]:
    """Where the index says that members are."""
    count = int.from_bytes(index[:4])
    return {int.from_bytes(index[4 * i : 4 * i + 4]) for i in range(1, count + 1)}


def _member_name(field: str, long_names: bytes) -> str:
    if not field.startswith("/"):
        return field.removesuffix("/")
    at = field[1:]
    start = int(at) if at.isdigit() else len(long_names)
    end = long_names.find(b"/", start)
    if end < 0:
        raise ValueError(f"a static library with a member of the unknown name {field}")
    return long_names[start:end].decode("ascii", errors="replace")
