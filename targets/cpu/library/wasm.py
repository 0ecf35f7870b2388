"""The names that a WebAssembly object defines, by its section "linking".

https://github.com/WebAssembly/tool-conventions/blob/main/Linking.md
"""

from __future__ import annotations

from collections.abc import Iterator

MAGIC = b"\0asm"

_HEADER_BYTES = 8
_CUSTOM = 0
_SYMBOL_TABLE = 8
_FUNCTION, _DATA, _GLOBAL, _SECTION, _EVENT, _TABLE = range(6)
_LOCAL, _UNDEFINED, _EXPLICIT_NAME = 0x02, 0x10, 0x40


class _Reader:
    """Numbers of the format, one after the other; IndexError where there are none left."""

    def __init__(self, content: bytes, place: int, end: int) -> None:
        if end > len(content):
            raise IndexError(end)
        self._content, self.place, self.end = content, place, end

    def number(self) -> int:
        """LEB128, unsigned."""
        result = shift = 0
        while True:
            byte = self._content[self.place]
            self.place += 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    def part(self) -> _Reader:
        """What follows its own length."""
        size = self.number()
        start, self.place = self.place, self.place + size
        return _Reader(self._content, start, self.place)

    def text(self) -> str:
        part = self.part()
        return self._content[part.place : part.end].decode()


def defined_symbols(content: bytes) -> Iterator[str]:
    """IndexError where the section that has them is missing."""
    reader, found = _Reader(content, _HEADER_BYTES, len(content)), False
    while reader.place < reader.end:
        kind, section = reader.number(), reader.part()
        if kind == _CUSTOM and section.text() == "linking":
            found = True
            section.number()  # the version
            while section.place < section.end:
                kind, part = section.number(), section.part()
                if kind == _SYMBOL_TABLE:
                    yield from _symbols(part)
    if not found:
        raise IndexError(len(content))


def _symbols(table: _Reader) -> Iterator[str]:
    for _ in range(table.number()):
        kind, flags = table.number(), table.number()
        name = ""
        if kind == _DATA:
            name = table.text()
            if not flags & _UNDEFINED:
                for _ in ("segment", "offset", "size"):
                    table.number()
        else:
            table.number()  # the index
            if kind != _SECTION and (not flags & _UNDEFINED or flags & _EXPLICIT_NAME):
                name = table.text()
        if name and not flags & (_LOCAL | _UNDEFINED):
            yield name
