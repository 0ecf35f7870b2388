"""Channels that say next to nothing, and how to take their numbers away.

A channel i between two linear ops adds W2[:, i] * f(W1[i] x + b1[i]) to the result. What of this
depends on x is in proportion to r1[i] * r2[i], r1 and r2 the largest |W1[i]| and |W2[:, i]|. Where
the product vanishes beside the largest of the pair, the channel is the constant f(b1[i]):
    W1[i] = 0,  b1[i] = 0,  b2 += W2[:, i] * f(b1[i]),  W2[:, i] = 0.
Weight decay leaves such channels in trained networks: |W1| of 1e-20 beside |W2| of 700 times the
other channels', which would set the scale of the whole weight.

It needs f(b1[i]) to reach all of the second op's window: where that op pads with zeros, or an op
between does not pass a constant on, only f(b1[i]) = 0 will do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Conv2d, Weighted
from qcomp.ir.tensor import Mark
from qcomp.passes.lib.linear_pairs import LinearPair
from qcomp.passes.lib.linear_weights import (
    F64,
    input_ranges,
    output_ranges,
    per_input,
    per_output,
    record_scale,
    weight_and_bias,
    with_numbers,
)

Mask = NDArray[np.bool_]


def channels_above(r1: F64, r2: F64, threshold: float) -> Mask:
    """Channels whose r1 * r2 is above `threshold` times the largest of the pair."""
    product = r1 * r2
    above: Mask = (product > 0.0) & (product >= threshold * product.max())
    return above


def silence_dead_channels(graph: Graph, pair: LinearPair, threshold: float) -> int:
    """Take the numbers of dead channels away; how many channels had some."""
    first, second = graph.op(pair.first), graph.op(pair.second)
    assert isinstance(first, Weighted)
    assert isinstance(second, Weighted)
    w1, b1 = weight_and_bias(graph, first)
    w2, b2 = weight_and_bias(graph, second)
    groups = second.groups
    r1 = output_ranges(w1)
    r2 = input_ranges(w2, groups).reshape(pair.repeats, -1).max(axis=0)
    constant = np.clip(b1, first.clamp.low, first.clamp.high)
    removable = ~channels_above(r1, r2, threshold) & ((r1 > 0.0) | (r2 > 0.0) | (b1 != 0.0))
    if pair.between or (isinstance(second, Conv2d) and any(second.padding)):
        removable &= constant == 0.0
    if not removable.any():
        return 0
    kept = np.where(removable, 0.0, 1.0)
    added = np.sum(
        w2 * per_input(np.tile(constant * (1.0 - kept), pair.repeats), w2, groups),
        axis=tuple(range(1, w2.ndim)),
    )
    graph.set_inputs(
        first, with_numbers(graph, first, w1 * per_output(kept, w1), b1 * kept, Mark.SILENCED)
    )
    w2 = w2 * per_input(np.tile(kept, pair.repeats), w2, groups)
    graph.set_inputs(second, with_numbers(graph, second, w2, b2 + added, Mark.SILENCED))
    for id in (first.id, *pair.between):
        record_scale(graph, id, kept)
    return int(removable.sum())
