"""Lowering of attention, of any widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qcomp.ir.ops import Op, QAttention
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.attention import emit_attention
from qcomp.targets.cpu.emit.attention_blocks import AttentionBlocks
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.kernels.attention import AttentionSpec, MaskSpec
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, Place, broadcast_strides


def lower_attention(lowering: Lowering, op: QAttention) -> None:
    q, k, v, y = (lowering.place(t) for t in (op.q, op.k, op.v, op.output))
    masks = [lowering.place(t) for t in op.mask_operands]
    spec = attention_spec(op, q, k, v, y, masks)
    table = lowering.constant(lowering.graph.data(op.table))
    places = [*(p.start for p in (q, k, v, y)), table]
    if spec.fits_blocks:
        blocks = AttentionBlocks(spec, lowering.isa)
        scratch = lowering.temporary(blocks.scratch)
        arguments = [*places, scratch, *(m.start for m in masks)]
        lowering.ranged("attention_blocks", spec, arguments, blocks.emit, blocks.units)
        return
    lanes = lowering.isa.lanes

    def emit(b: ir.IRBuilder, pointers: Sequence[Value]) -> None:
        emit_attention(b, spec, lanes, pointers)

    arguments = [*places, lowering.temporary(spec.row_bytes), *(m.start for m in masks)]
    lowering.call("attention", (spec, lanes), arguments, emit)


def attention_spec(
    op: QAttention, q: Place, k: Place, v: Place, y: Place, masks: Sequence[Place]
) -> AttentionSpec:
    batch, queries, heads, depth = q.layout.shape
    _, keys, groups, elements = v.layout.shape
    scores = (batch, heads, queries, keys)
    operands = zip(op.masks, masks, op.mask_zero_points, strict=True)
    return AttentionSpec(
        batch=batch,
        queries=queries,
        keys=keys,
        heads=heads,
        groups=groups,
        depth=depth,
        elements=elements,
        q=_strides(q),
        k=_strides(k),
        v=_strides(v),
        y=_strides(y),
        widths=_widths(q, k, v, y),
        q_zero_point=op.q_zero_point,
        v_zero_point=op.v_zero_point,
        product_shift=op.product_shift,
        score_shift=op.score_shift,
        multiplier=op.multiplier,
        probability_bits=op.probability_bits,
        down=op.down,
        numerator=op.numerator,
        shift=op.shift,
        zero_point=op.zero_point,
        ahead=op.ahead,
        masks=tuple(
            MaskSpec(kind, 8 * m.layout.element, _mask_strides(m, scores), zero_point)
            for kind, m, zero_point in operands
        ),
        added_multiplier=op.added_multiplier,
        added_shift=op.added_shift,
        added_least=op.added_least,
        unattended=op.unattended,
    )


def _strides(place: Place) -> tuple[int, int, int]:
    """Of batch, position and head; elements are neighbours."""
    batch, position, head, _ = place.layout.strides
    return batch, position, head


def _widths(q: Place, k: Place, v: Place, y: Place) -> tuple[int, int, int, int]:
    one, two, three, four = (8 * p.layout.element for p in (q, k, v, y))
    return one, two, three, four


def _mask_strides(mask: Place, scores: tuple[int, ...]) -> tuple[int, int, int, int]:
    batch, head, query, key = broadcast_strides(mask.layout, scores)
    return batch, head, query, key


LOWERINGS: Mapping[type[Op], LowerOp] = {
    QAttention: lower_attention,
}
