"""Calls of kernels, alone or through the parallel_for that the host registered.

    void NAME_set_parallel_for(qcomp_parallel_for function, void *user);

is the only code that writes the library's only variable. A shared call stores its pointers in a
context on the stack and hands out items, each of some units of the kernel's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from qcomp.targets.cpu.emit.builder import I32, I64, PTR, Value, at, i64, load, raw
from qcomp.targets.cpu.lower.graph import Program
from qcomp.targets.cpu.program import Call
from qcomp.targets.cpu.work import work_of

POINTER_BYTES = 8
TASK = ir.FunctionType(ir.VoidType(), [PTR, I32, I32])
PARALLEL_FOR = ir.FunctionType(ir.VoidType(), [PTR, PTR, PTR, I32])


@dataclass(frozen=True)
class Splitting:
    """What is shared by threads: calls of `least_ns` and more, in items of about `item_ns`.

    Both are nanoseconds of the estimate in work.py. A shared call costs 0.3 us where the cores
    share a cache and 1.3 where they do not; small ones pay even so, as data stays where it is.
    """

    least_ns: float = 3000.0
    item_ns: float = 1000.0

    def units_per_item(self, units: int, ns: float) -> int:
        """`units` where the call is not worth sharing."""
        if units < 2 or ns < self.least_ns:
            return units
        return max(1, min(units // 2, round(units * self.item_ns / ns)))


SPLITTING = Splitting()


def add_registration(module: ir.Module, name: str) -> None:
    """NAME_set_parallel_for."""
    type = ir.FunctionType(ir.VoidType(), [PTR, PTR])
    function = ir.Function(module, type, f"{name}_set_parallel_for")
    function.attributes.add("nounwind")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    for i, value in enumerate(function.args):
        b.store(value, _slot(b, _variable(b), i), align=POINTER_BYTES)
    b.ret_void()


def _variable(b: ir.IRBuilder) -> Value:
    """Two pointers in .bss: the function, null where none is registered, and its user."""
    name = f"{b.module.name}_parallel_for"
    if name not in b.module.globals:
        type = ir.ArrayType(PTR, 2)
        variable = ir.GlobalVariable(b.module, type, name)
        variable.linkage = "internal"
        variable.initializer = ir.Constant(type, None)
    return b.module.get_global(name)


def _slot(b: ir.IRBuilder, array: Value, index: int) -> Value:
    """The address of an element of an array of pointers."""
    return b.gep(array, [i64(0), i64(index)], inbounds=True)


@dataclass(frozen=True, eq=False)
class _Callee:
    """A function known by a pointer; llvmlite calls what has these two."""

    pointer: Value
    function_type: ir.FunctionType

    def get_reference(self) -> str:
        text: str = self.pointer.get_reference()
        return text


class Caller:
    """Emits the calls of one entry point, in order, at the end of its builder's function."""

    def __init__(self, b: ir.IRBuilder, program: Program, splitting: Splitting) -> None:
        self._b, self._program, self._splitting = b, program, splitting
        most = max((len(call.arguments) for call in program.calls), default=0)
        with b.goto_entry_block():
            self._context = b.alloca(ir.ArrayType(PTR, max(1, most)))
        function, self._user = (
            load(b, _slot(b, _variable(b), i), PTR, POINTER_BYTES) for i in (0, 1)
        )
        self._function = _Callee(function, PARALLEL_FOR)
        self._serial = b.icmp_unsigned("==", function, ir.Constant(PTR, None))

    def call(self, call: Call, pointers: Sequence[Value]) -> None:
        """The whole work of a call."""
        b = self._b
        kernel = self._program.module.get_global(call.kernel)
        if not call.units:
            b.call(kernel, pointers)
            return
        ns = work_of(self._program.graph, call.op).estimated_ns(self._program.isa)
        step = self._splitting.units_per_item(call.units, ns)
        if step == call.units:
            b.call(kernel, [i64(0), i64(call.units), *pointers])
            return
        with b.if_else(self._serial) as (alone, shared):
            with alone:
                b.call(kernel, [i64(0), i64(call.units), *pointers])
            with shared:
                for i, pointer in enumerate(pointers):
                    b.store(raw(pointer), _slot(b, self._context, i), align=POINTER_BYTES)
                task = _task(b.module, kernel, call.units, step)
                items = ir.Constant(I32, -(-call.units // step))
                b.call(self._function, [self._user, task, self._context, items])


def _task(module: ir.Module, kernel: ir.Function, units: int, step: int) -> ir.Function:
    """A qcomp_task that does items of `step` units, the last one of what is left of `units`."""
    name = f"{kernel.name}_{units}_by_{step}"
    if name in module.globals:
        return module.get_global(name)
    task = ir.Function(module, TASK, name)
    task.linkage = "internal"
    task.attributes.add("nounwind")
    b = ir.IRBuilder(task.append_basic_block("entry"))
    context, *items = task.args
    begin, end = (b.mul(b.sext(item, I64), i64(step)) for item in items)
    whole = i64(units)
    end = b.select(b.icmp_signed("<", end, whole), end, whole)
    arity = len(kernel.args) - 2
    pointers = [
        load(b, at(b, context, POINTER_BYTES * i), PTR, POINTER_BYTES) for i in range(arity)
    ]
    b.call(kernel, [begin, end, *pointers])
    b.ret_void()
    return task
