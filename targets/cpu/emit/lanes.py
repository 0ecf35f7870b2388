"""How an axis is cut into vectors without touching anything outside of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, Value, loop, overlapped, shuffle

LANE = 16  # bytes within which instructions on shorter vectors work

Merge = Callable[[ir.IRBuilder, Value, Value], Value]


def chunk(extent: int, widest: int, native: int) -> int:
    """The power of two, at most `extent` and `widest`, that covers the extent with the least work.

    Chunks are overlapped at the end. A vector below `native` lanes costs as much as a native one.
    """
    sizes = [1 << k for k in range(min(extent, widest).bit_length())]
    return min(sizes, key=lambda size: (-(-extent // size) * max(size, native), -size))


def over_chunks(
    b: ir.IRBuilder, extent: int, size: int, body: Callable[[Value | int], None]
) -> None:
    """body(start) for chunks that cover the extent, the last one moved back to end with it."""
    loop(b, -(-extent // size), lambda n: body(overlapped(b, n, size, extent)), "chunk")


def powers(count: int) -> Iterator[tuple[int, int]]:
    """(start, size) of pieces of falling powers of two that add up to `count`."""
    done = 0
    while done < count:
        size = 1 << ((count - done).bit_length() - 1)
        yield done, size
        done += size


def zipped(b: ir.IRBuilder, x: Value, y: Value, *, high: bool) -> Value:
    """x0 y0 x1 y1 ... of the low or the high half of each 128 bits: an unpack of x86, a zip of ARM.

    A shorter vector is one such lane.
    """
    count = x.type.count
    lane = min(count, 128 // x.type.element.width)
    indices = [
        source + start + i
        for start in range(high * lane // 2, count, lane)
        for i in range(lane // 2)
        for source in (0, count)
    ]
    return shuffle(b, x, y, indices)


def in_lanes(b: ir.IRBuilder, x: Value, least: int = LANE) -> Value:
    """Whole 128-bit lanes: `least` bytes or more, what is added is undefined."""
    count = x.type.count
    if count >= least:
        return x
    nothing = ir.undefined(x.type)
    return shuffle(b, x, nothing, [min(i, count) for i in range(least)])


def first_lanes(b: ir.IRBuilder, x: Value, count: int) -> Value:
    return x if x.type.count == count else shuffle(b, x, x, range(count))


def folded(b: ir.IRBuilder, x: Value, merge: Merge) -> Value:
    """All lanes (a power of two) merged into one: <n x t> to <1 x t>."""
    lanes = x.type.count
    while lanes > 1:
        lanes //= 2
        low, high = shuffle(b, x, x, range(lanes)), shuffle(b, x, x, range(lanes, 2 * lanes))
        x = merge(b, low, high)
    return x


def scalar(b: ir.IRBuilder, x: Value) -> Value:
    """The only lane of a <1 x t>."""
    return b.extract_element(x, ir.Constant(I32, 0))
