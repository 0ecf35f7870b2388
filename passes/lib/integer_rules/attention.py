"""Attention: scores in the accumulator's steps, masks in the same or as conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from qcomp.ir import ops
from qcomp.ir.graph import Graph
from qcomp.ir.ops.attention import EXCLUDES, Mask
from qcomp.ir.tensor import Array, DType, TensorId
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.sums import BoundSums, Sums, largest_centered
from qcomp.quant import attention as numbers
from qcomp.quant.binary_constants import sum_constants
from qcomp.quant.qparams import QParams


@dataclass
class _Masks:
    """The operands and fields of the masks of an integer attention."""

    operands: list[TensorId] = field(default_factory=list)
    kinds: list[Mask] = field(default_factory=list)
    zero_points: list[int] = field(default_factory=list)
    multiplier: int = 0
    shift: int = 0
    least: int = 0

    def put(self, operand: TensorId, kind: Mask, zero_point: int = 0) -> None:
        self.operands.append(operand)
        self.kinds.append(kind)
        self.zero_points.append(zero_point)


def attention(site: Site, op: ops.Attention) -> ops.Op:
    (q_id, q), (k_id, k), (v_id, v) = (site.operand(t) for t in (op.q, op.k, op.v))
    keys = site.graph.type(op.k).shape[1]
    if keys > numbers.MOST_KEYS:
        raise ValueError(f"{keys} keys; expected at most {numbers.MOST_KEYS}")
    y = site.qparams
    narrow = y.bits == 8 and v.bits == 8 and keys <= numbers.MOST_KEYS_OF_8_BITS
    bits = 8 if narrow else 15
    step = q.scale * k.scale * op.scale
    largest = site.graph.type(op.q).shape[3] * _largest_product(
        site.graph, q_id, k_id, q.zero_point
    )
    least = numbers.LEAST_SHIFT if q.bits == k.bits == 16 else 0
    score = numbers.score_constants(step, bits, largest=largest, least_shift=least)
    masks = _masks(site, op, step * 2.0**score.product_shift)
    result = numbers.result_constants(
        v.scale, y.scale, largest_v=largest_centered(site.graph, v_id, v.zero_point), bits=y.bits
    )
    table = site.constant(f"{op.id}.exp", numbers.exponential_table(keys, bits))
    return ops.QAttention(
        inputs=(q_id, k_id, v_id, table, *masks.operands),
        output=site.output,
        q_zero_point=q.zero_point,
        v_zero_point=v.zero_point,
        product_shift=score.product_shift,
        score_shift=score.shift,
        multiplier=score.multiplier,
        probability_bits=bits,
        down=result.down,
        numerator=result.numerator,
        shift=result.shift,
        zero_point=y.zero_point,
        bits=y.bits,
        ahead=op.ahead,
        masks=tuple(masks.kinds),
        mask_zero_points=tuple(masks.zero_points),
        added_multiplier=masks.multiplier,
        added_shift=masks.shift,
        added_least=masks.least,
        unattended=op.unattended,
    )


def _masks(site: Site, op: ops.Attention, step: float) -> _Masks:
    """`step`: of a score, in nats."""
    found = _Masks()
    for kind, t in zip(op.masks, op.mask_operands, strict=True):
        if site.graph.is_constant(t):
            data = site.graph.data(t)
            if kind is Mask.ADDED:
                found.put(site.constant(t, _scores(data, step)), Mask.SCORES)
            else:
                found.put(site.constant(t, (data != 0).astype(np.int8)), kind)
            continue
        mask_id, q = site.operand(t)
        found.put(mask_id, kind, q.zero_point)
        if kind is Mask.ADDED:
            found.multiplier, found.shift = _added(q, step)
            least = int(np.floor(EXCLUDES / q.scale)) + 1 + q.zero_point
            found.least = max(least, q.qmin)
    return found


def _scores(data: Array, step: float) -> Array:
    """What is added to scores, in their steps."""
    limit = numbers.MASK_LIMIT
    steps = np.clip(np.rint(data.astype(np.float64) / step), -limit, limit)
    excluded = np.where(data <= EXCLUDES, numbers.EXCLUDED, steps)
    return excluded.astype(np.int32)


def _added(q: QParams, step: float) -> tuple[int, int]:
    """(multiplier, shift): of a factor so large that every step saturates, a smaller one."""
    return sum_constants(min(q.scale, step * 2.0**29), step)


def attention_sums(graph: Graph, op: ops.QAttention) -> Sums:
    """A score and two masks leave room to a difference of two such sums, so eight scores fit;
    weighted values add up to the largest of them times all weights.
    """
    depth = graph.type(op.q).shape[3]
    keys = graph.type(op.k).shape[1]
    product = depth * _largest_product(graph, op.q, op.k, op.q_zero_point)
    score = 8 * (product + (1 << op.product_shift >> 1) >> op.product_shift)
    weights = keys * numbers.largest_weight(keys, op.probability_bits)
    value = weights * largest_centered(graph, op.v, op.v_zero_point) + 2**17
    if graph.type(op.v).dtype is DType.I16:
        value >>= 8  # two sums, of the high and the low bytes
    return Sums(np.array([score, value], object), bits=31)


def _largest_product(graph: Graph, q: TensorId, k: TensorId, q_zero_point: int) -> int:
    return largest_centered(graph, q, q_zero_point) * largest_centered(graph, k, 0)


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Attention: attention,
}

SUMS: Mapping[type[ops.Op], BoundSums] = {
    ops.QAttention: attention_sums,
}
