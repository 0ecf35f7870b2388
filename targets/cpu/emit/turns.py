"""Loops of several bodies, for values that move by one place from each body to the next.

A value that a body takes second and hands on as the first would be copied on every trip. Where as
many bodies follow one another as there are places, each value stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Carried, Value, enter_loop, feed_back
from qcomp.targets.cpu.emit.words import word


def in_turns(
    b: ir.IRBuilder,
    count: int,
    carried: Carried,
    body: Callable[[Value, Carried], Carried],
    turns: int,
    name: str,
) -> None:
    """body(index, values) -> values, `count` (static) times, `turns` of them in a trip.

    There is an exit behind each, so that LLVM takes each as a block and does not mix their
    instructions, which would need more registers.
    """
    head, done = b.append_basic_block(name), b.append_basic_block(f"{name}.done")
    index, phis = enter_loop(b, head, carried, name)
    n, values = index, list(phis)
    for turn in range(turns):
        values = list(body(n, values))
        n = b.add(n, word(b, 1))
        after = b.append_basic_block(name) if turn < turns - 1 else head
        if after is head:
            feed_back(b, (index, *phis), (n, *values))
        b.cbranch(b.icmp_unsigned("<", n, word(b, count)), after, done)
        b.position_at_end(after)
    b.position_at_end(done)
