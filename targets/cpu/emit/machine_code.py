"""Functions given as bytes, for instructions that LLVM's IR does not name.

LLVM takes inline assembly only for the family of the machine that it runs on. The bytes are
`prologue data`, which LLVM puts where the function begins.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value


def machine_code(
    b: ir.IRBuilder, name: str, code: bytes, result: ir.Type, arguments: Sequence[Value]
) -> Value:
    """Call a function that consists of these bytes, which return and obey the C ABI."""
    type = ir.FunctionType(result, [x.type for x in arguments])
    function = b.module.function(name, type)
    if not function.blocks:
        function.linkage = "internal"
        function.attributes.add(f"noinline nounwind prologue {ir.bytes_of(code)}")
        ir.IRBuilder(function.append_basic_block("entry")).unreachable()
    return b.call(function, arguments)
