"""Loops whose trip count is known only at run time, such as windows cut by the border."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from qcomp.targets.cpu.emit.builder import I64, Carried, Value, i64, repeat


def repeat_trips(
    b: ir.IRBuilder,
    trips: Value | int,
    carried: Carried,
    body: Callable[[Value | int, Carried], Carried],
    name: str = "i",
) -> list[Value]:
    """body(index, values) -> values, `trips` times; an i64 value is known at run time only."""
    if isinstance(trips, int):
        return repeat(b, trips, carried, body, name)
    before = b.block
    head, inside, done = (b.append_basic_block(name + part) for part in ("", ".body", ".done"))
    b.branch(head)
    b.position_at_end(head)
    index = b.phi(I64, name)
    index.add_incoming(i64(0), before)
    phis = []
    for value in carried:
        phi = b.phi(value.type)
        phi.add_incoming(value, before)
        phis.append(phi)
    b.cbranch(b.icmp_unsigned("<", index, trips), inside, done)
    b.position_at_end(inside)
    results = list(body(index, phis))
    next_index = b.add(index, i64(1))
    latch = b.block
    b.branch(head)
    index.add_incoming(next_index, latch)
    for phi, result in zip(phis, results, strict=True):
        phi.add_incoming(result, latch)
    b.position_at_end(done)
    return phis
