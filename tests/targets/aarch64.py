"""Graphs as programs for AArch64, in an emulator."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept import kept_objects
from numpy.testing import assert_array_equal

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.targets.cpu.isa import AARCH64, AARCH64_DOTPROD, AARCH64_I8MM
from qcomp.targets.cpu.library.archive import archive
from qcomp.targets.cpu.library.dispatch import STATUS_OK
from qcomp.targets.cpu.library.module import build_objects
from qcomp.targets.cpu.lower.graph import lower_variants
from qcomp.targets.cpu.machine import Isa
from tests.targets.every_kind import side_by_side

# The processors to emulate: the least that each set runs on, and one with everything.
PROCESSORS = {
    AARCH64: ("cortex-a72", "max"),
    AARCH64_DOTPROD: ("neoverse-n1", "max"),
    AARCH64_I8MM: ("max",),
}
each_set = pytest.mark.parametrize("isa", PROCESSORS, ids=lambda isa: isa.name)

MAIN = """
#include <stdint.h>
#include <stdio.h>
static _Alignas(64) uint8_t arena[{arena}];
{buffers}
int net_run({parameters});
int main(void) {{
  {reads}
  int status = net_run({arguments});
  {writes}
  return status;
}}
"""


def run_in_emulator(
    graph: Graph, inputs: dict[str, Any], isas: Sequence[Isa], compiler: str, directory: Path
) -> dict[str, Any]:
    """Of a program that gets the inputs; the same on all processors of the least able set."""
    built(graph, isas, compiler, directory)
    feed = b"".join(inputs[name].tobytes() for name in graph.inputs)
    answers = {emulated(directory / "net", feed, processor) for processor in PROCESSORS[isas[0]]}
    (answer,) = answers
    results, offset = {}, 0
    for name, id in graph.outputs.items():
        type = graph.type(id)
        part = np.frombuffer(answer, type.dtype.numpy, type.size, offset)
        results[name], offset = part.reshape(type.shape), offset + type.bytes
    return results


def built(graph: Graph, isas: Sequence[Isa], compiler: str, directory: Path) -> None:
    """Link the library with a main that feeds it from stdin; the outputs come on stdout."""
    programs = lower_variants(graph, isas, "net")
    objects = build_objects(programs, "net", generate=kept_objects())
    (directory / "net.a").write_bytes(archive(objects))
    types = {
        **{f"in_{name}": graph.type(id) for name, id in graph.inputs.items()},
        **{f"out_{name}": graph.type(id) for name, id in graph.outputs.items()},
    }
    reads = [n for n in types if n.startswith("in_")]
    writes = [n for n in types if n.startswith("out_")]
    source = MAIN.format(
        arena=max(program.memory.arena_bytes for program in programs),
        buffers="\n".join(f"static uint8_t {n}[{t.bytes}];" for n, t in types.items()),
        parameters=", ".join(["void *"] * (len(types) + 1)),
        arguments=", ".join([*types, "arena"]),
        reads="\n".join(
            f"if (fread({n}, 1, sizeof {n}, stdin) != sizeof {n}) return 9;" for n in reads
        ),
        writes="\n".join(f"fwrite({n}, 1, sizeof {n}, stdout);" for n in writes),
    )
    (directory / "main.c").write_text(source, encoding="utf-8")
    undefined = subprocess.run(
        ["aarch64-linux-gnu-nm", "-uj", "--quiet", "net.a"], cwd=directory, stdout=subprocess.PIPE
    )
    assert undefined.stdout.split() == [b"net_data"]
    link = [compiler, "-static", "-Wall", "-Werror", "main.c", "net.a", "-o", "net"]
    subprocess.run(link, cwd=directory, check=True)


def emulated(program: Path, feed: bytes, processor: str) -> bytes:
    done = run_program(program, feed, processor)
    assert done.returncode == STATUS_OK
    return done.stdout


def run_program(
    program: Path, feed: bytes, processor: str, *options: str
) -> subprocess.CompletedProcess[bytes]:
    command = ["qemu-aarch64", "-cpu", processor, *options, program]
    return subprocess.run(command, input=feed, stdout=subprocess.PIPE)


def expect_exact(
    kit: Any, cases: dict[str, tuple[Any, list[Any]]], isa: Isa, compiler: str, directory: Path
) -> None:
    """All cases as one program have the specification's bits."""
    graph, inputs = side_by_side(kit, cases)
    got = run_in_emulator(graph, inputs, [isa], compiler, directory)
    for name, expected in evaluate(graph, inputs).items():
        assert_array_equal(got[name], expected, err_msg=name)
