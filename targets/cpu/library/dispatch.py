"""Code runs only where the processor has its instructions, which is found out once.

    int NAME_run(...)          QCOMP_BAD_CPU where the processor has none of the instruction sets
    int NAME_init(void)        finds it out without a run, as the host may forbid system calls later
    int NAME_set_isa(int isa)  1 ... n for one of several, 0 for the best that the processor has

Only code for the baseline of a family does not ask. cpuid traps in virtual machines, so the answer
is kept in a word of .bss. Threads that find it out at the same time find out the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, Value
from qcomp.targets.cpu.library.parallel import REGISTERED, REGISTERED_POINTERS
from qcomp.targets.cpu.machine import Isa

STATUS_OK, STATUS_BAD_ARENA, STATUS_BAD_CPU = 0, 1, 2  # qcomp_status of the header
STATUS_BAD_INPUT = 11
CHOICE = "isa"
_WORD = 4


def asks_processor(isas: Sequence[Isa]) -> bool:
    """Whether a library finds out what the processor has: not for what each of its family has."""
    return any(isa.machine.supports is not None for isa in isas)


def variables(isas: Sequence[Isa]) -> dict[str, int]:
    """All writable data of a library: bytes by what follows the library's name in the symbol's.

    What the host registered, and which instruction set the processor was found to have.
    """
    found = {CHOICE: _WORD} if asks_processor(isas) else {}
    return {REGISTERED: REGISTERED_POINTERS * isas[0].platform.pointer_bytes, **found}


def add_dispatch(
    module: ir.Module, name: str, isas: Sequence[Isa], runs: Mapping[str, Sequence[ir.Function]]
) -> None:
    """The functions `runs` by symbol, NAME_init and, of several, NAME_set_isa.

    `isas` are from the least to the most able, and so are the variants of each function: NAME_run,
    or that with taps, and those of other lengths.
    """
    chosen = ir.GlobalVariable(module, I32, f"{name}_{CHOICE}")
    chosen.linkage = "internal"
    chosen.initializer = _i32(0)
    best = _add_best(module, name, isas)
    for symbol, variants in runs.items():
        _add_run(module, symbol, variants, chosen, best)
    _add_init(module, name, chosen, best)
    if len(isas) > 1:
        _add_set_isa(module, name, isas, chosen)


def _add_best(module: ir.Module, name: str, isas: Sequence[Isa]) -> ir.Function:
    """The number of the most able instruction set of the processor, 0 if it has none of them."""
    function = ir.Function(module, ir.FunctionType(I32, []), f"{name}_best_isa")
    function.linkage = "internal"
    b = ir.IRBuilder(function.append_basic_block("entry"))
    for n, isa in reversed(list(enumerate(isas, start=1))):
        with b.if_then(_supported(b, isa)):
            b.ret(_i32(n))
    b.ret(_i32(0))
    return function


def _add_run(
    module: ir.Module,
    symbol: str,
    variants: Sequence[ir.Function],
    chosen: ir.GlobalVariable,
    best: ir.Function,
) -> None:
    run = ir.Function(module, variants[0].function_type, symbol)
    run.attributes.add("nounwind")
    b, number = _known(run, chosen, best)
    bad = run.append_basic_block("bad")
    choice = b.switch(number, bad)
    for n, variant in enumerate(variants, start=1):
        block = run.append_basic_block(variant.name)
        choice.add_case(_i32(n), block)
        b.position_at_end(block)
        b.ret(b.call(variant, run.args))
    b.position_at_end(bad)
    b.ret(_i32(STATUS_BAD_CPU))


def _add_init(module: ir.Module, name: str, chosen: ir.GlobalVariable, best: ir.Function) -> None:
    function = ir.Function(module, ir.FunctionType(I32, []), f"{name}_init")
    function.attributes.add("nounwind")
    b, number = _known(function, chosen, best)
    with b.if_then(b.icmp_unsigned("==", number, _i32(0))):
        b.ret(_i32(STATUS_BAD_CPU))
    b.ret(_i32(STATUS_OK))


def add_init(module: ir.Module, name: str) -> None:
    """NAME_init of a library that has nothing to find out."""
    function = ir.Function(module, ir.FunctionType(I32, []), f"{name}_init")
    function.attributes.add("nounwind")
    ir.IRBuilder(function.append_basic_block("entry")).ret(_i32(STATUS_OK))


def _known(
    function: ir.Function, chosen: ir.GlobalVariable, best: ir.Function
) -> tuple[ir.IRBuilder, Value]:
    """The begin of a function: the number that is kept, or else found out and kept."""
    entry, first, known = (function.append_basic_block(n) for n in ("entry", "first", "known"))
    b = ir.IRBuilder(entry)
    stored = b.load_atomic(chosen, "monotonic", _WORD, I32)
    b.cbranch(b.icmp_unsigned("==", stored, _i32(0)), first, known)
    b.position_at_end(first)
    found = b.call(best, [])
    b.store_atomic(found, chosen, "monotonic", _WORD)
    b.branch(known)
    b.position_at_end(known)
    number = b.phi(I32)
    number.add_incoming(stored, entry)
    number.add_incoming(found, first)
    return b, number


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
        with b.if_then(_supported(b, isa)):
            keep(n)
        b.branch(bad)
    b.position_at_end(bad)
    b.ret(_i32(STATUS_BAD_CPU))


def _supported(b: ir.IRBuilder, isa: Isa) -> Value:
    """i1: whether the processor has the features of an instruction set."""
    supports = isa.machine.supports
    return ir.Constant(ir.IntType(1), 1) if supports is None else supports(b, isa)


def _i32(n: int) -> Value:
    return ir.Constant(I32, n)
