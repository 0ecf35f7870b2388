"""Weights with a zero point as parts of 8 bits, whose sum is weight - zero_point.

What leaves i8 is split evenly into as few parts as hold it, two for all but 255. A kernel adds up
the products of each part with the same activations: its source has one more segment, whose stride
is 0. Layers without a zero point have one part, the weight itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.integer_linear import centered_weight
from qcomp.ir.graph import Graph
from qcomp.ir.ops import QWeighted
from qcomp.ir.tensor import Array

I8 = NDArray[np.int8]


def weight_parts(graph: Graph, op: QWeighted) -> I8:
    """[P, O, ...], of a weight [O, ...]."""
    weight = graph.data(op.weight)
    if op.weight_zero_point is None:
        return weight[None]
    return split(centered_weight(weight, graph.data(op.weight_zero_point)))


def split(weight: Array) -> I8:
    """Parts [P, ...] of integers that may leave i8."""
    count = max(-(-int(weight.max()) // 127), -(-int(-weight.min()) // 128), 1)
    ends = [weight.astype(np.int32) * n // count for n in range(count + 1)]
    return np.diff(ends, axis=0).astype(np.int8)


def repeats(parts: I8) -> tuple[tuple[int, int], ...]:
    """The segments (count, source stride) around those of one part."""
    return ((len(parts), 0),) if len(parts) > 1 else ()


def by_channel(parts: I8) -> I8:
    """[O, P, ...]: all that each output channel adds up."""
    return np.moveaxis(parts, 0, 1)
