"""Object files of any format: the data of a library, and the names that an object defines."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.library import coff, elf, macho, wasm
from qcomp.targets.cpu.library.codegen import object_code
from qcomp.targets.cpu.platform import ObjectFormat, Platform

_SYMBOLS: Mapping[ObjectFormat, Callable[[bytes], Iterator[str]]] = {
    ObjectFormat.ELF: elf.defined_symbols,
    ObjectFormat.MACH_O: macho.defined_symbols,
    ObjectFormat.COFF: coff.defined_symbols,
    ObjectFormat.WASM: wasm.defined_symbols,
}
# How files begin. COFF has no mark: its first field is the type of processor.
_MARKS: Mapping[bytes, ObjectFormat] = {
    elf.MAGIC: ObjectFormat.ELF,
    macho.MAGIC: ObjectFormat.MACH_O,
    wasm.MAGIC: ObjectFormat.WASM,
    **dict.fromkeys(coff.MACHINES, ObjectFormat.COFF),
}


def format_of(content: bytes) -> ObjectFormat:
    """By its first bytes; ValueError where it is no object that qcomp makes."""
    for mark, format in _MARKS.items():
        if content.startswith(mark):
            return format
    raise ValueError(f"not an object of {', '.join(f.value for f in ObjectFormat)}")


def defined_symbols(content: bytes) -> list[str]:
    """The names of an object that other objects may refer to; ValueError where it is no object."""
    symbols = _SYMBOLS[format_of(content)]
    try:
        return list(symbols(content))
    except (struct.error, IndexError) as error:
        raise ValueError("an object that is cut") from error


def data_object(platform: Platform, symbol: str, content: bytes, align: int) -> bytes:
    """An object whose read-only data is `content`, under a symbol for the same library only.

    ELF is written here, as LLVM takes a second for 25 MB.
    """
    elf.expect_reachable(symbol, len(content))
    if platform.format is ObjectFormat.ELF:
        return elf.data_object(platform, symbol, content, align)
    module = ir.Module(symbol, platform)
    data = module.constant(symbol, ir.bytes_of(content), align)
    data.linkage = ""
    data.storage_class = "" if platform.format is ObjectFormat.COFF else "hidden"
    return object_code(str(module), platform.triple)
