"""A library of several instruction sets: which one runs is found out once, on the first run.

    int NAME_run(...)          as that of a library for one instruction set
    int NAME_set_isa(int isa)  1 ... n for one of them, 0 for the best that the processor has

One of AMX has the first too, which asks the kernel for the tile registers.

cpuid traps in virtual machines, so the choice is kept in a word of .bss. Threads that find it out
at the same time find out the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from qcomp.targets.cpu.emit.builder import I32, Value
from qcomp.targets.cpu.machine import Isa

STATUS_OK = 0
STATUS_BAD_CPU = 2
_WORD = 4


def add_dispatch(
    module: ir.Module, name: str, isas: Sequence[Isa], variants: Sequence[ir.Function]
) -> None:
    """NAME_run and, of several, NAME_set_isa; `isas` from the least to the most able."""
    chosen = ir.GlobalVariable(module, I32, f"{name}_isa")
    chosen.linkage = "internal"
    chosen.initializer = _i32(0)
    best = _add_best(module, name, isas)
    _add_run(module, name, variants, chosen, best)
    if len(isas) > 1:
        _add_set_isa(module, name, isas, chosen)


def _add_best(module: ir.Module, name: str, isas: Sequence[Isa]) -> ir.Function:
    """The number of the most able instruction set of the processor, 0 if it has none of them."""
    function = ir.Function(module, ir.FunctionType(I32, []), f"{name}_best_isa")
    function.linkage = "internal"
    b = ir.IRBuilder(function.append_basic_block("entry"))
    for n, isa in reversed(list(enumerate(isas, start=1))):
        with b.if_then(isa.machine.supports(b, isa)):
            b.ret(_i32(n))
    b.ret(_i32(0))
    return function


def _add_run(
    module: ir.Module,
    name: str,
    variants: Sequence[ir.Function],
    chosen: ir.GlobalVariable,
    best: ir.Function,
) -> None:
    run = ir.Function(module, variants[0].function_type, f"{name}_run")
    run.attributes.add("nounwind")
    entry, first, known, bad = (
        run.append_basic_block(n) for n in ("entry", "first", "known", "bad")
    )
    b = ir.IRBuilder(entry)
    stored = b.load_atomic(chosen, "monotonic", _WORD, typ=I32)
    b.cbranch(b.icmp_unsigned("==", stored, _i32(0)), first, known)
    b.position_at_end(first)
    found = b.call(best, [])
    b.store_atomic(found, chosen, "monotonic", _WORD)
    b.branch(known)
    b.position_at_end(known)
    number = b.phi(I32)
    number.add_incoming(stored, entry)
    number.add_incoming(found, first)
    choice = b.switch(number, bad)
    for n, variant in enumerate(variants, start=1):
        block = run.append_basic_block(variant.name)
        choice.add_case(_i32(n), block)
        b.position_at_end(block)
        b.ret(b.call(variant, run.args))
    b.position_at_end(bad)
    b.ret(_i32(STATUS_BAD_CPU))


def _add_set_isa(
    module: ir.Module, name: str, isas: Sequence[Isa], chosen: ir.GlobalVariable
) -> None:
    """Refuses what the processor lacks."""
    function = ir.Function(module, ir.FunctionType(I32, [I32]), f"{name}_set_isa")
    function.attributes.add("nounwind")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    bad = function.append_basic_block("bad")
    choice = b.switch(function.args[0], bad)

    def keep(number: int) -> None:
        b.store_atomic(_i32(number), chosen, "monotonic", _WORD)
        b.ret(_i32(STATUS_OK))

    automatic = function.append_basic_block("automatic")
    choice.add_case(_i32(0), automatic)
    b.position_at_end(automatic)
    keep(0)
    for n, isa in enumerate(isas, start=1):
        block = function.append_basic_block("isa")
        choice.add_case(_i32(n), block)
        b.position_at_end(block)
        with b.if_then(isa.machine.supports(b, isa)):
            keep(n)
        b.branch(bad)
    b.position_at_end(bad)
    b.ret(_i32(STATUS_BAD_CPU))


def _i32(n: int) -> Value:
    return ir.Constant(I32, n)
