"""Calls of kernels, alone or through the parallel_for that the host registered.

    void NAME_set_parallel_for(qcomp_parallel_for function, void *user);

is the only code that writes what it is given. A shared call stores its pointers in a
context on the stack and hands out items, each of some units of the kernel's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, PTR, Value, at, load, raw
from qcomp.targets.cpu.emit.words import word, word_type
from qcomp.targets.cpu.library.frame import Frame
from qcomp.targets.cpu.library.taps import emit_tap
from qcomp.targets.cpu.program import Call, Program
from qcomp.targets.cpu.work import work_of

REGISTERED, REGISTERED_POINTERS = "parallel_for", 2  # a variable: function and user
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
        b.store(value, _slot(b, _variable(b), i), module.pointer_bytes)
    b.ret_void()


def _variable(b: ir.IRBuilder) -> Value:
    """Two pointers in .bss: the function, null where none is registered, and its user."""
    name = f"{b.module.name}_{REGISTERED}"
    if name not in b.module.globals:
        type = ir.ArrayType(PTR, REGISTERED_POINTERS)
        variable = ir.GlobalVariable(b.module, type, name)
        variable.linkage = "internal"
        variable.initializer = ir.zero(type)
    return b.module.globals[name]


def _slot(b: ir.IRBuilder, array: Value, index: int) -> Value:
    """The address of an element of an array of pointers."""
    return b.gep(array, word(b, index), PTR)


class Caller:
    """Emits the calls of one entry point, in order, at the end of its builder's function."""

    def __init__(
        self, b: ir.IRBuilder, program: Program, frame: Frame, splitting: Splitting
    ) -> None:
        self._b, self._program, self._frame, self._splitting = b, program, frame, splitting
        most = max((len(call.arguments) for call in program.calls), default=0)
        with b.goto_entry_block():
            self._context = b.alloca(ir.ArrayType(PTR, max(most, len(frame.pointers))))
        function, self._user = (
            load(b, _slot(b, _variable(b), i), PTR, b.module.pointer_bytes) for i in (0, 1)
        )
        self._function = ir.Pointed(function, PARALLEL_FOR)
        self._serial = b.icmp_unsigned("==", function, ir.zero(PTR))

    def emit(self) -> None:
        """All calls."""
        for group in _groups(self._program.calls):
            first = group[0][0]
            if first.band is None:
                self.call(first)
                emit_tap(self._b, first, self._frame)
            else:
                self._bands(group)

    def call(self, call: Call) -> None:
        """One call, which threads share by its units if it is worth that, and in no band."""
        b = self._b
        kernel = self._program.module.get_function(call.kernel)
        pointers = [self._frame.pointer(b, a) for a in call.arguments]
        ns = work_of(self._program.graph, call.op).estimated_ns(self._program.isa)
        step = self._splitting.units_per_item(call.units, ns)
        if step == call.units or call.band is not None:
            emit_call(b, call, self._frame)
            return
        with b.if_else(self._serial) as (alone, shared):
            with alone:
                emit_call(b, call, self._frame)
            with shared:
                task = _task(b.module, kernel, call.units, step)
                self._share(task, -(-call.units // step), pointers)

    def _bands(self, bands: Sequence[Sequence[Call]]) -> None:
        """Calls that threads share by bands, each of which is done in order."""
        b, pointers = self._b, self._frame.pointers
        task = _bands_task(b.module, self._frame, bands)
        with b.if_else(self._serial) as (alone, shared):
            with alone:
                self._store(pointers)
                b.call(task, [self._context, ir.Constant(I32, 0), ir.Constant(I32, len(bands))])
            with shared:
                self._share(task, len(bands), pointers)

    def _share(self, task: ir.Function, items: int, pointers: Sequence[Value]) -> None:
        self._store(pointers)
        count = ir.Constant(I32, items)
        self._b.call(self._function, [self._user, task, self._context, count])

    def _store(self, pointers: Sequence[Value]) -> None:
        b = self._b
        for i, pointer in enumerate(pointers):
            b.store(raw(pointer), _slot(b, self._context, i), b.module.pointer_bytes)


def emit_call(b: ir.IRBuilder, call: Call, frame: Frame) -> None:
    """The whole of a call, on this thread."""
    span = [word(b, n) for n in (call.first, call.first + call.units)] if call.units else []
    pointers = [frame.pointer(b, a) for a in call.arguments]
    b.call(b.module.get_function(call.kernel), [*span, *pointers])


def _groups(calls: Sequence[Call]) -> list[list[list[Call]]]:
    """The calls in order, as groups of bands; a call that is in no band is alone."""
    groups: list[list[list[Call]]] = []
    last: int | None = None
    for call in calls:
        if call.band is None or last is None or call.band < last:
            groups.append([[call]])
        elif call.band > last:
            groups[-1].append([call])
        else:
            groups[-1][-1].append(call)
        last = call.band
    return groups


def _bands_task(module: ir.Module, frame: Frame, bands: Sequence[Sequence[Call]]) -> ir.Function:
    """A qcomp_task whose items are bands; its context holds the pointers of the frame."""
    name = module.get_unique_name("bands")
    task = _begin_task(module, name)
    b = ir.IRBuilder(task.append_basic_block("entry"))
    context, begin, end = task.args
    there = frame.with_pointers(_loaded(b, context, len(frame.pointers)))
    for k, calls in enumerate(bands):
        number = ir.Constant(I32, k)
        inside = b.and_(b.icmp_signed("<=", begin, number), b.icmp_signed("<", number, end))
        with b.if_then(inside):
            for call in calls:
                emit_call(b, call, there)
    b.ret_void()
    return task


def _begin_task(module: ir.Module, name: str) -> ir.Function:
    task = ir.Function(module, TASK, name)
    task.linkage = "internal"
    task.attributes.add("nounwind")
    return task


def _loaded(b: ir.IRBuilder, context: Value, count: int) -> list[Value]:
    size = b.module.pointer_bytes
    return [load(b, at(b, context, size * i), PTR, size) for i in range(count)]


def _task(module: ir.Module, kernel: ir.Function, units: int, step: int) -> ir.Function:
    """A qcomp_task that does items of `step` units, the last one of what is left of `units`."""
    name = f"{kernel.name}_{units}_by_{step}"
    if name in module.globals:
        return module.get_function(name)
    task = _begin_task(module, name)
    b = ir.IRBuilder(task.append_basic_block("entry"))
    context, *items = task.args
    begin, end = (b.mul(b.sext(item, word_type(b)), word(b, step)) for item in items)
    whole = word(b, units)
    end = b.select(b.icmp_signed("<", end, whole), end, whole)
    b.call(kernel, [begin, end, *_loaded(b, context, len(kernel.args) - 2)])
    b.ret_void()
    return task
