"""Loops whose trip count is known only at run time, such as windows cut by the border."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Carried, Value, enter_loop, feed_back, repeat
from qcomp.targets.cpu.emit.words import word

Trip = Callable[[Value, Sequence[Value]], Sequence[Value]]


def repeat_trips(
    b: ir.IRBuilder,
    trips: Value | int,
    carried: Carried,
    body: Callable[[Value | int, Carried], Carried],
    name: str = "i",
) -> list[Value]:
    """body(index, values) -> values, `trips` times; a value is known at run time only."""
    if isinstance(trips, int):
        return repeat(b, trips, carried, body, name)
    head, inside, done = (b.append_basic_block(name + part) for part in ("", ".body", ".done"))
    index, phis = enter_loop(b, head, carried, name)
    b.cbranch(b.icmp_unsigned("<", index, trips), inside, done)
    b.position_at_end(inside)
    results = list(body(index, phis))
    next_index = b.add(index, word(b, 1))
    feed_back(b, (index, *phis), (next_index, *results))
    b.branch(head)
    b.position_at_end(done)
    return phis


def trips(
    b: ir.IRBuilder, begin: Value, end: Value, carried: Sequence[Value], trip: Trip
) -> Sequence[Value]:
    """trip(index, values) -> values for [begin, end), once at least."""
    head, done = b.append_basic_block("trip"), b.append_basic_block("done")
    index, phis = enter_loop(b, head, carried, "trip", first=begin)
    results = trip(index, phis)
    following = b.add(index, word(b, 1))
    feed_back(b, (index, *phis), (following, *results))
    b.cbranch(b.icmp_signed("<", following, end), head, done)
    b.position_at_end(done)
    return results
