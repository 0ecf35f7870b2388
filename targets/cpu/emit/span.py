"""Loops over a range of work that is known at run time only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value, enter_loop, feed_back
from qcomp.targets.cpu.emit.words import word


@dataclass(frozen=True, eq=False)
class Span:
    """The units [begin, end) of a kernel's work, both of word_type."""

    begin: Value
    end: Value

    def within(self, b: ir.IRBuilder, first: int, count: int) -> Span:
        """The part of [first, first + count) that the span covers, counted from `first`."""

        def clipped(x: Value) -> Value:
            low, high = word(b, first), word(b, first + count)
            x = b.select(b.icmp_signed("<", x, low), low, x)
            return b.sub(b.select(b.icmp_signed(">", x, high), high, x), low)

        return Span(clipped(self.begin), clipped(self.end))

    def loop(self, b: ir.IRBuilder, body: Callable[[Value], None], name: str = "unit") -> None:
        """body(index) for each unit; none if the span is empty."""
        head, inside, done = (b.append_basic_block(name + part) for part in ("", ".body", ".done"))
        index, _ = enter_loop(b, head, (), name, first=self.begin)
        b.cbranch(b.icmp_signed("<", index, self.end), inside, done)
        b.position_at_end(inside)
        body(index)
        feed_back(b, (index,), (b.add(index, word(b, 1)),))
        b.branch(head)
        b.position_at_end(done)
