"""Generic code for small machines gives the same bits, in an emulator: ARMv7, RISC-V, WebAssembly.

One program has every kind of kernel. Its objects are looked at without tools.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from symbols import PUBLIC

from qcomp.config import QuantizationConfig
from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.runtime.network import CompiledNetwork
from qcomp.runtime.verification import Case, edge_cases, verify_emulated
from qcomp.targets.base import Artifact
from qcomp.targets.cpu.library.archive import archive, members
from qcomp.targets.cpu.library.objects import defined_symbols
from qcomp.targets.cpu.platform import ObjectFormat
from qcomp.targets.cpu.process.emulator import tools_for
from qcomp.targets.cpu.systems import LIBRARIES
from qcomp.targets.cpu.target import CpuTarget
from tests.targets.conftest import Kit
from tests.targets.every_kind import every_kind
from tests.targets.test_addresses import GRAPHS
from tests.targets.test_cpu_residual import block

SMALL = ("armv7", "riscv64", "wasm32")
each_machine = pytest.mark.parametrize("name", SMALL)
SYMTAB = 2


def emitted(kit: Kit, name: str, graph: Graph) -> Artifact:
    return CpuTarget(name, LIBRARIES[name], generate=kit.generate).emit(graph, "net")


def elf_symbols(content: bytes) -> tuple[set[str], set[str]]:
    """Names of an object that are defined for others, and that are missing."""
    wide = content[4] == 2
    (start,) = struct.unpack_from("<Q" if wide else "<I", content, 40 if wide else 32)
    (count,) = struct.unpack_from("<H", content, 60 if wide else 48)
    section, symbol = ("<IIQQQQIIQQ", "<IBBHQQ") if wide else ("<10I", "<IIIBBH")
    size = struct.calcsize(section)
    sections = [struct.unpack_from(section, content, start + n * size) for n in range(count)]
    defined, undefined = set(), set()
    for found in (s for s in sections if s[1] == SYMTAB):
        strings = sections[found[6]][4]
        for fields in struct.iter_unpack(symbol, content[found[4] : found[4] + found[5]]):
            name, info, index = fields[0], fields[1 if wide else 3], fields[3 if wide else 5]
            text = content[strings + name : content.index(b"\0", strings + name)].decode()
            if info >> 4 and text:
                (defined if index else undefined).add(text)
    return defined, undefined


@pytest.mark.parametrize("make", GRAPHS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", ["armv7", "riscv64"])
def test_elf_objects_need_only_each_other(
    kit: Kit, name: str, make: Callable[[Kit], tuple[Graph, Mapping[str, Any]]]
) -> None:
    """On ARM too, whose compilers divide by functions of a library."""
    platform = LIBRARIES[name][0].platform
    files = emitted(kit, name, make(kit)[0]).files
    for content in files.values():
        wide = content[4] == 2
        assert wide == (platform.pointer_bytes == 8)
        (machine,) = struct.unpack_from("<H", content, 18)
        (flags,) = struct.unpack_from("<I", content, 48 if wide else 36)
        assert (machine, flags) == (platform.machine, platform.flags)
    defined, undefined = elf_symbols(files["net.o"])
    public = {f"net_{part}" for part in PUBLIC}
    assert (defined, undefined) == (public, {"net_data"})
    assert elf_symbols(files["net_data.o"]) == ({"net_data"}, set())


def test_objects_of_webassembly_have_names_and_an_archive(kit: Kit) -> None:
    files = emitted(kit, "wasm32", block(kit, 3, 20)[0]).files
    assert LIBRARIES["wasm32"][0].platform.format is ObjectFormat.WASM
    assert set(defined_symbols(files["net.o"])) == {f"net_{part}" for part in PUBLIC}
    assert defined_symbols(files["net_data.o"]) == ["net_data"]
    assert members(archive(files)) == files
    data = files["net_data.o"]
    for size in range(data.index(b"linking") + 10):  # where names are
        with pytest.raises(ValueError, match="an object"):
            defined_symbols(data[:size])


def can_emulate(name: str) -> None:
    try:
        tools_for(LIBRARIES[name][0].triple)
    except TargetError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@each_machine
def test_every_kind_of_kernel_is_exact_in_an_emulator(kit: Kit, name: str) -> None:
    can_emulate(name)
    graph, inputs = every_kind(kit)
    checked(kit, name, graph, inputs)


@pytest.mark.parametrize("make", GRAPHS, ids=lambda make: make.__name__)
@each_machine
def test_small_graphs_are_exact_in_an_emulator(
    kit: Kit, name: str, make: Callable[[Kit], tuple[Graph, Mapping[str, Any]]]
) -> None:
    can_emulate(name)
    checked(kit, name, *make(kit))


def checked(kit: Kit, name: str, graph: Graph, inputs: Mapping[str, Any]) -> None:
    """On the inputs given, and where every value is an extreme."""
    artifact = emitted(kit, name, graph)
    runtime = CpuTarget(name, LIBRARIES[name]).runtime
    net = CompiledNetwork(graph, artifact, runtime, QuantizationConfig())
    report = verify_emulated(net, [Case("given", inputs), *edge_cases(net)])
    assert report.isas == (name,)
    assert report.compared_values == 5 * sum(graph.type(t).size for t in graph.outputs.values())
    assert report.first_difference is None
    assert report.exact
