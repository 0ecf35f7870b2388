"""Kernels that run where their caller does: functions of C or of LLVM, called in order."""

from __future__ import annotations

from collections.abc import Iterator

from qcomp.targets.cpu.library.header import COMMON
from qcomp.targets.cpu.library.module import data_symbol
from qcomp.targets.cpu.library.objects import data_object
from qcomp.targets.cpu.platform import Platform
from qcomp.targets.identity import Identity
from qcomp.targets.memory import ALIGN
from qcomp.targets.tvm.emit.device_source import functions
from qcomp.targets.tvm.emit.pieces import (
    HIDDEN,
    descriptions,
    identity,
    run_arguments,
    run_parameters,
)
from qcomp.targets.tvm.program import Data, Input, Output, Place, Program

BAD_ARENA = 1
# Objects of LLVM call the functions of the launcher's; two libraries may be in one program.
WEAK = '__attribute__((weak, visibility("hidden")))'


def launcher(program: Program, name: str) -> str:
    """C of NAME_run, which calls the kernels; constants are those of another object."""
    return "\n".join(_launcher(program, name)) + "\n"


def _launcher(program: Program, name: str) -> Iterator[str]:
    graph, data = program.graph, data_symbol(name)
    arguments = run_arguments(graph)
    yield from ("#include <stdint.h>", COMMON)
    yield f"{HIDDEN}extern const unsigned char {data}[];"
    for kernel in program.kernels:
        count = next(len(c.places) for c in program.launches if c.kernel is kernel)
        pointers = ", ".join(["const void *"] * (count - 1) + ["void *"])
        yield f"{HIDDEN}void {kernel.name}({pointers});"
    yield functions("int64_t", WEAK)
    yield from descriptions(graph, name)
    sizes = program.memory.arena_bytes, ALIGN, program.data.size
    yield from identity(Identity.of(graph, *sizes), name)
    yield f"void {name}_set_parallel_for(qcomp_parallel_for function, void *user) {{}}"
    yield f"int {name}_run({', '.join(run_parameters(graph))}) {{"
    yield "  unsigned char *a = (unsigned char *)arena;"
    yield f"  if (!a || (uintptr_t)a % {ALIGN}) return {BAD_ARENA};"
    for call in program.launches:
        places = (_address(program, place, data, arguments) for place in call.places)
        yield f"  {call.kernel.name}({', '.join(places)});"
    yield "  return 0;"
    yield "}"


def _address(program: Program, place: Place, data: str, arguments: list[str]) -> str:
    match place:
        case Input(index):
            return arguments[index]
        case Output(index):
            return arguments[len(program.graph.inputs) + index]
        case Data(offset):
            return f"{data} + {offset}"
    return f"a + {program.offset(place)}"


def kernels_in_c(source: str) -> str:
    """What TVM prints, without its own headers and exports."""
    unwanted = ("#", "//", 'extern "C"', "void* __tvm")
    lines = [line for line in source.splitlines() if not line.startswith(unwanted)]
    text = "\n".join(line.replace("TVM_DLL ", HIDDEN) for line in lines)
    own = functions("int64_t", "static inline")
    return f"#include <stdbool.h>\n#include <stdint.h>\n{own}\n{text}\n"


def constants(program: Program, name: str, platform: Platform) -> bytes:
    """The object of the constants."""
    return data_object(platform, data_symbol(name), program.data.bytes() or bytes(ALIGN), ALIGN)
