"""Fold batch normalisation, and per-channel constants, into convolutions and dense layers.

    y = conv(x, W) + b;   bn = gamma * (y - mean) / sqrt(var + eps) + beta = k * y + c
After a linear op, per output channel o:     conv(x, k[o] * W[o]) + (k[o] * b[o] + c[o]).
Before a linear op, per input channel i:     conv(k * x + c, W) + b
                                           = conv(x, W[:, i] * k[i]) + (b + sum(W[:, i] * c[i]));
exact where the convolution pads nothing (padding is zeros of k * x + c, not of x) or where c is 0.
Elsewhere k * x + c becomes a depthwise 1x1 convolution. Grouped and depthwise convolutions are the
same algebra; transposed ones are Conv2d here.

Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithm 2; Jacob et al., CVPR 2018, 3.2.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcomp.ir.form import Form
from qcomp.ir.given import is_integer_pair
from qcomp.ir.graph import Graph
from qcomp.ir.ops import BatchNorm, Conv2d, Op, Reshape, Unary, Weighted
from qcomp.ir.tensor import Mark, TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.channel_affine import ChannelAffine, channel_affine
from qcomp.passes.lib.depthwise import depthwise_of
from qcomp.passes.lib.linear_weights import (
    F64,
    fits_float32,
    per_input,
    per_output,
    weight_and_bias,
    with_numbers,
)


@dataclass(frozen=True)
class FoldBatchNorm:
    """Fold into the producing linear op, else into the consuming one, else make a depthwise one.

    A sum or product of an activation that has a scale of its own and a constant of `integers`, by
    the model's names, stays as it is.
    """

    name: ClassVar[str] = "fold-batch-norm"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    integers: Collection[str] = ()

    def run(self, graph: Graph, log: PassLog) -> None:
        for op in graph.ops():
            if (affine := self._affine(graph, op)) and _why_not_back(graph, affine) is None:
                _fold_back(graph, op, affine, log)
        for op in reversed(graph.ops()):
            if (affine := self._affine(graph, op)) and _why_not_ahead(graph, op, affine) is None:
                _fold_ahead(graph, op, affine, log)
        for op in graph.ops():
            if affine := self._affine(graph, op):
                _settle(graph, op, affine, log)

    def _affine(self, graph: Graph, op: Op) -> ChannelAffine | None:
        return None if is_integer_pair(graph, op, self.integers) else channel_affine(graph, op)


def _settle(graph: Graph, op: Op, affine: ChannelAffine, log: PassLog) -> None:
    """Fold into the depthwise conv that an earlier op of this pass became, else make a new one."""
    back = _why_not_back(graph, affine)
    if back is None:
        _fold_back(graph, op, affine, log)
        return
    reason = f"{back}; {_why_not_ahead(graph, op, affine)}"
    if not fits_float32(affine.scale, affine.shift):
        log.skipped(op.id, back)
    elif isinstance(op, Unary) or (affine.is_uniform and not isinstance(op, BatchNorm)):
        log.skipped(op.id, f"{reason}; one value in all channels needs no convolution")
    else:
        _make_depthwise(graph, op, affine)
        log.did(f"{op.id} into a depthwise 1x1 convolution: {reason}", op=op.id)


# ------------------------------------------------------- into the linear op before


def _why_not_back(graph: Graph, affine: ChannelAffine) -> str | None:
    """The reason this can't go into the linear op that feeds it, or None."""
    if not fits_float32(affine.scale, affine.shift):
        return "the scale or shift of a channel is not finite in float32"
    if (linear := _linear_above(graph, affine.x)) is None:
        return f"%{affine.x} does not come from a convolution or dense layer"
    for t in (*_reshapes_above(graph, affine.x), linear.output):
        if graph.sole_consumer(t) is None:
            return f"%{t} has other users"
    if not linear.clamp.is_none:
        return f"a clamp stands behind %{linear.id}"
    if not fits_float32(*_scaled_outputs(graph, linear, affine)):
        return f"the folded weights of %{linear.id} are not finite in float32"
    return None


def _reshapes_above(graph: Graph, id: TensorId) -> list[TensorId]:
    """Results of the reshapes that end in `id` and keep the channel axis."""
    found = []
    while isinstance(op := graph.producer(id), Reshape):
        if graph.type(op.x).shape[-1:] != op.shape[-1:]:
            break
        found.append(id)
        id = op.x
    return found


def _linear_above(graph: Graph, id: TensorId) -> Weighted | None:
    reshapes = _reshapes_above(graph, id)
    op = graph.producer(graph.op(reshapes[-1]).inputs[0] if reshapes else id)
    return op if isinstance(op, Weighted) else None


def _scaled_outputs(graph: Graph, linear: Weighted, affine: ChannelAffine) -> tuple[F64, F64]:
    weight, bias = weight_and_bias(graph, linear)
    return per_output(affine.scale, weight) * weight, affine.scale * bias + affine.shift


def _fold_back(graph: Graph, op: Op, affine: ChannelAffine, log: PassLog) -> None:
    """The linear op takes over the id of `op`, or the last reshape between them does."""
    linear = _linear_above(graph, affine.x)
    assert linear is not None
    inputs = with_numbers(graph, linear, *_scaled_outputs(graph, linear, affine), Mark.FOLDED)
    folded = replace(linear, inputs=inputs, clamp=affine.clamp)
    normal = affine.statistics(graph.tensor(linear.output).normal)
    last = graph.producer(affine.x)
    if isinstance(last, Reshape):
        graph.replace_op(folded, normal=normal)
        graph.mark(folded.id, Mark.FOLDED)
        graph.replace_op(replace(last, output=op.id), normal=normal)
    else:
        graph.replace_op(replace(folded, output=op.id), normal=normal)
    graph.erase(affine.x)
    log.did(f"{op.id} into {linear.id}", op=op.id)


# ------------------------------------------------------- into the linear op behind


def _why_not_ahead(graph: Graph, op: Op, affine: ChannelAffine) -> str | None:
    """The reason this can't go into the linear op that reads it, or None."""
    if not fits_float32(affine.scale, affine.shift):
        return "the scale or shift of a channel is not finite in float32"
    linear = graph.sole_consumer(op.output)
    if linear is None:
        return f"%{op.output} is not read by one op alone"
    if not isinstance(linear, Weighted):
        return f"its reader %{linear.id} is no convolution or dense layer"
    if not affine.clamp.is_none:
        return f"a clamp stands between it and %{linear.id}"
    if isinstance(linear, Conv2d) and any(linear.padding) and affine.shift.any():
        return f"%{linear.id} pads with zeros and the shift is not zero"
    if not fits_float32(*_scaled_inputs(graph, linear, affine)):
        return f"the folded weights of %{linear.id} are not finite in float32"
    return None


def _scaled_inputs(graph: Graph, linear: Weighted, affine: ChannelAffine) -> tuple[F64, F64]:
    weight, bias = weight_and_bias(graph, linear)
    groups = linear.groups
    added: F64 = np.sum(
        weight * per_input(affine.shift, weight, groups), axis=tuple(range(1, weight.ndim))
    )
    return per_input(affine.scale, weight, groups) * weight, bias + added


def _fold_ahead(graph: Graph, op: Op, affine: ChannelAffine, log: PassLog) -> None:
    linear = graph.sole_consumer(op.output)
    assert isinstance(linear, Weighted)
    _, *constants = with_numbers(graph, linear, *_scaled_inputs(graph, linear, affine), Mark.FOLDED)
    graph.set_inputs(linear, (affine.x, *constants))
    graph.erase(op.output)
    log.did(f"{op.id} into {linear.id} behind it", op=op.id)


# ------------------------------------------------------- into a convolution of its own


def _make_depthwise(graph: Graph, op: Op, affine: ChannelAffine) -> None:
    normal = affine.statistics(graph.tensor(affine.x).normal)
    last = depthwise_of(graph, affine, op.id)
    if isinstance(last, Reshape):
        (scaled,) = last.inputs
        graph.update_tensor(replace(graph.tensor(scaled), normal=normal))
    graph.replace_op(last, normal=normal)
