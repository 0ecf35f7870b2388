"""Functions given as bytes, for instructions that LLVM's IR does not name.

LLVM takes inline assembly only for the family of the machine that it runs on. The bytes are
`prologue data`, which LLVM puts where the function begins.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from qcomp.targets.cpu.emit.builder import I8, Value


def machine_code(
    b: ir.IRBuilder, name: str, code: bytes, result: ir.Type, arguments: Sequence[Value]
) -> Value:
    """Call a function that consists of these bytes, which return and obey the C ABI."""
    function = b.module.globals.get(name)
    if function is None:
        type = ir.FunctionType(result, [x.type for x in arguments])
        function = ir.Function(b.module, type, name)
        function.linkage = "internal"
        prologue = ir.Constant(ir.ArrayType(I8, len(code)), bytearray(code))
        set.add(function.attributes, f"noinline nounwind prologue {prologue}")
        ir.IRBuilder(function.append_basic_block("entry")).unreachable()
    return b.call(function, arguments)
