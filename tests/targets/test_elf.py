"""Data objects written without tools are what binutils, linkers and the loader expect."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from llvmlite import binding as llvm

from qcomp.errors import TargetError
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I64
from qcomp.targets.cpu.isa import AARCH64, X86_64
from qcomp.targets.cpu.library import elf
from qcomp.targets.cpu.library.module import emit_address
from qcomp.targets.cpu.library.objects import data_object, defined_symbols
from qcomp.targets.cpu.library.parallel import add_registration
from qcomp.targets.cpu.platform import ObjectFormat, Platform
from qcomp.targets.cpu.process.host import native
from qcomp.targets.cpu.process.jit import load_objects

ARM = Platform("armv7a-none-eabi", 4, ObjectFormat.ELF, machine=40, flags=0x05000000)
PLATFORMS = {X86_64.platform: "X86-64", AARCH64.platform: "AArch64", ARM: "ARM"}
each_platform = pytest.mark.parametrize("platform", PLATFORMS, ids=lambda p: p.triple)


def readelf(*options: str) -> str:
    tool = shutil.which("readelf")
    if tool is None:
        pytest.skip("no readelf")
    done = subprocess.run([tool, "--wide", *options], check=True, capture_output=True, text=True)
    assert done.stderr == ""  # where warnings about a malformed file go
    return done.stdout


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000])
@each_platform
def test_it_reads_back(platform: Platform, size: int, tmp_path: Path) -> None:
    content = np.random.default_rng(size).bytes(size)
    file = tmp_path / "data.o"
    file.write_bytes(data_object(platform, "net_data", content, 64))
    header = readelf("--file-header", str(file))
    assert "REL (Relocatable file)" in header
    assert f" {PLATFORMS[platform]}\n" in header
    (data,) = (
        line.split("]")[1].split()
        for line in readelf("--sections", str(file)).splitlines()
        if ".rodata" in line
    )
    _, kind, address, offset, length, entry, flags, link, info, align = data
    assert (kind, flags, align) == ("PROGBITS", "A", "64")
    assert (int(address, 16), entry, link, info) == (0, "00", "0", "0")
    assert (int(offset, 16) % 64, int(length, 16)) == (0, size)
    assert file.read_bytes()[int(offset, 16) :][:size] == content
    symbol = readelf("--symbols", str(file)).splitlines()[-1].split()
    assert symbol[1:] == [
        "0" * 2 * platform.pointer_bytes,
        str(size),
        "OBJECT",
        "GLOBAL",
        "HIDDEN",
        "1",
        "net_data",
    ]


def test_it_needs_nothing_of_the_linker(tmp_path: Path) -> None:
    file = tmp_path / "data.o"
    file.write_bytes(data_object(X86_64.platform, "net_data", b"1", 64))
    assert "There are no relocations" in readelf("--relocs", str(file))
    assert ".note.GNU-stack" in readelf("--sections", str(file))


def test_equal_data_gives_equal_bytes() -> None:
    assert data_object(X86_64.platform, "d", b"1", 64) == data_object(
        X86_64.platform, "d", b"1", 64
    )


def test_too_much_data_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf, "LARGEST_DATA", 100)
    assert len(data_object(X86_64.platform, "net_data", bytes(100), 64)) > 100
    with pytest.raises(TargetError, match="net_data has 101 bytes of constants; accepted: up to"):
        data_object(X86_64.platform, "net_data", bytes(101), 64)


def code(triple: str, body: str) -> bytes:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(reloc="pic")
    return bytes(machine.emit_object(llvm.parse_assembly(body)))


SOURCE = """
target triple = "{triple}"
@hidden = hidden constant i32 1
@weak = weak constant i32 2
@internal = internal constant i32 3
@missing = external hidden constant i32
define i32 @function() {{ %a = load i32, ptr @internal %b = load i32, ptr @missing ret i32 %b }}
"""


@each_platform
def test_symbols_are_those_that_others_may_refer_to(platform: Platform) -> None:
    triple = platform.triple
    assert sorted(defined_symbols(code(triple, SOURCE.format(triple=triple)))) == [
        "function", "hidden", "weak",
    ]  # fmt: skip
    assert defined_symbols(data_object(platform, "net_data", b"1", 64)) == ["net_data"]


def test_what_is_no_object_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="not an object of ELF"):
        defined_symbols(bytes(100))
    with pytest.raises(ValueError, match="not a little-endian ELF object"):
        defined_symbols(b"\x7fELF" + bytes(100))


@each_platform
def test_a_cut_object_is_a_value_error(platform: Platform) -> None:
    made = data_object(platform, "net_data", bytes(100), 64)
    for size in range(len(made)):
        with pytest.raises(ValueError, match="an object"):
            defined_symbols(made[:size])


LIBC = ctypes.CDLL(None)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
]  # fmt: skip
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
PRIVATE_ANONYMOUS_UNBACKED = 0x4022


def taken(size: int) -> int:
    """Addresses that nothing is behind."""
    return int(LIBC.mmap(None, size, 0, PRIVATE_ANONYMOUS_UNBACKED, -1, 0))


@contextmanager
def hole_in_memory(hole: int, largest: int) -> Iterator[None]:
    """A few bytes of free addresses, then none for 4 GiB: what fits lies there, the rest below.

    Other holes above that hold what is largest are filled.
    """
    size = 4 << 30
    start = taken(size + hole)
    LIBC.munmap(start + size, hole)
    filled = []
    while (other := taken(largest)) > start:
        filled.append(other)
    LIBC.munmap(other, largest)
    try:
        yield
    finally:
        LIBC.munmap(start, size + hole)
        for other in filled:
            LIBC.munmap(other, largest)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel for memory")
def test_code_finds_data_further_away_than_32_bits_reach() -> None:
    """As in a process with gigabytes of samples, where nobody places code next to data."""
    isa = native()
    module = ir.Module("far", isa.platform)
    run = ir.Function(module, ir.FunctionType(I64, []), "net_run")
    b = ir.IRBuilder(run.append_basic_block("entry"))
    b.ret(b.ptrtoint(emit_address(b, "net_data"), I64))
    add_registration(module, "net")
    content = np.random.default_rng(0).bytes(32 << 20)
    data = data_object(isa.platform, "net_data", content, 64)
    with hole_in_memory(64 << 10, len(content)):
        entry = load_objects([code(isa.triple, str(module)), data], "net", 0)
    found = ctypes.CFUNCTYPE(ctypes.c_int64)(entry.address)()
    assert abs(found - entry.address) > 1 << 31
    assert ctypes.string_at(found, len(content)) == content
