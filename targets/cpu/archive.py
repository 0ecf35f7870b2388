"""A static library: the ar format with one object and a symbol index, written without tools.

The System V / GNU variant: https://en.wikipedia.org/wiki/Ar_(Unix)#System_V_(or_GNU)_variant.
Dates and owners are zero, so equal input gives equal bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60


def archive(member: str, content: bytes, symbols: Sequence[str]) -> bytes:
    """Bytes of the library; `member` has at most 15 characters before its slash."""
    names = b"".join(s.encode() + b"\0" for s in symbols)
    index_size = 4 + 4 * len(symbols) + len(names)
    offset = len(_MAGIC) + _HEADER_BYTES + index_size + index_size % 2
    index = struct.pack(f">I{len(symbols)}I", len(symbols), *([offset] * len(symbols))) + names
    return _MAGIC + _entry("/", index) + _entry(f"{member[:15]}/", content)


def _entry(name: str, content: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'644' if name != '/' else '0':<8}{len(content):<10}`\n"
    assert len(header) == _HEADER_BYTES
    return header.encode() + content + b"\n" * (len(content) % 2)


def member(library: bytes) -> bytes:
    """The object of a library that `archive` made; ValueError where it is something else."""
    if not library.startswith(_MAGIC):
        raise ValueError("not a static library")
    start = len(_MAGIC)
    for _ in range(2):
        digits = library[start + 48 : start + 58].strip()
        size = int(digits) if digits.isdigit() else -1
        content = library[start + _HEADER_BYTES : start + _HEADER_BYTES + size]
        if len(content) != size:
            raise ValueError("a static library that is cut")
        start += _HEADER_BYTES + size + size % 2
    return content
