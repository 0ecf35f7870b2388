"""A program's calls one by one with the clock read between them: times by layer.

The calls are those of the entry point, on the same arena and in the same order, so each finds the
caches as it does in a real run. The clock is the processor's counter of (nearly) constant rate.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import binding as llvm
from numpy.typing import NDArray

from qcomp.ir.tensor import TensorId
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I64, PTR, Value, i64
from qcomp.targets.cpu.isa import target_machine
from qcomp.targets.cpu.library.frame import Frame
from qcomp.targets.cpu.library.module import data_symbol, emit_address
from qcomp.targets.cpu.library.objects import data_object
from qcomp.targets.cpu.library.parallel import SPLITTING, Caller, add_registration
from qcomp.targets.cpu.process.threads import sharing
from qcomp.targets.cpu.program import Program
from qcomp.targets.memory import ALIGN


class TimedProgram:
    """Machine code of a program in this process; it must be for this machine."""

    def __init__(self, program: Program) -> None:
        self.program = program
        name = program.module.name
        symbols = [f"{name}_timed", f"{name}_set_parallel_for"]
        add_registration(program.module, name)
        _add_timed_entry(program, symbols[0])
        parsed = llvm.parse_assembly(str(program.module))
        parsed.verify()
        objects = [
            target_machine(program.isa.triple).emit_object(parsed),
            data_object(program.isa.platform, data_symbol(name), program.data.bytes(), ALIGN),
        ]
        jit = llvm.create_lljit_compiler()
        builder = llvm.JITLibraryBuilder()
        for symbol in symbols:
            builder.export_symbol(symbol)
        for content in objects:
            builder.add_object_img(content)
        library = builder.link(jit, symbols[0])
        self.sharing = sharing(library[symbols[1]])
        count = len(program.graph.inputs) + len(program.graph.outputs) + 2
        type = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * count)
        self._run = type(library[symbols[0]])
        self._keep = (jit, library)

    def run(self, arrays: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
        """The clock before each call and after the last one.

        `arrays` are inputs, outputs and the arena.
        """
        clock = np.empty(len(self.program.calls) + 1, np.int64)
        self._run(*(a.ctypes.data for a in (*arrays, clock)))
        return clock

    def uses_tiles(self, op: TensorId) -> bool:
        """Whether a kernel of the op multiplies AMX tiles."""
        module = self.program.module
        kernels = {call.kernel for call in self.program.calls if call.op == op}
        return any("llvm.x86.tdpbusd" in module.get_function(name).definition() for name in kernels)


def _add_timed_entry(program: Program, symbol: str) -> None:
    """void symbol(input..., output..., arena, int64_t clock[calls + 1])."""
    module, inputs, outputs = program.module, len(program.graph.inputs), len(program.graph.outputs)
    type = ir.FunctionType(ir.VoidType(), [PTR] * (inputs + outputs + 2))
    function = ir.Function(module, type, symbol)
    function.attributes.add("nounwind")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    *arrays, arena, clock = function.args
    data = emit_address(b, data_symbol(module.name))
    frame = Frame(arrays[:inputs], arrays[inputs:], arena, data, program.memory.offsets)

    def read_clock(n: int) -> None:
        place = b.gep(clock, i64(n), I64)
        b.store(_ticks(b, program.isa.machine.clock), place, 8)

    caller = Caller(b, program, frame, SPLITTING)
    read_clock(0)
    for n, call in enumerate(program.calls, start=1):
        caller.call(call)
        read_clock(n)
    b.ret_void()


def _ticks(b: ir.IRBuilder, name: str) -> Value:
    """What the intrinsic of this name counts."""
    return b.call(b.module.function(name, ir.FunctionType(I64, [])), [])
