"""A static library: the ar format with a symbol index, written without tools.

The System V / GNU variant, https://en.wikipedia.org/wiki/Ar_(Unix), for ELF and WebAssembly; that
of "PE Format", Archive (Library) File Format, for COFF, which has a second, sorted index; and the
BSD variant for Mach-O. Dates and owners are zero, so equal input gives equal bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from qcomp.targets.cpu.library.objects import defined_symbols, format_of
from qcomp.targets.cpu.platform import ObjectFormat

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_LONGEST_NAME = 15  # a longer one stands in a member of its own, "//"
_INDEX, _NAMES = "/", "//"
_BSD_NAME, _BSD_INDEX = "#1/", "__.SYMDEF"  # how many bytes of the content are the name
_BSD_ALIGN = 8  # of contents
_END_OF_NAME = {ObjectFormat.COFF: b"\0"}  # of a long one

_Symbols = Sequence[tuple[str, int]]  # names, and the numbers of the members that define them


def archive(objects: Mapping[str, bytes]) -> bytes:
    """Bytes of the library of objects of one format, by file name.

    It indexes every symbol that they define.
    """
    format = format_of(next(iter(objects.values())))
    found = [(s, n) for n, content in enumerate(objects.values()) for s in defined_symbols(content)]
    if format is ObjectFormat.MACH_O:
        return _bsd(objects, found)
    end = _END_OF_NAME.get(format, b"/\n")
    fields, long_names = [], b""
    for name in objects:
        long = len(name) > _LONGEST_NAME
        fields.append(f"/{len(long_names)}" if long else f"{name}/")
        long_names += name.encode() + end if long else b""
    names = [_entry(_NAMES, long_names)] if long_names else []
    entries = [_entry(f, content) for f, content in zip(fields, objects.values(), strict=True)]

    def indexes(places: Sequence[int]) -> list[bytes]:
        both = [_index(places, found)]
        if format is ObjectFormat.COFF:
            both.append(_sorted_index(places, found))
        return [_entry(_INDEX, content) for content in both]

    before = sum(map(len, [_MAGIC, *indexes([0] * len(entries)), *names]))
    return b"".join([_MAGIC, *indexes(_places(before, entries)), *names, *entries])


def _places(first: int, entries: Sequence[bytes]) -> list[int]:
    """Where the entries begin that lie one behind the other."""
    return list(accumulate(map(len, entries[:-1]), initial=first))


def _index(places: Sequence[int], found: _Symbols) -> bytes:
    numbers = (len(found), *(places[n] for _, n in found))
    return struct.pack(f">{len(numbers)}I", *numbers) + _strings(s for s, _ in found)


def _sorted_index(places: Sequence[int], found: _Symbols) -> bytes:
    """The second linker member: places of members, then the number of each symbol's, from 1."""
    ordered = sorted(found)
    members = struct.pack(f"<I{len(places)}I", len(places), *places)
    numbers = struct.pack(f"<I{len(ordered)}H", len(ordered), *(n + 1 for _, n in ordered))
    return members + numbers + _strings(s for s, _ in ordered)


def _bsd(objects: Mapping[str, bytes], found: _Symbols) -> bytes:
    """Names stand before contents, with zeros that align these; so no content needs any behind."""
    names = _strings(s for s, _ in found)
    names += bytes(-len(names) % _BSD_ALIGN)
    index = bytes(8 * len(found) + 8) + names
    first = len(_MAGIC) + len(_bsd_entry(len(_MAGIC), _BSD_INDEX, index))
    entries, places = [], []
    for name, content in objects.items():
        places.append(first)
        entries.append(_bsd_entry(first, name, content))
        first += len(entries[-1])
    table, at = [8 * len(found)], 0
    for symbol, n in found:
        table += [at, places[n]]
        at += len(symbol) + 1
    index = struct.pack(f"<{len(table) + 1}I", *table, len(names)) + names
    return b"".join([_MAGIC, _bsd_entry(len(_MAGIC), _BSD_INDEX, index), *entries])


def _bsd_entry(place: int, name: str, content: bytes) -> bytes:
    start = place + _HEADER_BYTES + len(name) + 1
    text = name.encode() + bytes(1 + -start % _BSD_ALIGN)
    return _entry(f"{_BSD_NAME}{len(text)}", text + content)


def _strings(texts: Iterable[str]) -> bytes:
    return b"".join(text.encode() + b"\0" for text in texts)


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
        if name.startswith(_BSD_NAME):
            length = int(name.removeprefix(_BSD_NAME))
            name = content[:length].rstrip(b"\0").decode("ascii", errors="replace")
            content = content[length:]
        if name == _NAMES:
            long_names = content
        elif name == _BSD_INDEX:
            indexed = _bsd_indexed(content)
        elif name == _INDEX:  # of two, the first says where
            indexed = indexed or _indexed(content)
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
    if 4 * (count + 1) > len(index):
        raise ValueError("a static library with an index that is cut")
    return {int.from_bytes(index[4 * i : 4 * i + 4]) for i in range(1, count + 1)}


def _bsd_indexed(index: bytes) -> set[int]:
    """The same of the BSD variant."""
    size = int.from_bytes(index[:4], "little")
    if 4 + size > len(index):
        raise ValueError("a static library with an index that is cut")
    return {int.from_bytes(index[at + 4 : at + 8], "little") for at in range(4, 4 + size, 8)}


def _member_name(field: str, long_names: bytes) -> str:
    if not field.startswith("/"):
        return field.removesuffix("/")
    at = field[1:]
    start = int(at) if at.isdigit() else len(long_names)
    ends = [end for mark in (b"/\n", b"\0") if (end := long_names.find(mark, start)) >= 0]
    if not ends:
        raise ValueError(f"a static library with a member of the unknown name {field}")
    return long_names[start : min(ends)].decode("ascii", errors="replace")
