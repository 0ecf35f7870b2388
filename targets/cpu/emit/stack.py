"""Memory of a kernel's own."""

from __future__ import annotations

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, Value

_LINE = 64  # bytes of a cache line


def stack(b: ir.IRBuilder, size: int) -> Value:
    """Bytes of the stack, of a cache line's alignment; call it in the entry block."""
    return b.alloca(ir.ArrayType(I8, size), _LINE)
