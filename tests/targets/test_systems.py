"""Libraries for other systems than Linux: their objects, archives and, with ziglang, links."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.targets.base import Artifact
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, I64
from qcomp.targets.cpu.library.archive import archive, members
from qcomp.targets.cpu.library.codegen import object_code
from qcomp.targets.cpu.library.link import shared_library, static_name
from qcomp.targets.cpu.library.objects import data_object, defined_symbols, format_of
from qcomp.targets.cpu.library.parallel import add_registration
from qcomp.targets.cpu.library.windows import PROBE, add_probe
from qcomp.targets.cpu.platform import ObjectFormat
from qcomp.targets.cpu.process.host import native, this_host
from qcomp.targets.cpu.process.jit import load_objects
from qcomp.targets.cpu.process.zig import zig
from qcomp.targets.cpu.systems import LIBRARIES
from qcomp.targets.cpu.target import CpuTarget
from tests.targets.conftest import Kit
from tests.targets.object_files import coff, mach_o
from tests.targets.test_cpu_residual import block
from tests.targets.windows_image import called_as_on_windows, mapped_image

READ = {ObjectFormat.MACH_O: mach_o, ObjectFormat.COFF: coff}
SYSTEMS = [n for n, isas in LIBRARIES.items() if isas[0].platform.format in READ]
needs_zig = pytest.mark.skipif(zig() is None, reason="needs pip's ziglang (qcomp[cross])")


def emitted(kit: Kit, name: str, graph: Graph | None = None) -> Artifact:
    target = CpuTarget(name, LIBRARIES[name], generate=kit.generate)
    return target.emit(graph or block(kit, 3, 20)[0], "net")


@pytest.mark.parametrize("name", SYSTEMS)
def test_objects_are_of_the_system_and_need_only_each_other(kit: Kit, name: str) -> None:
    isas = LIBRARIES[name]
    platform, artifact = isas[0].platform, emitted(kit, name)
    prefix = "_" if platform.format is ObjectFormat.MACH_O else ""
    public = ["run", "init", "set_parallel_for", "abi", "sizes", "inputs", "outputs"]
    public += ["set_isa"] * (len(isas) > 1)
    code, data = (READ[platform.format](artifact.files[f]) for f in ("net.o", "net_data.o"))
    assert (code.machine, data.machine) == (platform.machine, platform.machine)
    assert code.defined == {f"{prefix}net_{part}" for part in public}
    assert code.undefined == data.defined == {f"{prefix}net_data"}
    assert data.undefined == set()
    assert code.defined <= set(defined_symbols(artifact.files["net.o"]))
    assert defined_symbols(artifact.files["net_data.o"]) == [f"{prefix}net_data"]


def test_data_of_each_format_is_what_was_given(kit: Kit) -> None:
    content = np.random.default_rng(0).bytes(1001)
    for isas in LIBRARIES.values():
        made = data_object(isas[0].platform, "net_data", content, 64)
        assert format_of(made) is isas[0].platform.format
        assert content in made


@pytest.mark.parametrize("name", SYSTEMS)
def test_cut_objects_are_value_errors(kit: Kit, name: str) -> None:
    made = data_object(LIBRARIES[name][0].platform, "a_long_name_of_data", b"1", 64)
    # A table of strings may end in zeros that align it.
    for size in range(len(made.rstrip(b"\0"))):
        with pytest.raises(ValueError, match="an object"):
            defined_symbols(made[:size])


@pytest.mark.parametrize("name", SYSTEMS)
def test_archives_have_the_index_of_the_system(kit: Kit, name: str) -> None:
    files = emitted(kit, name).files
    made = archive(files)
    assert members(made) == files
    symbols = [s for content in files.values() for s in defined_symbols(content)]
    if LIBRARIES[name][0].platform.format is ObjectFormat.MACH_O:
        assert bsd_index(made) == {s: f for f in files for s in defined_symbols(files[f])}
    else:
        assert sorted_index(made) == sorted(symbols)
    for size in range(0, len(made), 97):
        with pytest.raises(ValueError, match="static library"):
            members(made[:size])


def bsd_index(library: bytes) -> Mapping[str, str]:
    """The files that define the symbols; all contents are aligned."""
    length = int(library[8:24].removeprefix(b"#1/"))
    assert library[68 : 68 + length].rstrip(b"\0") == b"__.SYMDEF"
    at = 68 + length
    (size,) = struct.unpack_from("<I", library, at)
    found = {}
    for pair in range(at + 4, at + 4 + size, 8):
        text, member = struct.unpack_from("<2I", library, pair)
        text += at + 8 + size
        name = library[member + 60 :][: int(library[member + 3 : member + 16])]
        assert (member + 60 + len(name)) % 8 == 0
        found[library[text : library.index(b"\0", text)].decode()] = name.rstrip(b"\0").decode()
    return found


def sorted_index(library: bytes) -> list[str]:
    """The names of the second linker member, each of which names the member that defines it."""
    size = int(library[56:66])
    at = 68 + size + size % 2
    assert library[at : at + 16].rstrip() == b"/"
    at += 60
    (count,) = struct.unpack_from("<I", library, at)
    places = struct.unpack_from(f"<{count}I", library, at + 4)
    at += 4 + 4 * count
    (symbols,) = struct.unpack_from("<I", library, at)
    numbers = struct.unpack_from(f"<{symbols}H", library, at + 4)
    at += 4 + 2 * symbols
    names = library[at:].split(b"\0")[:symbols]
    for name, number in zip(names, numbers, strict=True):
        start = places[number - 1] + 60
        content = library[start : start + int(library[start - 12 : start - 2])]
        assert name.decode() in defined_symbols(content)
    return [name.decode() for name in names]


def test_libraries_of_windows_have_its_names() -> None:
    assert static_name(ObjectFormat.COFF, "net") == "net.lib"
    assert {static_name(f, "net") for f in READ} == {"net.lib", "libnet.a"}


def test_apples_processors_are_not_asked(kit: Kit) -> None:
    for name in ("arm64-macos", "arm64-ios"):
        (isa,) = LIBRARIES[name]
        assert isa.machine.supports is None
        assert "dotprod" in isa.required


@pytest.mark.skipif(this_host().family != "x86_64", reason="its instructions are of x86-64")
def test_large_frames_are_touched_page_by_page() -> None:
    """The function that Windows wants changes no register but those that it may."""
    isa = native()
    module = ir.Module("net", isa.platform)
    add_probe(module)
    add_registration(module, "net")
    run = ir.Function(module, ir.FunctionType(I64, [I64, I64, I64]), "net_run")
    b = ir.IRBuilder(run.append_basic_block("entry"))
    with b.goto_entry_block():
        frame = b.alloca(ir.ArrayType(I8, 5 * 4096 + 100), 16)
    total = b.add(b.add(run.args[0], run.args[1]), run.args[2])
    b.store(total, frame, 8)
    b.ret(b.load(frame, I64, 8))
    code = object_code(str(module), isa.triple)
    entry = load_objects([code], "net", 0)
    assert code.count(PROBE) == 1
    assert ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(entry.address)(1, 20, 300) == 321


@needs_zig
@pytest.mark.parametrize("name", LIBRARIES)
def test_ziglang_links_a_library_for_each(kit: Kit, name: str, tmp_path: Path) -> None:
    artifact = emitted(kit, name)
    library = shared_library(artifact, tmp_path, replace(this_host(), system="none"))
    assert library is not None
    content = library.read_bytes()
    for symbol in ("net_run", "net_inputs", "net_set_parallel_for"):
        assert symbol.encode() + b"\0" in content or f"{symbol}".encode() in content
    if library.suffix == ".dll":
        assert (tmp_path / "net.dll.lib").read_bytes().startswith(b"!<arch>\n")


@needs_zig
@pytest.mark.skipif(this_host().family != "x86_64", reason="its code runs on x86-64")
def test_code_for_windows_gives_the_same_bits(kit: Kit, cc: str, tmp_path: Path) -> None:
    """In this process: the linked image needs nothing of the system, but calls as Windows does."""
    graph, inputs = block(kit, 3, 20)
    artifact = emitted(kit, "x86-64-windows", graph)
    library = shared_library(artifact, tmp_path, this_host())
    assert library is not None
    image = mapped_image(library.read_bytes())
    call = called_as_on_windows(cc, tmp_path)
    outputs = {n: np.empty(graph.type(t).shape, np.int8) for n, t in graph.outputs.items()}
    arena = artifact.memory.allocated()
    arrays: list[Any] = [*(inputs[n] for n in graph.inputs), *outputs.values(), arena]
    expected = evaluate(graph, inputs)
    able = 0
    for number in range(len(LIBRARIES["x86-64-windows"]) + 1):
        if call(image.address("net_set_isa"), number) != 0:
            continue
        able += 1
        pointers = (a.ctypes.data_as(ctypes.c_void_p) for a in arrays)
        assert call(image.address("net_run"), *pointers) == 0
        for name, value in outputs.items():
            assert_array_equal(value, expected[name])
            value.fill(0x5A)
    assert able >= 2
