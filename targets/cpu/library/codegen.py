"""From the text of an LLVM module to object code."""

from __future__ import annotations

from llvmlite import binding as llvm

from qcomp.targets.cpu.isa import target_machine


def object_code(text: str, triple: str) -> bytes:
    """A relocatable object file; the same for the same text, triple and version of LLVM."""
    parsed = llvm.parse_assembly(text)
    parsed.verify()
    code: bytes = target_machine(triple).emit_object(parsed)
    return code
