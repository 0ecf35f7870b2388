"""What Windows wants of code besides its calling convention, which LLVM follows by the triple.

Each function that others call into can be unwound. The stack grows page by page: code with a large
frame touches each page of it in order, in a function that compilers' libraries have as __chkstk and
that every library has here, so that no symbol is undefined.
"""

from __future__ import annotations

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.platform import ObjectFormat

# The size of the frame is in %rax, which stays; %r10 and %r11 may change.
PROBE = bytes.fromhex(
    "4c8d542408 4989c3"  # lea 8(%rsp), %r10; mov %rax, %r11
    "4981fb00100000 7213"  # 1: cmp $4096, %r11; jb 2f
    "4981ea00100000 418502"  # sub $4096, %r10; test %eax, (%r10)
    "4981eb00100000 ebe4"  # sub $4096, %r11; jmp 1b
    "4d29da 418502 c3"  # 2: sub %r11, %r10; test %eax, (%r10); ret
)


def follow_windows(module: ir.Module) -> None:
    """For objects of COFF only; before the module is printed."""
    if module.format is not ObjectFormat.COFF:
        return
    module.attributes = ("uwtable",)
    if module.triple.startswith("x86_64"):
        add_probe(module)


def add_probe(module: ir.Module) -> None:
    """The functions of the module ask for large frames by one of its own."""
    name = f"{module.name}_probe_stack"
    probe = ir.Function(module, ir.FunctionType(ir.VoidType(), []), name)
    probe.linkage = "internal"
    probe.attributes.add(f"noinline nounwind prologue {ir.bytes_of(PROBE)}")
    ir.IRBuilder(probe.append_basic_block("entry")).unreachable()
    module.attributes = (*module.attributes, f'"probe-stack"="{name}"')
