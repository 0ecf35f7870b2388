"""Attention on any machine: a row of scores at a time, then its weights, then their sum over v.

Meaning: qcomp.ir.evaluate.attention (QAttention). Rows are as long as there are keys; nothing is
stored of the scores of other queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.ir.ops.attention import Mask, Unattended
from qcomp.quant.attention import VALUE_BITS, excluded_score, mask_limit
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I16,
    I32,
    I64,
    Carried,
    Value,
    at,
    broadcast,
    clamp,
    divided,
    larger,
    load,
    loop,
    multiple,
    plus,
    repeat,
    smaller_unsigned,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.lanes import chunk, folded, over_chunks, powers, scalar
from qcomp.targets.cpu.emit.words import in_bits, word, word_type

_NOTHING = 16  # a shift that leaves nothing of a weight
_FULL = 2**15 - 1


@dataclass(frozen=True)
class MaskSpec:
    """How one mask is read: bytes from one batch, head, query and key to the next, 0 where it is
    the same for all.
    """

    kind: Mask
    width: int  # of its elements
    strides: tuple[int, int, int, int]
    zero_point: int


@dataclass(frozen=True)
class AttentionSpec:
    """Sizes, bytes from one batch, position and head to the next, and the fields of QAttention.

    widths: bits of an element of q, k, v and the result.
    """

    batch: int
    queries: int
    keys: int
    heads: int
    groups: int
    depth: int
    elements: int
    q: tuple[int, int, int]
    k: tuple[int, int, int]
    v: tuple[int, int, int]
    y: tuple[int, int, int]
    widths: tuple[int, int, int, int]
    q_zero_point: int
    v_zero_point: int
    score_shift: int
    multiplier: int
    probability_bits: int
    down: int
    numerator: int
    shift: int
    zero_point: int
    ahead: int
    masks: tuple[MaskSpec, ...]
    added_multiplier: int
    added_shift: int
    added_least: int
    unattended: Unattended

    @property
    def wide(self) -> bool:
        """Whether scores are i64."""
        return 16 in self.widths[:2]

    @property
    def score(self) -> ir.IntType:
        return I64 if self.wide else I32

    @property
    def sum(self) -> ir.IntType:
        """Of weighted values."""
        return I64 if self.widths[2] == 16 else I32

    @property
    def is_causal(self) -> bool:
        return self.ahead < self.keys - 1

    @property
    def scratch(self) -> int:
        """Bytes: a row of scores, and one of weights in i16."""
        return self.keys * (self.score.width // 8 + 2)


@dataclass(frozen=True, eq=False)
class Where:
    """A query: batch, head and position."""

    batch: Value | int
    head: Value | int
    query: Value | int


def emit_attention(
    b: ir.IRBuilder, spec: AttentionSpec, lanes: int, pointers: Sequence[Value]
) -> None:
    """Pointers: q, k, v, the result, the table, scratch, and the masks."""
    q, k, v, y, table, scratch, *masks = pointers
    scores, weights = scratch, at(b, scratch, spec.keys * (spec.score.width // 8))
    share = spec.heads // spec.groups

    def batch(n: Value | int) -> None:
        def head(h: Value | int) -> None:
            group, _ = divided(b, h, share)
            keys = _moved(b, k, spec.k, n, 0, group)
            values = _moved(b, v, spec.v, n, 0, group)

            def query(i: Value | int) -> None:
                row = _moved(b, q, spec.q, n, i, h)
                where = Where(n, h, i)
                top = _scores(b, spec, lanes, row, keys, scores, masks, where)
                total, attended = _weights(b, spec, scores, weights, table, top)
                result = _moved(b, y, spec.y, n, i, h)
                _result(b, spec, lanes, weights, values, total, attended, result)

            loop(b, spec.queries, query, "query")

        loop(b, spec.heads, head, "head")

    loop(b, spec.batch, batch, "batch")
    b.ret_void()


def _moved(b: ir.IRBuilder, pointer: Value, strides: Sequence[int], *indices: Value | int) -> Value:
    for index, stride in zip(indices, strides, strict=True):
        pointer = at(b, pointer, multiple(b, index, stride))
    return pointer


def _constant(type: ir.IntType, n: int) -> ir.Constant:
    return ir.Constant(type, n)


def _scores(
    b: ir.IRBuilder,
    spec: AttentionSpec,
    lanes: int,
    row: Value,
    keys: Value,
    scores: Value,
    masks: Sequence[Value],
    where: Where,
) -> Value:
    """Writes the scores of a query, and gives the largest."""
    nothing = _constant(spec.score, excluded_score(spec.wide))
    size = spec.score.width // 8

    def key(j: Value | int, found: Carried) -> list[Value]:
        acc = _product(b, spec, lanes, row, at(b, keys, multiple(b, j, spec.k[1])))
        for mask, pointer in zip(spec.masks, masks, strict=True):
            acc = _masked(b, spec, mask, pointer, acc, where, j)
        if spec.is_causal:
            last = plus(b, where.query, spec.ahead)
            seen = b.icmp_signed("<=", _as_word(b, j), _as_word(b, last))
            acc = b.select(seen, acc, nothing)
        store(b, acc, at(b, scores, multiple(b, j, size)), size)
        return [larger(b, found[0], acc)]

    (top,) = repeat(b, spec.keys, [nothing], key, "key")
    return top


def _as_word(b: ir.IRBuilder, x: Value | int) -> Value:
    return word(b, x) if isinstance(x, int) else x


def _product(b: ir.IRBuilder, spec: AttentionSpec, lanes: int, row: Value, key: Value) -> Value:
    """sum((q - q_zero_point) * k)"""
    q_type, k_type = (ir.IntType(width) for width in spec.widths[:2])
    q_size, k_size = (width // 8 for width in spec.widths[:2])
    width = min(lanes * 32 // spec.score.width, 1 << (spec.depth.bit_length() - 1))

    def products(d: Value | int, count: int) -> Value:
        wide = vector(spec.score, count)
        x = b.sext(load(b, at(b, row, multiple(b, d, q_size)), vector(q_type, count)), wide)
        w = b.sext(load(b, at(b, key, multiple(b, d, k_size)), vector(k_type, count)), wide)
        if spec.q_zero_point:
            x = b.sub(x, splat(spec.score, count, spec.q_zero_point))
        return b.mul(x, w)

    whole, rest = divmod(spec.depth, width)
    (sums,) = repeat(
        b,
        whole,
        [splat(spec.score, width, 0)],
        lambda n, found: [b.add(found[0], products(multiple(b, n, width), width))],
        "d",
    )
    total = scalar(b, folded(b, sums, _add))
    for start, count in powers(rest):
        part = products(whole * width + start, count)
        total = b.add(total, scalar(b, folded(b, part, _add)))
    return total


def _add(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    return b.add(x, y)


def _masked(
    b: ir.IRBuilder,
    spec: AttentionSpec,
    mask: MaskSpec,
    pointer: Value,
    acc: Value,
    where: Where,
    key: Value | int,
) -> Value:
    """The score with a mask: less than any other where it excludes the key.

    What was excluded before stays so: the score is brought back to that number at the end.
    """
    nothing = _constant(spec.score, excluded_score(spec.wide))
    limit = mask_limit(spec.wide)
    place = _moved(b, pointer, mask.strides, where.batch, where.head, where.query, key)
    value = load(b, place, ir.IntType(mask.width))
    gone = b.icmp_signed("==", acc, nothing)
    if mask.kind is Mask.SCORES:
        seen = b.icmp_signed(">=", value, _constant(spec.score, -limit))
        return b.select(b.or_(gone, b.not_(seen)), nothing, b.add(acc, value))
    if mask.kind is Mask.ADDED:
        seen = b.icmp_signed(">=", value, _constant(value.type, spec.added_least))
        centred = b.sub(b.sext(value, I64), _constant(I64, mask.zero_point))
        scaled = b.add(
            b.mul(centred, _constant(I64, spec.added_multiplier)),
            _constant(I64, 1 << spec.added_shift >> 1),
        )
        shifted = b.ashr(scaled, _constant(I64, spec.added_shift))
        bounded = _bounded(b, shifted, I64, -limit, limit)
        added = bounded if spec.wide else b.trunc(bounded, I32)
        return b.select(b.or_(gone, b.not_(seen)), nothing, b.add(acc, added))
    relation = "==" if mask.kind is Mask.ALLOWED else "!="
    excluded = b.icmp_signed(relation, value, _constant(value.type, mask.zero_point))
    return b.select(excluded, nothing, acc)


def _bounded(b: ir.IRBuilder, x: Value, type: ir.IntType, low: int, high: int) -> Value:
    x = larger(b, x, _constant(type, low))
    most = _constant(type, high)
    return b.select(b.icmp_signed(">", x, most), most, x)


def _weights(
    b: ir.IRBuilder, spec: AttentionSpec, scores: Value, weights: Value, table: Value, top: Value
) -> tuple[Value, Value]:
    """Writes the weights of a row; their sum, and whether there was any key."""
    nothing = _constant(spec.score, excluded_score(spec.wide))
    attended = b.icmp_signed("!=", top, nothing)
    size = spec.score.width // 8

    def key(j: Value | int, found: Carried) -> list[Value]:
        acc = load(b, at(b, scores, multiple(b, j, size)), spec.score, size)
        weight = _weight(b, spec, table, b.sub(top, acc))
        excluded = b.and_(b.icmp_signed("==", acc, nothing), attended)
        weight = b.select(excluded, _constant(I32, 0), weight)
        store(b, b.trunc(weight, I16), at(b, weights, multiple(b, j, 2)), 2)
        return [b.add(found[0], weight)]

    (total,) = repeat(b, spec.keys, [_constant(I32, 0)], key, "weight")
    return total, attended


def _weight(b: ir.IRBuilder, spec: AttentionSpec, table: Value, distance: Value) -> Value:
    """Of a key whose score is so far below the largest."""
    type = spec.score
    if spec.score_shift > 0:
        up = _constant(type, 1 << (spec.score_shift - 1))
        distance = b.lshr(b.add(distance, up), _constant(type, spec.score_shift))
    full = _constant(type, _FULL)
    t = smaller_unsigned(b, distance, full)
    if spec.score_shift < 0:
        t = smaller_unsigned(b, b.shl(t, _constant(type, -spec.score_shift)), full)
    t = b.trunc(t, I32) if spec.wide else t
    u = b.add(b.mul(t, _constant(I32, spec.multiplier)), _constant(I32, 1 << 14))
    u = b.lshr(u, _constant(I32, 15))
    if spec.probability_bits == 8:
        entry = _entry(b, table, b.and_(u, _constant(I32, 31)))
        shift = b.add(b.lshr(u, _constant(I32, 5)), _constant(I32, 7))
    else:
        coarse = b.and_(b.lshr(u, _constant(I32, 5)), _constant(I32, 31))
        fine = b.add(b.and_(u, _constant(I32, 31)), _constant(I32, 32))
        product = b.mul(_entry(b, table, coarse), _entry(b, table, fine))
        entry = b.lshr(b.add(product, _constant(I32, 1 << 14)), _constant(I32, 15))
        shift = b.lshr(u, _constant(I32, 10))
    shift = smaller_unsigned(b, shift, _constant(I32, _NOTHING))
    half = b.lshr(b.shl(_constant(I32, 1), shift), _constant(I32, 1))
    return b.lshr(b.add(entry, half), shift)


def _entry(b: ir.IRBuilder, table: Value, index: Value) -> Value:
    place = index if word_type(b) == I32 else b.zext(index, word_type(b))
    return b.zext(load(b, at(b, table, b.shl(place, word(b, 1))), I16, 2), I32)


@dataclass(frozen=True, eq=False)
class Division:
    """What turns a row's sums over v into results: shifts, and the reciprocal of its weights."""

    left: Value
    right: Value
    half: Value
    reciprocal: Value


def division(b: ir.IRBuilder, spec: AttentionSpec, total: Value, attended: Value) -> Division:
    """total >= 1; see QAttention."""

    def c(n: int) -> ir.Constant:
        return _constant(I32, n)

    bits = b.sub(c(32), b.ctlz(total, ir.Constant(ir.IntType(1), 1)))
    lost = b.sub(bits, c(16))
    is_long = b.icmp_signed(">", lost, c(0))
    right = b.select(is_long, lost, c(0))
    left = b.select(is_long, c(0), b.sub(c(0), lost))
    half = b.lshr(b.shl(c(1), right), c(1))
    mantissa = b.lshr(b.add(b.shl(total, left), half), right)
    over = b.icmp_unsigned(">", mantissa, c(2**16 - 1))
    mantissa = b.select(over, c(2**15), mantissa)
    lost = b.add(lost, b.zext(over, I32))
    quotient = b.udiv(b.add(c(spec.numerator), b.lshr(mantissa, c(1))), mantissa)
    t_bits = VALUE_BITS[spec.widths[3]]
    reciprocal = smaller_unsigned(b, quotient, c(2 ** (31 - t_bits) - 1))
    if spec.unattended is Unattended.ZERO:
        reciprocal = b.select(attended, reciprocal, c(0))
    shift = b.add(lost, c(spec.down))
    is_right = b.icmp_signed(">", shift, c(0))
    right = b.select(is_right, shift, c(0))
    left = b.select(is_right, c(0), b.sub(c(0), shift))
    if spec.sum == I64:
        left, right = b.zext(left, I64), b.zext(right, I64)
    one = _constant(spec.sum, 1)
    return Division(left, right, b.lshr(b.shl(one, right), one), reciprocal)


def finished(b: ir.IRBuilder, spec: AttentionSpec, by: Division, sums: Value) -> Value:
    """A vector of sums as results."""
    lanes = sums.type.count
    t_bits = VALUE_BITS[spec.widths[3]]
    left, right, half = (broadcast(b, x, lanes) for x in (by.left, by.right, by.half))
    t = b.ashr(b.add(b.shl(sums, left), half), right)
    t = clamp(b, t, -(2 ** (t_bits - 1)), 2 ** (t_bits - 1) - 1)
    t = t if spec.sum == I32 else b.trunc(t, vector(I32, lanes))
    scaled = b.mul(t, broadcast(b, by.reciprocal, lanes))
    rounded = b.add(scaled, splat(I32, lanes, 1 << spec.shift >> 1))
    y = b.add(b.ashr(rounded, splat(I32, lanes, spec.shift)), splat(I32, lanes, spec.zero_point))
    limit = 1 << (spec.widths[3] - 1)
    return b.trunc(clamp(b, y, -limit, limit - 1), vector(ir.IntType(spec.widths[3]), lanes))


def _result(
    b: ir.IRBuilder,
    spec: AttentionSpec,
    lanes: int,
    weights: Value,
    values: Value,
    total: Value,
    attended: Value,
    y: Value,
) -> None:
    by = division(b, spec, total, attended)
    width = chunk(spec.elements, lanes, lanes)
    v_size, y_size = spec.widths[2] // 8, spec.widths[3] // 8
    v_type, wide = vector(ir.IntType(spec.widths[2]), width), vector(spec.sum, width)
    weighed = b.sext(total, I64) if spec.sum == I64 else total
    offset = b.mul(weighed, _constant(spec.sum, spec.v_zero_point))

    def piece(c: Value | int) -> None:
        first = at(b, values, multiple(b, c, v_size))

        def key(j: Value | int, found: Carried) -> list[Value]:
            p = in_bits(b, load(b, at(b, weights, multiple(b, j, 2)), I16, 2), spec.sum)
            x = b.sext(load(b, at(b, first, multiple(b, j, spec.v[1])), v_type), wide)
            return [b.add(found[0], b.mul(broadcast(b, p, width), x))]

        (sums,) = repeat(b, spec.keys, [splat(spec.sum, width, 0)], key, "value")
        sums = b.sub(sums, broadcast(b, offset, width))
        store(b, finished(b, spec, by, sums), at(b, y, multiple(b, c, y_size)))

    over_chunks(b, spec.elements, width, piece)
