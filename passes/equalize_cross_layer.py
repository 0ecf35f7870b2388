"""Equalize the weight ranges of consecutive linear layers, channel by channel.

    y = W2 f(W1 x + b1) + b2 = (W2 S) f(S^-1 W1 x + S^-1 b1) + b2,   S = diag(s), s > 0
for each f that is positive-homogeneous per channel. Nagel et al., "Data-Free Quantization Through
Weight Equalization and Bias Correction", ICCV 2019, section 4.1, choose s by the ranges of the
weights (balanced_ranges.py). Where the moments of the values between are known, s is chosen to make
the noise of weights and values together least (quantization_noise.py): with weight scales per
tensor MobileNetV1 0.25 then has 17.6 dB at its outputs instead of 12.3.

A ReLU6 in a chain is min(relu(x), 6), and its bound becomes 6 / s[i]: see `Relu6`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import RELU, RELU6, Clamp, Minimum, Weighted
from qcomp.ir.tensor import Mark, TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.balanced_ranges import Ranges, Rounds, balanced_factors
from qcomp.passes.lib.dead_channels import silence_dead_channels
from qcomp.passes.lib.linear_pairs import LinearPair, linear_pair
from qcomp.passes.lib.linear_weights import (
    F64,
    fits_float32,
    per_input,
    per_output,
    record_scale,
    weight_and_bias,
    with_numbers,
)
from qcomp.passes.lib.quantization_noise import MomentsOf, Precision, least_noise_factors
from qcomp.quant.moments import Moments

_WORTHWHILE_DB = 0.1


class Relu6(enum.Enum):
    """How to equalize through a clamp to (0, 6), which is homogeneous only up to 6.

    KEEP ends the chain there: right for weights with a scale per channel, which gain little.
    MINIMUM puts min(relu(x), 6 / s) there, with a constant per channel: exact, one op more. Where
    the moments say that no channel reaches 6, it is left out.
    REPLACE_WITH_RELU drops the 6, as the paper does (section 5.1.1). Networks that were trained to
    saturate do not survive it: of 100 images a MobileNetV1 0.25 got 65 right before, 10 after.
    """

    KEEP = "keep"
    MINIMUM = "minimum"
    REPLACE_WITH_RELU = "replace-with-relu"


@dataclass(frozen=True)
class LeastNoise:
    """`moments` measures the moments of all f32 activations of a float graph."""

    moments: MomentsOf
    precision: Precision


@dataclass(frozen=True)
class EqualizeCrossLayer:
    """Scale channels by factors that balance weight ranges or, with `noise`, minimise the noise.

    `iterations`, `tolerance` and `weak` are those of `Rounds` (balanced_ranges.py); `largest`
    bounds the factors either way. A channel whose r1 * r2 is below `dead` times the largest of its
    pair is silenced first (dead_channels.py).
    """

    name: ClassVar[str] = "equalize-cross-layer"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    relu6: Relu6 = Relu6.KEEP
    noise: LeastNoise | None = None
    iterations: int = 20
    tolerance: float = 1e-3
    largest: float = 1e8
    weak: float = 1e-6
    dead: float = 1e-10

    def run(self, graph: Graph, log: PassLog) -> None:
        pairs = self._pairs(graph, log)
        ranges = Ranges(graph, pairs)
        before = [ranges.spread(pair) for pair in pairs]
        moments = {} if self.noise is None else self.noise.moments(graph)
        factors = self._factors(graph, pairs, ranges, moments, log)
        for pair, s, spread in zip(pairs, factors, before, strict=True):
            if reason := _unfit(graph, pair, s):
                log.skipped(pair.first, reason)
                continue
            if (s == 1.0).all():
                log.note(f"{pair.first} -> {pair.second} is equal already", op=pair.first)
                continue
            _apply(graph, pair, s)
            for id in pair.relu6:
                reached = id not in moments or moments[id].range[1] >= RELU6.high
                relu6 = self.relu6 if reached else Relu6.REPLACE_WITH_RELU
                _unbound(graph, id, s, relu6, log)
            log.did(
                f"{pair.first} -> {pair.second}: max/min channel range {spread} -> "
                f"{ranges.spread(pair)}, s in [{s.min():.4g}, {s.max():.4g}]",
                op=pair.first,
                least=s.min(),
                largest=s.max(),
            )

    def _pairs(self, graph: Graph, log: PassLog) -> list[LinearPair]:
        pairs = []
        for op in graph.ops():
            if not isinstance(op, Weighted):
                continue
            pair = linear_pair(graph, op)
            if isinstance(pair, str):
                log.skipped(op.id, pair)
                continue
            if silenced := silence_dead_channels(graph, pair, self.dead):
                log.did(
                    f"{op.id}: {silenced} dead channels become constants in {pair.second}",
                    op=op.id,
                    channels=silenced,
                )
            if pair.relu6 and self.relu6 is Relu6.KEEP:
                log.skipped(op.id, f"%{pair.relu6[0]} clamps to (0.0, 6.0), to be kept")
            else:
                pairs.append(pair)
        return pairs

    def _factors(
        self,
        graph: Graph,
        pairs: list[LinearPair],
        ranges: Ranges,
        moments: Mapping[TensorId, Moments],
        log: PassLog,
    ) -> list[F64]:
        """The factors of each pair's channels; `ranges` is left as the factors make it."""
        if not pairs:
            return []
        if self.noise is None:
            rounds = Rounds(self.iterations, self.tolerance, self.largest, self.weak)
            factors, count, farthest = balanced_factors(ranges, pairs, rounds)
            log.note(
                f"{count} iterations; the last changed a channel by {farthest:.3g}",
                iterations=count,
                change=farthest,
            )
            return factors
        factors, before, after = least_noise_factors(
            graph, pairs, moments, self.noise.precision, largest=self.largest
        )
        log.note(
            f"noise expected: {before:.2f} dB before, {after:.2f} dB after",
            before_db=before,
            after_db=after,
        )
        if before - after < _WORTHWHILE_DB:
            return [np.ones_like(s) for s in factors]
        for pair, s in zip(pairs, factors, strict=True):
            ranges.move(pair, s)
        return factors


def _equalized(graph: Graph, pair: LinearPair, s: F64) -> tuple[tuple[F64, F64], tuple[F64, F64]]:
    """Weight and bias of the first op and of the second."""
    first, second = graph.op(pair.first), graph.op(pair.second)
    assert isinstance(first, Weighted)
    assert isinstance(second, Weighted)
    w1, b1 = weight_and_bias(graph, first)
    w2, b2 = weight_and_bias(graph, second)
    inputs = per_input(np.tile(s, pair.repeats), w2, second.groups)
    return (w1 / per_output(s, w1), b1 / s), (w2 * inputs, b2)


def _unfit(graph: Graph, pair: LinearPair, s: F64) -> str | None:
    first, second = _equalized(graph, pair, s)
    if fits_float32(*first, *second):
        return None
    return f"weights equalized with %{pair.second} are not finite in float32"


def _apply(graph: Graph, pair: LinearPair, s: F64) -> None:
    for id, numbers in zip((pair.first, pair.second), _equalized(graph, pair, s), strict=True):
        op = graph.op(id)
        assert isinstance(op, Weighted)
        graph.set_inputs(op, with_numbers(graph, op, *numbers, Mark.EQUALIZED))
    for id in (pair.first, *pair.between):
        record_scale(graph, id, 1.0 / s)


def _unbound(graph: Graph, id: TensorId, s: F64, relu6: Relu6, log: PassLog) -> None:
    """The op clamps to (0, inf); the bound becomes a minimum behind it, under the op's id."""
    op = graph.op(id)
    assert isinstance(op, Weighted | Clamp)
    if relu6 is Relu6.REPLACE_WITH_RELU:
        graph.replace_op(replace(op, clamp=RELU))
        log.did(f"{id}: ReLU6 becomes ReLU", op=id)
        return
    tensor = graph.tensor(id)
    bounds = np.tile(RELU6.high / s, tensor.type.shape[-1] // s.size)
    relu = graph.add_op(replace(op, output=graph.fresh_id(f"{id}.relu"), clamp=RELU))
    graph.update_tensor(replace(graph.tensor(relu), normal=tensor.normal))
    bound = graph.add_constant(f"{id}.bound", bounds.astype(np.float32))
    graph.replace_op(Minimum(inputs=(relu, bound), output=id), normal=None)
    log.did(f"{id}: ReLU6 becomes ReLU and a minimum per channel", op=id)
