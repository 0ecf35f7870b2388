"""Attentions of integers with random sizes, widths, masks and constants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.ops.attention import Mask, QAttention, Unattended
from qcomp.quant import attention as numbers

Array = NDArray[Any]
INTEGERS = {8: np.int8, 16: np.int16}


@dataclass(frozen=True)
class Sizes:
    """batch, heads of q and of k, queries, keys, elements of a key and of a value."""

    batch: int = 1
    heads: int = 2
    groups: int = 1
    queries: int = 5
    keys: int = 7
    depth: int = 8
    elements: int = 6


@dataclass(frozen=True)
class Case:
    """An op, its operands that are inputs, and those that are constants."""

    make: Any
    operands: tuple[Array, ...]
    constants: tuple[Array, ...]

    def graph_operands(self, fixed: Any) -> list[Any]:
        q, k, v, *masks = self.operands
        table, *scores = self.constants
        return [q, k, v, fixed(table), *masks, *map(fixed, scores)]


def attention_case(
    seed: int,
    sizes: Sizes,
    *,
    widths: tuple[int, int, int, int] = (8, 8, 8, 8),
    masks: tuple[Mask, ...] = (),
    ahead: int | None = None,
    unattended: Unattended = Unattended.MEAN,
    step: float = 0.01,
    ratio: float = 2.0,
    scores_shape: tuple[int, ...] | None = None,
    v_zero_point: int = 3,
    mask_width: int = 8,
) -> Case:
    """`step` is that of a score in nats, `ratio` how much finer the result's steps are than v's."""
    random = np.random.default_rng(seed)
    q_bits, k_bits, v_bits, y_bits = widths
    if v_bits == 16:
        v_zero_point = 0
    narrow = y_bits == 8 and v_bits == 8 and sizes.keys <= numbers.MOST_KEYS_OF_8_BITS
    bits = 8 if narrow else 15
    shape = (sizes.batch, sizes.heads, sizes.queries, sizes.keys)
    products = sizes.depth << (q_bits + k_bits - 1)
    least_shift = numbers.LEAST_SHIFT if q_bits == k_bits == 16 else 0
    score = numbers.score_constants(step, bits, largest=products, least_shift=least_shift)
    largest = 32768 if v_bits == 16 else 128 + abs(v_zero_point)
    result = numbers.result_constants(ratio, 1.0, largest_v=largest, bits=y_bits)
    mask_type = INTEGERS[mask_width]
    mask_operands, scores = [], []
    for kind in masks:
        where = scores_shape or tuple(n if random.random() < 0.6 else 1 for n in shape)
        if kind is Mask.SCORES:
            values = random.integers(-2000, 2000, where)
            gone = random.random(where) < 0.3
            values = np.where(gone, numbers.EXCLUDED, values)
            scores.append(values.astype(np.int32))
        elif kind is Mask.ADDED:
            mask_operands.append(random.integers(-128, 128, where).astype(mask_type))
        else:
            mask_operands.append(random.integers(-3, 1, where).astype(mask_type) % 2)
    kinds = tuple(k for k in masks if k is not Mask.SCORES) + (Mask.SCORES,) * len(scores)
    make = partial(
        QAttention,
        q_zero_point=0 if q_bits == 16 else -5,
        v_zero_point=v_zero_point,
        product_shift=score.product_shift,
        score_shift=score.shift,
        multiplier=score.multiplier,
        probability_bits=bits,
        down=result.down,
        numerator=result.numerator,
        shift=result.shift,
        zero_point=0 if y_bits == 16 else 7,
        bits=y_bits,
        ahead=sizes.keys - 1 if ahead is None else ahead,
        masks=kinds,
        mask_zero_points=(0,) * len(kinds),
        added_multiplier=1234567 if Mask.ADDED in masks else 0,
        added_shift=15,
        added_least=-90,
        unattended=unattended,
    )
    operands = (
        _values(random, q_bits, (sizes.batch, sizes.queries, sizes.heads, sizes.depth)),
        _values(random, k_bits, (sizes.batch, sizes.keys, sizes.groups, sizes.depth)),
        _values(random, v_bits, (sizes.batch, sizes.keys, sizes.groups, sizes.elements)),
        *mask_operands,
    )
    table = numbers.exponential_table(sizes.keys, bits)
    return Case(make, operands, (table, *scores))


def _values(random: np.random.Generator, bits: int, shape: tuple[int, ...]) -> Array:
    """Of all sizes, so that rows of scores are flat or have a peak; one in eight is an extreme."""
    limit = 1 << (bits - 1)
    size = 2.0 ** random.uniform(1, bits - 1, (*shape[:-1], 1))
    values = np.rint(random.normal(size=shape) * size)
    extremes = random.choice(np.array([-limit, limit - 1]), shape)
    values = np.where(random.random(shape) < 0.125, extremes, values)
    return np.clip(values, -limit, limit - 1).astype(INTEGERS[bits])
