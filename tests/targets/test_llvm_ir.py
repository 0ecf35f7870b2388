"""LLVM's IR as text: LLVM reads every instruction, and what it would refuse is refused here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from llvmlite import binding as llvm

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.isa import X86_64

CPU = Path(__file__).resolve().parents[2] / "targets" / "cpu"
I1, I8, I32, I64 = (ir.IntType(n) for n in (1, 8, 32, 64))
PTR, VOID = ir.PointerType(), ir.VoidType()
FOUR = ir.VectorType(I32, 4)


def begun(name: str = "f") -> tuple[ir.Module, ir.IRBuilder]:
    """A function of a pointer and an i32, at its entry."""
    module = ir.Module("m", X86_64.platform)
    function = ir.Function(module, ir.FunctionType(VOID, [PTR, I32]), name)
    return module, ir.IRBuilder(function.append_basic_block("entry"))


def read(module: ir.Module) -> str:
    """The text as LLVM prints it."""
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    return str(parsed)


def write_all(b: ir.IRBuilder) -> None:
    """Every instruction that has a result or a place in memory."""
    pointer, n = b.function.args
    arithmetic = (b.add, b.sub, b.mul, b.udiv, b.shl, b.lshr, b.ashr, b.and_, b.or_, b.xor)
    x = n
    for operation in arithmetic:
        x = operation(x, n)
    wide = b.zext(b.trunc(x, I8), I64)
    address = b.inttoptr(b.add(b.ptrtoint(pointer, I64), b.sext(x, I64)), PTR)
    b.store(wide, b.gep(address, wide, I32), 4)
    b.store_atomic(b.load_atomic(pointer, "monotonic", 4, I32), pointer, "monotonic", 4)
    lanes = b.insert_element(ir.undefined(FOUR), x, ir.Constant(I32, 3))
    swapped = b.shuffle_vector(lanes, ir.zero(FOUR), [7, 0])
    chosen = b.select(b.icmp_signed("<=", swapped, swapped), swapped, swapped)
    b.select(b.icmp_unsigned(">", n, x), n, x)
    b.store(b.extract_element(chosen, ir.Constant(I32, 1)), b.alloca(I32, 16), 4)
    bits = b.bitcast(b.load(pointer, FOUR, 16), ir.VectorType(I8, 16))
    b.store(bits, b.alloca(ir.ArrayType(I8, 16)), 1)
    pair = b.module.function("pair", ir.FunctionType(ir.StructType(I64, I32), []))
    second = b.extract_value(b.call(pair, []), 1)
    b.store(b.not_(b.ctlz(second, ir.Constant(I1, 1))), pointer, 4)


def test_llvm_reads_every_instruction_as_it_was_meant() -> None:
    module, b = begun()
    write_all(b)
    b.ret_void()
    text = read(module)
    for part in (
        "getelementptr inbounds i32, ptr",
        "store atomic i32 %",
        "monotonic, align 4",
        "insertelement <4 x i32> undef, i32 %",
        "<2 x i32> <i32 7, i32 0>",
        "icmp sle <2 x i32>",
        "icmp ugt i32 %",
        "alloca i32, align 16",
        "declare { i64, i32 } @pair()",
        ", -1\n",
        "declare i32 @llvm.ctlz.i32(i32, i1 immarg)",
    ):
        assert part in text, part


def test_control_goes_where_it_is_sent() -> None:
    module, b = begun("choose")
    pointer, n = b.function.args
    with b.if_else(b.icmp_unsigned("==", n, ir.Constant(I32, 0))) as (yes, no):
        with yes:
            b.store(n, pointer, 4)
            first = b.block
        with no, b.if_then(b.icmp_signed(">", n, ir.Constant(I32, 9))):
            b.ret_void()
    with b.goto_entry_block():
        slot = b.alloca(I32)
    value = b.phi(I32, "value")
    value.add_incoming(n, first)
    value.add_incoming(ir.Constant(I32, 5), b.function.blocks[-1])
    b.store(value, slot, 4)
    done = b.append_basic_block("entry")
    b.switch(value, done).add_case(ir.Constant(I32, 3), done)
    b.position_at_end(done)
    b.ret_void()
    text = read(module)
    entry = text.partition("entry:")[2].partition("\n\n")[0]
    assert entry.index("alloca i32") < entry.index("br i1")
    assert "%value = phi i32" in text
    assert "entry.1:" in text
    assert text.count("ret void") == 2


def test_globals_are_what_they_are_made_of() -> None:
    module, b = begun()
    content = module.constant("bytes", ir.bytes_of(b'a"\\\0'), 64)
    assert module.constant("bytes", ir.bytes_of(b'a"\\\0'), 64) is content
    outside = ir.GlobalVariable(module, I8, "out side")
    here = ir.GlobalVariable(module, I64, "here")
    here.initializer, here.linkage = ir.distance(I64, outside, here), "internal"
    callee = module.function("g", ir.FunctionType(VOID, [PTR]))
    assert module.function("g", ir.FunctionType(VOID, [PTR])) is callee
    b.call(callee, [content])
    b.ret_void()
    text = read(module)
    assert '@bytes = internal constant [4 x i8] c"a\\22\\\\\\00", align 64' in text
    assert '@"out side" = external global i8' in text
    assert '(i64 ptrtoint (ptr @"out side" to i64), i64 ptrtoint (ptr @here to i64))' in text
    assert "declare void @g(ptr)" in text


def test_equal_types_are_one_object() -> None:
    assert ir.VectorType(I8, 16) is ir.VectorType(ir.IntType(8), 16)
    assert ir.VectorType(I8, 16) is not ir.VectorType(I8, 8)
    assert ir.ArrayType(I8, 16) is not ir.VectorType(I8, 16)
    assert ir.StructType(I8, PTR) is ir.StructType(I8, ir.PointerType())


REFUSED: dict[str, tuple[type[Exception], Callable[[ir.IRBuilder, ir.Value], object]]] = {
    "operands of one type": (TypeError, lambda b, n: b.add(n, ir.Constant(I64, 1))),
    "<=": (TypeError, lambda b, n: b.icmp_signed("<=", n, ir.Constant(I64, 1))),
    "select": (TypeError, lambda b, n: b.select(ir.Constant(I1, 1), n, ir.Constant(I8, 1))),
    "is called with": (TypeError, lambda b, n: b.call(b.function, [n])),
    "lanes": (IndexError, lambda b, _: b.shuffle_vector(ir.zero(FOUR), ir.zero(FOUR), [8])),
    "after the end": (ValueError, lambda b, _: (b.ret_void(), b.ret_void())),
    "has a global": (ValueError, lambda b, _: ir.GlobalVariable(b.module, I8, "f")),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_llvm_would_refuse_is_refused_where_it_is_written(reason: str) -> None:
    kind, write = REFUSED[reason]
    _, b = begun()
    with pytest.raises(kind, match=reason):
        write(b, b.function.args[1])


def test_nothing_is_written_with_the_objects_of_llvmlite() -> None:
    """They take longer to make and to print than LLVM takes to generate code from them."""
    sources = {path: path.read_text("utf-8") for path in CPU.rglob("*.py")}
    assert [path for path, text in sources.items() if "llvmlite import ir" in text] == []
