"""Recurrent layers: the scales of sums and states, and the curves of their activations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir import ops
from qcomp.ir.evaluate.unary import FUNCTIONS
from qcomp.ir.graph import Graph
from qcomp.ir.ops.recurrent import Activation
from qcomp.ir.tensor import Array, TensorId
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.qdq import Stored, stored
from qcomp.passes.lib.sums import BoundSums, Sums
from qcomp.quant.fixed_point import Form, Requantize, multiplier_wide
from qcomp.quant.qparams import QParams, integer_range, quantize
from qcomp.quant.recurrence import (
    CELL_BITS,
    MID_REACH,
    MID_SHIFT,
    VALUE_BITS,
    Factor,
    curve,
    mid_constants,
    peephole_constants,
)

F64 = NDArray[np.float64]
SUM_BITS = 11
"""Fraction bits of sums that only bounded activations read: they saturate at 16."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """What the three rules have in common."""

    site: Site
    op: ops.Recurrent
    x_id: TensorId
    x_bits: int  # fraction bits
    sum_bits: int
    curves: Array
    fractions: tuple[int, ...]
    weight: Stored
    weight_id: TensorId

    @classmethod
    def at(cls, site: Site, op: ops.Recurrent) -> _Layer:
        x_id, x = site.operand(op.x)
        x_bits = _fraction_bits(x)
        sum_bits = max(SUM_BITS, x_bits) if op.is_bounded else x_bits
        found = [_curve(activation, sum_bits) for activation in op.activations]
        curves = np.stack([entries for entries, _ in found])
        fractions = tuple(bits for _, bits in found)
        producer = site.graph.producer(op.weight)
        if not isinstance(producer, ops.QuantizedConstant):
            raise ValueError("its weight is no quantized constant")
        weight = stored(site.graph, producer)
        return cls(site, op, x_id, x_bits, sum_bits, curves, fractions, weight, producer.x)

    def hidden(self, initial: tuple[float, float]) -> QParams:
        """What weights are multiplied by: the result if the initial state, whose range is given, is
        within; else, or with other bits, what holds both and no sum overflows with.
        """
        y = self.site.qparams
        inside = y.range[0] <= initial[0] and initial[1] <= y.range[1]
        if y.bits == 8 and inside:
            return y
        largest = max(abs(v) for v in y.range)
        if self.op.is_bounded:
            largest = min(largest, 1.0)
        largest = max(largest, *map(abs, initial))
        taps = int(np.abs(self.weight.centered).sum(axis=1).max(initial=1))
        qmin, qmax = integer_range(min(y.bits, self.op.hidden_bits))
        while taps * (qmax + 1) >= 2**30:
            qmin, qmax = qmin // 2, qmax // 2
        return QParams(largest / qmax, 0, qmin, qmax)

    def initial_range(self, q: QParams) -> tuple[float, float]:
        """Of the initial hidden state; one in the scale of the result is an earlier one."""
        data = self.site.graph.tensor(self.op.initial_h).data
        if data is not None:
            return float(data.min()), float(data.max())
        low, high = q.range
        if self.op.is_bounded and q == self.site.qparams:
            return max(low, -1.0), min(high, 1.0)
        return low, high

    def fields(self, state_bits: int, bits: int) -> dict[str, Any]:
        """The operands and fields of `QRecurrent`; the state has so many fraction bits, and its
        factors multipliers of so many.
        """
        site, op = self.site, self.op
        initial_id, initial = _state(site, op.initial_h)
        hidden = self.hidden(self.initial_range(initial))
        product = np.broadcast_to(self.weight.scale * hidden.scale, len(self.weight.integers))
        multiplier, shift, left = mid_constants(product * 2.0**self.sum_bits)
        bias = np.rint(site.graph.data(op.bias) / np.maximum(product, 2.0**-60))
        y = site.qparams
        clip = 2**15 if math.isinf(op.clip) else round(op.clip * 2.0**self.sum_bits)
        inputs = (
            self.x_id,
            site.constant(self.weight_id, self.weight.integers.astype(np.int8)),
            site.constant(f"{op.id}.bias", np.clip(bias, -(2**30), 2**30).astype(np.int32)),
            site.constant(f"{op.id}.multiplier", multiplier),
            site.constant(f"{op.id}.shift", shift),
            site.constant(f"{op.id}.curves", self.curves),
            initial_id,
        )
        return {
            "inputs": inputs,
            "output": site.output,
            "reverse": op.reverse,
            "tail": op.tail,
            "has_lengths": op.has_lengths,
            "x_shift": self.sum_bits - self.x_bits,
            "sum_bits": self.sum_bits,
            "left": left,
            "clip": min(clip, 2**15),
            "fractions": self.fractions,
            "state_bits": state_bits,
            "initial_zero_point": initial.zero_point,
            "initial_factor": _factor(initial.scale * 2.0**state_bits),
            "hidden_factor": _factor(2.0**-state_bits / hidden.scale, bits),
            "hidden": _saturation(hidden),
            "result_factor": _factor(2.0**-state_bits / y.scale, bits),
            "result": _saturation(y),
        }

    def lengths(self) -> tuple[TensorId, ...]:
        if self.op.lengths is None:
            return ()
        data = self.site.graph.tensor(self.op.lengths).data
        if data is not None:
            return (self.site.constant(self.op.lengths, np.rint(data).astype(np.int16)),)
        id, q = self.site.operand(self.op.lengths)
        if q.scale != 1.0 or q.zero_point != 0:
            raise ValueError(f"lengths in steps of {q.scale}; expected whole numbers")
        return (id,)


def _fraction_bits(x: QParams) -> int:
    mantissa, exponent = math.frexp(x.scale)
    if x.bits != 16 or mantissa != 0.5:
        raise ValueError(
            f"sums of gates of {x.bits} bits in steps of {x.scale}; expected 16 and a power of two"
        )
    return 1 - exponent


def _curve(activation: Activation, sum_bits: int) -> tuple[Array, int]:
    function = FUNCTIONS[activation.function]
    return curve(lambda v: function(v, activation.alpha, activation.beta), sum_bits)


def _factor(real: float, bits: int = 31) -> Factor:
    return Factor(*multiplier_wide(real, bits))


def _saturation(q: QParams) -> Requantize:
    return Requantize(Form.WIDE, q.zero_point, q.qmin, q.qmax, bits=q.bits)


def _state(site: Site, id: TensorId) -> tuple[TensorId, QParams]:
    """An initial state; a constant gets 16 bits here."""
    if not site.graph.is_constant(id):
        return site.operand(id)
    data = site.graph.data(id)
    largest = float(np.abs(data).max(initial=0.0)) or 1.0
    qmin, qmax = integer_range(16)
    q = QParams.from_range(-largest, largest, qmin=qmin, qmax=qmax, symmetric=True)
    return site.constant(id, quantize(data, q)), q


def rnn(site: Site, op: ops.Rnn) -> ops.Op:
    layer = _Layer.at(site, op)
    fields = layer.fields(layer.fractions[0], VALUE_BITS)
    return _with(ops.QRnn(**fields), layer.lengths())


def gru(site: Site, op: ops.Gru) -> ops.Op:
    layer = _Layer.at(site, op)
    state_bits = max(min(CELL_BITS, layer.sum_bits + 13), layer.fractions[1])
    fields = layer.fields(state_bits, 31)
    return _with(ops.QGru(**fields, linear_before_reset=op.linear_before_reset), layer.lengths())


def lstm(site: Site, op: ops.Lstm) -> ops.Op:
    layer = _Layer.at(site, op)
    if layer.sum_bits > CELL_BITS:
        raise ValueError(f"sums of {layer.sum_bits} fraction bits; expected up to {CELL_BITS}")
    cell_id, cell = _state(site, op.initial_c)
    multiplier, shift = peephole_constants(site.graph.data(op.peepholes).astype(np.float64))
    new = ops.QLstm(
        **layer.fields(layer.fractions[2], VALUE_BITS),
        coupled=op.coupled,
        cell_initial_zero_point=cell.zero_point,
        cell_initial_factor=_factor(cell.scale * 2.0**CELL_BITS),
        cell_factor=_factor(2.0**-CELL_BITS / site.qparams.scale),
    )
    peepholes = (
        site.constant(f"{op.id}.peephole_multiplier", multiplier),
        site.constant(f"{op.id}.peephole_shift", shift),
    )
    return _with(new, (cell_id, *peepholes, *layer.lengths()))


def _with(op: ops.QRecurrent, more: tuple[TensorId, ...]) -> ops.QRecurrent:
    """The op with these operands behind those that all have."""
    return replace(op, inputs=(*op.inputs, *more))


def recurrent_sums(graph: Graph, op: ops.QRecurrent) -> Sums:
    """Of each channel the sum of products and its rounding, then the product of MID18."""
    weight = graph.data(op.weight).astype(np.int64)
    reach = max(abs(v - op.hidden.zero_point) for v in (op.hidden.qmin, op.hidden.qmax))
    bias, shift = (graph.data(t).astype(object) for t in (op.bias, op.shift))
    taps = np.abs(weight).sum(axis=1).astype(object)
    sums = (np.abs(bias) + taps * reach) * (1 << op.left) + 2**shift // 2
    products = graph.data(op.multiplier).astype(object) * MID_REACH + (1 << MID_SHIFT)
    return Sums(np.concatenate([sums, products]))


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Rnn: rnn,
    ops.Gru: gru,
    ops.Lstm: lstm,
}

SUMS: Mapping[type[ops.Op], BoundSums] = {
    ops.QRnn: recurrent_sums,
    ops.QGru: recurrent_sums,
    ops.QLstm: recurrent_sums,
}
