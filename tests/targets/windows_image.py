"""A DLL that imports nothing, in this process: mapped, and called as Windows calls."""

from __future__ import annotations

import ctypes
import mmap
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CALL = """
typedef long long word;
typedef int __attribute__((ms_abi)) function(word, word, word, word);
int call(function *f, word a, word b, word c, word d) { return f(a, b, c, d); }
"""


@dataclass(frozen=True)
class Image:
    memory: mmap.mmap
    base: int
    exports: dict[str, int]

    def address(self, symbol: str) -> int:
        return self.base + self.exports[symbol]


def mapped_image(content: bytes) -> Image:
    """PE32+ of the "PE Format": sections where they belong, and what must be moved, moved."""
    (header,) = struct.unpack_from("<I", content, 60)
    assert content[header : header + 6] == b"PE\0\0\x64\x86"
    (count,), (optional,) = (struct.unpack_from("<H", content, header + at) for at in (6, 20))
    start = header + 24
    (wanted,), (size,) = (
        struct.unpack_from(f, content, start + at) for f, at in (("<Q", 24), ("<I", 56))
    )
    memory = mmap.mmap(-1, size, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    for n in range(count):
        at = start + optional + 40 * n
        _, place, length, offset = struct.unpack_from("<4I", content, at + 8)
        memory[place : place + length] = content[offset : offset + length]
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    exports, imports, relocations = (
        struct.unpack_from("<2I", content, start + 112 + 8 * n) for n in (0, 1, 5)
    )
    assert imports == (0, 0)
    _move(memory, *relocations, base - wanted)
    return Image(memory, base, _exports(memory, exports[0]))


def _move(memory: mmap.mmap, at: int, size: int, by: int) -> None:
    end = at + size
    while at < end:
        page, length = struct.unpack_from("<2I", memory, at)
        for entry in range(at + 8, at + length, 2):
            (packed,) = struct.unpack_from("<H", memory, entry)
            if packed >> 12 == 10:
                place = page + (packed & 0xFFF)
                (value,) = struct.unpack_from("<Q", memory, place)
                struct.pack_into("<Q", memory, place, value + by)
        at += length


def _exports(memory: mmap.mmap, table: int) -> dict[str, int]:
    _, names, functions, texts, ordinals = struct.unpack_from("<5I", memory, table + 20)
    found = {}
    for n in range(names):
        (text,) = struct.unpack_from("<I", memory, texts + 4 * n)
        (ordinal,) = struct.unpack_from("<H", memory, ordinals + 2 * n)
        (place,) = struct.unpack_from("<I", memory, functions + 4 * ordinal)
        found[memory[text : memory.find(b"\0", text)].decode()] = place
    return found


def called_as_on_windows(cc: str, folder: Path) -> Callable[..., int]:
    """call(address, up to four arguments) -> int."""
    (folder / "call.c").write_text(_CALL)
    command = [cc, "-shared", "-fPIC", "-O1", "call.c", "-o", "call.so"]
    subprocess.run(command, cwd=folder, check=True)
    function: Any = ctypes.CDLL(str(folder / "call.so")).call

    def call(address: int, *arguments: Any) -> int:
        words = [a if isinstance(a, int) else a.value for a in arguments]
        padded = [*words, *[0] * (4 - len(words))]
        result: int = function(*map(ctypes.c_longlong, (address, *padded)))
        return result

    return call
