"""What a library for each instruction set can write is what is promised; read from objects."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from qcomp.targets.catalog import TARGETS, target
from qcomp.targets.cpu.isa import AARCH64, ARM_LADDER, FAMILIES, X86_64, X86_LADDER
from qcomp.targets.cpu.library.dispatch import CHOICE, variables
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.target import CpuTarget
from tests.targets.conftest import Kit
from tests.targets.test_cpu_residual import block

PAGE = Path(__file__).resolve().parents[2] / "docs" / "c-interface.md"
SYMTAB, NOBITS, WRITE, OBJECT = 2, 8, 1, 1


class Section(NamedTuple):
    """A section header of ELF64."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int


def sections(content: bytes) -> list[Section]:
    (start,), (count,) = (struct.unpack_from(f, content, at) for f, at in (("<Q", 40), ("<H", 60)))
    return [
        Section._make(struct.unpack_from("<IIQQQQIIQQ", content, start + 64 * i))
        for i in range(count)
    ]


def writable(content: bytes) -> Iterator[tuple[str, int]]:
    """Names and sizes of the variables of an object."""
    found = sections(content)
    for table in (s for s in found if s.type == SYMTAB):
        strings = found[table.link].offset
        for at in range(table.offset, table.offset + table.size, 24):
            name, info, _, index, _, size = struct.unpack_from("<IBBHQQ", content, at)
            if info & 15 == OBJECT and 0 < index < len(found) and found[index].flags & WRITE:
                start = strings + name
                yield content[start : content.index(b"\0", start)].decode(), size


LIBRARIES = {isa.name: (isa,) for family in FAMILIES.values() for isa in family}
LIBRARIES["several"], LIBRARIES["several of ARM"] = X86_LADDER, ARM_LADDER


@pytest.mark.parametrize("isas", LIBRARIES.values(), ids=LIBRARIES.keys())
def test_the_variables_are_those_that_are_promised(kit: Kit, isas: tuple[Isa, ...]) -> None:
    graph, _ = block(kit, 3, 20)
    cpu, promised = CpuTarget("some", isas), variables(isas)
    objects = cpu.emit(graph, "net").files.values()
    assert dict(v for content in objects for v in writable(content)) == {
        f"net_{variable}": size for variable, size in promised.items()
    }
    for section in (s for content in objects for s in sections(content) if s.flags & WRITE):
        assert section.type == NOBITS or section.size == 0, "initialised data is writable"
        assert section.size <= sum(promised.values())


def test_code_for_the_baseline_of_a_family_has_no_answer_to_keep() -> None:
    assert [name for name, isas in LIBRARIES.items() if CHOICE not in variables(isas)] == [
        X86_64.name,
        AARCH64.name,
    ]


def documented(name: str, pointer_bytes: int) -> int:
    """The bytes that the page promises for libraries of a target."""
    every = f"each of {8 * pointer_bytes} bits"
    table = PAGE.read_text(encoding="utf-8").partition("## Writable data")[2].partition("## ")[0]
    rows = re.findall(r"^\| (.*?) \| (\d+) \|", table, re.MULTILINE)
    assert len(rows) > 1
    return sum(int(size) for of, size in rows if of == every or f"`{name}`" in of)


BUILT = {name: target(name) for name in TARGETS if name != "native"}
OURS = {name: built for name, built in BUILT.items() if isinstance(built, CpuTarget)}


@pytest.mark.parametrize("name", OURS)
def test_the_page_says_how_much_each_target_writes(name: str) -> None:
    cpu = OURS[name]
    pointer_bytes = cpu.isas[0].platform.pointer_bytes
    assert documented(name, pointer_bytes) == sum(variables(cpu.isas).values())
