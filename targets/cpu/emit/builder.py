"""A thin layer over the instructions: integer vectors and loops with static trip counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.words import word

Value = Any  # a value of LLVM's, or a View


I8, I16, I32, I64 = (ir.IntType(n) for n in (8, 16, 32, 64))
PTR = ir.PointerType()

Carried = Sequence[Value]


def vector(element: ir.Type, lanes: int) -> ir.VectorType:
    return ir.VectorType(element, lanes)


def i64(n: int) -> ir.Constant:
    return ir.Constant(I64, n)


def constant(element: ir.Type, values: Sequence[int]) -> Value:
    """The vector of these integers."""
    return ir.vector_of(element, values)


@lru_cache(4096)
def splat(element: ir.Type, lanes: int, n: int) -> Value:
    """The constant vector <n, n, ...>."""
    return ir.vector_of(element, [n] * lanes)


def shuffle(b: ir.IRBuilder, a: Value, c: Value, indices: Sequence[int]) -> Value:
    return b.shuffle_vector(a, c, indices)


def broadcast(b: ir.IRBuilder, scalar: Value, lanes: int) -> Value:
    """A scalar in every lane."""
    nothing = ir.undefined(vector(scalar.type, lanes))
    return shuffle(b, b.insert_element(nothing, scalar, ir.Constant(I32, 0)), nothing, [0] * lanes)


@dataclass(frozen=True, eq=False)
class View:
    """A pointer to values that are stored in another form; `load` converts."""

    raw: Value

    def loaded(self, b: ir.IRBuilder, stored: Value) -> Value:
        """The values of what was loaded."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Unsigned(View):
    """A pointer to i8 values that are stored as value + BIAS; `load` and `store` convert."""

    def loaded(self, b: ir.IRBuilder, stored: Value) -> Value:
        return flipped(b, stored)


def raw(pointer: Value) -> Value:
    """The pointer itself, for code that works on the stored bytes."""
    return pointer.raw if isinstance(pointer, View) else pointer


def biased(pointer: Value) -> Value:
    """The pointer for code that works on value + BIAS: `load` and `store` convert from values."""
    return pointer.raw if isinstance(pointer, Unsigned) else Unsigned(pointer)


def flipped(b: ir.IRBuilder, x: Value) -> Value:
    """Every byte of x xor 0x80: between value and value + BIAS."""
    is_vector = isinstance(x.type, ir.VectorType)
    element = x.type.element if is_vector else x.type
    pattern = int.from_bytes(b"\x80" * (element.width // 8), "little")
    return b.xor(
        x, splat(element, x.type.count, pattern) if is_vector else ir.Constant(element, pattern)
    )


def at(b: ir.IRBuilder, pointer: Value, offset: Value | int) -> Value:
    """pointer + offset bytes."""
    if isinstance(pointer, View):
        return replace(pointer, raw=at(b, pointer.raw, offset))
    if isinstance(offset, int):
        if offset == 0:
            return pointer
        offset = word(b, offset)
    return b.gep(pointer, offset, I8)


def load(b: ir.IRBuilder, pointer: Value, type: ir.Type, align: int = 1) -> Value:
    value = b.load(raw(pointer), type, align)
    return pointer.loaded(b, value) if isinstance(pointer, View) else value


def prefetch(b: ir.IRBuilder, pointer: Value) -> None:
    """Ask for a line of memory that will be read soon, into the second level of caches."""
    name = "llvm.prefetch.p0"
    type = ir.FunctionType(ir.VoidType(), [PTR, I32, I32, I32])
    b.call(b.module.function(name, type), [raw(pointer), *(ir.Constant(I32, n) for n in (0, 2, 1))])


def store(b: ir.IRBuilder, value: Value, pointer: Value, align: int = 1) -> None:
    if isinstance(pointer, Unsigned):
        value = flipped(b, value)
    b.store(value, raw(pointer), align)


def store_bytes(b: ir.IRBuilder, value: Value, pointer: Value, count: int, first: int = 0) -> None:
    """Store exactly `count` lanes of a vector of i8, from lane `first`, in powers of two.

    Pieces of up to 8 bytes are elements of a vector of wider integers where they are aligned in it.
    """
    done = 0
    while done < count:
        piece = 1 << ((count - done).bit_length() - 1)
        start = first + done
        if piece == value.type.count:
            part = value
        elif piece <= 8 and start % piece == 0:
            wide = b.bitcast(value, vector(ir.IntType(8 * piece), value.type.count // piece))
            part = b.extract_element(wide, ir.Constant(I32, start // piece))
        else:
            part = shuffle(b, value, value, range(start, start + piece))
        store(b, part, at(b, pointer, done))
        done += piece


def larger(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    return b.select(b.icmp_signed(">", x, y), x, y)


def smaller(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    return b.select(b.icmp_signed("<", x, y), x, y)


def larger_unsigned(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    return b.select(b.icmp_unsigned(">", x, y), x, y)


def smaller_unsigned(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    return b.select(b.icmp_unsigned("<", x, y), x, y)


def clamp(b: ir.IRBuilder, x: Value, low: int, high: int) -> Value:
    """Signed saturation of integer lanes to [low, high]."""
    element, lanes = x.type.element, x.type.count
    lows, highs = splat(element, lanes, low), splat(element, lanes, high)
    x = b.select(b.icmp_signed("<", x, lows), lows, x)
    return b.select(b.icmp_signed(">", x, highs), highs, x)


def multiple(b: ir.IRBuilder, index: Value | int, factor: int) -> Value | int:
    """index * factor, folded where the index is a Python integer."""
    if isinstance(index, int):
        return index * factor
    return b.mul(index, word(b, factor)) if factor != 1 else index


def plus(b: ir.IRBuilder, x: Value | int, y: Value | int) -> Value | int:
    if isinstance(y, int):
        if isinstance(x, int):
            return x + y
        return b.add(x, word(b, y)) if y else x
    if isinstance(x, int):
        return b.add(y, word(b, x)) if x else y
    return b.add(x, y)


def divided(b: ir.IRBuilder, x: Value | int, n: int) -> tuple[Value | int, Value | int]:
    """x // n, x % n for x >= 0."""
    if n == 1:
        return x, 0
    if isinstance(x, int):
        return divmod(x, n)
    quotient = b.udiv(x, word(b, n))
    return quotient, b.sub(x, b.mul(quotient, word(b, n)))


def enter_loop(
    b: ir.IRBuilder, head: ir.Block, carried: Carried, name: str, first: Value | None = None
) -> tuple[Value, list[Value]]:
    """Branch to `head` and go on there: the index, from `first` or 0, and the carried values."""
    before = b.block
    b.branch(head)
    b.position_at_end(head)
    phis = []
    start = word(b, 0) if first is None else first
    for value, label in ((start, name), *((v, "") for v in carried)):
        phi = b.phi(value.type, label)
        phi.add_incoming(value, before)
        phis.append(phi)
    return phis[0], phis[1:]


def feed_back(b: ir.IRBuilder, phis: Sequence[Value], values: Sequence[Value]) -> None:
    """What the phis of a loop are on its next trip, which starts from the current block."""
    for phi, value in zip(phis, values, strict=True):
        phi.add_incoming(value, b.block)


def repeat(
    b: ir.IRBuilder,
    count: int,
    carried: Carried,
    body: Callable[[Value | int, Carried], Carried],
    name: str = "i",
) -> list[Value]:
    """body(index, values) -> values, `count` (static) times; one trip emits no loop.

    The index is a Python 0 for a single trip, a phi of word_type otherwise.
    """
    if count == 0:
        return list(carried)
    if count == 1:
        return list(body(0, carried))
    head = b.append_basic_block(name)
    index, phis = enter_loop(b, head, carried, name)
    results = list(body(index, phis))
    next_index = b.add(index, word(b, 1))
    feed_back(b, (index, *phis), (next_index, *results))
    done = b.append_basic_block(f"{name}.done")
    b.cbranch(b.icmp_unsigned("<", next_index, word(b, count)), head, done)
    b.position_at_end(done)
    return results


def loop(b: ir.IRBuilder, count: int, body: Callable[[Value | int], None], name: str = "i") -> None:
    """body(index), `count` (static) times, nothing carried."""

    def step(index: Value | int, _: Carried) -> Carried:
        body(index)
        return ()

    repeat(b, count, (), step, name)


def overlapped(b: ir.IRBuilder, index: Value | int, step: int, extent: int) -> Value | int:
    """min(index * step, extent - step): where tile `index` of ceil(extent / step) tiles starts.

    The last tile is moved back so that it ends at `extent` (extent >= step).
    """
    if isinstance(index, int):
        return min(index * step, extent - step)
    start = b.mul(index, word(b, step))
    if extent % step == 0:
        return start
    last = word(b, extent - step)
    return b.select(b.icmp_unsigned("<", start, last), start, last)
