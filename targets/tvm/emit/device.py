"""The launcher of a device: the plan as tables of C, and the code that carries it out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources

from qcomp.ir.graph import Graph
from qcomp.targets.cpu.library.header import COMMON
from qcomp.targets.cpu.library.module import data_symbol
from qcomp.targets.identity import Identity
from qcomp.targets.memory import ALIGN
from qcomp.targets.tvm.emit.header import DEVICE
from qcomp.targets.tvm.emit.pieces import (
    HIDDEN,
    descriptions,
    identity,
    run_arguments,
    run_parameters,
)
from qcomp.targets.tvm.program import Data, Input, Output, Place, Program

_POINTER = 8  # bytes
_STATE_BYTES = 3072  # of a state without its tables
_MESSAGE_BYTES = 2048


def arena_bytes(program: Program) -> int:
    """Of the state of a context."""
    size = _STATE_BYTES + _POINTER * (len(_places(program)) + len(program.launches))
    return size + -size % ALIGN


def launcher(
    program: Program, name: str, driver: str, source: str, parameters: Mapping[str, tuple[int, ...]]
) -> str:
    """C of the functions of the header; `driver` is the file of the device's functions.

    source: C that defines kernel_source. parameters: by kernel, which of its buffers each is.
    """
    folder = resources.files("qcomp.targets.tvm") / "c"
    code = [(folder / file).read_text(encoding="utf-8") for file in (driver, "launcher.c")]
    parts = [
        "#define _GNU_SOURCE",
        "#include <stdint.h>\n#include <string.h>\n#include <time.h>",
        COMMON,
        DEVICE,
        *descriptions(program.graph, name),
        *identity(Identity.of(program.graph, arena_bytes(program), ALIGN, program.data.size), name),
        *_tables(program, name, parameters),
        source,
        *(text.replace("NAME_", f"{name}_") for text in code),
        *_entry(program.graph, name),
    ]
    return "\n".join(parts) + "\n"


def text_in_c(symbol: str, text: str) -> str:
    """A text as an array of C, a line of it on a line."""
    lines = "\n".join(f"  {json.dumps(line)}" for line in text.splitlines(keepends=True))
    return f"static const char {symbol}[] =\n{lines};"


def _tables(
    program: Program, name: str, parameters: Mapping[str, tuple[int, ...]]
) -> Iterator[str]:
    places = _places(program)
    numbers = {place: n for n, place in enumerate(places)}
    yield f"enum {{ PLACES = {len(places)}, LAUNCHES = {len(program.launches)},"
    yield f"       INPUTS = {len(program.graph.inputs)}, MESSAGE_BYTES = {_MESSAGE_BYTES},"
    yield f"       ARENA_BYTES = {arena_bytes(program)}, ARENA_ALIGN = {ALIGN},"
    yield f"       PLACE_ALIGN = {program.data.align},"
    yield f"       MOST_THREADS = {max(kernel.block for kernel in program.kernels)} }};"
    yield f"#define DATA_BYTES ((size_t){program.data.size})"
    yield f"#define SCRATCH_BYTES ((size_t){program.memory.arena_bytes})"
    yield f"{HIDDEN}extern const unsigned char {data_symbol(name)}[];"
    yield "enum { IN_ARGUMENTS, IN_DATA, IN_SCRATCH };"
    yield "typedef struct { int kind; size_t at, bytes; } place;"
    yield "typedef struct { const char *kernel; uint32_t first, count, grid, block; } launch;"
    yield "static const place plan_places[] = {"
    for place in places:
        yield f"  {{{_place(program, place)}}},"
    yield "};"
    arguments: list[int] = []
    yield "static const launch plan_launches[] = {"
    for call in program.launches:
        kernel, own = call.kernel, parameters[call.kernel.name]
        sizes = f"{len(arguments)}, {len(own)}, {kernel.grid}, {kernel.block}"
        yield f'  {{"{kernel.name}_kernel", {sizes}}},'
        arguments += [numbers[call.places[n]] for n in own]
    yield "};"
    yield f"static const uint16_t plan_arguments[] = {{{', '.join(map(str, arguments))}}};"


def _places(program: Program) -> list[Place]:
    """Each once; the arguments first, all of them."""
    graph = program.graph
    found: dict[Place, None] = dict.fromkeys(Input(n) for n in range(len(graph.inputs)))
    found |= dict.fromkeys(Output(n) for n in range(len(graph.outputs)))
    found |= dict.fromkeys(place for call in program.launches for place in call.places)
    return list(found)


def _place(program: Program, place: Place) -> str:
    graph = program.graph
    inputs, outputs = list(graph.inputs.values()), list(graph.outputs.values())
    match place:
        case Input(index):
            return f"IN_ARGUMENTS, {index}, {graph.type(inputs[index]).bytes}"
        case Output(index):
            return f"IN_ARGUMENTS, {len(inputs) + index}, {graph.type(outputs[index]).bytes}"
        case Data(offset, size):
            return f"IN_DATA, {offset}, {size}"
    return f"IN_SCRATCH, {program.offset(place)}, {place.bytes}"


def _entry(graph: Graph, name: str) -> Iterator[str]:
    yield f"void {name}_set_parallel_for(qcomp_parallel_for function, void *user) {{"
    yield "  (void)function;"
    yield "  (void)user;"
    yield "}"
    yield ""
    yield f"int {name}_run({', '.join(run_parameters(graph))}) {{"
    yield f"  const void *arguments[] = {{{', '.join(run_arguments(graph))}}};"
    yield "  return run(arguments, arena);"
    yield "}"
