"""Attention whose products leave 32 bits: a row of scores, then its weights, then their sum over v.

Meaning: qcomp.ir.evaluate.attention (QAttention). Rows are as long as there are keys; nothing is
stored of the scores of other queries.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.quant.attention import EXCLUDED
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.attention_division import division, finished
from qcomp.targets.cpu.emit.attention_masks import Where, masked, moved
from qcomp.targets.cpu.emit.builder import (
    I16,
    I32,
    I64,
    Carried,
    Value,
    at,
    broadcast,
    divided,
    larger,
    load,
    loop,
    multiple,
    repeat,
    smaller_unsigned,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.lanes import chunk, folded, over_chunks, powers, scalar
from qcomp.targets.cpu.emit.words import in_bits, word, word_type
from qcomp.targets.cpu.kernels.attention import AttentionSpec

_NOTHING = 16  # a shift that leaves nothing of a weight
_FULL = 2**15 - 1


def emit_attention(
    b: ir.IRBuilder, spec: AttentionSpec, lanes: int, pointers: Sequence[Value]
) -> None:
    """Pointers: q, k, v, the result, the table, scratch, and the masks."""
    q, k, v, y, table, scratch, *masks = pointers
    scores, weights = scratch, at(b, scratch, spec.keys * (4))
    share = spec.heads // spec.groups

    def batch(n: Value | int) -> None:
        def head(h: Value | int) -> None:
            group, _ = divided(b, h, share)
            keys = moved(b, k, spec.k, n, 0, group)
            values = moved(b, v, spec.v, n, 0, group)

            def query(i: Value | int) -> None:
                row = moved(b, q, spec.q, n, i, h)
                where = Where(n, h, i)
                top = _scores(b, spec, lanes, row, keys, scores, masks, where)
                total, attended = _weights(b, spec, scores, weights, table, top)
                result = moved(b, y, spec.y, n, i, h)
                _result(b, spec, lanes, weights, values, total, attended, result)

            loop(b, spec.queries, query, "query")

        loop(b, spec.heads, head, "head")

    loop(b, spec.batch, batch, "batch")
    b.ret_void()


def _sum(spec: AttentionSpec) -> ir.IntType:
    return ir.IntType(spec.sum_bits)


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
    nothing = _constant(I32, EXCLUDED)
    size = 4

    def key(j: Value | int, found: Carried) -> list[Value]:
        acc = _product(b, spec, lanes, row, at(b, keys, multiple(b, j, spec.k[1])))
        if spec.excludes:
            acc = scalar(b, masked(b, spec, masks, broadcast(b, acc, 1), where, j))
        store(b, acc, at(b, scores, multiple(b, j, size)), size)
        return [larger(b, found[0], acc)]

    (top,) = repeat(b, spec.keys, [nothing], key, "key")
    return top


def _product(b: ir.IRBuilder, spec: AttentionSpec, lanes: int, row: Value, key: Value) -> Value:
    """rsh(sum((q - q_zero_point) * k), product_shift)"""
    q_type, k_type = (ir.IntType(width) for width in spec.widths[:2])
    q_size, k_size = (width // 8 for width in spec.widths[:2])
    type = I64 if spec.wide else I32
    width = min(lanes * 32 // type.width, 1 << (spec.depth.bit_length() - 1))

    def products(d: Value | int, count: int) -> Value:
        wide = vector(type, count)
        x = b.sext(load(b, at(b, row, multiple(b, d, q_size)), vector(q_type, count)), wide)
        w = b.sext(load(b, at(b, key, multiple(b, d, k_size)), vector(k_type, count)), wide)
        if spec.q_zero_point:
            x = b.sub(x, splat(type, count, spec.q_zero_point))
        return b.mul(x, w)

    whole, rest = divmod(spec.depth, width)
    (sums,) = repeat(
        b,
        whole,
        [splat(type, width, 0)],
        lambda n, found: [b.add(found[0], products(multiple(b, n, width), width))],
        "d",
    )
    total = scalar(b, folded(b, sums, _add))
    for start, count in powers(rest):
        part = products(whole * width + start, count)
        total = b.add(total, scalar(b, folded(b, part, _add)))
    half = _constant(type, 1 << spec.product_shift >> 1)
    total = b.ashr(b.add(total, half), _constant(type, spec.product_shift))
    return b.trunc(total, I32) if spec.wide else total


def _add(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    return b.add(x, y)


def _weights(
    b: ir.IRBuilder, spec: AttentionSpec, scores: Value, weights: Value, table: Value, top: Value
) -> tuple[Value, Value]:
    """Writes the weights of a row; their sum, and whether there was any key."""
    nothing = _constant(I32, EXCLUDED)
    attended = b.icmp_signed("!=", top, nothing)
    size = 4

    def key(j: Value | int, found: Carried) -> list[Value]:
        acc = load(b, at(b, scores, multiple(b, j, size)), I32, size)
        weight = _weight(b, spec, table, b.sub(top, acc))
        excluded = b.and_(b.icmp_signed("==", acc, nothing), attended)
        weight = b.select(excluded, _constant(I32, 0), weight)
        store(b, b.trunc(weight, I16), at(b, weights, multiple(b, j, 2)), 2)
        return [b.add(found[0], weight)]

    (total,) = repeat(b, spec.keys, [_constant(I32, 0)], key, "weight")
    return total, attended


def _weight(b: ir.IRBuilder, spec: AttentionSpec, table: Value, distance: Value) -> Value:
    """Of a key whose score is so far below the largest."""
    if spec.score_shift > 0:
        up = _constant(I32, 1 << (spec.score_shift - 1))
        distance = b.lshr(b.add(distance, up), _constant(I32, spec.score_shift))
    full = _constant(I32, _FULL)
    t = smaller_unsigned(b, distance, full)
    if spec.score_shift < 0:
        t = smaller_unsigned(b, b.shl(t, _constant(I32, -spec.score_shift)), full)
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
    v_type, wide = vector(ir.IntType(spec.widths[2]), width), vector(_sum(spec), width)
    weighed = b.sext(total, I64) if spec.sum_bits == 64 else total
    offset = b.mul(weighed, _constant(_sum(spec), spec.v_zero_point))

    def piece(c: Value | int) -> None:
        first = at(b, values, multiple(b, c, v_size))

        def key(j: Value | int, found: Carried) -> list[Value]:
            p = in_bits(b, load(b, at(b, weights, multiple(b, j, 2)), I16, 2), _sum(spec))
            x = b.sext(load(b, at(b, first, multiple(b, j, spec.v[1])), v_type), wide)
            return [b.add(found[0], b.mul(broadcast(b, p, width), x))]

        (sums,) = repeat(b, spec.keys, [splat(_sum(spec), width, 0)], key, "value")
        sums = b.sub(sums, broadcast(b, offset, width))
        store(b, finished(b, spec, by, sums), at(b, y, multiple(b, c, y_size)))

    over_chunks(b, spec.elements, width, piece)
