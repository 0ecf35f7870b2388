"""From the text of an LLVM module to object code."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from llvmlite import binding as llvm

from qcomp.targets.cpu.isa import code_options, target_machine

# From a module's text and a triple to a relocatable object file.
Generate = Callable[[str, str], bytes]


def object_code(text: str, triple: str) -> bytes:
    """The same for the same text, triple and `generator`."""
    parsed = llvm.parse_assembly(text)
    parsed.verify()
    code: bytes = target_machine(triple).emit_object(parsed)
    return code


def generator(triple: str) -> str:
    """All that object code for a triple depends on besides text: versions and options."""
    numbers = ".".join(map(str, llvm.llvm_version_info))
    return f"llvmlite {version('llvmlite')}, LLVM {numbers}, {code_options(triple)}"
