"""Pointers are as wide as the platform says: a machine of 32 bits needs a record, and no emitter.

The objects for ARM are looked at, as nothing here links them; those for i686 run.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.errors import TargetError
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    ArgMax,
    MaxPool2d,
    QAveragePool2d,
    QConv2d,
    QDense,
    QEmbedding,
    QSoftmax,
    Table,
)
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.tables import exp_table
from qcomp.targets.cpu.generic.machine import portable
from qcomp.targets.cpu.isa import AARCH64
from qcomp.targets.cpu.library.codegen import Generate
from qcomp.targets.cpu.library.dispatch import variables
from qcomp.targets.cpu.library.module import add_entry_point, build_objects
from qcomp.targets.cpu.library.objects import defined_symbols
from qcomp.targets.cpu.library.parallel import SPLITTING, add_registration
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.platform import ObjectFormat, Platform
from qcomp.targets.cpu.target import CpuTarget
from qcomp.targets.cpu.vectors import Vectors
from qcomp.targets.cpu.x86 import machine as x86
from tests.targets.conftest import Kit
from tests.targets.test_cpu_residual import block
from tests.targets.test_elf import readelf

ELF32, ARM, I386, EABI5 = 1, 40, 3, 0x05000000
PLAIN = portable(Vectors(128, 8), x86.LAYOUT, x86.CLOCK)


def isa(triple: str, features: str, machine: int, flags: int) -> Isa:
    """A set of 32 bits, with code in generic IR."""
    return Isa("toy", Platform(triple, 4, ObjectFormat.ELF, machine, flags), features, PLAIN)


ARMV7 = isa("armv7a-none-eabi", "+neon", ARM, EABI5)
CORTEX_M = isa("thumbv8.1m.main-none-eabi", "+mve", ARM, EABI5)
I686 = isa("i686-unknown-linux-gnu", "+sse2", I386, 0)


def depthwise(kit: Kit) -> tuple[Graph, Mapping[str, Any]]:
    tables = [np.full(21, v, np.int32) for v in (9, 2**30 + 7, 43)]
    weight = np.maximum(kit.i8(21, 3, 3, 1), -127)
    requantize = Requantize(Form.WIDE, -3)
    op = partial(QConv2d, x_zero_point=-4, requantize=requantize, groups=21, padding=(1, 1, 1, 1))
    operands = map(kit.fixed, (weight, *tables))
    return kit.one_op(op, kit.i8(1, 6, 7, 21), *operands, zero_point=-4, borders=True)


def dense(kit: Kit) -> tuple[Graph, Mapping[str, Any]]:
    tables = [np.full(19, v, np.int32) for v in (9, 900, 7)]
    op = partial(QDense, x_zero_point=7, requantize=Requantize(Form.NARROW, -3))
    weight = np.maximum(kit.i8(19, 33), -127)
    return kit.one_op(op, kit.i8(3, 33), *map(kit.fixed, (weight, *tables)), zero_point=7)


def pooled(kit: Kit) -> tuple[Graph, Mapping[str, Any]]:
    op = partial(MaxPool2d, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    return kit.one_op(op, kit.i8(1, 9, 8, 5))


def looked_up(kit: Kit) -> tuple[Graph, Mapping[str, Any]]:
    return kit.one_op(Table, kit.i8(2, 35), kit.fixed(kit.i8(256)))


def softmax(kit: Kit) -> tuple[Graph, Mapping[str, Any]]:
    return kit.one_op(partial(QSoftmax, axis=1), kit.i8(3, 11), kit.fixed(exp_table(0.05)))


def residual(kit: Kit) -> tuple[Graph, Mapping[str, Any]]:
    return block(kit, 3, 20)


def averaged(kit: Kit) -> tuple[Graph, Mapping[str, Any]]:
    """Of 16 bits, by counts that are known when the code runs."""
    multipliers = np.arange(10, dtype=np.int32)[::-1] * 2**24
    op = partial(
        QAveragePool2d, x_zero_point=0, shift=28, kernel=(3, 3), padding=(1, 1, 1, 1),
        requantize=Requantize(Form.WIDE, 0, -32768, 32767, 16),
    )  # fmt: skip
    return kit.one_op(op, kit.i16(1, 8, 9, 5), kit.fixed(multipliers))


def largest(kit: Kit) -> tuple[Graph, Mapping[str, Any]]:
    """The index is in a key of 64 bits."""
    return kit.one_op(partial(ArgMax, axis=1), kit.i16(3, 70))


def rows_of_a_table(kit: Kit) -> tuple[Graph, Mapping[str, Any]]:
    """By indices, some of which are beyond the table."""
    x = np.arange(-128, 128, 16).astype(np.int16)
    return kit.one_op(partial(QEmbedding, first=-60), x, kit.fixed(kit.i8(50, 19)))


Make = Callable[[Kit], tuple[Graph, Mapping[str, Any]]]
GRAPHS: tuple[Make, ...] = (
    depthwise, dense, pooled, averaged, largest, looked_up, softmax, residual, rows_of_a_table,
)  # fmt: skip


@pytest.mark.parametrize("isa", [ARMV7, CORTEX_M], ids=lambda isa: isa.triple)
def test_objects_of_32_bits_have_pointers_of_4_bytes(kit: Kit, isa: Isa, tmp_path: Path) -> None:
    graph, _ = residual(kit)
    artifact = CpuTarget("toy", (isa,), generate=kit.generate).emit(graph, "net")
    assert artifact.requires.triple == isa.triple
    for name, content in artifact.files.items():
        assert content[4] == ELF32
        (tmp_path / name).write_bytes(content)
        header = readelf("--file-header", str(tmp_path / name))
        assert re.search(r"Machine: +ARM\n", header)
        assert re.search(r"Flags: +0x5000000, Version5 EABI", header)
    assert defined_symbols(artifact.files["net_data.o"]) == ["net_data"]
    symbols = readelf("--symbols", str(tmp_path / "net.o"))
    assert re.findall(r" UND (\S+)", symbols) == ["net_data"]
    sizes = re.findall(r" (\d+) OBJECT +LOCAL .* (\S+)$", symbols, re.MULTILINE)
    assert sorted(sizes) == [("4", "net_data_distance"), ("8", "net_parallel_for")]
    assert variables([isa]) == {"parallel_for": 8}


@pytest.mark.parametrize("make", GRAPHS, ids=lambda make: make.__name__)
def test_nothing_counts_or_addresses_in_64_bits_there(kit: Kit, make: Make) -> None:
    graph, _ = make(kit)
    program = lower_graph(graph, ARMV7, "net")
    add_registration(program.module, "net")
    add_entry_point(program, "net_run", "net", SPLITTING)
    text = str(program.module)
    assert "getelementptr" in text
    assert re.findall(r".*getelementptr.* i64 .*|.*= phi +i64 .*|.*ptr.* to i64.*", text) == []
    assert re.findall(r"define .*\(.*i64.*\)", text) == []


MAIN = """
#include <stdint.h>
static _Alignas(64) uint8_t arena[{arena}];
static uint8_t x[{x}], y[{y}];
int net_run({parameters});
static int call(int number, int a, int b, int c) {{
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
  return result;
}}
__attribute__((force_align_arg_pointer)) void _start(void) {{
  for (int n = 0; n < {x}; n++) call(3, 0, (int)(x + n), 1);
  int status = net_run(x, {outputs}, arena);
  for (int n = 0; n < {y}; n++) call(4, 1, (int)(y + n), 1);
  call(1, status, 0, 0);
}}
"""


def run_of_32_bits(
    graph: Graph, x: NDArray[Any], generate: Generate, cc: str, folder: Path
) -> bytes:
    """What a program without a C library writes, given the input."""
    program = lower_graph(graph, I686, "net")
    for name, content in build_objects([program], "net", generate=generate).items():
        (folder / name).write_bytes(content)
    sizes = [graph.type(id).bytes for id in graph.outputs.values()]
    source = MAIN.format(
        arena=program.memory.arena_bytes,
        x=x.nbytes,
        y=sum(sizes),
        parameters=", ".join(["void *"] * (len(sizes) + 2)),
        outputs=", ".join(f"y + {sum(sizes[:n])}" for n in range(len(sizes))),
    )
    (folder / "main.c").write_text(source, encoding="utf-8")
    options = ["-m32", "-O1", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-fno-pie"]
    link = [cc, *options, "main.c", "net.o", "net_data.o", "-o", "main"]
    subprocess.run(link, cwd=folder, check=True)
    done = subprocess.run([folder / "main"], input=x.tobytes(), capture_output=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def cc_32(cc: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A compiler whose programs of 32 bits run here."""
    folder = tmp_path_factory.mktemp("m32")
    source = 'void _start(void) { __asm__("int $0x80" :: "a"(1), "b"(0)); }'
    (folder / "a.c").write_text(source)
    command = [cc, "-m32", "-nostdlib", "-static", "-no-pie", "-fno-pie", "a.c", "-o", "a"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        subprocess.run([folder / "a"], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no programs of 32 bits can be made and run here")
    return cc


@pytest.mark.parametrize("make", GRAPHS, ids=lambda make: make.__name__)
def test_code_of_32_bits_gives_the_same_bits(
    kit: Kit, make: Make, cc_32: str, tmp_path: Path
) -> None:
    graph, inputs = make(kit)
    (x,) = inputs.values()
    expected = b"".join(y.tobytes() for y in evaluate(graph, inputs).values())
    got = run_of_32_bits(graph, x, kit.generate, cc_32, tmp_path)
    assert_array_equal(np.frombuffer(got, np.uint8), np.frombuffer(expected, np.uint8))


def test_pointers_of_another_width_are_refused(kit: Kit) -> None:
    graph, _ = pooled(kit)
    platform = replace(ARMV7.platform, pointer_bytes=2)
    with pytest.raises(TargetError, match="pointers of 2 bytes; accepted: 4 or 8"):
        CpuTarget("other", (replace(AARCH64, platform=platform),)).emit(graph, "net")
