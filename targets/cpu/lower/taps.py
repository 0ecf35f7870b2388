"""Calls behind an op that make its result dense, count its clipped values, and tell of it.

Kernels are those of a library without taps; only chains are taken apart, whose tensors are never
in memory as a whole. The counts lie at the start of the arena, an i32 for each activation: those
that a kernel keeps in registers are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qcomp.ir.graph import Graph
from qcomp.ir.numbering import activations
from qcomp.ir.tensor import TensorId
from qcomp.targets.base import Taps
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, Carried, Value, at, load, multiple, repeat, store
from qcomp.targets.cpu.lower.context import Lowering, Place
from qcomp.targets.cpu.lower.movement import copy_tensor
from qcomp.targets.cpu.memory import dense_layout
from qcomp.targets.cpu.program import Arena, Argument, Call, Program, Tap
from qcomp.targets.memory import ALIGN, Lifetime, MemoryPlan

COUNTS = "clipped values"  # the buffer
_COUNT_BYTES = 4


def begin_taps(lowering: Lowering) -> list[Call]:
    """No value was clipped yet; and the inputs are told of."""
    graph = lowering.graph
    count, lowering.current = (len(activations(graph)),), activations(graph)[0]
    place = Place(Arena(COUNTS, 0), dense_layout(count, _COUNT_BYTES))

    def first() -> None:
        lowering.fill(place, 0, count, 0)

    calls = _made(lowering, first)
    for index, tensor in enumerate(graph.inputs.values()):
        type = graph.type(tensor)
        given = Argument(index, is_output=False)
        lowering.current = tensor
        calls += _told(lowering, tensor, Place(given, dense_layout(type.shape, type.dtype.bytes)))
    return calls


def tapped(lowering: Lowering, tensor: TensorId) -> list[Call]:
    """Of the result of the op that was lowered last."""
    place, calls = lowering.place(tensor), []
    if place.base.unsigned or not place.layout.is_contiguous:
        dense = dense_layout(place.layout.shape, place.layout.element)
        values = Place(lowering.temporary(dense.bytes), dense)
        calls = _made(lowering, lambda: copy_tensor(lowering, place, values))
        place = values
    return calls + _told(lowering, tensor, place)


def taps_of(programs: Sequence[Program]) -> Taps:
    """Of a library with a program for each instruction set."""
    tensors = activations(programs[0].graph)
    missing = {
        program.isa.name: tuple(t for t in tensors if t not in program.tapped)
        for program in programs
    }
    return Taps(tensors, missing)


def with_counts(plan: MemoryPlan, graph: Graph) -> MemoryPlan:
    """The plan behind the counts."""
    size = -(-_COUNT_BYTES * len(activations(graph)) // ALIGN) * ALIGN
    offsets = {name: size + offset for name, offset in plan.offsets.items()}
    last = max((life.last for life in plan.lifetimes), default=0)
    return MemoryPlan(
        {COUNTS: 0, **offsets},
        size + plan.arena_bytes,
        size + plan.lower_bound,
        (Lifetime(COUNTS, size, 0, last), *plan.lifetimes),
    )


def _made(lowering: Lowering, lower: Callable[[], None]) -> list[Call]:
    """The calls that a function appends."""
    before, lowering.calls = lowering.calls, []
    lower()
    calls, lowering.calls = lowering.calls, before
    return calls


def _told(lowering: Lowering, tensor: TensorId, place: Place) -> list[Call]:
    """The call that counts, with the tap behind it."""
    type, number = lowering.graph.type(tensor), activations(lowering.graph).index(tensor)
    q = lowering.graph.tensor(tensor).qparams
    ends = () if q is None else q.ends
    key = (type.size, type.dtype.bytes, ends)

    def emit(b: ir.IRBuilder, pointers: Sequence[Value]) -> None:
        _emit_count(b, type.size, ir.IntType(8 * type.dtype.bytes), ends, *pointers)

    counts = Arena(COUNTS, _COUNT_BYTES * number)
    (call,) = _made(lowering, lambda: lowering.call("clipped", key, [place.start, counts], emit))
    return [replace(call, tap=Tap(tensor, number, place.start, type.bytes))]


def _emit_count(
    b: ir.IRBuilder, size: int, type: ir.IntType, ends: Sequence[int], values: Value, count: Value
) -> None:
    """*count = how many of the values are one of the ends."""

    def step(index: Value | int, sums: Carried) -> Carried:
        (total,) = sums
        value = load(b, at(b, values, multiple(b, index, type.width // 8)), type)
        for end in ends:
            is_end = b.icmp_signed("==", value, ir.Constant(type, end))
            total = b.select(is_end, b.add(total, ir.Constant(I32, 1)), total)
        return (total,)

    (total,) = repeat(b, size if ends else 0, (ir.Constant(I32, 0),), step)
    store(b, total, count, _COUNT_BYTES)
    b.ret_void()
