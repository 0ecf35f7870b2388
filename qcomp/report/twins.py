"""A float graph in which each op stands three times, so that what it errs by itself has causes.

    y      as the float network has it
    y_w    the op with its rounded constants, on the float network's values
    y_x    the op with its rounded constants, on those values rounded

All three read what the float network gives, so no error reaches another op.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from qcomp.execute.session import FloatSession
from qcomp.ir.ops import Dequantize, Op, QuantizedConstant
from qcomp.ir.region import with_outputs
from qcomp.ir.tensor import Array, TensorId
from qcomp.precision.mixture import Copier
from qcomp.report.pairs import Pairs, behind


@dataclass(frozen=True)
class Twins:
    """Ids of y, y_w and y_x by the integer op; they are one where nothing differs."""

    floats: Mapping[TensorId, TensorId]
    weights: Mapping[TensorId, TensorId]
    operands: Mapping[TensorId, TensorId]


class TwinSession:
    """The float graph with its twins, ready to run.

    ops: integer ops whose operands and results all stand for floats. Others give y alone.
    """

    def __init__(self, pairs: Pairs, ops: Iterable[Op]) -> None:
        self._pairs = pairs
        self._graph = pairs.reference.clone()
        self._copier = Copier(pairs.reference, pairs.qdq, self._graph)
        self._made: dict[tuple[type[Op], tuple[TensorId, ...], TensorId], TensorId] = {}
        weights, operands = {}, {}
        for op in ops:
            weights[op.id], operands[op.id] = self._twins(op)
        self.twins = Twins(pairs.floats, weights, operands)
        outputs = pairs.reference.outputs.values()
        wanted = dict.fromkeys(
            (*pairs.floats.values(), *outputs, *weights.values(), *operands.values())
        )
        self._given = [t for t in wanted if self._graph.producer(t) is None]
        made = [t for t in wanted if self._graph.producer(t) is not None]
        self._session = FloatSession(with_outputs(self._graph, made))

    def run(self, sample: Mapping[str, Array]) -> dict[TensorId, Array]:
        """Every float tensor and twin by its id; the sample goes by names of inputs."""
        feed = {id: sample[name] for name, id in self._graph.inputs.items()}
        constants = {t: self._graph.data(t) for t in self._given if self._graph.is_constant(t)}
        return {**feed, **constants, **self._session.run(feed)}

    def _twins(self, op: Op) -> tuple[TensorId, TensorId]:
        """y_w and y_x of an integer op."""
        real, made = self._pairs.floats[op.output], self._pairs.float_op(op)
        if made is None:  # a change of scale
            return real, self._copier.copy(self._rounded(op))
        values = tuple(self._value(t) for t in made.inputs)
        rounded = tuple(self._copier.copy(t) for t in made.inputs)
        return self._twin(made, values, real), self._twin(made, rounded, real)

    def _rounded(self, op: Op) -> TensorId:
        """The dequantize that a change of scale is lowered from."""
        quantize = self._pairs.qdq.op(op.output)
        return quantize.inputs[0]

    def _value(self, id: TensorId) -> TensorId:
        """An operand of the QDQ graph without the rounding of activations."""
        qdq = self._pairs.qdq
        made = qdq.producer(id)
        if isinstance(made, Dequantize) and (real := behind(qdq, made.x)) is not None:
            return real
        if qdq.is_constant(id) or isinstance(made, QuantizedConstant):
            return self._copier.copy(id)
        return id

    def _twin(self, op: Op, inputs: tuple[TensorId, ...], real: TensorId) -> TensorId:
        own = self._graph.producer(real)
        if own is not None and replace(op, output=real, inputs=inputs) == own:
            return real
        key = type(op), inputs, real
        if key not in self._made:
            twin = replace(op, inputs=inputs, output=self._graph.fresh_id(f"{real}.twin"))
            self._made[key] = self._graph.add_op(twin)
        return self._made[key]
