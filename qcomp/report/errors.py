"""The error of each tensor, two ways: of the whole integer network, and of each op by itself.

    cumulative   the integer network's values, against those of the float network
    isolated     what the op alone makes of the float network's values

The isolated error is a sum, each part the difference of two neighbours in these rows:

    y  --weights-->  y_w  --bias-->  y_b  --clipping-->  in the range  --rounding-->  on the grid
    y_x on the grid  --arithmetic-->  what the integer op gives

y, y_w, y_b and y_x are those of twins.py. A bias that was corrected on data takes back what ops
before it err, so alone it would be an error itself: then y_w is what is clipped and rounded, and
the bias is told of but no part of the sum. One that was corrected for its own layer's weights
belongs to these: then y_b stands for y_w. Arithmetic is what fixed-point factors, tables and sums
of integers add to the one rounding that can't be avoided: the requantize or the table error.
Powers of the parts add up to that of the whole only where they are independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Interpolate, Op, QLogSoftmax, QSoftmax, Table
from qcomp.ir.region import with_outputs
from qcomp.ir.tensor import Array, TensorId
from qcomp.quant.qparams import QParams, dequantize, quantize
from qcomp.report.alone import AloneSums, Cause, TensorError
from qcomp.report.integer_counts import IntegerCounts
from qcomp.report.integers import IntegerSession, each_alone
from qcomp.report.pairs import Pairs
from qcomp.report.sums import Sums
from qcomp.report.twins import TwinSession

Sample = Mapping[str, Array]
Values = Mapping[TensorId, Array]

_BY_TABLE = (Table, Interpolate, QSoftmax, QLogSoftmax)
INPUT = "input"


@dataclass
class Measurement:
    """Measures a network, a sample after the other.

    pairs: its three forms. correction: of biases, as the configuration has it.
    cumulative, isolated: which of both ways.
    integers: counts those of the whole integer network, where it is given.
    """

    pairs: Pairs
    correction: str | None = None
    cumulative: bool = True
    isolated: bool = True
    integers: IntegerCounts | None = None
    samples: int = 0
    notes: tuple[str, ...] = ()
    _sums: dict[TensorId, Sums] = field(default_factory=dict)
    _alone: dict[TensorId, AloneSums] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph, floats = self.pairs.integer, self.pairs.floats
        self._ops = [op for op in graph.ops() if op.output in floats]
        self._own = [
            op for op in self._ops if self.pairs.is_measured(op) and not op.copies_integers
        ]
        self._inputs = [id for id in graph.inputs.values() if id in floats]
        self._twins = TwinSession(self.pairs, self._own if self.isolated else ())
        if self.cumulative:
            self._whole = self._session(with_outputs(graph, [op.id for op in self._ops]), "whole")
            self._sums = {id: Sums(_q(graph, id).scale) for id in self._ids}
        if self.isolated:
            apart = each_alone(graph, [op.id for op in self._own])
            self._each = self._session(apart, "each") if self._own else None
            alone = (*self._inputs, *(op.id for op in self._own))
            self._alone = {id: self._sums_alone(id) for id in alone}

    def add(self, sample: Sample) -> tuple[Values, Values]:
        """One more: the float network's values, and by integer tensor the isolated ones, of those
        ops that have any.
        """
        real = self._twins.run(sample)
        self.samples += 1
        if self.cumulative:
            self._add_cumulative(real)
        return real, self._add_isolated(real) if self.isolated else {}

    @property
    def found(self) -> list[TensorError]:
        """Inputs first, then ops in their order."""
        return [self._error(id) for id in self._ids]

    @property
    def _ids(self) -> list[TensorId]:
        return [*self._inputs, *(op.id for op in self._ops)]

    def _session(self, graph: Graph, name: str) -> IntegerSession:
        session = IntegerSession(graph, name)
        if session.lacking is not None:
            told = f"the specification runs in place of code, which is slower: {session.lacking}"
            self.notes = tuple(dict.fromkeys((*self.notes, told)))
        return session

    def _sums_alone(self, id: TensorId) -> AloneSums:
        q, op = _q(self.pairs.integer, id), self.pairs.integer.producer(id)
        arithmetic = Cause.TABLE if isinstance(op, _BY_TABLE) else Cause.REQUANTIZE
        causes = (Cause.WEIGHTS, Cause.BIAS, Cause.CLIPPING, Cause.ROUNDING, arithmetic)
        outside = frozenset({Cause.BIAS} if self.correction == "empirical" else ())
        return AloneSums(q, arithmetic, Sums(q.scale), dict.fromkeys(causes, 0.0), outside)

    def _add_cumulative(self, real: Values) -> None:
        graph, floats = self.pairs.integer, self.pairs.floats
        given = {id: self._given(id, real) for id in graph.inputs.values()}
        answers = {**given, **self._whole.run(given)}
        for id, sums in self._sums.items():
            y = real[floats[id]]
            sums.add(y, dequantize(answers[id], _q(graph, id)) - y)
            if self.integers is not None:
                self.integers.add(id, answers[id], _q(graph, id))

    def _add_isolated(self, real: Values) -> Values:
        graph, twins = self.pairs.integer, self._twins.twins
        read = dict.fromkeys(t for op in self._own for t in graph.activations(op))
        given = {id: self._given(id, real) for id in read}
        answers = {} if self._each is None else self._each.run(given)
        found: dict[TensorId, Array] = {}
        for id in self._inputs:
            y = real[twins.floats[id]]
            found[id] = self._alone[id].add(y, y, y, None)
        for op in self._own:
            id, q = op.id, _q(graph, op.id)
            ideal = quantize(real[twins.operands[id]], q)
            got = answers[id]
            differ = None
            if not np.array_equal(ideal, got):
                differ = (got.astype(np.float32) - ideal) * np.float32(q.scale)
            y, weighted, biased = (
                real[kind[id]] for kind in (twins.floats, twins.weights, twins.biases)
            )
            if self.correction == "analytic":
                weighted = biased
            found[id] = self._alone[id].add(y, weighted, biased, differ)
        return found

    def _given(self, id: TensorId, real: Values) -> Array:
        """The integers of a tensor's float values."""
        q = self.pairs.integer.tensor(id).qparams
        value = real[self.pairs.floats.get(id, id)]
        return value if q is None else quantize(value, q)

    def _error(self, id: TensorId) -> TensorError:
        op = self.pairs.integer.producer(id)
        alone = self._alone.get(id)
        return TensorError(
            id,
            self.pairs.floats[id],
            INPUT if op is None else op.mnemonic,
            _q(self.pairs.integer, id),
            self._sums[id].figures if id in self._sums else None,
            None if alone is None else alone.found,
            self._reason(op) if alone is None and self.isolated else "",
        )

    def _reason(self, op: Op | None) -> str:
        if op is not None and op.copies_integers:
            return "it copies integers"
        return "it reads what stands for no float of the network"


def _q(graph: Graph, id: TensorId) -> QParams:
    q = graph.tensor(id).qparams
    assert q is not None  # as it stands for a float
    return q
